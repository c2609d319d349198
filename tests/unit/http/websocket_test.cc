#include "penstock/http/websocket.h"

#include <doctest/doctest.h>

#include <string>

#include "tests/support/parsed_head.h"

namespace penstock::http {
namespace {

test::ParsedHead parsed(Parser::Kind kind, const std::string& text) {
  return test::ParsedHead(kind, text + "\r\n");
}

bool asks(const std::string& fields, const std::string& line = "GET /v1/realtime HTTP/1.1") {
  return asks_for_websocket(parsed(Parser::Kind::request, line + "\r\nHost: h\r\n" + fields).head());
}
constexpr const char* connection = "Connection: keep-alive, Upgrade\r\n";
constexpr const char* upgrade = "Upgrade: websocket\r\n";
constexpr const char* key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

TEST_CASE("a request asks for a WebSocket only if all that belongs to it is there") {
  const auto text = [](auto... parts) { return (std::string() + ... + parts); };
  CHECK(asks(text(connection, upgrade, key)));
  CHECK(asks(text("connection: upgrade\r\nUPGRADE: h2c,  WebSocket\r\n", key)));
  CHECK(asks(text(connection, "Upgrade: h2c\r\n", upgrade, key)));
  CHECK_FALSE(asks(text(upgrade, key)));
  CHECK_FALSE(asks(text("Connection: close\r\n", upgrade, key)));
  CHECK_FALSE(asks(text(connection, key)));
  CHECK_FALSE(asks(text(connection, "Upgrade: h2c\r\n", key)));
  CHECK_FALSE(asks(text(connection, "Upgrade: websocket/13\r\n", key)));
  CHECK_FALSE(asks(text(connection, "Upgrade: notwebsocket\r\n", key)));
  CHECK_FALSE(asks(text(connection, upgrade)));
  CHECK_FALSE(asks(text(connection, upgrade, "Sec-WebSocket-Key:\r\n")));
  CHECK_FALSE(asks(text(connection, upgrade, key, key)));
  CHECK_FALSE(asks(text(connection, upgrade, key), "GET /v1/realtime HTTP/1.0"));
  CHECK_FALSE(asks(text(connection, upgrade, key), "POST /v1/realtime HTTP/1.1"));
  CHECK_FALSE(asks(text(connection, upgrade, key), "HEAD /v1/realtime HTTP/1.1"));
  CHECK_FALSE(asks(text(connection, upgrade, key, "Content-Length: 0\r\n")));
  CHECK_FALSE(asks(text(connection, upgrade, key, "Transfer-Encoding: chunked\r\n")));
}

// RFC 6455, section 1.3.
constexpr const char* example_key = "dGhlIHNhbXBsZSBub25jZQ==";
constexpr const char* example_accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

TEST_CASE("an answer accepts a WebSocket only if it belongs to the request") {
  CHECK(websocket_accept(example_key) == example_accept);
  const auto accepts = [](const std::string& fields, const char* status = "101 Switching Protocols") {
    const auto answer = parsed(Parser::Kind::response, std::string("HTTP/1.1 ") + status + "\r\n" + fields);
    return accepts_websocket(answer.head(), example_key);
  };
  const std::string accept = std::string("sec-websocket-accept: ") + example_accept + "\r\n";
  const std::string switched = std::string(connection) + upgrade;
  CHECK(accepts(switched + accept));
  CHECK(accepts("Connection: upgrade\r\nupgrade: WEBSOCKET\r\n" + accept));
  CHECK_FALSE(accepts(switched));
  CHECK_FALSE(accepts(switched + accept + accept));
  CHECK_FALSE(accepts(switched + "Sec-WebSocket-Accept: S3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
  CHECK_FALSE(accepts(upgrade + accept));
  CHECK_FALSE(accepts(connection + accept));
  CHECK_FALSE(accepts(std::string(connection) + "Upgrade: websocket, h2c\r\n" + accept));
  CHECK_FALSE(accepts(std::string(connection) + "Upgrade: h2c\r\n" + accept));
  CHECK_FALSE(accepts(switched + accept + "Content-Length: 3\r\n"));
  CHECK_FALSE(accepts(switched + accept, "200 OK"));
  const auto answer = parsed(Parser::Kind::response, "HTTP/1.1 101 Switching Protocols\r\n" + switched + accept);
  CHECK_FALSE(accepts_websocket(answer.head(), ""));
}

TEST_CASE("frames are followed however they are cut") {
  const std::string small("\x81\x05hello", 7), masked("\x81\x85\x01\x02\x03\x04hello", 11);
  const std::string middle = std::string("\x82\x7e\x01\x00", 4) + std::string(256, 'm');
  const std::string large = std::string("\x82\xff\0\0\0\0\0\x01\0\0", 10) + "mask" + std::string(65536, 'l');
  const std::string empty("\x89\x00", 2), close("\x88\x02\x03\xe8", 4);
  const std::string all = small + masked + middle + large + empty;
  for (const size_t step : {size_t{1}, size_t{2}, size_t{7}, size_t{1000}, all.size()}) {
    WebSocketFrames frames;
    std::string passed;
    for (size_t at = 0; at < all.size(); at += step) {
      frames.feed(std::string_view(all).substr(at, step));
      passed = all.substr(0, std::min(at + step, all.size()));
      const bool boundary = passed == small || passed == small + masked || passed == small + masked + middle ||
                            passed == small + masked + middle + large || passed == all;
      CHECK(frames.between_frames() == boundary);
    }
    CHECK_FALSE(frames.closed());
    frames.feed(std::string_view(close).substr(0, 1));
    CHECK(frames.closed());
    CHECK_FALSE(frames.between_frames());
    frames.feed(std::string_view(close).substr(1));
    CHECK(frames.between_frames());
  }
}

TEST_CASE("a Close frame of our own") {
  const auto bytes = websocket_close(WebSocketClose::going_away);
  CHECK(std::string(bytes.begin(), bytes.end()) == "\x88\x02\x03\xe9");
  WebSocketFrames frames;
  frames.feed({bytes.data(), bytes.size()});
  CHECK(frames.closed());
  CHECK(frames.between_frames());
}

}  // namespace
}  // namespace penstock::http
