// The SSE scanner, fed with anything: the events are those of the specification, however the bytes are cut.
#include <cstdio>
#include <cstdlib>
#include <random>

#include "tests/unit/http/codec_log.h"
#include "tests/unit/http/sse_log.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace penstock::http;
  if (size > SseScanner::carry_bytes_max) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const std::string whole = SseLog().run(bytes, [](size_t left) { return left; });
  const auto check = [&](const char* how, std::string_view expected, std::string_view is) {
    if (expected == is) return;
    std::fprintf(stderr, "bytes %s\n%s\n-- expected\n%s\n-- is\n%s\n", escaped(bytes).c_str(), how,
                 std::string(expected).c_str(), std::string(is).c_str());
    std::abort();
  };
  check("by the book", sse_events_by_the_book(bytes), std::string_view(whole).substr(0, whole.rfind("comments ")));
  check("byte by byte", whole, SseLog().run(bytes, [](size_t) { return size_t{1}; }));
  std::minstd_rand random(static_cast<unsigned>(size));
  check("cut at random", whole,
        SseLog().run(bytes, [&](size_t left) { return std::min<size_t>(left, 1 + random() % 24); }));
  return 0;
}
