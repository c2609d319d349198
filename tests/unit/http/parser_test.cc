#include "penstock/http/parser.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <string>

#include "codec_log.h"

using namespace penstock::http;

namespace {

struct Recorder final : ParserEvents {
  explicit Recorder(Parser::Kind kind, const ParserLimits& limits = {}) : parser(kind, *this, limits) {}
  void on_head(Head& head) override {
    log += "head ";
    target = std::string(head.target);
    if (in_head) in_head();
  }
  void on_body(std::string_view bytes) override {
    body += bytes;
    log += "body ";
    if (in_body) in_body();
  }
  void on_message_end(bool keep_alive) override {
    log += keep_alive ? "end " : "end-close ";
    if (in_end) in_end();
  }
  void on_trailers(std::string_view section) override { trailers += section; }
  std::string log, body, target, trailers;
  std::function<void()> in_head, in_body, in_end;
  Parser parser;
};

constexpr std::string_view kGet = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
constexpr std::string_view kChunked =
    "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n";

}  // namespace

TEST_CASE("feed stops behind one message and says how many bytes it took") {
  Recorder r(Parser::Kind::request);
  const std::string two = std::string(kGet) + "GET /b HTTP/1.1\r\nHost: h\r\n\r\n";
  const auto fed = r.parser.feed(two);
  CHECK(fed.consumed == kGet.size());
  CHECK(fed.error == ParseError::none);
  CHECK(r.target == "/a");
  CHECK(r.parser.idle());
  CHECK(r.parser.head() == nullptr);
  CHECK(r.parser.feed(std::string_view(two).substr(fed.consumed)).consumed == two.size() - kGet.size());
  CHECK(r.target == "/b");
  CHECK(r.log == "head end head end ");
}

TEST_CASE("a pause in on_head leaves the body, and the end, for the next feed") {
  Recorder r(Parser::Kind::request);
  r.in_head = [&] { r.parser.pause(); };
  const std::string message = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi";
  const auto fed = r.parser.feed(message);
  CHECK(fed.consumed == message.size() - 2);
  CHECK(r.log == "head ");
  CHECK(r.parser.head() != nullptr);
  CHECK(r.parser.feed("hi").consumed == 2);
  CHECK(r.log == "head body end ");

  r.log.clear();
  CHECK(r.parser.feed(kGet).consumed == kGet.size());
  CHECK(r.log == "head ");
  CHECK_FALSE(r.parser.idle());
  CHECK(r.parser.feed({}).consumed == 0);
  CHECK(r.log == "head end ");
}

TEST_CASE("a pause in on_body stops behind that chunk") {
  Recorder r(Parser::Kind::request);
  r.in_body = [&] { r.parser.pause(); };
  std::string_view rest = kChunked;
  rest.remove_prefix(r.parser.feed(rest).consumed);
  CHECK(r.body == "abc");
  CHECK(rest.starts_with("2\r\n"));  // the line end belongs to the chunk
  rest.remove_prefix(r.parser.feed(rest).consumed);
  CHECK(r.body == "abcde");
  CHECK(r.log == "head body body ");
  CHECK(r.parser.feed(rest).consumed == rest.size());
  CHECK(r.log == "head body body end ");
}

TEST_CASE("a reset from inside any event ends the feed and forgets the message") {
  for (const int where : {0, 1, 2}) {
    CAPTURE(where);
    Recorder r(Parser::Kind::request);
    (where == 0 ? r.in_head : where == 1 ? r.in_body : r.in_end) = [&] { r.parser.reset(); };
    r.parser.feed(kChunked);
    CHECK(r.parser.idle());
    CHECK(r.parser.head() == nullptr);
    r.in_head = r.in_body = r.in_end = nullptr;
    r.log.clear();
    CHECK(r.parser.feed(kGet).error == ParseError::none);
    CHECK(r.log == "head end ");
  }
}

TEST_CASE("a message whose head was dropped goes on to its end, and the next one is read") {
  Recorder r(Parser::Kind::response);
  r.in_head = [&] { r.parser.drop_head(); };
  const std::string_view answer =
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n";
  for (int i = 0; i < 3; ++i) {
    CAPTURE(i);
    r.log.clear();
    for (const char& c : answer) REQUIRE(r.parser.feed({&c, 1}).error == ParseError::none);
    CHECK(r.parser.head() == nullptr);
    CHECK(r.log == "head body body body end ");
  }
  CHECK(r.body == "abcabcabc");
  r.parser.drop_head();  // nothing to drop
  CHECK(r.parser.idle());
}

TEST_CASE("the head stays as it was until the message has ended, trailers or not") {
  Recorder r(Parser::Kind::request);
  const Head* head = nullptr;
  r.in_head = [&] { head = r.parser.head(); };
  r.in_end = [&] {
    REQUIRE(head != nullptr);
    CHECK(head->headers().size() == 2);
    CHECK(head->headers()[1].value == "chunked");
    CHECK(head->target == "/");
  };
  r.parser.feed(kChunked);
  CHECK(r.log == "head body body end ");
}

TEST_CASE("a message may be begun from inside the end of the one before") {
  Recorder r(Parser::Kind::request);
  r.in_end = [&] {
    r.in_end = nullptr;
    r.parser.feed("GET /inner HTTP/1.1\r\nHost: h\r\n\r\n");
  };
  r.parser.feed(kGet);
  CHECK(r.log == "head end head end ");
  CHECK(r.target == "/inner");
}

TEST_CASE("feed tells the head from the raw body") {
  Recorder r(Parser::Kind::response);
  const std::string head = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
  const std::string body = "3\r\nabc\r\n0\r\nX: y\r\n\r\n";
  auto fed = r.parser.feed(head + body + "HTTP/");
  CHECK(fed.head_bytes == head.size());
  CHECK(fed.consumed == head.size() + body.size());
  fed = r.parser.feed(head.substr(0, 30));
  CHECK(fed.head_bytes == 30);
  fed = r.parser.feed(head.substr(30) + "3\r");
  CHECK(fed.head_bytes == head.size() - 30);
  CHECK(fed.consumed == head.size() - 28);
  fed = r.parser.feed("\nab");
  CHECK(fed.head_bytes == 0);
  CHECK(fed.consumed == 3);
}

TEST_CASE("the trailers of a response come by themselves, without those that end at this hop") {
  const std::string head =
      "HTTP/1.1 200 OK\r\nConnection: x-hop, close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n";
  const std::string sent =
      "X-Sum: 42\r\nCONNECTION: close\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\nTrailer: a\r\nUpgrade: h2c\r\n"
      "Proxy-Connection: close\r\nProxy-Authenticate: x\r\nProxy-Authorization: x\r\nX-Hop: 1\r\nX-Other:2\r\n\r\n";
  const std::string fit = "X-Sum: 42\r\nX-Other:2\r\n\r\n";
  for (size_t cut = 0; cut <= sent.size(); ++cut) {
    CAPTURE(cut);
    Recorder r(Parser::Kind::response);
    const std::string first = head + sent.substr(0, cut), second = sent.substr(cut) + "HTTP/1.1 200 OK";
    auto fed = r.parser.feed(first);
    CHECK(fed.consumed - fed.trailer_bytes == head.size());
    if (cut < sent.size()) {
      CHECK(r.trailers.empty());
      fed = r.parser.feed(second);
      CHECK(fed.trailer_bytes == sent.size() - cut);
      CHECK(fed.consumed == fed.trailer_bytes);
    }
    CHECK(r.trailers == fit);
    CHECK(r.log == "head body end-close ");
  }
}

TEST_CASE("an empty trailer section is part of the raw body") {
  const std::string head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
  for (const size_t cut : {0, 1, 2}) {
    Recorder r(Parser::Kind::response);
    CHECK(r.parser.feed(head + std::string("\r\n").substr(0, cut)).trailer_bytes == 0);
    if (cut < 2) CHECK(r.parser.feed(std::string("\r\n").substr(cut)).trailer_bytes == 0);
    CHECK(r.log == "head end ");
    CHECK(r.trailers.empty());
  }
}

TEST_CASE("refused framing of a body is not among the consumed bytes") {
  const std::string head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (const std::string bad : {"zz\r\n", "3 \r\nabc\r\n", "0\r\nX : y\r\n\r\n", "0\r\n\n"}) {
    CAPTURE(bad);
    Recorder r(Parser::Kind::response);
    const std::string good = head + "3\r\nabc\r\n";
    const auto fed = r.parser.feed(good + bad);
    CHECK(fed.error != ParseError::none);
    CHECK(fed.consumed >= good.size() - 2);  // the line end behind the data is one piece with the next size
    CHECK(fed.consumed <= good.size() + 3);  // the line of the last chunk is fine in itself
  }
}

TEST_CASE("between_chunks is true behind the head and behind each whole chunk") {
  Recorder r(Parser::Kind::response);
  const auto after = [&](std::string_view bytes) {
    REQUIRE(r.parser.feed(bytes).error == ParseError::none);
    return r.parser.between_chunks();
  };
  CHECK_FALSE(r.parser.between_chunks());
  CHECK_FALSE(after("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"));
  CHECK(after("\r\n"));
  CHECK_FALSE(after("3"));
  CHECK_FALSE(after("\r\nabc"));
  CHECK_FALSE(after("\r"));
  CHECK(after("\n"));
  CHECK(after("1;x\r\na\r\n"));
  CHECK_FALSE(after("0\r\n"));
  CHECK_FALSE(after("\r\n"));
}

TEST_CASE("what lies before the last chunk can be told from it, wherever the bytes are cut") {
  const std::string head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
  const std::string before = "3\r\nabc\r\n1;x\r\na\r\n", last = "2\r\nxy\r\n", all = head + before + last;
  for (size_t cut = 0; cut < all.size(); ++cut) {
    CAPTURE(cut);
    Recorder r(Parser::Kind::response);
    r.parser.feed(std::string_view(all).substr(0, cut));
    const std::string_view rest = std::string_view(all).substr(cut);
    r.parser.feed(rest);
    const bool begins_here = cut <= head.size() + before.size();
    REQUIRE((r.parser.chunk_begin() != nullptr) == begins_here);
    if (begins_here) CHECK(std::string(r.parser.chunk_begin(), last.size()) == last);
    const std::string_view raw = r.parser.raw_until(begins_here ? r.parser.chunk_begin() : rest.data() + rest.size());
    CHECK(raw == (begins_here ? before.substr(std::max(cut, head.size()) - head.size()) : rest));
  }
  Recorder r(Parser::Kind::response);
  r.parser.feed("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc");
  CHECK(r.parser.chunk_begin() == nullptr);
}

TEST_CASE("an error is sticky until reset") {
  Recorder r(Parser::Kind::request);
  CHECK(r.parser.feed("GET  / HTTP/1.1\r\n").error == ParseError::malformed);
  CHECK(r.parser.feed(kGet).error == ParseError::malformed);
  CHECK(r.parser.feed(kGet).consumed == 0);
  CHECK(r.parser.finish() == ParseError::malformed);
  r.parser.reset();
  CHECK(r.parser.feed(kGet).error == ParseError::none);
}

TEST_CASE("an answer to HEAD has no body whatever it announces") {
  Recorder r(Parser::Kind::response);
  r.parser.expect_response_to(Method::head);
  r.parser.feed("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n");
  CHECK(r.log == "head end ");
  r.parser.feed("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");  // the next one answers something else
  CHECK(r.body == "x");
}

TEST_CASE("interim responses are skipped and the final one is reported") {
  Recorder r(Parser::Kind::response);
  r.parser.feed("HTTP/1.1 100 Continue\r\n\r\n");
  CHECK(r.log.empty());
  CHECK(r.parser.in_head());
  CHECK_FALSE(r.parser.idle());
  r.parser.feed("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n");
  CHECK(r.log == "head end ");
}

TEST_CASE("the close of the peer ends a body without length and cuts every other message") {
  Recorder r(Parser::Kind::response);
  CHECK(r.parser.finish() == ParseError::none);
  r.parser.feed("HTTP/1.1 200 OK\r\n\r\nabc");
  CHECK(r.parser.body_until_close());
  CHECK(r.parser.finish() == ParseError::none);
  CHECK(r.log == "head body end-close ");
  r.parser.feed("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc");
  CHECK(r.parser.finish() == ParseError::malformed);
}

TEST_CASE("the head outlives the bytes that were fed") {
  Recorder r(Parser::Kind::request);
  std::string seen;
  {
    std::string bytes(kChunked.substr(0, kChunked.find("3\r\n")));
    r.parser.feed(bytes);
    bytes.assign(bytes.size(), '?');
  }
  REQUIRE(r.parser.head() != nullptr);
  CHECK(r.parser.head()->method_text == "POST");
  CHECK(r.parser.head()->get(Field::transfer_encoding) == "chunked");
  CHECK(r.parser.head()->headers()[0].name == "Host");
}

namespace {
// What the codec says of `last` behind `first` twice (which makes it remember that head), read in one piece or byte by
// byte (which makes it read every head).
std::string behind_two(Parser::Kind kind, const std::string& first, const std::string& last, bool whole) {
  return CodecLog({.kind = kind}).run(first + first + last, [&](size_t left) {
    return !whole && left <= last.size() ? size_t{1} : left > last.size() ? left - last.size() : left;
  });
}

// Every byte of a head replaced by every other one.
void check_changes(Parser::Kind kind, const std::string& message) {
  for (size_t at = 0; at < message.size(); ++at) {
    for (int byte = 0; byte < 256; ++byte) {
      std::string changed = message;
      changed[at] = static_cast<char>(byte);
      const std::string expected = behind_two(kind, message, changed, false);
      if (behind_two(kind, message, changed, true) == expected) continue;
      FAIL_CHECK(escaped(changed), " gives\n", behind_two(kind, message, changed, true), "and not\n", expected);
    }
  }
}
}  // namespace

TEST_CASE("a head that nearly comes again is judged as if it were the first") {
  check_changes(
      Parser::Kind::request,
      "POST /a HTTP/1.1\r\nhost: h\r\ntraceparent: 00-a\r\nx-a: b\r\ncontent-length: 2\r\nx-request-id: 7 \r\n\r\nhi");
  check_changes(Parser::Kind::response,
                "HTTP/1.1 200 OK\r\ndate: Mon, 1\r\nconnection: keep-alive\r\ncontent-length: 02\r\nx: \r\n\r\nhi");
}

TEST_CASE("a head that comes again is longer or shorter") {
  const auto request = [](const std::string& id, const std::string& body) {
    return "POST /a HTTP/1.1\r\nHost: h\r\nx-request-id: " + id + "\r\ncontent-length: " + std::to_string(body.size()) +
           "\r\n\r\n" + body;
  };
  const std::string first = request("abc", "hello");
  for (const std::string& last : {request("abd", "hey"), request("", "hey"), request("longer", "hey"),
                                  request("abc", "ten bytes."), std::string(kGet), std::string(kChunked)}) {
    CHECK(behind_two(Parser::Kind::request, first, last, true) ==
          behind_two(Parser::Kind::request, first, last, false));
  }
}

TEST_CASE("the views into a head that comes again are into that one") {
  Recorder r(Parser::Kind::request);
  std::string value;
  r.in_end = [&] { r.log += value; };
  for (const std::string id : {"aaa", "bbb", "ccc", "ddd"}) {
    std::string message = "GET /a HTTP/1.1\r\nHost: h\r\nX-Request-Id: " + id + "\r\n\r\n";
    r.in_head = [&] { value = std::string(r.parser.head()->get(Field::x_request_id)); };
    CHECK(r.parser.feed(message).head_bytes == message.size());
    std::fill(message.begin(), message.end(), '?');
    CHECK(value == id);
    CHECK(r.target == "/a");
  }
}
