// Builds message heads into a caller's string. Values that could break framing (CR, LF, NUL) are refused by
// assertion: callers pass only values that came through the strict parser or are our own.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "penstock/http/head.h"

namespace penstock::http {

std::string_view reason_of(uint16_t status);  // "Service Unavailable"

class HeadWriter {
 public:
  explicit HeadWriter(std::string& out) : out_(out) {}
  void request_line(std::string_view method, std::string_view target);  // HTTP/1.1
  void status_line(uint16_t status, std::string_view reason = {}, uint8_t minor_version = 1);
  void field(std::string_view name, std::string_view value);
  void field(std::string_view name, uint64_t value);
  void end();

 private:
  std::string& out_;
};

// A chunk of chunked coding around `bytes` ("" writes the last chunk).
void append_chunk(std::string& out, std::string_view bytes);

}  // namespace penstock::http
