#include "src/objects/pattern.h"

#include <doctest/doctest.h>

#include <regex>
#include <string>

#include "penstock/base/random.h"

namespace penstock::objects {
namespace {

bool matches(const char* pattern, std::string_view text) {
  const auto compiled = Pattern::compile(pattern);
  if (!compiled) FAIL(pattern << " " << compiled.error().text);
  return compiled->matches(text);
}

TEST_CASE("the whole text must match") {
  CHECK(matches("/v1/.*", "/v1/chat"));
  CHECK(!matches("/v1", "/v1/chat"));
  CHECK(!matches("v1", "/v1"));
  CHECK(matches("^/v[0-9]+$", "/v12"));
  CHECK(matches("", ""));
  CHECK(!matches("", "a"));
  CHECK(matches("a|b|", ""));
  CHECK(matches("(foo|ba[rz]){2}x?", "foobaz"));
  CHECK(matches("a{2,}", "aaaa"));
  CHECK(!matches("a{2,3}", "aaaa"));
  CHECK(matches("(a*)*b", "aaab"));
  CHECK(matches("[]a]+", "]a"));
  CHECK(matches("[^/]+", "abc"));
  CHECK(!matches("[^/]+", "a/c"));
  CHECK(matches("[a-]+", "a-"));
  CHECK(matches("\\d\\D\\w\\W\\s\\S\\.", "1a_- x."));
  CHECK(matches("a\\$", "a$"));
  CHECK(matches(".", "\xff"));
  CHECK(matches("(?:ab)+?", "abab"));
}

TEST_CASE("what is not supported is an error") {
  for (const char* pattern :
       {"(",           ")",     "(a",  "a)",   "[a",  "*",   "a**b(",  "(?=a)",   "(?i)a",
        "\\b",         "\\1",   "a^b", "a$b",  "{2}", "a{2", "a{3,2}", "a{1000}", "((((a{99}){99}){99}){99})",
        "[[:alpha:]]", "[z-a]", "\\",  "[\\q]"}) {
    INFO(pattern);
    CHECK(!Pattern::compile(pattern).ok());
  }
  CHECK(!Pattern::compile(std::string(1000, 'a')).ok());
  CHECK(!Pattern::compile(std::string(100, '(')).ok());
}

TEST_CASE("long texts take time in proportion") {
  CHECK(!matches("(a|aa)*b", std::string(100000, 'a')));
  CHECK(!matches("(.*)*(.*)*x", std::string(100000, 'y')));
}

TEST_CASE("agrees with the standard library on random patterns") {
  Random random(7);
  constexpr const char* pieces[] = {"a", "b", "c", ".", "[ab]", "[^a]", "(", ")", "|", "*", "+", "?", "{1,2}", "(?:"};
  size_t compared = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string pattern, text;
    for (uint64_t i = random.below(7); i > 0; --i) pattern += pieces[random.below(std::size(pieces))];
    for (uint64_t i = random.below(6); i > 0; --i) text += static_cast<char>('a' + random.below(3));
    const auto compiled = Pattern::compile(pattern);
    if (!compiled) continue;
    try {
      const std::regex expected(pattern);
      INFO(pattern << " on " << text);
      CHECK(compiled->matches(text) == std::regex_match(text, expected));
      ++compared;
    } catch (const std::regex_error&) {
      // It knows less than we do ("a**"), or more.
    }
  }
  CHECK(compared > 5000);
}

}  // namespace
}  // namespace penstock::objects
