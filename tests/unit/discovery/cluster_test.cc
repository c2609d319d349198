#include "penstock/discovery/cluster.h"

#include <doctest/doctest.h>

#include "penstock/discovery/desired_pools.h"
#include "tests/unit/discovery/cluster_bench.h"

namespace penstock::discovery::test {
namespace {

TEST_CASE("nothing is told before pools and pods were listed") {
  Bench b;
  b.put_pool();
  b.put_pod("a", "ua", "10.0.0.1");
  b.api->set_mode(pods, FakeApi::Mode::silent);
  b.start();
  b.run(seconds(9));
  CHECK(b.events.told == 0);
  CHECK(!b.cluster->synced());
  CHECK(b.cluster->status().waiting_for == "pods");
  b.api->speak(pods);
  b.run();
  CHECK(b.cluster->synced());
  CHECK(b.cluster->status().waiting_for == "");
  CHECK(b.events.told == 1);
  CHECK(b.events.last == "p: a-rank-0(ua,ready)");
}

TEST_CASE("a list that is not essential is waited for, but not for ever") {
  Bench b;
  b.put_pool();
  b.api->set_mode(rewrites, FakeApi::Mode::silent);
  b.start();
  b.run(seconds(5));
  CHECK(b.events.told == 0);
  b.run(seconds(6));
  CHECK(b.events.told == 1);
  CHECK(b.events.last == "p:");
}

TEST_CASE("many objects of one turn are told once") {
  Bench b;
  b.put_pool();
  b.start();
  const int before = b.events.told;
  for (int i = 0; i < 50; ++i)
    b.put_pod("a" + std::to_string(i), "u" + std::to_string(i), "10.0.0." + std::to_string(i));
  b.run();
  CHECK(b.events.told == before + 1);
}

TEST_CASE("a pod drains, goes, and comes back under its name") {
  Bench b;
  b.put_pool();
  b.put_pod("a", "u1", "10.0.0.1");
  b.put_pod("other", "u9", "10.0.0.9", true, false, "else");
  b.start();
  CHECK(b.events.last == "p: a-rank-0(u1,ready)");
  // In the turn in which the event comes: no virtual time passes.
  const Instant at = b.network.now();
  b.put_pod("a", "u1", "10.0.0.1", true, true);
  while (b.network.now() == at && b.events.told == 1) REQUIRE(b.network.step());
  CHECK(b.network.now() == at);
  CHECK(b.events.last == "p: a-rank-0(u1,draining)");
  b.api->remove(pods, "ns", "a");
  b.run();
  CHECK(b.events.last == "p:");
  b.put_pod("a", "u2", "10.0.0.1", false);
  b.run();
  CHECK(b.events.last == "p: a-rank-0(u2,not_ready)");
  b.put_pod("a", "u2", "10.0.0.1");
  b.run();
  CHECK(b.events.last == "p: a-rank-0(u2,ready)");
  const int told = b.events.told;
  b.put_pod("other", "u9", "10.0.0.9", false, false, "else");
  b.run();
  CHECK(b.events.told == told);  // nobody's pod
}

TEST_CASE("a CRD that is not installed counts as empty, and is seen when it comes") {
  Bench b;
  for (const std::string& collection : {pools_legacy, rewrites, objectives}) {
    b.api->set_mode(collection, FakeApi::Mode::absent);
  }
  const auto rewrite = [](const std::string& model) {
    return R"(},"spec":{"poolRef":{"name":"p"},"rules":[{"matches":[{"model":{"value":"alias"}}],"targets":[{"modelRewrite":")" +
           model + R"("}]}]})";
  };
  b.put_pool();
  b.put_pod("a", "ua", "10.0.0.1");
  b.api->put(rewrites_legacy, "ns", "old", "r1", rewrite("legacy"));
  b.start();
  CHECK(b.cluster->synced());
  const auto target = [&] {
    const objects::Rewrites::Rule* const rule = b.cluster->desired().pools.at(0)->rewrites->find("alias");
    return rule == nullptr ? "none" : rule->targets.at(0).model;
  };
  CHECK(target() == "legacy");
  // Asked again after half a minute, and meanwhile the API server is away: no news.
  b.api->set_mode(rewrites, FakeApi::Mode::silent);
  b.run(seconds(50));
  b.put_pod("b", "ub", "10.0.0.2");
  b.run();
  CHECK(target() == "legacy");
  const int told = b.events.told;
  b.api->speak(rewrites);
  b.run(seconds(60));
  CHECK(target() == "none");  // the newer group is there: the older one does not count any more
  b.api->put(rewrites, "ns", "new", "r2", rewrite("newer"));
  b.run();
  CHECK(target() == "newer");
  CHECK(b.events.told > told);
}

TEST_CASE("without the right to list, essential objects are waited for and others are not") {
  Bench b;
  b.put_pool();
  b.put_pod("a", "ua", "10.0.0.1");
  b.api->set_mode(objectives, FakeApi::Mode::forbidden);
  b.start();
  b.run(milliseconds(200));
  CHECK(b.cluster->synced());
  CHECK(b.events.last == "p: a-rank-0(ua,ready)");
  CHECK(b.watch("inferenceobjectives.llm-d.ai").watch.state == kube::ReflectorState::forbidden);

  Bench c;
  c.put_pool();
  c.api->set_mode(pods, FakeApi::Mode::forbidden);
  c.start();
  c.run(seconds(20));
  CHECK(!c.cluster->synced());
  CHECK(c.cluster->status().waiting_for == "pods");
  CHECK(c.watch("pods").watch.state == kube::ReflectorState::forbidden);
  c.put_pod("a", "ua", "10.0.0.1");
  c.api->set_mode(pods, FakeApi::Mode::serves);
  c.run(seconds(60));
  CHECK(c.events.last == "p: a-rank-0(ua,ready)");
}

TEST_CASE("a status is written when it is needed, and again when it is lost") {
  Bench b;
  b.put_pool();
  b.put_objective("o");
  b.start();
  b.run(seconds(2));
  CHECK(b.written("PATCH", "inferenceobjectives/o/status") == 1);
  const std::string body = b.api->writes.at(0).body;
  const std::string status =
      "," + body.substr(body.find(R"("status":{)"), body.size() - body.find(R"("status":{)") - 1);
  b.put_objective("o", status);
  b.run(seconds(2));
  b.put_pod("a", "ua", "10.0.0.1");
  b.run(seconds(2));
  CHECK(b.written("PATCH", "/o/status") == 1);
  b.put_objective("o");  // somebody wiped it
  b.run(seconds(2));
  CHECK(b.written("PATCH", "/o/status") == 2);
}

TEST_CASE("an operator hears of a trouble once, as long as it lasts") {
  Bench b;
  b.put_pool();
  b.start();
  b.run(seconds(2));
  CHECK(b.written("POST", "/events") == 1);  // NoMatchingPods
  CHECK(b.api->writes.back().body.find("NoMatchingPods") != std::string::npos);
  b.put_pool("q", "y");
  b.put_pod("b", "ub", "10.0.0.2", true, false, "y");
  b.run(seconds(5));
  size_t about_p = 0;
  for (const auto& write : b.api->writes)
    about_p += write.method == "POST" && write.body.find("uid-p") != std::string::npos;
  CHECK(about_p == 1);
}

TEST_CASE("nothing is written when that is not wanted") {
  ClusterOptions options = options_of();
  options.write = false;
  Bench b(options);
  b.put_pool();
  b.put_objective("o");
  b.start();
  b.run(seconds(5));
  CHECK(b.cluster->synced());
  CHECK(b.api->writes.empty());
  CHECK(!b.cluster->status().writes);
}

TEST_CASE("pods of one pool are watched by its selector, also when that changes") {
  ClusterOptions options = options_of();
  options.resolve.namespaces = {"ns"};
  options.resolve.pools = {{"ns", "p"}};
  Bench b(options);
  b.put_pool();
  b.put_pod("a", "ua", "10.0.0.1");
  b.put_pod("b", "ub", "10.0.0.2", true, false, "y");
  b.start();
  CHECK(b.api->asked().contains(pods + " in ns with app=x"));
  CHECK(b.events.last == "p: a-rank-0(ua,ready)");
  b.put_pool("p", "y");
  b.run(milliseconds(5));
  CHECK(b.events.last == "p: b-rank-0(ub,ready)");
  CHECK(b.events.told == 2);  // no half list in between
  b.run(seconds(1));
  CHECK(b.api->asked().contains(pods + " in ns with app=y"));
  CHECK(!b.api->asked().contains(pods + " in ns with app=x"));
  b.api->remove(pools, "ns", "p");
  b.run(seconds(1));
  CHECK(b.events.last == "");
  CHECK(!b.api->asked().contains(pods + " in ns with app=y"));
}

TEST_CASE("a pool from flags needs no CRD and asks for its pods alone") {
  ClusterOptions options = options_of();
  options.resolve.inference_pools = false;
  options.resolve.selector_pools = {{"ns", "flags", {{"app", "x"}}, {8000, 8001}}};
  Bench b(options);
  b.put_pod("a", "ua", "10.0.0.1");
  b.start();
  CHECK(b.events.last == "flags: a-rank-0(ua,ready) a-rank-1(ua,ready)");
  CHECK(b.api->asked().contains(pods + " in ns with app=x"));
  CHECK(!b.api->asked().contains(pools));
}

TEST_CASE("EndpointSlices are watched when something names a Service") {
  Bench b(options_of(/*gateway_api=*/true));
  b.put_pool();
  b.put_pod("a", "ua", "10.0.0.1");
  b.api->put(
      slices, "ns", "s-1", "us",
      R"(,"labels":{"kubernetes.io/service-name":"s"}},"addressType":"IPv4","ports":[{"name":"http","port":8000}],)"
      R"("endpoints":[{"addresses":["10.0.0.5"],"conditions":{"ready":true}}])");
  b.start();
  CHECK(!b.api->asked().contains(slices));
  CHECK(b.events.last == "p: a-rank-0(ua,ready)");
  b.put_pool("p", "x", R"(,"annotations":{"penstock.dev/service":"s"})");
  b.run(milliseconds(5));
  CHECK(b.api->asked().contains(slices));
  CHECK(b.events.last == "p: 10.0.0.5:8000(,ready)");
  CHECK(b.events.told == 2);  // not without endpoints in between
}

TEST_CASE("routes of other gateways make nothing be watched") {
  Bench b(options_of(/*gateway_api=*/true));
  const auto put_class = [&](const std::string& controller) {
    b.api->put("/apis/gateway.networking.k8s.io/v1/gatewayclasses", "", "c", "uc",
               R"(},"spec":{"controllerName":")" + controller + R"("})");
  };
  b.put_pool();
  put_class("else.where/gateway");
  b.api->put("/apis/gateway.networking.k8s.io/v1/gateways", "ns", "g", "ug",
             R"(},"spec":{"gatewayClassName":"c","listeners":[{"name":"l","port":80,"protocol":"HTTP"}]})");
  b.api->put(routes, "ns", "r", "ur",
             R"(},"spec":{"parentRefs":[{"name":"g"}],"rules":[{"backendRefs":[{"name":"s","port":80}]}]})");
  b.start();
  CHECK(b.cluster->synced());
  CHECK(!b.api->asked().contains(slices));
  put_class("penstock.dev/gateway");
  b.run(milliseconds(5));
  CHECK(b.api->asked().contains(slices));
  CHECK(b.api->asked().contains(services));
}

TEST_CASE("a Gateway does not count before its routes are known") {
  Bench b(options_of(/*gateway_api=*/true));
  const auto routes_problems = [&] {
    const auto problems = b.cluster->status().problems;
    return std::count_if(problems.begin(), problems.end(), [](const objects::Notice& problem) {
      return problem.kind == objects::Kind::gateway && problem.name == "g" && problem.reason == "RoutesNotReadable";
    });
  };
  b.put_pool();
  b.put_gateway();
  b.put_route();
  SUBCASE("at start, however long they take") {
    b.api->set_mode(routes, FakeApi::Mode::silent);
    b.start();
    b.run(seconds(30));
    CHECK(!b.cluster->synced());
    CHECK(b.cluster->status().waiting_for == "httproutes.gateway.networking.k8s.io");
    b.api->speak(routes);
  }
  SUBCASE("without the right to read them") {
    b.api->set_mode(routes, FakeApi::Mode::forbidden);
    b.start();
    b.run(milliseconds(200));
    REQUIRE(b.cluster->synced());
    CHECK(b.cluster->desired().routes->mode() == objects::RoutingMode::one_pool);
    CHECK(routes_problems() == 1);
    b.api->set_mode(routes, FakeApi::Mode::serves);
    b.run(seconds(90));
  }
  SUBCASE("their definition is installed later") {
    b.api->set_mode(routes, FakeApi::Mode::absent);
    b.start();
    REQUIRE(b.cluster->synced());
    CHECK(b.cluster->desired().routes->mode() == objects::RoutingMode::one_pool);
    b.api->set_mode(routes, FakeApi::Mode::serves);
    b.run(seconds(60));
  }
  b.run(milliseconds(10));
  REQUIRE(b.cluster->synced());
  CHECK(b.cluster->desired().routes->mode() == objects::RoutingMode::routes);
  CHECK(!b.refuses());
  CHECK(routes_problems() == 0);
}

TEST_CASE("of resource definitions that come together none is noticed half a minute after another") {
  Bench b(options_of(/*gateway_api=*/true));
  const std::string grants = "/apis/gateway.networking.k8s.io/v1beta1/referencegrants";
  for (const std::string& one : {classes, gateways, routes, grants}) b.api->set_mode(one, FakeApi::Mode::absent);
  b.put_pool();
  b.put_gateway();
  b.put_route();
  b.start();
  REQUIRE(b.cluster->synced());
  CHECK(b.cluster->desired().routes->mode() == objects::RoutingMode::one_pool);
  for (const std::string& one : {classes, gateways, routes, grants}) b.api->set_mode(one, FakeApi::Mode::serves);
  const auto known = [&](const char* name) { return b.watch(name).watch.state == kube::ReflectorState::watching; };
  const auto count = [&] {
    return known("gatewayclasses.gateway.networking.k8s.io") + known("gateways.gateway.networking.k8s.io") +
           known("httproutes.gateway.networking.k8s.io") + known("referencegrants.gateway.networking.k8s.io");
  };
  while (count() == 0) {
    REQUIRE(b.network.step());
    CHECK(!b.refuses());
  }
  b.run(milliseconds(10));
  CHECK(count() == 4);
  CHECK(b.cluster->desired().routes->mode() == objects::RoutingMode::routes);
  CHECK(!b.refuses());
}

TEST_CASE("what stands against objects is in the status") {
  Bench b;
  b.put_pool();
  b.put_pod("a", "ua", "10.0.0.1");
  b.put_pod("c", "uc", "10.0.0.3");
  b.start();
  CHECK(b.cluster->status().problems.empty());
  b.api->put(pods, "ns", "a", "ua", R"(,"labels":{"app":"x"}},"status":{"podIP":7})");
  b.put_pool("q", "nobody");
  b.run();
  const auto problems = b.cluster->status().problems;
  REQUIRE(problems.size() == 2);
  CHECK(problems[0].name == "q");
  CHECK(problems[0].reason == "NoMatchingPods");
  CHECK(problems[1].name == "a");
  CHECK(problems[1].reason == "Unreadable");
  CHECK(problems[1].message.find("status.podIP") != std::string::npos);
  b.put_pod("a", "ua", "10.0.0.1");
  b.api->remove(pools, "ns", "q");
  b.run();
  CHECK(b.cluster->status().problems.empty());
}

TEST_CASE("an object that is not understood keeps its last good version") {
  Bench b;
  b.put_pool();
  b.put_pod("a", "ua", "10.0.0.1");
  b.start();
  b.api->put(pods, "ns", "a", "ua", R"(,"labels":{"app":"x"}},"status":{"podIP":7})");
  b.run();
  CHECK(b.events.last == "p: a-rank-0(ua,ready)");
  CHECK(b.watch("pods").undecodable == 1);
}

TEST_CASE("an unreachable pod is read past the watch") {
  Bench b;
  b.put_pool();
  b.put_pod("a", "ua", "10.0.0.1");
  b.start();
  const size_t before = b.api->calls_to("fieldSelector");
  CHECK(b.cluster->endpoint_unreachable("ns", "a"));
  CHECK(b.api->calls_to("fieldSelector") == before + 1);
  CHECK(!b.cluster->endpoint_unreachable("ns", "a"));  // just done
}

TEST_CASE("stopped in the midst of events, nothing more is told") {
  Bench b;
  b.put_pool();
  b.start();
  const int told = b.events.told;
  b.put_pod("a", "ua", "10.0.0.1");
  b.cluster->stop();
  b.run(seconds(10));
  CHECK(b.events.told == told);
  CHECK(b.api->asked().empty());
  CHECK(b.cluster->desired().pools.size() == 1);
}

}  // namespace
}  // namespace penstock::discovery::test
