// Observes a server-sent-event stream (WHATWG HTML, section 9.2) without changing it: finds the events in decoded body
// bytes, whatever the boundaries of the reads. Keeps only the unfinished line, up to a limit; the data of longer lines
// is cut off, and such lines are counted. Pure; one thread; no allocation per event while events end within one read.
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
  // Limit of a line, and of the joined data of an event. Bytes beyond it are cut off, whether the line came in one read
  // or in many.
  static constexpr size_t carry_bytes_max = 64 * 1024;
  explicit SseScanner(SseEvents& events) : events_(events) {}
  // The receiver of the events must neither feed nor reset the scanner from inside one.
  void feed(std::string_view bytes);  // less than 4 GiB
  // Called from inside an event: it is the last one. feed() returns behind it, and must not be called again.
  void stop() { stop_ = true; }
  // Then: where that event lies in the bytes that were fed last.
  struct Place {
    uint32_t begin = 0, end = 0;
    bool whole = false;  // all of it; false: it began in an earlier feed(), and `begin` is 0
  };
  Place stopped_at() const { return stopped_; }
  // Inside an event that has a name: where it begins in those bytes; 0 if it began before them.
  size_t event_begin() const { return stopped_.begin; }
  void reset();
  uint32_t events() const { return event_count_; }
  uint32_t comments() const { return comment_count_; }
  uint32_t truncated() const { return truncated_count_; }  // lines of which something was cut off
  // The bytes so far end exactly after a complete event.
  bool at_boundary() const;
  // Where in the `size` bytes that were fed last the event that is not complete yet begins: 0 if it began before them,
  // `size` if there is none.
  size_t incomplete_from(size_t size) const;

 private:
  void keep(std::string_view text);
  void line(std::string_view text, bool lasts);
  void add_data(std::string_view value, bool lasts);
  void dispatch();

  SseEvents& events_;
  std::string carry_;  // unfinished line
  std::string data_;   // data lines of the event so far, when more than one or when split
  std::string name_;
  std::string_view single_;  // the only data line so far, while it is a view into the bytes being fed
  bool has_data_ = false;
  bool in_event_ = false;  // a field since the last empty line
  bool after_cr_ = false;  // the last byte was CR: an LF that follows belongs to it
  bool crlf_seen_ = false;
  bool first_line_ = true;  // a byte order mark may stand before it
  bool truncated_line_ = false;
  bool stop_ = false;
  Place stopped_;  // of the event being read
  uint32_t event_count_ = 0, comment_count_ = 0, truncated_count_ = 0;
};

}  // namespace penstock::http
