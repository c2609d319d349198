#include "penstock/base/quantity.h"

#include <doctest/doctest.h>

using namespace penstock;

TEST_CASE("durations are read with their units and written back shortest") {
  const std::pair<const char*, const char*> cases[] = {
      {"50ms", "50ms"}, {"1s", "1s"},       {"10m", "10m"},  {"1.5s", "1500ms"},  {"1m30s", "90s"},
      {"2h", "2h"},     {"60s", "1m"},      {"none", "0s"},  {"0", "0s"},         {"250us", "250us"},
      {"7ns", "7ns"},   {"0.5ms", "500us"}, {"3600s", "1h"}, {"1h0m1s", "3601s"},
  };
  for (const auto& each : cases) {
    const char *const text = each.first, *const shown = each.second;
    INFO(text);
    const auto parsed = parse_duration(text);
    REQUIRE(parsed.ok());
    CHECK(format_duration(*parsed) == shown);
    CHECK(*parse_duration(format_duration(*parsed)) == *parsed);
  }
}

TEST_CASE("what is no duration is refused, and a bare number learns its spelling") {
  for (const char* text : {"", "s", "1x", "-1s", "1s2", "1 s", "1e3s", "1d", "nan", "inf", "99999999999h", "+1s"}) {
    INFO(text);
    CHECK_FALSE(parse_duration(text).ok());
  }
  for (const char* text : {"1 week", "1 s", "30,", "week"}) {
    CHECK(parse_duration(text).error().text ==
          '"' + std::string(text) + "\" is not a duration (numbers with units, such as 1m30s: ns, us, ms, s, m, h)");
  }
  CHECK(parse_duration("30").error().text == "\"30\" has no unit (write 30s or 30ms)");
}

TEST_CASE("sizes are read with decimal and binary units") {
  const std::pair<const char*, uint64_t> cases[] = {
      {"64MiB", 64ull << 20},
      {"1GB", 1'000'000'000},
      {"4096", 4096},
      {"0", 0},
      {"none", 0},
      {"1KiB", 1024},
      {"1.5KiB", 1536},
      {"12B", 12},
      {"2TiB", 2ull << 40},
  };
  for (const auto& each : cases) {
    const char* const text = each.first;
    const uint64_t bytes = each.second;
    INFO(text);
    const auto parsed = parse_size(text);
    REQUIRE(parsed.ok());
    CHECK(*parsed == bytes);
    CHECK(*parse_size(format_size(bytes)) == bytes);
  }
  for (const char* text : {"", "MiB", "1M", "1 MB", "-5", "1mib", "1KiBs", "99999999999GB"}) {
    INFO(text);
    CHECK_FALSE(parse_size(text).ok());
  }
}
