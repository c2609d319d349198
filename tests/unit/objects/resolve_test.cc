#include "penstock/objects/resolve.h"

#include <ctime>
#include <map>

#include "penstock/base/random.h"
#include "tests/unit/objects/build.h"

namespace penstock::objects {
namespace {

TEST_CASE("selectors from flags") {
  CHECK(*parse_selector("app=vllm") == Labels{{"app", "vllm"}});
  CHECK(*parse_selector("b==2,a=1") == Labels{{"a", "1"}, {"b", "2"}});
  for (const char* text : {"", "app", "=x", "a!=b", "a in (b)", "a=1,a=2", "a=b c"}) {
    INFO(text);
    CHECK(!parse_selector(text).ok());
  }
}

TEST_CASE("a pod's way: ready, draining, gone; unchanged endpoints keep their pointers") {
  Store store;
  Resolver resolver(store, {});
  store.apply(Kind::inference_pool, inference_pool("p"));
  store.apply(Kind::pod, pod("a", "ua", "10.0.0.1"));
  store.apply(Kind::pod, pod("b", "ub", "10.0.0.2"));
  resolver.update(1);
  const auto first = resolver.desired().pools.at(0);
  REQUIRE(first->endpoints.size() == 2);
  CHECK(first->ready == 2);

  store.apply(Kind::pod, pod("b", "ub", "10.0.0.2", true, true));
  resolver.update(2);
  const auto second = resolver.desired().pools.at(0);
  CHECK(second->ready == 1);
  CHECK(second->endpoints[0] == first->endpoints[0]);
  CHECK(second->endpoints[1]->readiness == Readiness::draining);

  store.apply(Kind::pod, pod("b", "ub2", "10.0.0.2"));  // the same name and address, another pod
  CHECK(resolver.update(3).pools.at(0)->endpoints[1]->pod_uid == "ub2");
  CHECK(resolver.desired().pools.at(0)->endpoints[1]->readiness == Readiness::ready);

  store.erase(Kind::pod, "default", "b", "ub2");
  CHECK(resolver.update(4).pools.at(0)->endpoints.size() == 1);
}

TEST_CASE("nothing that matters, nothing new") {
  Store store;
  Resolver resolver(store, {});
  store.apply(Kind::inference_pool, inference_pool("p"));
  store.apply(Kind::pod, pod("a", "ua", "10.0.0.1"));
  const Desired before = resolver.update(1);
  store.apply(Kind::pod, pod("a", "ua", "10.0.0.1", true, false, "vllm", "2"));
  store.apply(Kind::pod, pod("c", "uc", "10.0.0.3", true, false, "other"));
  const Desired& after = resolver.update(2);
  CHECK(after.pools_revision == before.pools_revision);
  CHECK(after.routes_revision == before.routes_revision);
  CHECK(after.statuses_revision == before.statuses_revision);
  CHECK(after.notices_revision == before.notices_revision);
}

TEST_CASE("a condition keeps its time until its status changes, stored or not") {
  Store store;
  ResolveOptions options;
  options.self.name = "gw";
  Resolver resolver(store, options);
  store.apply(Kind::inference_pool, inference_pool("p"));
  const std::string first = resolver.update(1'700'000'000).statuses.at(0).body;
  CHECK(first.find("2023-11-14T22:13:20Z") != std::string::npos);
  store.apply(Kind::inference_pool, inference_pool("q", "other"));
  CHECK(resolver.update(1'800'000'000).statuses.at(0).body == first);  // not stored yet
  resolver.set_options(ResolveOptions{});
  CHECK(resolver.update(1'800'000'000).statuses.empty());
}

TEST_CASE("our own write coming back settles it") {
  Store store;
  Resolver resolver(store, {});
  const std::string head =
      R"({"metadata":{"name":"o","namespace":"default","generation":1},"spec":{"poolRef":{"name":"p"}})";
  store.apply(Kind::inference_pool, inference_pool("p"));
  store.apply(Kind::objective, object_of(Kind::objective, head + "}"));
  const StatusWrite written = resolver.update(1'700'000'000).statuses.at(0);
  CHECK(written.needed);
  const std::string status = written.body.substr(written.body.find(R"("status":{)"));
  store.apply(Kind::objective, object_of(Kind::objective, head + "," + status));
  const StatusWrite& settled = resolver.update(1'800'000'000).statuses.at(0);
  CHECK(!settled.needed);
  CHECK(settled.body == written.body);
}

TEST_CASE("conditions stored in another order, with others between them, are no reason to write") {
  Store store;
  ResolveOptions options;
  options.self.name = "gw";
  Resolver resolver(store, options);
  const auto stored = [](const char* accepted) {
    const auto entry = [](std::string type, std::string reason, std::string message) {
      return R"({"type":")" + type + R"(","status":"True","reason":")" + reason + R"(","message":")" + message +
             R"(","lastTransitionTime":"2020-01-01T00:00:00Z","observedGeneration":1})";
    };
    return object_of(Kind::inference_pool,
                     R"({"metadata":{"namespace":"default","name":"p","generation":1},"spec":{
      "selector":{"matchLabels":{"a":"b"}},"targetPorts":[{"number":1}]},"status":{"parents":[{"parentRef":{"group":"",
      "kind":"Service","name":"gw"},"controllerName":"penstock.dev/gateway","conditions":[)" +
                         entry("ResolvedRefs", "ResolvedRefs", "the gateway picks endpoints by itself") + "," +
                         entry("Accepted", accepted, "is served") + "]}]}}");
  };
  store.apply(Kind::inference_pool, stored("Accepted"));
  CHECK(!resolver.update(1'700'000'000).statuses.at(0).needed);
  store.apply(Kind::inference_pool, stored("Other"));
  CHECK(resolver.update(1'700'000'000).statuses.at(0).needed);
}

TEST_CASE("of several pools only those that are asked for are served; one that is not there is told") {
  Store store;
  Resolver resolver(store, ResolveOptions{.pools = {{"default", "p"}, {"default", "gone"}}});
  store.apply(Kind::inference_pool, inference_pool("p"));
  store.apply(Kind::inference_pool, inference_pool("q"));
  store.apply(Kind::objective,
              object_of(Kind::objective,
                        R"({"metadata":{"name":"of-q","namespace":"default"},"spec":{"poolRef":{"name":"q"}}})"));
  const Desired& desired = resolver.update(1);
  REQUIRE(desired.pools.size() == 1);
  CHECK(desired.pools[0]->id.name == "p");
  CHECK(desired.pools[0]->selector == Labels{{"app", "vllm"}});
  CHECK(desired.routes->mode() == RoutingMode::one_pool);
  REQUIRE(desired.notices.size() == 2);  // that "gone" is not there, and that no pod is p's; nothing about q
  CHECK(desired.notices[0].name == "gone");
  CHECK(desired.notices[1].reason == "NoMatchingPods");
  CHECK(desired.find(PoolId{Source::inference_pool, "default", "p", ""}) == desired.pools[0].get());
  CHECK(desired.find(PoolId{Source::inference_pool, "default", "q", ""}) == nullptr);
}

TEST_CASE("rewrites pick by weight, objectives by name") {
  Store store;
  Resolver resolver(store, {});
  store.apply(Kind::inference_pool, inference_pool("p"));
  store.apply(Kind::model_rewrite, object_of(Kind::model_rewrite, R"({"metadata":{"name":"r","namespace":"default"},
    "spec":{"poolRef":{"name":"p"},"rules":[{"matches":[{"model":{"value":"a"}}],"targets":[{"modelRewrite":"x","weight":3},
    {"modelRewrite":"y","weight":1}]},{"matches":[{"model":{"value":"same"}}]},{"matches":[{}],"targets":[{"modelRewrite":"never"}]}]}})"));
  store.apply(
      Kind::objective,
      object_of(Kind::objective,
                R"({"metadata":{"name":"o","namespace":"default"},"spec":{"poolRef":{"name":"p"},"priority":-5}})"));
  const Pool& p = *resolver.update(1).pools.at(0);
  const Rewrites::Rule* const rule = p.rewrites->find("a");
  REQUIRE(rule != nullptr);
  int x = 0;
  for (uint64_t i = 0; i < 400; ++i) x += rule->pick(i)->model == "x";
  CHECK(x == 300);
  REQUIRE(p.rewrites->find("same") != nullptr);
  CHECK(p.rewrites->find("same")->pick(1) == nullptr);
  CHECK(p.rewrites->find("unknown") == nullptr);
  REQUIRE(p.objectives->find("o") != nullptr);
  CHECK(*p.objectives->find("o") == -5);
  CHECK(p.objectives->find("none") == nullptr);
}

TEST_CASE("what others write under our name stays as long as it is not certain that we know better") {
  Store store;
  ResolveOptions options{.self = {.group = "", .kind = "Service", .ns = "default", .name = "blue"}};
  options.namespaces = {"default"};
  const auto body = [&] {
    store.apply(Kind::inference_pool,
                object_of(Kind::inference_pool,
                          R"({"metadata":{"namespace":"default","name":"p"},"spec":{"selector":{"matchLabels":)"
                          R"({"app":"x"}},"targetPorts":[{"number":8000}]},"status":{"parents":[)"
                          R"({"parentRef":{"name":"near"},"controllerName":"penstock.dev/gateway"},)"
                          R"({"parentRef":{"name":"far","namespace":"far"},"controllerName":"penstock.dev/gateway"},)"
                          R"({"parentRef":{"group":"","kind":"Service","name":"green"},)"
                          R"("controllerName":"penstock.dev/gateway"}]}})"));
    Resolver resolver(store, options);
    return resolver.update(1).statuses.at(0).body;
  };
  const auto has = [](const std::string& text, const std::string& name) {
    return text.find("\"name\":\"" + name + '"') != std::string::npos;
  };
  const std::string all_read = body();
  CHECK(has(all_read, "blue"));
  CHECK(has(all_read, "green"));
  CHECK(!has(all_read, "near"));
  CHECK(has(all_read, "far"));
  for (const Kind kind : {Kind::gateway_class, Kind::gateway, Kind::http_route}) {
    store.set_awaited(kind, true);
    CHECK(has(body(), "near"));
    store.set_awaited(kind, false);
  }
}

TEST_CASE("a pool that is being deleted is not there any more") {
  Store store;
  Resolver resolver(store, {.self = {.group = "", .kind = "Service", .ns = "default", .name = "gw"}});
  store.apply(Kind::inference_pool, inference_pool("p"));
  store.apply(Kind::pod, pod("a", "ua", "10.0.0.1"));
  REQUIRE(resolver.update(1).pools.size() == 1);
  store.apply(Kind::inference_pool,
              object_of(Kind::inference_pool,
                        R"({"metadata":{"namespace":"default","name":"p","deletionTimestamp":"2025-01-01T00:00:00Z"},)"
                        R"("spec":{"selector":{"matchLabels":{"app":"vllm"}},"targetPorts":[{"number":8000}]}})"));
  const Desired& after = resolver.update(2);
  CHECK(after.pools.empty());
  CHECK(after.routes->mode() == RoutingMode::nothing);
  CHECK(after.statuses.empty());
}

TEST_CASE("of a pool that is left to others our own entry is taken back, and no other") {
  const auto written = [](bool certain, const std::string& name) -> std::string {
    Store store;
    Resolver resolver(store, {.pools = {{"default", "another"}},
                              .self = {.group = "", .kind = "Service", .ns = "default", .name = "gw"},
                              .self_certain = certain});
    store.apply(Kind::inference_pool,
                object_of(Kind::inference_pool,
                          R"({"metadata":{"namespace":"default","name":"p"},"spec":{"selector":{"matchLabels":)"
                          R"({"app":"x"}},"targetPorts":[{"number":8000}]},"status":{"parents":[)"
                          R"({"parentRef":{"name":"gateway"},"controllerName":"penstock.dev/gateway"},)"
                          R"({"parentRef":{"group":"","kind":"Service","name":")" +
                              name + R"("},"controllerName":"penstock.dev/gateway"}]}})"));
    const auto& statuses = resolver.update(1).statuses;
    return statuses.empty() || !statuses[0].needed ? "" : statuses[0].body;
  };
  const std::string body = written(true, "gw");
  CHECK(body.find("\"gateway\"") != std::string::npos);
  CHECK(body.find("\"gw\"") == std::string::npos);
  CHECK(written(true, "green").empty());
  CHECK(written(false, "gw").empty());
}

TEST_CASE("Accepted is taken back when the pool is not there, but not over the words of others") {
  const auto objective = [](const std::string& condition) {
    return object_of(Kind::objective,
                     R"({"metadata":{"namespace":"default","name":"o","generation":4},"spec":{"poolRef":{"name":"p"}},)"
                     R"("status":{"conditions":[{"type":"Accepted","lastTransitionTime":"2020-01-01T00:00:00Z",)"
                     R"("observedGeneration":3,)" +
                         condition + "}]}}");
  };
  const std::string ours = R"("status":"True","reason":"Accepted","message":"is in use")";
  const auto written = [&](const std::string& before, bool pool, ResolveOptions options = {}) -> std::string {
    Store store;
    Resolver resolver(store, std::move(options));
    if (pool) store.apply(Kind::inference_pool, inference_pool("p"));
    store.apply(Kind::objective, objective(before));
    for (const StatusWrite& write : resolver.update(1).statuses) {
      if (write.kind == Kind::objective && write.needed) return write.body;
    }
    return "";
  };
  for (const std::string& before :
       {ours, std::string(R"("status":"Unknown","reason":"Pending","message":"Waiting")")}) {
    const std::string body = written(before, false);
    CHECK(body.find(R"("status":"False","reason":"PoolNotFound")") != std::string::npos);
    CHECK(body.find(R"("observedGeneration":4)") != std::string::npos);
  }
  const std::string again = written(R"("status":"False","reason":"PoolNotFound","message":"there is no pool x")", true);
  CHECK(again.find(R"("status":"True","reason":"Accepted")") != std::string::npos);
  CHECK(written(R"("status":"True","reason":"Accepted","message":"theirs")", false).empty());
  CHECK(written(ours, true, {.pools = {{"default", "another"}}}).empty());  // left to another gateway
  CHECK(written(ours, false, {.inference_pools = false}).empty());          // there may be one
  const std::string elsewhere = R"("status":"True","reason":"Accepted","message":"is in use, for a pool that is no I")";
  CHECK(written(elsewhere, false).empty());  // of a release that knows its pool by labels
  // It was said too early: the pool is there now, and another gateway's.
  const std::string open = written(R"("status":"False","reason":"PoolNotFound","message":"there is no pool x")", true,
                                   {.pools = {{"default", "another"}}});
  CHECK(open.find(R"("status":"Unknown","reason":"Pending")") != std::string::npos);
}

TEST_CASE("a status that somebody has changed back is told of again, with the version that says so") {
  const auto objective = [](int version) {
    return object_of(Kind::objective, R"({"metadata":{"namespace":"default","name":"o","resourceVersion":")" +
                                          std::to_string(version) + R"("},"spec":{"poolRef":{"name":"p"}}})");
  };
  Store store;
  Resolver resolver(store, {});
  store.apply(Kind::inference_pool, inference_pool("p"));
  store.apply(Kind::objective, objective(1));
  const Desired& desired = resolver.update(1);
  const uint64_t revision = desired.statuses_revision;
  REQUIRE(desired.statuses.at(0).needed);
  CHECK(desired.statuses[0].version == "1");
  store.apply(Kind::objective, objective(3));
  CHECK(resolver.update(1).statuses_revision > revision);
  CHECK(desired.statuses.at(0).version == "3");
}

// The resource definitions fill the group in where an object leaves it out, and not all of them with the pool's own.
TEST_CASE("a pool may be named in the group of whoever defines the object; a reference to anything else is told") {
  const auto objective = [](const char* name, const std::string& group, const std::string& kind = "InferencePool") {
    return object_of(Kind::objective, std::string(R"({"metadata":{"namespace":"default","name":")") + name +
                                          R"("},"spec":{"priority":7,"poolRef":{"group":")" + group + R"(","kind":")" +
                                          kind + R"(","name":"p"}}})");
  };
  Store store;
  Resolver resolver(store, {});
  store.apply(Kind::inference_pool, inference_pool("p"));
  store.apply(Kind::objective, objective("a", "inference.networking.k8s.io"));
  store.apply(Kind::objective, objective("b", "inference.networking.x-k8s.io"));
  store.apply(Kind::objective, objective("c", "llm-d.ai"));
  store.apply(Kind::objective, objective("d", "example.com"));
  store.apply(Kind::objective, objective("e", "llm-d.ai", "Service"));
  const Desired& desired = resolver.update(1);
  CHECK(desired.pools.at(0)->objectives->all() ==
        std::vector<std::pair<std::string, int32_t>>{{"a", 7}, {"b", 7}, {"c", 7}});
  std::vector<std::string> told;
  for (const Notice& notice : desired.notices) {
    if (notice.reason == "PoolNotFound") told.push_back(notice.name);
  }
  CHECK(told == std::vector<std::string>{"d", "e"});
  for (const StatusWrite& write : desired.statuses) {  // what names no InferencePool is for others to judge
    CHECK(write.body.find(R"("name":"d")") == std::string::npos);
    CHECK(write.body.find(R"("name":"e")") == std::string::npos);
  }
}

TEST_CASE("a slice that loses its label, or goes, takes only its own endpoints along") {
  Store store;
  Resolver resolver(store, ResolveOptions{.service_pools = {{"default", "s", ""}}});
  const auto slice = [](const std::string& name, const std::string& service, const std::string& addresses) {
    std::string endpoints;
    for (size_t at = 0; at < addresses.size(); ++at) {
      endpoints += (at == 0 ? "" : ",") + (R"({"addresses":["10.0.0.)" + addresses.substr(at, 1) + "\"]}");
    }
    return object_of(Kind::endpoint_slice, R"({"metadata":{"namespace":"default","name":")" + name +
                                               R"(","labels":{"kubernetes.io/service-name":")" + service +
                                               R"("}},"addressType":"IPv4","ports":[{"port":80}],"endpoints":[)" +
                                               endpoints + "]}");
  };
  const auto count = [&] { return resolver.update(1).pools.at(0)->endpoints.size(); };
  CHECK(count() == 0);
  store.apply(Kind::endpoint_slice, slice("one", "s", "12"));
  store.apply(Kind::endpoint_slice, slice("two", "s", "23"));
  CHECK(count() == 3);
  store.erase(Kind::endpoint_slice, "default", "one", "");
  CHECK(count() == 2);
  store.apply(Kind::endpoint_slice, slice("two", "other", "23"));
  CHECK(count() == 0);
  store.apply(Kind::endpoint_slice, slice("two", "s", "3"));
  CHECK(count() == 1);
}

// ---- the result depends on the state alone ----

struct Step {
  Kind kind;
  std::string json;  // of an object that is applied
};

std::string variant(Kind kind, const std::string& name, uint64_t v) {
  const std::string n = std::to_string(v % 3);
  const std::string meta = R"({"metadata":{"namespace":"default","name":")" + name + R"(","uid":"u)" + n +
                           R"(","generation":)" + n + R"(,"creationTimestamp":"2025-01-0)" + std::to_string(1 + v % 3) +
                           "T00:00:00Z\"";
  const std::string pool = R"("poolRef":{"name":"pool)" + std::to_string(v % 2) + "\"}";
  switch (kind) {
    case Kind::pod:
      return meta + (v % 5 == 0 ? R"(,"deletionTimestamp":"x")" : "") + R"(,"labels":{"app":"a)" +
             std::to_string(v % 2) + R"("}},"status":{"phase":")" + (v % 7 == 0 ? "Failed" : "Running") +
             R"(","podIP":"10.0.0.)" + std::to_string(v % 6) + R"(","conditions":[{"type":"Ready","status":")" +
             (v % 4 == 0 ? "False" : "True") + R"("}]}})";
    case Kind::endpoint_slice:
      return meta + R"(,"labels":{"kubernetes.io/service-name":"svc)" + std::to_string(v % 2) +
             R"("}},"addressType":"IPv4","ports":[{"name":"http","port":80)" + std::to_string(v % 2) +
             R"(}],"endpoints":[{"addresses":["10.0.0.)" + std::to_string(v % 6) +
             R"("],"targetRef":{"kind":"Pod","name":"pod)" + std::to_string(v % 4) + R"(","uid":"u)" +
             std::to_string(v % 3) + R"("}}]})";
    case Kind::service:
      return meta + R"(},"spec":{"ports":[{"name":"http","port":)" + std::to_string(80 + v % 2) + "}]}}";
    case Kind::inference_pool:
      return meta + (v % 4 == 0 ? R"(,"annotations":{"penstock.dev/service":"svc0"})" : "") +
             R"(},"spec":{"selector":{"matchLabels":{"app":"a)" + std::to_string(v % 2) +
             R"("}},"targetPorts":[{"number":8000}]}})";
    case Kind::model_rewrite:
    case Kind::model_rewrite_legacy:
      return meta + R"(},"spec":{)" + pool + R"(,"rules":[{"matches":[{"model":{"value":"m)" + n +
             R"("}}],"targets":[{"modelRewrite":"t)" + name + R"("}]},{"targets":[{"modelRewrite":"g)" + name +
             R"("}]}]}})";
    case Kind::objective:
      return meta + R"(},"spec":{)" + pool + R"(,"priority":)" + n + "}}";
    case Kind::gateway_class:
      return R"({"metadata":{"name":")" + name + R"("},"spec":{"controllerName":")" +
             (v % 3 == 0 ? "other/one" : "penstock.dev/gateway") + "\"}}";
    case Kind::gateway:
      return meta +
             R"(},"spec":{"gatewayClassName":"gateway_class0","listeners":[{"name":"l","port":80,"protocol":"HTTP","hostname":")" +
             (v % 2 == 0 ? "*.example.com" : "") + R"("}]}})";
    case Kind::http_route:
      return meta + R"(},"spec":{"parentRefs":[{"name":"gateway)" + std::to_string(v % 2) +
             R"("}],"rules":[{"backendRefs":[{"name":"svc)" + std::to_string(v % 2) +
             R"(","port":80},{"group":"inference.networking.k8s.io","kind":"InferencePool","name":"pool)" +
             std::to_string(v % 2) + R"("}]}]}})";
    default:
      return R"({"metadata":{"namespace":"default","name":")" + name + "\"}}";
  }
}

struct Named {
  Kind kind;
  const char* prefix;
};
constexpr Named universe[] = {{Kind::pod, "pod"},
                              {Kind::pod, "pod"},
                              {Kind::endpoint_slice, "slice"},
                              {Kind::service, "svc"},
                              {Kind::inference_pool, "pool"},
                              {Kind::model_rewrite, "rw"},
                              {Kind::model_rewrite_legacy, "rw"},
                              {Kind::objective, "o"},
                              {Kind::gateway_class, "gateway_class"},
                              {Kind::gateway, "gateway"},
                              {Kind::http_route, "route"}};

std::string random_history(uint64_t seed) {
  Random random(seed);
  ResolveOptions options;
  options.service_pools = {{"default", "svc1", ""}};
  options.gateway_address = "192.0.2.1";
  std::map<std::pair<Kind, std::string>, std::string> truth;
  Store store;
  Resolver resolver(store, options);
  for (int step = 0; step < 120; ++step) {
    const Named& named = universe[random.below(std::size(universe))];
    const std::string name = named.prefix + std::to_string(random.below(4));
    const std::pair key(named.kind, name);
    const uint64_t what = random.below(10);
    if (what < 6) {
      truth[key] = variant(named.kind, name, random.next() % 1000);
      store.apply(named.kind, object_of(named.kind, truth[key]));
    } else if (what < 8) {
      truth.erase(key);
      store.erase(named.kind, named.kind == Kind::gateway_class ? "" : "default", name, "");
    } else {  // a relist that finds some gone
      std::vector<Object> list;
      std::erase_if(truth, [&](const auto& entry) { return entry.first.first == named.kind && random.chance(0.3); });
      for (const auto& [known, json] : truth) {
        if (known.first == named.kind) list.push_back(object_of(known.first, json));
      }
      store.replace(named.kind, std::move(list));
    }
    if (random.chance(0.3)) resolver.update(1'700'000'000);
  }
  const std::string incremental = resolver.update(1'700'000'000).describe();

  std::vector<std::pair<Kind, std::string>> order;
  for (const auto& [key, json] : truth) order.emplace_back(key.first, json);
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
  Store fresh;
  for (const auto& [kind, json] : order) fresh.apply(kind, object_of(kind, json));
  Resolver anew(fresh, options);
  INFO("seed " << seed);
  CHECK(incremental == anew.update(1'700'000'000).describe());
  return incremental;
}

TEST_CASE("any history of the same final state gives the same result") {
  size_t with_routes = 0, with_endpoints = 0;
  for (uint64_t seed = 1; seed <= 150; ++seed) {
    const std::string result = random_history(seed);
    with_routes += result.find("  listener ") != std::string::npos;
    with_endpoints += result.find("-rank-0 ") != std::string::npos;
  }
  CHECK(with_routes > 10);
  CHECK(with_endpoints > 50);
}

// Of this thread's CPU, in microseconds: what else the machine does must not matter.
int64_t cpu_time() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec * 1'000'000 + now.tv_nsec / 1000;
}

// Average time of `round(i)`, in microseconds.
template <typename Round>
int64_t time_of(int rounds, Round&& round) {
  const int64_t begin = cpu_time();
  for (int i = 0; i < rounds; ++i) round(i);
  return (cpu_time() - begin) / rounds;
}

std::string thousand_ip(int i) {
  return "10.0." + std::to_string(i / 250) + "." + std::to_string(i % 250);
}
void apply_thousand_pods(Store& store) {
  for (int i = 0; i < 1000; ++i) {
    store.apply(Kind::pod, pod(numbered("vllm-", i), numbered("u", i), thousand_ip(i)));
  }
}
int64_t time_of_all(Store& store, Resolver& resolver) {
  return time_of(1, [&](int) {
    apply_thousand_pods(store);
    REQUIRE(resolver.update(1).pools.at(0)->ready == 1000);
  });
}

TEST_CASE("one pod of a thousand, chosen by a selector") {
  Store store;
  Resolver resolver(store, {});
  store.apply(Kind::inference_pool, inference_pool("p"));
  const int64_t all = time_of_all(store, resolver);
  const Object states[] = {pod("vllm-7", "u7", thousand_ip(7), false), pod("vllm-7", "u7", thousand_ip(7), true)};
  const int64_t each = time_of(50, [&](int i) {
    store.apply(Kind::pod, states[i % 2]);
    REQUIRE(resolver.update(1).pools.at(0)->ready == (i % 2 == 1 ? 1000 : 999));
  });
  MESSAGE("applying and resolving one pod of 1,000 takes " << each << " us, all of them " << all);
  CHECK(each * 4 < all);
}

TEST_CASE("one pod of a thousand, of a Service") {
  Store store;
  Resolver resolver(store, ResolveOptions{.service_pools = {{"default", "s", ""}}});
  for (int slice = 0; slice < 10; ++slice) {
    std::string endpoints;
    for (int i = slice * 100; i < slice * 100 + 100; ++i) {
      const std::string n = std::to_string(i);
      endpoints += (endpoints.empty() ? "" : ",") +
                   (R"({"addresses":[")" + thousand_ip(i) + R"("],"targetRef":{"kind":"Pod","name":"vllm-)" + n +
                    R"(","uid":"u)" + n + R"("}})");
    }
    store.apply(Kind::endpoint_slice,
                object_of(Kind::endpoint_slice,
                          R"({"metadata":{"namespace":"default","name":"s-)" + std::to_string(slice) +
                              R"(","labels":{"kubernetes.io/service-name":"s"}},"ports":[{"port":80}],"endpoints":[)" +
                              endpoints + "]}"));
  }
  const int64_t all = time_of_all(store, resolver);
  const Object states[] = {pod("vllm-7", "u7", thousand_ip(7), true, true), pod("vllm-7", "u7", thousand_ip(7))};
  const int64_t each = time_of(50, [&](int i) {
    store.apply(Kind::pod, states[i % 2]);
    REQUIRE(resolver.update(1).pools.at(0)->ready == (i % 2 == 1 ? 1000 : 999));
  });
  MESSAGE("applying and resolving one pod of 1,000 of a Service takes " << each << " us, all of them " << all);
  CHECK(each < all);
}

}  // namespace
}  // namespace penstock::objects
