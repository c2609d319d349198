#include <doctest/doctest.h>

#include "penstock/objects/route_table.h"

namespace penstock::objects {
namespace {

TEST_CASE("a prefix is replaced by whole elements") {
  struct Row {
    const char *path, *prefix, *value, *expected;
  };
  // The table of the Gateway API, then queries.
  constexpr Row rows[] = {
      {"/foo/bar", "/foo", "/xyz", "/xyz/bar"},
      {"/foo", "/foo", "/xyz", "/xyz"},
      {"/foo/", "/foo", "/xyz", "/xyz/"},
      {"/foo/bar", "/foo", "", "/bar"},
      {"/foo/", "/foo", "", "/"},
      {"/foo", "/foo", "", "/"},
      {"/foo?a=/foo", "/foo", "", "/?a=/foo"},
      {"/foo/bar?", "/foo", "/xyz", "/xyz/bar?"},
      {"/foo/bar", "", "/xyz", "/xyz/foo/bar"},
      {"/", "", "/xyz", "/xyz/"},
  };
  for (const Row& row : rows) {
    const PathChange change{PathChange::Op::replace_prefix, row.value, std::string_view(row.prefix).size()};
    CHECK(change.apply(row.path) == row.expected);
  }
  CHECK(PathChange{PathChange::Op::replace, "/all", 0}.apply("/a/b?q=1") == "/all?q=1");
  CHECK(PathChange{PathChange::Op::replace, "", 0}.apply("/a/b") == "/");
  CHECK(PathChange{}.apply("/a/b?q") == "/a/b?q");
}

TEST_CASE("a redirect says where, with a port only where it is not the usual one") {
  const auto to = [](const Redirect& redirect, std::string_view host = "a.example.com:8080") {
    return redirect.location(host, "/p?q=1");
  };
  CHECK(to({}) == "http://a.example.com:8080/p?q=1");
  CHECK(to({}, "a.example.com:80") == "http://a.example.com/p?q=1");
  CHECK(to({.scheme = "https"}) == "https://a.example.com/p?q=1");
  CHECK(to({.scheme = "http"}) == "http://a.example.com/p?q=1");
  CHECK(to({.hostname = "b.example.com"}) == "http://b.example.com:8080/p?q=1");
  CHECK(to({.port = 80}) == "http://a.example.com/p?q=1");
  CHECK(to({.port = 443}) == "http://a.example.com:443/p?q=1");
  CHECK(to({.scheme = "https", .port = 443}) == "https://a.example.com/p?q=1");
  CHECK(to({.scheme = "https", .port = 8443}) == "https://a.example.com:8443/p?q=1");
  CHECK(to({.path = {PathChange::Op::replace, "/x", 0}}, "a") == "http://a/x?q=1");
  CHECK(to({}, "[::1]:8080") == "http://[::1]:8080/p?q=1");
  CHECK(to({}, "[::1]") == "http://[::1]/p?q=1");
  CHECK(to({.scheme = "https"}, "[::1]:8080") == "https://[::1]/p?q=1");
  CHECK(to({}, "").empty());
  CHECK(to({.hostname = "b"}, "") == "http://b/p?q=1");
}

}  // namespace
}  // namespace penstock::objects
