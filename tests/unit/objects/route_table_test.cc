#include "penstock/objects/route_table.h"

#include <map>

#include "penstock/base/random.h"
#include "penstock/objects/manifest.h"
#include "tests/support/allocations.h"
#include "tests/unit/objects/build.h"

namespace penstock::objects {
namespace {

constexpr const char* head = R"(
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: p}
spec: {selector: {matchLabels: {app: p}}, targetPorts: [{number: 8000}]}
)";

using Routes = std::vector<std::pair<std::string, std::string>>;

// A table from rules like "{matches: [...]}", one HTTPRoute for each entry of `routes`: hostnames and rules.
class Table {
 public:
  explicit Table(const Routes& routes) {
    std::string text = head;
    for (size_t i = 0; i < routes.size(); ++i) {
      text += "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r" + std::to_string(i) +
              "}\nspec: {hostnames: [" + routes[i].first + "], rules: [" + routes[i].second + "]}\n";
    }
    const Manifests manifests = read_manifests({{"test", text}}, "default");
    for (const auto& problem : manifests.problems) FAIL(to_string(problem));
    apply_manifests(manifests, store_);
    table_ = resolver_.update(1).routes;
  }
  std::string match(const RouteQuery& query) const {
    const Route* const route = table_->match(query);
    return route == nullptr ? "" : route->name.substr(std::string("default/").size());
  }
  std::string path(std::string_view path) const { return match({.host = "h", .path = path}); }
  const RouteTable& table() const { return *table_; }

 private:
  Store store_;
  Resolver resolver_{store_, ResolveOptions{.implicit_gateway = true}};
  std::shared_ptr<const RouteTable> table_;
};

using Headers = std::map<std::string, std::string, std::less<>>;
std::optional<std::string_view> header(const void* context, std::string_view name) {
  const auto& headers = *static_cast<const Headers*>(context);
  const auto found = headers.find(name);
  return found == headers.end() ? std::nullopt : std::optional<std::string_view>(found->second);
}

TEST_CASE("path prefixes match whole elements") {
  const Table table(Routes{{"", "{matches: [{path: {value: /foo}}]}, {matches: [{path: {value: /foo/bar/}}]}"}});
  CHECK(table.path("/foo") == "r0[0]");
  CHECK(table.path("/foo/") == "r0[0]");
  CHECK(table.path("/foo/x") == "r0[0]");
  CHECK(table.path("/foobar") == "");
  CHECK(table.path("/foo/bar") == "r0[1]");
  CHECK(table.path("/foo/bar/x") == "r0[1]");
  CHECK(table.path("/") == "");
  CHECK(table.path("") == "");
}

TEST_CASE("a rule matches however its path is spelled") {
  const Table table(Routes{{"",
                            "{matches: [{path: {type: Exact, value: /%61%2fb}}]}, {matches: [{path: {value: /p%71/}}]},"
                            "{matches: [{path: {type: Exact, value: /e%3f%c3%a9}}]}"}});
  CHECK(table.path("/a/b") == "r0[0]");
  CHECK(table.path("/pq/x") == "r0[1]");
  CHECK(table.path("/e%3F%C3%A9") == "r0[2]");
}

TEST_CASE("precedence of matches") {
  const Table table(Routes{
      {"",
       "{matches: [{path: {value: /}}]}, {matches: [{path: {value: /a}}]}, {matches: [{path: {type: Exact, value: "
       "/a}}]},"
       "{matches: [{path: {value: /m}, method: GET}]}, {matches: [{path: {value: /m}, headers: [{name: A, value: b}, "
       "{name: c, value: d}]}]},"
       "{matches: [{path: {value: /m}, headers: [{name: a, value: b}]}]}, {matches: [{path: {value: /m}, queryParams: "
       "[{name: q, value: 'x y'}]}]},"
       "{matches: [{path: {type: RegularExpression, value: '/r.*'}}]}, {matches: [{path: {value: /rrrr}}]}"}});
  CHECK(table.path("/a") == "r0[2]");
  CHECK(table.path("/a/b") == "r0[1]");
  CHECK(table.path("/x") == "r0[0]");
  CHECK(table.path("/rrrr") == "r0[7]");
  const Headers two{{"a", "b"}, {"c", "d"}}, one{{"a", "b"}}, wrong{{"a", "B"}};
  const auto query = [&](const Headers& headers, const char* method, const char* text = "") {
    return table.match(
        {.host = "h", .path = "/m", .query = text, .method = method, .header = header, .context = &headers});
  };
  CHECK(query(two, "GET") == "r0[3]");
  CHECK(query(two, "POST") == "r0[4]");
  CHECK(query(one, "POST") == "r0[5]");
  CHECK(query(wrong, "POST") == "r0[0]");
  CHECK(query(wrong, "POST", "a=1&q=x+y") == "r0[6]");
  CHECK(query(wrong, "POST", "q=x%20y&q=z") == "r0[6]");
  CHECK(query(wrong, "POST", "q=z&q=x%20y") == "r0[0]");
  CHECK(query(wrong, "POST", "q") == "r0[0]");
  CHECK(query(wrong, "POST", "%71=x%20y") == "r0[6]");
  CHECK(query(wrong, "POST", std::string(5000, 'q').c_str()) == "r0[0]");
}

TEST_CASE("hostnames: exact, wildcards of any depth, everything") {
  const Table table(Routes{{"a.example.com", "{}"},
                           {"'*.example.com'", "{}"},
                           {"'*.b.example.com'", "{}"},
                           {"", "{}"},
                           {"Upper.Example.COM", "{}"}});
  const auto host = [&](std::string_view name) { return table.match({.host = name, .path = "/"}); };
  CHECK(host("a.example.com") == "r0[0]");
  CHECK(host("A.EXAMPLE.com:8080") == "r0[0]");
  CHECK(host("a.example.com.") == "r0[0]");
  CHECK(host("x.example.com") == "r1[0]");
  CHECK(host("x.y.example.com") == "r1[0]");
  CHECK(host("x.b.example.com") == "r2[0]");
  CHECK(host("b.example.com") == "r1[0]");
  CHECK(host("example.com") == "r3[0]");
  CHECK(host(".example.com") == "r3[0]");
  CHECK(host("xexample.com") == "r3[0]");
  CHECK(host("upper.example.com") == "r4[0]");
  CHECK(host("[::1]:80") == "r3[0]");
  CHECK(host("") == "r3[0]");
  CHECK(host(std::string(300, 'a') + ".example.com") == "r3[0]");
}

TEST_CASE("a less specific hostname answers what the more specific one does not") {
  const Table table(Routes{{"a.example.com", "{matches: [{path: {value: /only}}]}"}, {"", "{}"}});
  CHECK(table.match({.host = "a.example.com", .path = "/only"}) == "r0[0]");
  CHECK(table.match({.host = "a.example.com", .path = "/else"}) == "r1[0]");
}

TEST_CASE("weights divide requests") {
  Route route;
  CHECK(route.pick(5) == nullptr);
  route.backends = {{0, 70}, {1, 30}};
  route.total_weight = 100;
  Random random(1);
  int first = 0;
  for (int i = 0; i < 10000; ++i) first += route.pick(random.next())->pool == 0;
  CHECK(first > 6800);
  CHECK(first < 7200);
}

TEST_CASE("listeners are apart: routes of a less specific one do not answer for the host of another") {
  Store store;
  const Manifests manifests = read_manifests({{"test", R"(
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: c}
spec: {controllerName: penstock.dev/gateway}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g}
spec:
  gatewayClassName: c
  listeners: [{name: all, port: 80, protocol: HTTP}, {name: one, port: 80, protocol: HTTP, hostname: one.example.com}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: wide}
spec: {parentRefs: [{name: g, sectionName: all}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: narrow}
spec: {parentRefs: [{name: g, sectionName: one}], rules: [{matches: [{path: {value: /n}}]}]}
)"}},
                                             "default");
  REQUIRE(manifests.ok());
  apply_manifests(manifests, store);
  Resolver resolver(store, {});
  const RouteTable& table = *resolver.update(1).routes;
  CHECK(table.match({.host = "x", .path = "/n"})->name == "default/wide[0]");
  CHECK(table.match({.host = "one.example.com", .path = "/n"})->name == "default/narrow[0]");
  CHECK(table.match({.host = "one.example.com", .path = "/x"}) == nullptr);
}

TEST_CASE("a redirect leads to its listener's port, or where there are several, to that of the request") {
  Store store;
  const auto route = [](const std::string& name, const std::string& parents, const std::string& to) {
    return "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: " + name +
           "}\nspec: {parentRefs: [" + parents + "], rules: [{matches: [{path: {value: /" + name +
           "}}], filters: [{type: RequestRedirect, requestRedirect: {" + to + "}}]}]}\n";
  };
  const std::string text = R"(
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: c}
spec: {controllerName: penstock.dev/gateway}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g}
spec: {gatewayClassName: c, listeners: [{name: a, port: 81, protocol: HTTP}, {name: b, port: 82, protocol: HTTP},
       {name: one, port: 83, protocol: HTTP, hostname: one.example.com}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: other}
spec: {gatewayClassName: c, listeners: [{name: a, port: 81, protocol: HTTP}]}
)" + route("both", "{name: g}", "hostname: h") +
                           route("secure", "{name: g}", "scheme: https") +
                           route("a", "{name: g, sectionName: a}, {name: other}", "hostname: h") +
                           route("own", "{name: g}", "port: 90");
  const Manifests manifests = read_manifests({{"test", text}}, "default");
  for (const auto& problem : manifests.problems) FAIL(to_string(problem));
  apply_manifests(manifests, store);
  Resolver resolver(store, {});
  const RouteTable& table = *resolver.update(1).routes;
  const auto location = [&](std::string_view host, std::string_view path) {
    return table.match({.host = host, .path = path})->filters.redirect->location(host, path);
  };
  CHECK(location("x:82", "/both") == "http://h:82/both");
  CHECK(location("x:9999", "/both") == "http://h:9999/both");
  CHECK(location("x", "/both") == "http://h/both");
  CHECK(location("one.example.com:82", "/both") == "http://h:83/both");
  CHECK(location("x:82", "/secure") == "https://x/secure");
  CHECK(location("x:82", "/a") == "http://h:81/a");
  CHECK(location("x:82", "/own") == "http://x:90/own");
}

TEST_CASE("matching allocates nothing") {
  const Table table(
      Routes{{"'*.example.com'",
              "{matches: [{path: {type: RegularExpression, value: '/v[0-9]+/.*'}, headers: [{name: a, value: "
              "'b+', type: RegularExpression}],"
              " queryParams: [{name: a-long-name-of-a-parameter, value: a-long-value-of-a-parameter}]}]}"}});
  const Headers headers{{"a", "bbb"}};
  const RouteQuery query{.host = "a-long-name-of-a-host.example.com:8080",
                         .path = "/v1/chat/completions/and/so/on/and/on",
                         .query = "a-long-name-of-a-parameter=a-long-value-of-a%2dparameter",
                         .method = "POST",
                         .header = header,
                         .context = &headers};
  const uint64_t before = test::allocations();
  const Route* const route = table.table().match(query);
  const uint64_t after = test::allocations();
  CHECK(route != nullptr);
  CHECK(after == before);
}

}  // namespace
}  // namespace penstock::objects
