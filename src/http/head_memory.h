// The last head of a connection, as guard and llhttp have read it. What they say depends on its bytes alone, and on a
// connection that is kept alive nearly the same bytes come again and again: such a head is not read a second time.
// Only these may differ, each as long as it was: the digits of Content-Length, and the values of fields that mean
// nothing for the framing and are often new (Date, x-request-id, traceparent).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "penstock/http/head.h"

namespace penstock::http {

class HeadMemory {
 public:
  // Whether it is small enough to be worth its memory. Chunked messages go on with llhttp, which has to see their head.
  static bool worth(const Head& head);
  void keep(const Head& head);
  // When `bytes` begin with the head as it was kept: fills `head` as reading it would have done, and returns the bytes
  // that it takes. Else 0, and `head` is left alone.
  size_t recall(std::string_view bytes, Head& head) const;

 private:
  // A field, by the places of its name and value in the head: an idle connection pays for it.
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
