#include "penstock/base/result.h"

#include <doctest/doctest.h>

#include <memory>
#include <string>

namespace penstock {
namespace {

enum class Why { late, early };

Result<int> parse_digit(char c) {
  if (c < '0' || c > '9') return Message{"not a digit"};
  return c - '0';
}

TEST_CASE("a result is either its value or its error") {
  const Result<int> good = parse_digit('7');
  CHECK(good.ok());
  CHECK(static_cast<bool>(good));
  CHECK(good.value() == 7);
  CHECK(*good == 7);
  const Result<int> bad = parse_digit('x');
  CHECK_FALSE(bad.ok());
  CHECK_FALSE(static_cast<bool>(bad));
  CHECK(bad.error().text == "not a digit");
}

TEST_CASE("a result carries what can only be moved, and gives it away") {
  Result<std::unique_ptr<std::string>> made = std::make_unique<std::string>("content");
  CHECK(*made.value() == "content");
  CHECK(made->get()->size() == 7);
  const std::unique_ptr<std::string> taken = std::move(made).value();
  CHECK(*taken == "content");
}

TEST_CASE("value and error may be of any two types, a false value is no error") {
  const Result<bool, Why> value = false;
  CHECK(value.ok());
  CHECK_FALSE(*value);
  const Result<bool, Why> error = Why::early;
  CHECK_FALSE(error.ok());
  CHECK(error.error() == Why::early);
}

TEST_CASE("a result's value can be changed in place") {
  Result<std::string> text = std::string("a");
  text->append("b");
  *text += "c";
  CHECK(*text == "abc");
}

}  // namespace
}  // namespace penstock
