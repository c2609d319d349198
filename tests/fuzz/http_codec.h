// What both fuzz targets of the HTTP codec check: the events of a connection do not depend on how its bytes were cut
// into reads.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <string_view>

#include "tests/unit/http/codec_log.h"

namespace penstock::http {

inline void check_cuts(const CodecLog::Input& input, std::string_view bytes) {
  const std::string whole = CodecLog(input).run(bytes, [](size_t left) { return left; });
  const auto check = [&](const char* how, auto&& next_size) {
    const std::string cut = CodecLog(input).run(bytes, next_size);
    if (cut == whole) return;
    std::fprintf(stderr, "bytes %s\n-- whole\n%s-- %s\n%s", escaped(bytes).c_str(), whole.c_str(), how, cut.c_str());
    std::abort();
  };
  check("byte by byte", [](size_t) { return size_t{1}; });
  std::minstd_rand random(static_cast<unsigned>(bytes.size()));
  check("cut at random", [&](size_t left) { return std::min<size_t>(left, 1 + random() % 24); });
}

inline void check_codec(Parser::Kind kind, std::string_view bytes) {
  check_cuts({.kind = kind, .close = true, .raw = true}, bytes);
  check_cuts({.kind = kind, .limits = {.head_bytes_max = 128, .headers_max = 4, .uri_bytes_max = 24}}, bytes);
  if (kind == Parser::Kind::response)
    check_cuts({.kind = kind, .answers_head = true, .close = true, .raw = true}, bytes);
}

}  // namespace penstock::http
