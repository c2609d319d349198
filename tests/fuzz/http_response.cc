// The response side of the HTTP codec, fed with anything.
#include "tests/fuzz/http_codec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace penstock::http;
  check_codec(Parser::Kind::response, {reinterpret_cast<const char*>(data), size});
  return 0;
}
