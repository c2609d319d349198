// Runs bytes through the SSE scanner, cut in a given way, and writes down what came; and does the same with a plain
// reading of the specification that needs all bytes at once. Unit tests and the fuzz target compare the two.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/http/sse.h"

namespace penstock::http {

class SseLog final : SseEvents {
 public:
  SseLog() : scanner_(*this) {}

  template <typename NextSize>
  std::string run(std::string_view bytes, NextSize&& next_size) {
    while (!bytes.empty()) {
      const std::string piece(bytes.substr(0, next_size(bytes.size())));  // a copy: stale views are seen by ASan
      bytes.remove_prefix(piece.size());
      scanner_.feed(piece);
    }
    log_ += "comments " + std::to_string(scanner_.comments()) + " cut " + std::to_string(scanner_.truncated());
    log_ += scanner_.at_boundary() ? " at a boundary\n" : " inside\n";
    if (scanner_.events() != events_) log_ += "miscounted\n";
    return log_;
  }

  static std::string entry(std::string_view name, std::string_view data) {
    return "[" + std::string(name) + "] " + std::to_string(data.size()) + " " + std::string(data) + "\n";
  }

 private:
  void on_sse_event(std::string_view name, std::string_view data) override {
    ++events_;
    log_ += entry(name, data);
  }

  SseScanner scanner_;
  std::string log_;
  uint64_t events_ = 0;
};

// The events of a stream whose lines and joined data stay below the scanner's limit.
inline std::string sse_events_by_the_book(std::string_view bytes) {
  if (bytes.substr(0, 3) == "\xef\xbb\xbf") bytes.remove_prefix(3);
  std::string log, name, data;
  bool any = false;
  while (true) {
    const size_t end = bytes.find_first_of("\r\n");
    if (end == std::string_view::npos) return log;
    const std::string_view line = bytes.substr(0, end);
    bytes.remove_prefix(bytes.substr(end, 2) == "\r\n" ? end + 2 : end + 1);
    if (line.empty()) {
      if (any) log += SseLog::entry(name, std::string_view(data).substr(0, data.size() - 1));
      name.clear(), data.clear(), any = false;
      continue;
    }
    const size_t colon = line.find(':');
    const std::string_view field = line.substr(0, colon);
    std::string_view value = colon == std::string_view::npos ? std::string_view() : line.substr(colon + 1);
    if (value.starts_with(' ')) value.remove_prefix(1);
    if (field == "event") name = value;
    if (field == "data") data.append(value).append("\n"), any = true;
  }
}

}  // namespace penstock::http
