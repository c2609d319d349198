#include "penstock/discovery/desired_pools.h"

#include <doctest/doctest.h>

#include "penstock/discovery/manifests.h"
#include "tests/unit/objects/build.h"

namespace penstock::discovery {
namespace {

using objects::Kind;

std::string labelled_pod(const std::string& name, const std::string& ip, const std::string& engine,
                         const std::string& label = "llm-d.ai/engine-type") {
  return R"({"metadata":{"namespace":"default","name":")" + name + R"(","uid":"u-)" + name +
         R"(","labels":{"app":"vllm",")" + label + R"(":")" + engine + R"("}},"status":{"phase":"Running","podIP":")" +
         ip + R"(","conditions":[{"type":"Ready","status":"True"}]}})";
}

TEST_CASE("endpoints of pools, with what Kubernetes says of them") {
  objects::Store store;
  objects::Resolver resolver(store, {});
  store.apply(Kind::inference_pool, objects::inference_pool("p"));
  store.apply(Kind::pod, objects::object_of(Kind::pod, labelled_pod("a", "10.0.0.1", "sglang")));
  store.apply(Kind::pod, objects::object_of(Kind::pod, labelled_pod("b", "fd00::2", "unheard-of")));
  store.apply(Kind::pod, objects::pod("c", "uc", "10.0.0.3", true, /*deleting=*/true));
  DesiredPools pools({.otherwise = "trtllm-serve"});
  const PoolsSpec first = pools.convert(resolver.update(1));
  REQUIRE(first.pools.size() == 1);
  CHECK(first.pools[0].name == "p");
  CHECK(first.pools[0].rewrites != nullptr);
  CHECK(first.route_pools == std::vector<uint32_t>{0});
  REQUIRE(first.pools[0].endpoints.size() == 3);
  const EndpointSpec& a = *first.pools[0].endpoints[0];
  CHECK(a.name == "a-rank-0");
  CHECK(a.url == "http://10.0.0.1:8000");
  CHECK(a.engine == "sglang");
  CHECK(a.uid == "u-a");
  CHECK(a.readiness == endpoints::Readiness::ready);
  CHECK(*objects::find_label(*a.labels, "app") == "vllm");
  CHECK(first.pools[0].endpoints[1]->url == "http://[fd00::2]:8000");
  CHECK(first.pools[0].endpoints[1]->engine == "trtllm-serve");
  CHECK(first.pools[0].endpoints[2]->readiness == endpoints::Readiness::draining);

  // What does not change keeps its pointer.
  store.erase(Kind::pod, "default", "c", "uc");
  const PoolsSpec second = pools.convert(resolver.update(2));
  REQUIRE(second.pools[0].endpoints.size() == 2);
  CHECK(second.pools[0].endpoints[0] == first.pools[0].endpoints[0]);
  CHECK(second.pools[0].endpoints[1] == first.pools[0].endpoints[1]);
}

TEST_CASE("a pod's engine is known by the label's older name too") {
  objects::Store store;
  objects::Resolver resolver(store, {});
  store.apply(Kind::inference_pool, objects::inference_pool("p"));
  const char* const older = "inference.networking.k8s.io/engine-type";
  store.apply(Kind::pod, objects::object_of(Kind::pod, labelled_pod("a", "10.0.0.1", "sglang", older)));
  DesiredPools pools;
  const PoolsSpec spec = pools.convert(resolver.update(1));
  REQUIRE(spec.pools[0].endpoints.size() == 1);
  CHECK(spec.pools[0].endpoints[0]->engine == "sglang");

  // Or by one that is named, with an engine that was added; then the others say nothing.
  const auto engines = std::make_shared<const EngineSet>(std::vector<EnginePreset>{{.name = "atom", .rules = {}}});
  store.apply(Kind::pod, objects::object_of(Kind::pod, labelled_pod("b", "10.0.0.2", "atom", "runs")));
  DesiredPools named({.engines = engines, .otherwise = "vllm", .labels = {"runs"}});
  const PoolsSpec other = named.convert(resolver.update(2));
  REQUIRE(other.pools[0].endpoints.size() == 2);
  CHECK(other.pools[0].endpoints[0]->engine == "vllm");
  CHECK(other.pools[0].endpoints[1]->engine == "atom");
}

TEST_CASE("a BackendTLSPolicy makes other endpoints of the same pods") {
  objects::Store store;
  objects::Resolver resolver(store, {});
  store.apply(Kind::inference_pool, objects::inference_pool("p"));
  store.apply(Kind::pod, objects::object_of(Kind::pod, labelled_pod("a", "10.0.0.1", "sglang")));
  DesiredPools pools;
  const PoolsSpec plain = pools.convert(resolver.update(1));
  store.apply(Kind::backend_tls_policy,
              objects::object_of(Kind::backend_tls_policy,
                                 R"({"metadata":{"namespace":"default","name":"tls"},"spec":{"targetRefs":[{"group":)"
                                 R"("inference.networking.k8s.io","kind":"InferencePool","name":"p"}],"validation":)"
                                 R"({"hostname":"model.test","wellKnownCACertificates":"System"}}})"));
  const PoolsSpec secure = pools.convert(resolver.update(2));
  const EndpointSpec& endpoint = *secure.pools[0].endpoints.at(0);
  CHECK(endpoint.url == "https://10.0.0.1:8000");
  CHECK(endpoint.tls_name == "model.test");
  CHECK(endpoint.tls_trust == "default/tls");
  CHECK(pools.convert(resolver.update(3)).pools[0].endpoints[0] == secure.pools[0].endpoints[0]);
  store.erase(Kind::backend_tls_policy, "default", "tls", "");
  CHECK_FALSE(pools.convert(resolver.update(4)).pools[0].endpoints[0]->tls_name.has_value());
}

TEST_CASE("each pool has a name of its own") {
  objects::Desired desired;
  const auto add = [&](objects::Source source, const char* ns, const char* name, const char* port = "") {
    auto pool = std::make_shared<objects::Pool>();
    pool->id = {source, ns, name, port};
    desired.pools.push_back(std::move(pool));
  };
  add(objects::Source::inference_pool, "a", "llama");
  add(objects::Source::inference_pool, "b", "llama");
  add(objects::Source::inference_pool, "b", "qwen");
  add(objects::Source::service, "b", "llama", "8000");
  add(objects::Source::service, "a", "llama");
  std::vector<std::string> names;
  for (const PoolSpec& pool : DesiredPools().convert(desired).pools) names.push_back(pool.name);
  CHECK(names == std::vector<std::string>{"a/llama (pool)", "b/llama", "qwen", "llama:8000", "a/llama (service)"});
}

TEST_CASE("no objects, no pools") {
  objects::Store store;
  objects::Resolver resolver(store, {});
  DesiredPools pools;
  const PoolsSpec spec = pools.convert(resolver.update(1));
  CHECK(spec.pools.empty());
  REQUIRE(spec.routes != nullptr);
  CHECK(spec.routes->mode() == objects::RoutingMode::nothing);
  CHECK(spec.route_pools.empty());
}

// A folder that is gone when the test ends.
TEST_CASE("manifests say the same as a cluster, and later ones take the place of earlier ones") {
  const std::string pool = R"(
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: p}
spec:
  selector: {matchLabels: {app: vllm}}
  targetPorts: [{number: 8000}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: d}
)";
  const auto pod = [](const std::string& ip) {
    return "apiVersion: v1\nkind: Pod\nmetadata: {name: a, uid: ua, labels: {app: vllm}}\nstatus: {phase: Running, "
           "podIP: " +
           ip + ", conditions: [{type: Ready, status: 'True'}]}\n";
  };
  const auto with = [&](const std::string& ip) {
    return objects::read_manifests({{"pool.yaml", pool}, {"pod.yaml", pod(ip)}}, "default");
  };
  ManifestFolder manifests{objects::ResolveOptions{}};
  CHECK(manifests.desired().pools.empty());
  manifests.take(with("10.0.0.1"), 1);
  REQUIRE(manifests.desired().pools.size() == 1);
  CHECK(manifests.desired().pools[0]->endpoints.at(0)->ip == "10.0.0.1");
  CHECK(manifests.skipped().size() == 1);

  manifests.take(with("10.0.0.2"), 3);
  CHECK(manifests.desired().pools[0]->endpoints.at(0)->ip == "10.0.0.2");
}

}  // namespace
}  // namespace penstock::discovery
