#include "penstock/base/url_path.h"

#include <doctest/doctest.h>

#include <string>
#include <utility>

using namespace penstock;

namespace {

std::string canonical(std::string target) {
  const char* const problem = canonicalise_target(target);
  return problem == nullptr ? target : std::string("refused: ") + problem;
}

}  // namespace

TEST_CASE("every spelling of a path has one canonical form") {
  const std::pair<const char*, const char*> cases[] = {
      {"/v1/completions", "/v1/completions"},
      {"/", "/"},
      {"*", "*"},
      {"/v1/%63ompletions", "/v1/completions"},
      {"/%76%31/%63%6F%6d%70letions", "/v1/completions"},
      {"/v1%2Fcompletions", "/v1/completions"},
      {"/v1%2fcompletions/", "/v1/completions/"},
      {"//v1///completions", "/v1/completions"},
      {"/v1/%2Fcompletions%2F", "/v1/completions/"},
      {"/V1/Completions", "/V1/Completions"},
      {"/a%3bb%3A%40%2b%2A", "/a;b:@+*"},
      {"/a%20b%3Fc%23d%c3%a9", "/a%20b%3Fc%23d%C3%A9"},
      {"/a\xC3\xA9|{}\"", "/a%C3%A9%7C%7B%7D%22"},
      {"/%252e%252e/%2525", "/%252e%252e/%2525"},
      {"/.well-known/%2e%2e.", "/.well-known/..."},
      {"/..;/x", "/..;/x"},
      {"/v1/%6dodels?a=%63&b=//../%zz\\", "/v1/models?a=%63&b=//../%zz\\"},
      {"/x?", "/x?"},
  };
  for (const auto& [target, form] : cases) {
    INFO(target);
    CHECK(canonical(target) == form);
    CHECK(canonical(form) == form);
  }
}

TEST_CASE("paths that servers read differently are refused, and stay as they were") {
  const std::pair<const char*, const char*> cases[] = {
      {"/v1/../completions", "segments"},
      {"/v1/./completions", "segments"},
      {"/..", "segments"},
      {"/v1/%2e%2E/x", "segments"},
      {"/v1/.%2e", "segments"},
      {"/v1%2F..%2fx", "segments"},
      {"//.//", "segments"},
      {"/v1/..?q", "segments"},
      {"/v1\\completions", "backslash"},
      {"/v1%5Ccompletions", "backslash"},
      {"/v1/%5c..%5c", "backslash"},
      {"/v1/completions%00", "control"},
      {"/%0d%0Ax", "control"},
      {"/%7f", "control"},
      {"/a\tb", "control"},
      {"/%", "percent"},
      {"/%2", "percent"},
      {"/%zz", "percent"},
      {"/%6?3", "percent"},
      {"/a%-1", "percent"},
  };
  for (const auto& [target, why] : cases) {
    INFO(target);
    std::string changed = target;
    const char* const problem = canonicalise_target(changed);
    REQUIRE(problem != nullptr);
    CHECK(std::string_view(problem).find(why) != std::string_view::npos);
    CHECK(changed == target);
  }
}

TEST_CASE("patterns: * within a segment, ** for all below") {
  for (const auto& [pattern, path] : {std::pair{"/a", "/a"},
                                      {"/a", "/a/"},
                                      {"/a", "/a?x=/b"},
                                      {"/*", "/a"},
                                      {"/*/b", "/a/b"},
                                      {"/a*c", "/abbc"},
                                      {"/a*c", "/ac"},
                                      {"/*a*b", "/xaxxab"},
                                      {"/a/**", "/a"},
                                      {"/a/**", "/a/b/c"},
                                      {"/a/*/**", "/a/b/c/d"},
                                      {"/**", "/"},
                                      {"/**", "/a/b"},
                                      {"**", "/a/b"},
                                      {"*", "/a/b"}}) {
    INFO(pattern << " " << path);
    CHECK(path_matches(pattern, path));
    CHECK(check_path_pattern(pattern) == "");
  }
  for (const auto& [pattern, path] : {std::pair{"/a", "/ab"},
                                      {"/a", "/a/b"},
                                      {"/a", "/A"},
                                      {"/*", "/a/b"},
                                      {"/a*c", "/ab/c"},
                                      {"/a/*", "/a"},
                                      {"/a/**", "/ab"},
                                      {"/a/*/**", "/a"},
                                      {"/*", "*"},
                                      {"/a", ""}}) {
    INFO(pattern << " " << path);
    CHECK_FALSE(path_matches(pattern, path));
  }
}

TEST_CASE("a pattern that could never match is told") {
  for (const auto& [pattern, what] : {std::pair{"v1", "slash"},
                                      {"", "slash"},
                                      {"/a?b", "query"},
                                      {"/a**", "last segment"},
                                      {"/**/b", "last segment"},
                                      {"/a/../b", "not a path"},
                                      {"/%63", "write /c"},
                                      {"//a", "write /a"},
                                      {"/a/", "write /a"},
                                      {"/a/**b", "last segment"}}) {
    INFO(pattern);
    CHECK(check_path_pattern(pattern).find(what) != std::string::npos);
  }
}
