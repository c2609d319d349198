#include "penstock/http/writer.h"

#include <doctest/doctest.h>

#include <random>
#include <string>

#include "codec_log.h"

using namespace penstock::http;

TEST_CASE("a request head is written as it goes on the wire") {
  std::string out;
  HeadWriter writer(out);
  writer.request_line("POST", "/v1/completions?x=1");
  writer.field("Host", "a:80");
  writer.field("Content-Length", uint64_t{18446744073709551615u});
  writer.field("X-Empty", "");
  writer.end();
  CHECK(out ==
        "POST /v1/completions?x=1 HTTP/1.1\r\nHost: a:80\r\nContent-Length: 18446744073709551615\r\nX-Empty: \r\n\r\n");
}

TEST_CASE("a status line has the usual reason, a given one, or none") {
  std::string out;
  HeadWriter writer(out);
  writer.status_line(503);
  writer.status_line(200, "Fine", 0);
  writer.status_line(299);
  CHECK(out == "HTTP/1.1 503 Service Unavailable\r\nHTTP/1.0 200 Fine\r\nHTTP/1.1 299 \r\n");
}

TEST_CASE("the statuses that the gateway answers with have a reason") {
  for (const uint16_t status :
       {100, 200, 204, 304, 400, 401, 403, 404, 405, 408, 413, 414, 417, 429, 431, 500, 501, 502, 503, 504, 505}) {
    CAPTURE(status);
    CHECK_FALSE(reason_of(status).empty());
  }
  CHECK(reason_of(299).empty());
  CHECK(reason_of(0).empty());
}

TEST_CASE("chunks that are written are read back") {
  std::mt19937_64 random(7);
  std::string bytes = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", body;
  for (const size_t size : {1, 15, 16, 255, 4096, 70000}) {
    const std::string data(size, static_cast<char>('a' + random() % 26));
    body += data;
    append_chunk(bytes, data);
  }
  append_chunk(bytes, "");
  CHECK(bytes.substr(bytes.size() - 7) == "\r\n0\r\n\r\n");
  const std::string log =
      CodecLog({.kind = Parser::Kind::response}).run(bytes, [&](size_t left) { return std::min<size_t>(left, 1000); });
  CHECK(log.find("body " + std::to_string(body.size()) + " bytes") != std::string::npos);
  CHECK(log.find("end, keep-alive\n") != std::string::npos);
}
