#include "penstock/observability/gzip.h"

#include <doctest/doctest.h>
#include <zlib.h>

#include <string>

using namespace penstock::observability;

namespace {

std::string unpacked(const std::string& packed, size_t size) {
  std::string out(size + 1, '\0');
  z_stream stream{};
  REQUIRE(inflateInit2(&stream, 15 + 16) == Z_OK);  // gzip's framing alone
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  CHECK(inflate(&stream, Z_FINISH) == Z_STREAM_END);
  CHECK(stream.avail_in == 0);
  out.resize(stream.total_out);
  inflateEnd(&stream);
  return out;
}

}  // namespace

TEST_CASE("what was compressed is the same again, and a page of metrics is much smaller") {
  std::string page;
  for (int i = 0; i < 20'000; ++i)
    page += "some_metric_bucket{model_name=\"llama\",le=\"" + std::to_string(i) + "\"} 17\n";
  for (const std::string& text : {std::string(), std::string("x"), std::string(3, '\0'), page}) {
    const std::string packed = gzip(text);
    CHECK(unpacked(packed, text.size()) == text);
  }
  CHECK(gzip(page).size() * 5 < page.size());
}

TEST_CASE("who takes gzip") {
  for (const char* yes : {"gzip", "GZIP", "deflate, gzip", "gzip;q=1.0, *;q=0", "*", "x-gzip",
                          "identity;q=0,gzip ; q=0.001", "br,*;q=0.1"}) {
    INFO(yes);
    CHECK(accepts_gzip(yes));
  }
  for (const char* no :
       {"", "identity", "gzip;q=0", "gzip; Q=0.000", "*;q=0", "*, gzip;q=0", "gzipped", ",;,", "deflate"}) {
    INFO(no);
    CHECK_FALSE(accepts_gzip(no));
  }
}
