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

TEST_CASE("numbers that JSON has no word for are null") {
  std::string out;
  append_number(out, 1.5);
  out += ' ';
  append_number(out, 1.0 / 0.0);
  CHECK(out == "1.5 null");
}
