#include "penstock/http/fields.h"

#include <doctest/doctest.h>

#include <vector>

using penstock::http::Fields;

TEST_CASE("fields keep their order, and are found without regard to case") {
  Fields fields;
  fields.add("a", "1");
  fields.add_lines("B:2\r\nc: \t3 \r\nempty:\r\n");
  fields.add("A", uint64_t{4});
  CHECK(fields.lines() == "a: 1\r\nB:2\r\nc: \t3 \r\nempty:\r\nA: 4\r\n");
  CHECK(fields.get("b") == "2");
  CHECK(fields.get("C") == "3");
  CHECK(fields.get("empty") == "");
  CHECK(fields.get("A") == "1");
  CHECK_FALSE(fields.has("d"));
  std::string seen;
  fields.each(
      [&](std::string_view name, std::string_view value) { seen.append(name).append("=").append(value) += ' '; });
  CHECK(seen == "a=1 B=2 c=3 empty= A=4 ");
}

TEST_CASE("set() takes the place of all of a name, remove() leaves none") {
  Fields fields;
  fields.add_lines("a: 1\r\nab: 2\r\nA: 3\r\n");
  fields.set("a", "4");
  CHECK(fields.lines() == "ab: 2\r\na: 4\r\n");
  fields.remove("AB");
  fields.remove("none");
  CHECK(fields.lines() == "a: 4\r\n");
  fields.remove("a");
  CHECK(fields.empty());
}
