#include "penstock/base/text.h"

#include <doctest/doctest.h>

using namespace penstock;

TEST_CASE("a JSON string escapes what JSON wants escaped and nothing else") {
  std::string out = "x";
  append_json_string(out, std::string_view("a\"b\\c\n\x1f\0\x7f\xc3\xa9", 11));
  CHECK(out == "x\"a\\\"b\\\\c\\u000a\\u001f\\u0000\x7f\xc3\xa9\"");
  out.clear();
  append_json_string(out, "");
  CHECK(out == "\"\"");
}

TEST_CASE("IPv6 addresses stand in brackets") {
  CHECK(authority_of("10.0.0.7", 8000) == "10.0.0.7:8000");
  CHECK(authority_of("fd00::1", 1) == "[fd00::1]:1");
  CHECK(authority_of("gpu-1.example", 65535) == "gpu-1.example:65535");
}

TEST_CASE("pieces are appended in order, empty ones too") {
  std::string out = "a";
  append_all(out, {"b", "", std::string_view(), "cd"});
  CHECK(out == "abcd");
  append_all(out, {});
  CHECK(out == "abcd");
}
