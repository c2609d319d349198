#include "penstock/base/number_text.h"

#include <doctest/doctest.h>

namespace penstock {

TEST_CASE("numbers are compared whatever their length, and nothing else is") {
  CHECK(smaller_number("9", "10"));
  CHECK(smaller_number("18446744073709551615", "18446744073709551616"));
  CHECK(!smaller_number("10", "10"));
  CHECK(!smaller_number("10", "9"));
  CHECK(!smaller_number("", "9"));
  CHECK(!smaller_number("9", ""));
  CHECK(!smaller_number("a", "b"));
  CHECK(!smaller_number("-1", "1"));
}

}  // namespace penstock
