#include "penstock/base/text.h"

#include <doctest/doctest.h>

#include <vector>

using namespace penstock;

namespace {

std::string json_string(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

}  // namespace

TEST_CASE("letters compare without their case, and nothing else does") {
  CHECK(same_ignoring_case("", ""));
  CHECK(same_ignoring_case("X-Request-Id", "x-requesT-iD"));
  CHECK_FALSE(same_ignoring_case("abc", "abcd"));
  // Bytes that differ as upper and lower case do, but are no letters.
  CHECK_FALSE(same_ignoring_case("@", "`"));
  CHECK_FALSE(same_ignoring_case("a-b", "a\rb"));
  CHECK_FALSE(same_ignoring_case("\xc4", "\xe4"));
}

TEST_CASE("texts are joined, and trimmed of what is around them") {
  CHECK(joined(std::vector<std::string>{"", "a", ""}, ", ") == ", a, ");
  CHECK(joined(std::vector<std::string_view>{}, ", ").empty());
  CHECK(trimmed(" \t a b\r\n") == "a b");
  CHECK(trimmed(" \n ").empty());
  CHECK(trimmed("").empty());
}

TEST_CASE("a JSON string escapes what must be escaped and nothing else") {
  CHECK(json_string("") == R"("")");
  CHECK(json_string("plain / text") == R"("plain / text")");
  CHECK(json_string(std::string_view("a\"b\\c\n\x1f\0\x7f", 9)) == R"("a\"b\\c\u000a\u001f\u0000\u007f")");
  CHECK(json_string("caf\xC3\xA9 \xE4\xBD\xA0 \xF0\x9F\x98\x80") == "\"caf\xC3\xA9 \xE4\xBD\xA0 \xF0\x9F\x98\x80\"");
  std::string out = "kept:";
  append_json_string(out, "x");
  CHECK(out == R"(kept:"x")");
}

TEST_CASE("each byte that is not part of well-formed UTF-8 becomes one U+FFFD") {
  struct Row {
    const char* text;
    int marks;
  };
  for (const Row& row : {Row{"\xFF", 1}, Row{"\x80", 1}, Row{"\xC3", 1}, Row{"\xC0\xAF", 2}, Row{"\xE0\x80\xAF", 3},
                         Row{"\xED\xA0\x80", 3}, Row{"\xF4\x90\x80\x80", 4}, Row{"\xF0\x80\x80\x80", 4},
                         Row{"\xF0\x9F\x98", 3}, Row{"\xE4\xBD", 2}, Row{"\xF5\x80", 2}}) {
    CAPTURE(row.text);
    std::string expected = "\"a";
    for (int i = 0; i < row.marks; ++i) expected += "\xEF\xBF\xBD";
    CHECK(json_string("a" + std::string(row.text) + "b") == expected + "b\"");
  }
}

TEST_CASE("well-formed UTF-8 is told from overlong forms, surrogates and what lies beyond the last character") {
  CHECK(utf8_length("a") == 1);
  CHECK(utf8_length("\xc3\xa9") == 2);
  CHECK(utf8_length("\xe2\x82\xac") == 3);
  CHECK(utf8_length("\xf0\x9f\x98\x80") == 4);
  for (const char* bad : {"", "\x80", "\xc0\xaf", "\xc3", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf0\x80\x80\xaf",
                          "\xf4\x90\x80\x80", "\xf5\x80\x80\x80"}) {
    CHECK(utf8_length(bad) == 0);
  }
}

TEST_CASE("a label is UTF-8 without control characters") {
  for (const char* good : {"", "tenant", "caf\xC3\xA9 \"x\"\\"}) CHECK(is_label_text(good));
  for (const char* bad : {"\xff", "a\nb", "\x7f", "a\xC3"}) CHECK_FALSE(is_label_text(bad));
  CHECK_FALSE(is_label_text(std::string_view("a\0b", 3)));
}

TEST_CASE("what is cited stands between two marks, cut to the length that was asked for") {
  // std::quoted must not be meant, whose result cannot be put together with text: these are std::strings on purpose.
  CHECK(in_quotes(std::string("a \"b\"")) + " is none" == "\"a \"b\"\" is none");
  CHECK(in_quotes("") == "\"\"");
  CHECK(in_quotes("abcdef", 3) == "\"abc\"");
  CHECK(in_quotes("abc", 3, '`') == "`abc`");
}

TEST_CASE("IPv6 addresses stand in brackets") {
  CHECK(authority_of("10.0.0.7", 8000) == "10.0.0.7:8000");
  CHECK(authority_of("fd00::1", 1) == "[fd00::1]:1");
  CHECK(authority_of("gpu-1.example", 65535) == "gpu-1.example:65535");
}

TEST_CASE("a copied text replaces what was there, longer or shorter, and may be nothing") {
  std::string to = "a";
  for (const size_t size : {3, 15, 16, 24, 31, 33, 500, 2, 40}) {
    const std::string text(size, 'x');
    copy_text(to, text);
    CHECK(to == text);
  }
  copy_text(to, {});
  CHECK(to.empty());
}

TEST_CASE("pieces are appended in order, empty ones too") {
  std::string out = "a";
  append_all(out, "b", "", std::string_view(), std::string("cd"), std::string_view("ef"));
  CHECK(out == "abcdef");
  const std::string longer(100, 'x');
  append_all(out, longer, "y");
  CHECK(out == "abcdef" + longer + "y");
}

TEST_CASE("the closest word is suggested only when it is close") {
  CHECK(closest("conect", {"connect", "total"}) == "connect");
  CHECK(closest("timeout", {"timeouts", "limits"}) == "timeouts");
  CHECK(closest("zebra", {"connect", "total"}).empty());
  CHECK(closest("", {"connect"}).empty());
  CHECK(closest("foo", {"pool", "pin", "shards"}).empty());
  CHECK(closest("nme", {"url", "name"}) == "name");
}

TEST_CASE("an authority is a host and a port") {
  const auto split = [](std::string_view text) {
    const Authority parts = split_authority(text);
    return std::string(parts.host).append(" ").append(parts.port);
  };
  CHECK(split("a.test:80") == "a.test 80");
  CHECK(split("[fd00::1]:8000") == "[fd00::1] 8000");
  CHECK(split("[fd00::1]") == "[fd00::1] ");
  CHECK(split("a.test") == "a.test ");
  CHECK(split("a.test:") == "a.test ");
  CHECK(split("") == " ");
  CHECK(without_brackets("[fd00::1]") == "fd00::1");
  CHECK(without_brackets("[") == "[");
  CHECK(without_brackets("10.0.0.1") == "10.0.0.1");
}
