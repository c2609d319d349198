#include "penstock/openai/error_body.h"

#include <doctest/doctest.h>
#include <simdjson.h>

#include <string>

#include "penstock/base/random.h"

namespace penstock::openai {
namespace {

std::string json_string(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

TEST_CASE("an error body has OpenAI's shape, with null for what is not known") {
  std::string out = "kept:";
  append_error(out, "No \"model\".", "invalid_request_error", "model", "");
  CHECK(out ==
        R"(kept:{"error":{"message":"No \"model\".","type":"invalid_request_error","param":"model","code":null}})");
  out.clear();
  append_error(out, "", "server_error", "", "503");
  CHECK(out == R"({"error":{"message":"","type":"server_error","param":null,"code":"503"}})");
}

TEST_CASE("a JSON string escapes what must be escaped and nothing else") {
  CHECK(json_string("") == "\"\"");
  CHECK(json_string("plain / text\x7F") == "\"plain / text\x7F\"");
  CHECK(json_string("\"\\\n\r\t\b\f") == R"("\"\\\n\r\t\u0008\u000c")");
  CHECK(json_string(std::string_view("\0\x1F", 2)) == R"("\u0000\u001f")");
  CHECK(json_string("caf\xC3\xA9 \xE4\xBD\xA0 \xF0\x9F\x98\x80") == "\"caf\xC3\xA9 \xE4\xBD\xA0 \xF0\x9F\x98\x80\"");
}

TEST_CASE("each byte that is not part of well-formed UTF-8 becomes one U+FFFD") {
  const std::string mark = "\xEF\xBF\xBD";
  struct Row {
    const char* text;
    int marks;
  };
  for (const Row& row : {Row{"\xFF", 1}, Row{"\x80", 1}, Row{"\xC3", 1}, Row{"\xC0\xAF", 2}, Row{"\xE0\x80\xAF", 3},
                         Row{"\xED\xA0\x80", 3}, Row{"\xF4\x90\x80\x80", 4}, Row{"\xF0\x80\x80\x80", 4},
                         Row{"\xF0\x9F\x98", 3}, Row{"\xE4\xBD", 2}, Row{"\xF5\x80", 2}}) {
    CAPTURE(row.text);
    std::string expected = "\"a";
    for (int i = 0; i < row.marks; ++i) expected += mark;
    CHECK(json_string("a" + std::string(row.text) + "b") == expected + "b\"");
  }
}

TEST_CASE("random bytes always make a JSON string that a parser accepts") {
  simdjson::dom::parser parser;
  for (uint64_t seed = 1; seed <= 5'000; ++seed) {
    Random random(seed);
    std::string text;
    for (uint64_t count = random.below(20); count > 0; --count) {
      text += static_cast<char>(random.chance(0.5) ? 0xC0 + random.below(64) : random.below(256));
    }
    CAPTURE(seed);
    simdjson::dom::element element;
    CHECK(parser.parse("[" + json_string(text) + "]").get(element) == simdjson::SUCCESS);
  }
}

}  // namespace
}  // namespace penstock::openai
