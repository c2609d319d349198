#include "penstock/http/request_fields.h"

#include <doctest/doctest.h>

#include <utility>
#include <vector>

namespace penstock::http {
namespace {

using namespace std::string_view_literals;
using List = std::vector<std::pair<std::string, std::string>>;

const List least = {{":method", "GET"}, {":scheme", "https"}, {":authority", "a.example:8080"}, {":path", "/x?y"}};

ParseError read(const List& fields, RequestHead& head, bool body = false, const ParserLimits& limits = {}) {
  RequestFields reader(limits);
  for (const auto& [name, value] : fields) reader.add(name, value);
  const ParseError error = reader.finish(body, head);
  CHECK((head.get() != nullptr) == (error == ParseError::none));
  CHECK(reader.bytes() == 0);
  CHECK(reader.held_bytes() == 0);
  return error;
}

ParseError error_of(const List& fields, bool body = false, const ParserLimits& limits = {}) {
  RequestHead head;
  return read(fields, head, body, limits);
}

List with(List fields, std::string name, std::string value) {
  fields.emplace_back(std::move(name), std::move(value));
  return fields;
}

List without(std::string_view name) {
  List fields = least;
  std::erase_if(fields, [&](const auto& field) { return field.first == name; });
  return fields;
}

List changed(std::string_view name, std::string value) {
  List fields = least;
  for (auto& field : fields) {
    if (field.first == name) field.second = value;
  }
  return fields;
}

TEST_CASE("fields make the head that HTTP/1.1 would have") {
  RequestHead head;
  List fields = least;
  fields.insert(fields.end(),
                {{"accept", "*/*"}, {"cookie", "a=1"}, {"x-a", ""}, {"cookie", "b=2"}, {"te", "trailers"}});
  REQUIRE(read(fields, head) == ParseError::none);
  const Head& h = *head.get();
  CHECK(h.method == Method::get);
  CHECK(h.method_text == "GET");
  CHECK(h.target == "/x?y");
  CHECK(h.minor_version == 1);
  CHECK(h.keep_alive);
  CHECK_FALSE(h.chunked);
  CHECK(h.get(Field::host) == "a.example:8080");
  CHECK(h.get(Field::accept) == "*/*");
  CHECK(h.lines(0, h.headers().size()) ==
        "host: a.example:8080\r\naccept: */*\r\nx-a: \r\nte: trailers\r\ncookie: a=1; b=2\r\n");
  CHECK(is_hop_by_hop(h, h.headers()[3]));
  head.drop();
  CHECK(head.get() == nullptr);
}

TEST_CASE("a body has a length or as many bytes as come") {
  RequestHead head;
  REQUIRE(read(changed(":method", "POST"), head, /*body=*/true) == ParseError::none);
  CHECK(head.get()->chunked);
  CHECK_FALSE(head.get()->has_content_length);
  REQUIRE(read(with(changed(":method", "POST"), "content-length", "7"), head, /*body=*/true) == ParseError::none);
  CHECK_FALSE(head.get()->chunked);
  CHECK(head.get()->content_length == 7);
  CHECK(error_of(with(least, "content-length", "0")) == ParseError::none);
  CHECK(error_of(with(least, "content-length", "7")) == ParseError::smuggling);
  CHECK(error_of(with(least, "content-length", "+7"), true) == ParseError::smuggling);
  CHECK(error_of(with(with(least, "content-length", "7"), "content-length", "7"), true) == ParseError::smuggling);
}

TEST_CASE("pseudo-fields are there once, known, and before all others") {
  for (const char* name : {":method", ":scheme", ":authority", ":path"}) {
    CAPTURE(name);
    CHECK(error_of(without(name)) == ParseError::malformed);
    List twice = least;
    twice.emplace_back(name, "GET");
    CHECK(error_of(twice) == ParseError::malformed);
    const bool needed = std::string_view(name) != ":authority";  // an empty host is one of HTTP/1.1, too
    CHECK((error_of(changed(name, "")) == ParseError::malformed) == needed);
    List late = without(name);
    late.emplace_back("x", "y");
    late.emplace_back(name, "GET");
    CHECK(error_of(late) == ParseError::malformed);
  }
  CHECK(error_of(with(least, ":status", "200")) == ParseError::malformed);
  CHECK(error_of(with(least, ":protocol", "websocket")) == ParseError::malformed);
  CHECK(error_of(changed(":scheme", "ftp")) == ParseError::malformed);
  for (const char* path : {"x", "http://b/", "*", "//\x01", "/a b", "/#f"}) {
    CAPTURE(path);
    CHECK(error_of(changed(":path", path)) != ParseError::none);
  }
  List options = changed(":path", "*");
  options[0].second = "OPTIONS";
  CHECK(error_of(options) == ParseError::none);
}

TEST_CASE("host and :authority say the same, and something that can be a host") {
  CHECK(error_of(with(least, "host", "A.example:8080")) == ParseError::none);
  CHECK(error_of(with(least, "host", "a.example")) == ParseError::smuggling);
  CHECK(error_of(with(without(":authority"), "host", "a.example")) == ParseError::none);
  CHECK(error_of(with(with(without(":authority"), "host", "a"), "host", "a")) == ParseError::smuggling);
  for (const char* host : {"user@a", "a,b", "a/b", "[::1", "a:b"}) {
    CAPTURE(host);
    CHECK(error_of(changed(":authority", host)) != ParseError::none);
  }
}

TEST_CASE("names and values that HTTP/2 forbids are refused") {
  for (const char* name :
       {"Upper", "a b", "", "a:b", "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"}) {
    CAPTURE(name);
    CHECK(error_of(with(least, name, "x")) != ParseError::none);
  }
  for (const std::string_view value : {" x"sv, "x "sv, "a\r\nb: c"sv, "a\nb"sv, "a\0b"sv, "\x7f"sv}) {
    CHECK(error_of(with(least, "x", std::string(value))) == ParseError::smuggling);
    CHECK(error_of(changed(":path", "/" + std::string(value))) != ParseError::none);
  }
  CHECK(error_of(with(least, "te", "gzip")) == ParseError::malformed);
  CHECK(error_of(with(least, "te", "trailers, gzip")) == ParseError::malformed);
}

TEST_CASE("CONNECT names a host alone") {
  CHECK(error_of({{":method", "CONNECT"}, {":authority", "a:1"}}) == ParseError::none);
  CHECK(error_of({{":method", "CONNECT"}, {":authority", "a:1"}, {":path", "/"}}) == ParseError::malformed);
  CHECK(error_of({{":method", "CONNECT"}}) == ParseError::malformed);
  CHECK(error_of(changed(":method", "BREW")) == ParseError::unknown_method);
  CHECK(error_of(changed(":method", "GET /")) == ParseError::malformed);
}

TEST_CASE("what is over a limit is counted and not kept") {
  const ParserLimits limits{.head_bytes_max = 200, .headers_max = 8, .uri_bytes_max = 20};
  CHECK(error_of(with(least, "x", std::string(200, 'x')), false, limits) == ParseError::head_too_large);
  List many = least;
  for (int i = 0; i < 5; ++i) many.emplace_back("x", "y");
  CHECK(error_of(many, false, limits) == ParseError::head_too_large);
  CHECK(error_of(changed(":path", "/" + std::string(20, 'p')), false, limits) == ParseError::uri_too_long);
  RequestFields reader(limits);
  for (int i = 0; i < 1000; ++i) reader.add("name", std::string(100, 'v'));
  CHECK(reader.bytes() == 1000 * 108);
  CHECK(reader.held_bytes() < 200);
  reader.clear();
  reader.add(":method", "HEAD");
  CHECK(reader.asks_for_head());
}

}  // namespace
}  // namespace penstock::http
