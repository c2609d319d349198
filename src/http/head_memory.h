// Remembers the last head of a connection as guard and llhttp have read it. The result depends on the bytes alone, and
// a kept-alive connection brings nearly the same bytes again and again; such a head is not parsed a second time. Only
// two parts may differ, and only with the same length: the digits of Content-Length, and the values of fields that do
// not affect the framing and change often (Date, x-request-id, traceparent).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "penstock/http/head.h"

namespace penstock::http {

class HeadMemory {
 public:
  // Whether the head is small enough to be remembered. Heads of chunked messages are not: llhttp must see them, because
  // it also parses the chunks.
  static bool worth(const Head& head);
  void keep(const Head& head);
  // If `bytes` begin with the remembered head: fills `head` as parsing would have done, and returns its size. Otherwise
  // returns 0, and `head` is unchanged.
  size_t recall(std::string_view bytes, Head& head) const;

 private:
  // The positions of a field's name and value in the head. Small, because idle connections keep it.
  struct Line {
    uint16_t name, name_size, value, value_size;
    Field field;
  };
  struct Match {
    size_t size = 0;  // 0: none
    uint64_t content_length = 0;
  };
  static bool may_differ(const Line& line);
  Match match(std::string_view bytes) const;
  static void copy(const Head& from, std::string_view bytes, Head& to);

  Head kept_;  // but for its headers()
  std::vector<Line> lines_;
};

}  // namespace penstock::http
