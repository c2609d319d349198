// Observes a server-sent-event stream (WHATWG HTML, section 9.2) without touching it: finds the events
// in decoded body bytes, whatever the boundaries of the reads. Keeps only what an unfinished line needs,
// up to a limit (longer lines are counted and their data is cut, never buffered without bound).
// Pure; one thread; no allocation per event while events end within one read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace penstock::http {

class SseEvents {
 public:
  // One event with data. `data`: the joined data lines, valid during the call, without the final newline;
  // `name`: the event field ("" when absent). Comments (keep-alives) and events without data do not come.
  virtual void on_sse_event(std::string_view name, std::string_view data) = 0;

 protected:
  ~SseEvents() = default;
};

class SseScanner {
 public:
  static constexpr size_t carry_bytes_max = 64 * 1024;  // limits.sse_line_bytes
  explicit SseScanner(SseEvents& events) : events_(events) {}
  void feed(std::string_view bytes);
  void reset();
  uint64_t events() const { return event_count_; }
  uint64_t comments() const { return comment_count_; }
  uint64_t truncated() const { return truncated_count_; }
  // The bytes so far end exactly behind a complete event (nothing pending).
  bool at_boundary() const;

 private:
  void line(std::string_view text);
  void dispatch();
  SseEvents& events_;
  std::string carry_;        // unfinished line
  std::string data_;         // data lines of the event so far, when more than one or when split
  std::string name_;
  std::string_view single_;  // the only data line so far, while it is a view into the bytes being fed
  bool has_data_ = false, after_cr_ = false, truncated_line_ = false;
  uint64_t event_count_ = 0, comment_count_ = 0, truncated_count_ = 0;
};

}  // namespace penstock::http
