#include "src/observability/text.h"

#include <doctest/doctest.h>

using namespace penstock::observability;

TEST_CASE("timestamps are UTC with microseconds, before and after 1970 and on leap days") {
  const std::pair<int64_t, const char*> cases[] = {
      {0, "1970-01-01T00:00:00.000000Z"},
      {1'738'367'999'123'456, "2025-01-31T23:59:59.123456Z"},
      {1'709'164'800'000'001, "2024-02-29T00:00:00.000001Z"},
      {-1, "1969-12-31T23:59:59.999999Z"},
  };
  for (const auto& [wall_us, expected] : cases) {
    char text[timestamp_size];
    write_timestamp(text, wall_us);
    CHECK(std::string_view(text, sizeof text) == expected);
  }
}

TEST_CASE("JSON strings escape what they must and replace what is not UTF-8") {
  const auto quoted = [](std::string_view text) {
    std::string out;
    append_json_string(out, text);
    return out;
  };
  CHECK(quoted("plain") == R"("plain")");
  CHECK(quoted("a\"b\\c\n\x01\x7f") == R"("a\"b\\c\u000a\u0001\u007f")");
  CHECK(quoted("\xe6\xa8\xa1") == "\"\xe6\xa8\xa1\"");
  CHECK(quoted("\xff\xe6\xa8") == "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"");
  CHECK(quoted(std::string_view("\0", 1)) == R"("\u0000")");
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

TEST_CASE("numbers that JSON has no word for are null") {
  std::string out;
  append_number(out, 1.5);
  out += ' ';
  append_number(out, 1.0 / 0.0);
  CHECK(out == "1.5 null");
}
