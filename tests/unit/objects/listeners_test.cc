// Which of our listeners takes the requests of a Gateway's listener, and which routes a request may take there.
#include "src/objects/listener_map.h"

#include <algorithm>

#include "penstock/objects/manifest.h"
#include "tests/support/allocations.h"
#include "tests/unit/objects/build.h"

namespace penstock::objects {
namespace {

const std::vector<OwnListener> three = {{"listen", 8080, false}, {"other", 8081, false}, {"secure", 8443, true}};

TEST_CASE("a Gateway's listener is ours with its port and protocol, else those whose port none has") {
  const ListenerMap map(three, {{8081, false}, {80, false}, {8443, false}, {443, true}});
  CHECK(map.tables() == 3);
  CHECK(map.table_of(0) == map.find({80, false}));
  CHECK(map.table_of(0) == map.find({8443, false}));  // ours of this port speaks TLS
  CHECK(map.table_of(1) == map.find({8081, false}));
  CHECK(map.table_of(2) == map.find({443, true}));
  CHECK(map.names_of(map.table_of(2)) == "secure");
}

TEST_CASE("where each of ours has been taken by its port, another port has none") {
  const ListenerMap map(three, {{8080, false}, {8081, false}, {80, false}, {443, true}});
  CHECK_FALSE(map.find({80, false}).has_value());
  CHECK(map.find({443, true}) == map.table_of(2));
  CHECK_FALSE(ListenerMap({{"listen", 8080, false}}, {{443, true}}).find({443, true}).has_value());
}

TEST_CASE("ours of one port share a table, and so do those that are left over") {
  const ListenerMap same({{"v4", 80, false}, {"v6", 80, false}}, {{80, false}});
  CHECK(same.tables() == 1);
  CHECK(same.names_of(0) == "v4,v6");
  const ListenerMap rest({{"a", 8080, false}, {"b", 8081, false}, {"c", 8082, false}}, {{8081, false}, {80, false}});
  CHECK(rest.tables() == 2);
  CHECK(rest.table_of(0) == rest.table_of(2));
  CHECK(rest.table_of(0) != rest.table_of(1));
}

TEST_CASE("without any that are known, everything is one table") {
  for (const ListenerMap& map : {ListenerMap(), ListenerMap({}, {{80, false}, {81, false}})}) {
    CHECK(map.tables() == 1);
    CHECK(map.find({80, false}) == 0);
    CHECK(map.find({81, false}) == 0);
    CHECK_FALSE(map.find({443, true}).has_value());
    CHECK(map.table_of(7) == 0);
  }
}

// ---- routes ----

constexpr const char* gateway = R"(
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: penstock}
spec: {controllerName: penstock.dev/gateway}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: penstock
  listeners:
  - {name: plain, port: 80, protocol: HTTP}
  - {name: named, port: 80, protocol: HTTP, hostname: "*.example.com"}
  - {name: other, port: 8081, protocol: HTTP}
)";

std::string route(const std::string& name, const std::string& parent, const std::string& hosts = "",
                  const std::string& rule = "") {
  return "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: " + name +
         "}\nspec: {parentRefs: [{name: gw" + parent + "}], hostnames: [" + hosts + "], rules: [{" + rule + "}]}\n";
}

class Scene {
 public:
  Scene(const std::string& text, std::vector<OwnListener> ours) : resolver_(store_, {.listeners = std::move(ours)}) {
    const Manifests manifests = read_manifests({{"test", text}}, "default");
    for (const auto& problem : manifests.problems) FAIL(to_string(problem));
    apply_manifests(manifests, store_);
    table_ = resolver_.update(1).routes;
  }
  std::string match(size_t listener, std::string_view host) const {
    const Route* const found = table_->match({.host = host, .path = "/", .listener = listener});
    return found == nullptr ? "" : found->name.substr(std::string("default/").size());
  }
  const RouteTable& table() const { return *table_; }
  const Desired& desired() const { return resolver_.desired(); }

 private:
  Store store_;
  Resolver resolver_;
  std::shared_ptr<const RouteTable> table_;
};

TEST_CASE("a request takes only routes of the listener that it came to") {
  const Scene scene(gateway + route("bound", ", sectionName: other") + route("by-port", ", port: 80", "a.test") +
                        route("by-host", ", sectionName: named"),
                    three);
  CHECK(scene.match(1, "h") == "bound[0]");
  CHECK(scene.match(0, "h") == "");
  CHECK(scene.match(0, "a.test") == "by-port[0]");
  CHECK(scene.match(1, "a.test") == "bound[0]");
  CHECK(scene.match(0, "x.example.com") == "by-host[0]");
  CHECK(scene.match(1, "x.example.com") == "bound[0]");
  CHECK(scene.match(2, "h") == "");  // no Gateway's listener is there
}

TEST_CASE("a route that names no section is attached to every listener of its Gateway") {
  const Scene scene(gateway + route("all", ""), three);
  for (const size_t listener : {0u, 1u}) CHECK(scene.match(listener, "h") == "all[0]");
  CHECK(scene.match(2, "h") == "");
}

TEST_CASE("what the listeners of two ports take is apart, so that no route is in the way of another") {
  const std::string routes =
      route("a", ", port: 80") + route("b", ", sectionName: other", "", "timeouts: {request: 1s}");
  const auto shadowed = [&](std::vector<OwnListener> ours) {
    const Scene scene(gateway + routes, std::move(ours));
    return std::ranges::count(scene.desired().notices, "RouteShadowed", &Notice::reason);
  };
  CHECK(shadowed(three) == 0);
  CHECK(shadowed({{"listen", 9000, false}}) == 1);
}

TEST_CASE("a Gateway's listener that is none of ours says so") {
  const Scene scene(gateway + route("all", ""), {{"listen", 8081, false}});
  const auto told = std::ranges::find(scene.desired().notices, "PortUnavailable", &Notice::reason);
  REQUIRE(told != scene.desired().notices.end());
  CHECK(told->message ==
        "listener named: no listener of this gateway in plain HTTP has the port 80, nor is one left "
        "over (listeners[].gateway_port)");
  CHECK(scene.match(0, "h") == "all[0]");  // by the listener of 8081
}

std::string refuse_all(const Secret&) {
  return "is no good";
}

TEST_CASE("what a Secret holds is checked before it is shown, and never told") {
  Store store;
  const std::string text = std::string(gateway) +
                           "  - {name: tls, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: cert}]}}\n"
                           "---\n{apiVersion: v1, kind: Secret, metadata: {name: cert}, type: kubernetes.io/tls, "
                           "stringData: {tls.crt: certificate-text, tls.key: key-text}}\n";
  apply_manifests(read_manifests({{"test", text}}, "default"), store);
  for (const bool good : {true, false}) {
    Resolver resolver(store, {.listeners = three, .check_certificate = good ? nullptr : refuse_all});
    const Desired& desired = resolver.update(1);
    REQUIRE(desired.certificates.size() == 3);
    REQUIRE(desired.certificates[2].size() == 1);
    CHECK(desired.certificates[2][0].origin == "Secret default/cert");
    CHECK((desired.certificates[2][0].secret != nullptr) == good);
    const std::string all = desired.describe();
    CHECK((all.find("Secret default/cert is no good") == std::string::npos) == good);
    CHECK(all.find("key-text") == std::string::npos);
    CHECK(all.find("certificate-text") == std::string::npos);
    store.apply(Kind::name_space,
                object_of(Kind::name_space, good ? R"({"metadata":{"name":"a"}})" : R"({"metadata":{"name":"b"}})"));
  }
}

TEST_CASE("certificates have a revision of their own") {
  Store store;
  const auto secret = [](const std::string& key) {
    return object_of(Kind::secret, R"({"metadata":{"namespace":"default","name":"cert"},"type":"kubernetes.io/tls",)"
                                   R"("data":{"tls.crt":"Y2VydA==","tls.key":")" +
                                       key + R"("}})");
  };
  const std::string text =
      std::string(gateway) + "  - {name: tls, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: cert}]}}\n";
  apply_manifests(read_manifests({{"test", text}}, "default"), store);
  Resolver resolver(store, {.listeners = three});
  const uint64_t before = resolver.update(1).certificates_revision;
  store.apply(Kind::secret, secret("a2V5"));
  CHECK(resolver.update(1).certificates_revision == before + 1);
  const uint64_t routes = resolver.desired().routes_revision;
  store.apply(Kind::secret, secret("a2V5Mg=="));
  CHECK(resolver.update(1).certificates_revision == before + 2);
  CHECK(resolver.desired().routes_revision == routes);
  store.apply(Kind::secret, secret("a2V5Mg=="));
  CHECK(resolver.update(1).certificates_revision == before + 2);
  store.erase(Kind::secret, "default", "cert", "");
  CHECK(resolver.update(1).certificates_revision == before + 3);
  CHECK(resolver.desired().certificates[2].empty());
}

TEST_CASE("the listener costs a match no allocation") {
  const Scene scene(gateway + route("bound", ", sectionName: other"), three);
  const RouteQuery query{.host = "a-long-name-of-a-host.example.com:8080", .path = "/v1/completions", .listener = 1};
  const size_t before = test::allocations();
  CHECK(scene.table().match(query) != nullptr);
  CHECK(test::allocations() == before);
}

}  // namespace
}  // namespace penstock::objects
