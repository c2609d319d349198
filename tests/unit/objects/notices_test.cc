// What is said of objects, and for how long.
#include <algorithm>

#include "tests/unit/objects/build.h"

namespace penstock::objects {
namespace {

std::vector<std::string> reasons_of(const Desired& desired) {
  std::vector<std::string> out;
  for (const Notice& notice : desired.notices) {
    if (notice.reason != "NoMatchingPods" && notice.reason != "NoEndpoints") out.push_back(notice.reason);
  }
  return out;
}

TEST_CASE("where InferencePools are not read, an object of a pool that is not served is told of, without a claim") {
  const auto objective = [](const std::string& pool) {
    return object_of(Kind::objective,
                     R"({"metadata":{"namespace":"default","name":"o"},"spec":{"poolRef":{"name":")" + pool + "\"}}}");
  };
  for (const bool service : {false, true}) {
    ResolveOptions options{.inference_pools = false};
    if (service) options.service_pools = {{"default", "mine", ""}};
    else options.selector_pools = {{"default", "mine", {{"app", "vllm"}}, {8000}}};
    Store store;
    Resolver resolver(store, options);
    store.apply(Kind::objective, objective("mine"));
    CHECK(reasons_of(resolver.update(1)).empty());
    store.apply(Kind::objective, objective("theirs"));
    const Desired& desired = resolver.update(1);
    CHECK(reasons_of(desired) == std::vector<std::string>{"PoolNotFound"});
    const auto told = [](const Notice& notice) {
      return notice.message ==
             "is for the pool default/theirs, which is not served here: InferencePools are not read, "
             "and the pools are default/mine";
    };
    CHECK(std::any_of(desired.notices.begin(), desired.notices.end(), told));
    store.apply(Kind::objective, objective("mine"));
    CHECK(reasons_of(resolver.update(1)).empty());
  }
}

TEST_CASE("that an object of the old group is ignored is said as long as it is so") {
  const std::string json = R"({"metadata":{"namespace":"default","name":"old"},"spec":{"poolRef":{"name":"p"}}})";
  Store store;
  Resolver resolver(store, {});
  store.apply(Kind::inference_pool, inference_pool("p"));
  store.apply(Kind::objective_legacy, object_of(Kind::objective_legacy, json));
  CHECK(reasons_of(resolver.update(1)).empty());
  store.set_served(Kind::objective, true);
  CHECK(reasons_of(resolver.update(1)) == std::vector<std::string>{"LegacyGroupIgnored"});
  store.erase(Kind::objective_legacy, "default", "old", "");
  CHECK(reasons_of(resolver.update(1)).empty());
  store.apply(Kind::objective_legacy, object_of(Kind::objective_legacy, json));
  CHECK(reasons_of(resolver.update(1)) == std::vector<std::string>{"LegacyGroupIgnored"});
  store.set_served(Kind::objective, false);
  CHECK(reasons_of(resolver.update(1)).empty());
}

TEST_CASE("what two gateways of different pools say of a route to both of them is the same") {
  const auto said = [](std::vector<PoolName> pools) {
    Store store;
    Resolver resolver(store, {.pools = std::move(pools), .gateway_address = "192.0.2.7"});
    const std::string head = R"({"metadata":{"namespace":"default","name":"x"},"spec":)";
    for (const char* name : {"a", "b"}) store.apply(Kind::inference_pool, inference_pool(name));
    store.apply(Kind::gateway_class, object_of(Kind::gateway_class, R"({"metadata":{"name":"x"},"spec":)"
                                                                    R"({"controllerName":"penstock.dev/gateway"}})"));
    store.apply(Kind::gateway, object_of(Kind::gateway, head + R"({"gatewayClassName":"x","listeners":[)"
                                                               R"({"name":"l","port":80,"protocol":"HTTP"}]}})"));
    const std::string ref = R"({"group":"inference.networking.k8s.io","kind":"InferencePool","name":")";
    store.apply(Kind::http_route, object_of(Kind::http_route, head +
                                                                  R"({"parentRefs":[{"name":"x"}],"rules":[)"
                                                                  R"({"backendRefs":[)" +
                                                                  ref +
                                                                  R"(a"}]},)"
                                                                  R"({"backendRefs":[)" +
                                                                  ref + R"(b"}]}]}})"));
    std::string out;
    for (const StatusWrite& write : resolver.update(1).statuses) {
      if (write.kind != Kind::inference_pool) out += write.body + "\n";
    }
    return std::pair(out, reasons_of(resolver.desired()));
  };
  const auto both = said({});
  CHECK(both.first.find("\"False\",\"reason\":\"BackendNotFound\"") == std::string::npos);
  CHECK(both.second.empty());
  for (const char* pool : {"a", "b"}) {
    const auto one = said({{"default", pool}});
    CHECK(one.first == both.first);
    CHECK(one.second == std::vector<std::string>{"BackendNotServed"});
  }
}

}  // namespace
}  // namespace penstock::objects
