// A Cluster on a FakeApi, on virtual time, and what it has told.
#pragma once

#include <doctest/doctest.h>

#include <memory>
#include <string>

#include "penstock/discovery/cluster.h"
#include "tests/support/sim_ring.h"
#include "tests/unit/discovery/fake_api.h"

namespace penstock::discovery::test {

inline const std::string pods = "/api/v1/pods", services = "/api/v1/services";
inline const std::string slices = "/apis/discovery.k8s.io/v1/endpointslices";
inline const std::string pools = "/apis/inference.networking.k8s.io/v1/inferencepools";
inline const std::string pools_legacy = "/apis/inference.networking.x-k8s.io/v1alpha2/inferencepools";
inline const std::string rewrites = "/apis/llm-d.ai/v1alpha2/inferencemodelrewrites";
inline const std::string rewrites_legacy = "/apis/inference.networking.x-k8s.io/v1alpha2/inferencemodelrewrites";
inline const std::string objectives = "/apis/llm-d.ai/v1alpha2/inferenceobjectives";
inline const std::string gateway_api = "/apis/gateway.networking.k8s.io/v1/";
inline const std::string routes = gateway_api + "httproutes", gateways = gateway_api + "gateways";
inline const std::string classes = gateway_api + "gatewayclasses";

// Counts, and keeps what was said in a line: "p: a ready, b draining".
struct Recorder final : ClusterEvents {
  void on_desired(const objects::Desired& desired) override {
    ++told;
    last.clear();
    for (const auto& pool : desired.pools) {
      last += (last.empty() ? "" : "; ") + pool->id.label() + ":";
      for (const auto& e : pool->endpoints) {
        constexpr const char* words[] = {"ready", "not_ready", "draining"};
        last += ' ' + e->name + '(' + e->pod_uid + ',' + words[static_cast<int>(e->readiness)] + ')';
      }
    }
  }
  int told = 0;
  std::string last;
};

inline ClusterOptions options_of(bool gateway_api = false) {
  ClusterOptions options;
  options.gateway_api = gateway_api;
  options.client.server = "http://api";
  return options;
}

struct Bench {
  explicit Bench(ClusterOptions options = options_of()) {
    auto transport = std::make_unique<FakeApi>(loop.loop());
    api = transport.get();
    cluster = std::make_unique<Cluster>(loop.loop(), std::move(options), events, std::move(transport));
  }
  void run(Duration time = milliseconds(1)) { network.run_for(time); }
  void start() {
    REQUIRE(!cluster->start());
    run(milliseconds(5));
  }
  void put_pod(const std::string& name, const std::string& uid, const std::string& ip, bool ready = true,
               bool deleting = false, const std::string& app = "x") {
    api->put(pods, "ns", name, uid,
             std::string(deleting ? R"(,"deletionTimestamp":"2025-01-01T00:00:00Z")" : "") + R"(,"labels":{"app":")" +
                 app + R"("}},"status":{"phase":"Running","podIP":")" + ip +
                 R"(","conditions":[{"type":"Ready","status":")" + (ready ? "True" : "False") + R"("}]})");
  }
  void put_pool(const std::string& name = "p", const std::string& app = "x", const std::string& annotations = "") {
    api->put(pools, "ns", name, "uid-" + name,
             annotations + R"(,"generation":1},"spec":{"selector":{"matchLabels":{"app":")" + app +
                 R"("}},"targetPorts":[{"number":8000}]})");
  }
  // Ours, with a class.
  void put_gateway() {
    api->put(classes, "", "c", "uc", R"(},"spec":{"controllerName":"penstock.dev/gateway"})");
    api->put(gateways, "ns", "g", "ug",
             R"(},"spec":{"gatewayClassName":"c","listeners":[{"name":"l","port":80,"protocol":"HTTP"}]})");
  }
  void put_route() {
    api->put(routes, "ns", "r", "ur",
             R"(},"spec":{"parentRefs":[{"name":"g"}],"rules":[{"backendRefs":[{"group":"inference.networking.k8s.io",)"
             R"("kind":"InferencePool","name":"p"}]}]})");
  }
  // A request that the route above answers would get a 404.
  bool refuses() const {
    const objects::RouteTable& table = *cluster->desired().routes;
    return table.mode() == objects::RoutingMode::routes && table.match({.host = "h", .path = "/"}) == nullptr;
  }
  void put_objective(const std::string& name, const std::string& status = "") {
    api->put(objectives, "ns", name, "uid-" + name,
             R"(,"generation":1},"spec":{"priority":5,"poolRef":{"name":"p"}})" + status);
  }
  size_t written(const std::string& method, const std::string& part) const {
    size_t count = 0;
    for (const FakeApi::Write& write : api->writes) {
      count += write.method == method && write.path.find(part) != std::string::npos;
    }
    return count;
  }
  WatchStatus watch(const std::string& name) const {
    for (const WatchStatus& one : cluster->status().watches) {
      if (one.name == name) return one;
    }
    FAIL("no watch " << name);
    return {};
  }

  penstock::test::SimNetwork network{1};
  penstock::test::SimLoop loop{network};
  Recorder events;
  FakeApi* api = nullptr;  // the cluster's
  std::unique_ptr<Cluster> cluster;
};

}  // namespace penstock::discovery::test
