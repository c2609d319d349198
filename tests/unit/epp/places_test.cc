// What is told by labels of pods: revisions that are rolled out, and what is near to what. And caps on gauges.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <string>

#include "penstock/epp/scheduling.h"
#include "tests/support/allocations.h"
#include "tests/unit/routing/pool_builder.h"

using namespace penstock;
using namespace penstock::routing;
using namespace penstock::routing::test;
using namespace penstock::epp;

namespace {

using Parameters = std::vector<std::pair<std::string, ParameterValue>>;
using Texts = std::vector<std::string>;

PluginSpec plugin(std::string_view type, Parameters parameters = {}) {
  const PluginInfo* const info = find_plugin_type(type);
  REQUIRE(info != nullptr);
  return {.name = std::string(type), .info = info, .parameters = std::move(parameters)};
}

void label(PoolBuilder& builder, size_t i, objects::Labels labels) {
  std::sort(labels.begin(), labels.end());
  builder.view(i).labels = std::make_shared<objects::Labels>(std::move(labels));
}

// A filter on its own. `peer`: which endpoint the request itself goes to.
std::string filtered(const PluginSpec& spec, const PoolBuilder& builder,
                     const endpoints::EndpointView* peer = nullptr) {
  static const Features features;
  Random random(1);
  std::vector<Candidate> left;
  for (const auto& view : builder.pool.endpoints) left.push_back({&view});
  make_filter(spec)->filter({.features = features, .now = at_ms(0), .random = random, .peer = peer}, left);
  std::string names;
  for (const Candidate& candidate : left) names += candidate.endpoint->state->name;
  return names;
}

// So many decode and prefill servers of each revision of a set.
struct Rollout {
  PoolBuilder builder;
  PrefixIndex index{64};
  std::unique_ptr<Profile> profile;
  std::unique_ptr<Router> router;
  std::map<std::string, std::string> revision_of;

  void add(const std::string& revision, const std::string& role, size_t count, const std::string& set = "mine") {
    while (count-- > 0) {
      const size_t i = builder.states.size();
      builder.add("e" + std::to_string(i));
      builder.state(i).address = "10.0.0." + std::to_string(i) + ":8000";
      label(builder, i,
            {{"disaggregatedset.x-k8s.io/name", set},
             {"disaggregatedset.x-k8s.io/revision", revision},
             {"disaggregatedset.x-k8s.io/role", role},
             {"llm-d.ai/role", role}});
      revision_of["e" + std::to_string(i)] = revision;
    }
  }
  void start(const std::string& mode) {
    SchedulingSpec spec;
    spec.primary = {"decode", {{plugin("decode-filter")}, {plugin("random-picker")}}};
    spec.prefill = ProfileSpec{"prefill", {{plugin("prefill-filter")}, {plugin("random-picker")}}};
    spec.prefill_rule.when = StageRule::When::always;
    spec.screener =
        plugin("disaggregatedset-rollout-screener",
               {{"revisionGating.mode", mode}, {"revisionGating.requiredRoles", Texts{"prefill", "decode"}}});
    spec.screener->selector.match_labels = {{"disaggregatedset.x-k8s.io/name", "mine"}};
    profile = make_profile(spec);
    router = std::make_unique<Router>(*profile, index, 1);
  }
  // Of so many decisions, how many each revision got; and no two work together that may not.
  std::map<std::string, int> shares(int decisions) {
    std::map<std::string, int> out;
    for (int i = 0; i < decisions; ++i) {
      const Decision decision = router->decide({}, builder.pool, at_ms(0), {});
      REQUIRE(decision.endpoint != nullptr);
      REQUIRE(decision.prefill != nullptr);
      CHECK(revision_of.at(decision.endpoint->name) == revision_of.at(decision.prefill->name));
      ++out[revision_of.at(decision.endpoint->name)];
    }
    return out;
  }
};

}  // namespace

TEST_CASE("a request is served by one revision, drawn by the servers of the larger role") {
  Rollout rollout;
  rollout.add("old", "prefill", 2);
  rollout.add("old", "decode", 9);
  rollout.add("new", "prefill", 1);
  rollout.add("new", "decode", 1);
  rollout.start("max-role");
  auto shares = rollout.shares(2000);
  CHECK(shares["old"] == doctest::Approx(1800).epsilon(0.05));
  CHECK(shares["new"] == doctest::Approx(200).epsilon(0.3));
  rollout.start("sum");  // 11 against 2
  shares = rollout.shares(2000);
  CHECK(shares["old"] == doctest::Approx(2000 * 11 / 13).epsilon(0.05));
}

TEST_CASE("a revision without a role gets nothing, and neither do servers of another set") {
  Rollout rollout;
  rollout.add("old", "prefill", 1);
  rollout.add("old", "decode", 1);
  rollout.add("new", "decode", 5);
  rollout.add("other", "prefill", 3, "theirs");
  rollout.add("other", "decode", 3, "theirs");
  rollout.start("max-role");
  CHECK(rollout.shares(50) == std::map<std::string, int>{{"old", 50}});
  rollout.add("new", "prefill", 1);
  CHECK(rollout.shares(200)["new"] > 100);
}

TEST_CASE("a decision during a rollout allocates nothing once warm") {
  Rollout rollout;
  for (const char* const revision : {"a revision with a long name", "another one with a long name"}) {
    rollout.add(revision, "prefill", 2);
    rollout.add(revision, "decode", 3);
  }
  for (const char* const mode : {"max-role", "sum"}) {
    rollout.start(mode);
    rollout.shares(20);
    const uint64_t before = penstock::test::allocations();
    for (int i = 0; i < 100; ++i) REQUIRE(rollout.router->decide({}, rollout.builder.pool, at_ms(0), {}).endpoint);
    CHECK(penstock::test::allocations() == before);
  }
}

TEST_CASE("without a complete revision nobody is left, and explanations say who took them away") {
  Rollout rollout;
  rollout.add("old", "prefill", 1);
  rollout.add("new", "decode", 1);
  rollout.start("sum");
  Explanation why;
  CHECK(rollout.router->decide({}, rollout.builder.pool, at_ms(0), {}, &why).why_none == NoEndpoint::filtered);
  REQUIRE(why.excluded.size() == 2);
  CHECK(why.excluded[0].second == "filtered by disaggregatedset-rollout-screener");
}

TEST_CASE("topology: who is as near to the peer as is asked; all when nobody is, or there is no peer") {
  PoolBuilder builder(5);
  label(builder, 0, {{"kubernetes.io/hostname", "h1"}, {"my-rack", "r1"}, {"topology.kubernetes.io/zone", "z1"}});
  label(builder, 1, {{"kubernetes.io/hostname", "h2"}, {"my-rack", "r1"}, {"topology.kubernetes.io/zone", "z1"}});
  label(builder, 2, {{"kubernetes.io/hostname", "h3"}, {"my-rack", "r2"}, {"topology.kubernetes.io/zone", "z1"}});
  label(builder, 3, {{"topology.kubernetes.io/region", "here"}, {"my-rack", ""}});
  const auto near = [&](const std::string& level, size_t peer) {
    return filtered(plugin("topology-affinity-filter", {{"minAffinity", level}, {"rack", std::string("my-rack")}}),
                    builder, &builder.view(peer));
  };
  CHECK(near("host", 0) == "a");
  CHECK(near("rack", 0) == "ab");
  CHECK(near("zone", 0) == "abc");
  CHECK(near("region", 3) == "d");
  CHECK(near("zone", 3) == "abcde");  // nothing is known of its zone, and "" is no rack
  CHECK(near("host", 4) == "abcde");
  CHECK(filtered(plugin("topology-affinity-filter"), builder) == "abcde");
  CHECK(filtered(plugin("topology-affinity-filter"), builder, &builder.view(1)) == "b");

  const auto scorer = make_scorer(plugin("topology-affinity-scorer", {{"rack", std::string("my-rack")}}));
  const Features features;
  Random random(1);
  std::vector<Candidate> all;
  for (const auto& view : builder.pool.endpoints) all.push_back({&view});
  std::vector<double> scores(5, -1);
  Inputs in{.features = features, .now = at_ms(0), .random = random};
  scorer->score(in, all, scores);
  CHECK(scores == std::vector<double>{0, 0, 0, 0, 0});
  in.peer = &builder.view(0);
  scorer->score(in, all, scores);
  CHECK(scores == std::vector<double>{1, 0.2, 0.05, 0, 0});
}

TEST_CASE("a prefill stands near the endpoint that decodes") {
  PoolBuilder builder(6);
  for (size_t i = 0; i < 6; ++i) {
    label(builder, i,
          {{"kubernetes.io/hostname", "h" + std::to_string(i % 3)}, {"llm-d.ai/role", i < 3 ? "decode" : "prefill"}});
  }
  SchedulingSpec spec;
  spec.primary = {"decode", {{plugin("decode-filter")}, {plugin("random-picker")}}};
  spec.prefill = ProfileSpec{"prefill", {{plugin("prefill-filter")}, {plugin("topology-affinity-scorer")}}};
  spec.prefill_rule.when = StageRule::When::always;
  const auto profile = make_profile(spec);
  PrefixIndex index(64);
  Router router(*profile, index, 1);
  for (int i = 0; i < 20; ++i) {
    const Decision decision = router.decide({}, builder.pool, at_ms(0), {});
    REQUIRE(decision.prefill != nullptr);
    CHECK(decision.prefill->slot == decision.endpoint->slot + 3);
  }
}

TEST_CASE("utilization-filter: within all caps; nobody, or all, when nobody is") {
  PoolBuilder builder(4);
  builder.view(0).metrics.waiting = 3;
  builder.view(1).metrics.running = 9;
  builder.view(2).metrics.kv_usage = 0.95;
  builder.state(3).load.requests.store(6);
  builder.view(3).metrics.requests_at_scrape = 6;
  const auto within = [&](Caps caps, bool otherwise_all = false) {
    return filtered(plugin("utilization-filter", {{"conditions", std::move(caps)}, {"fallbackOnEmpty", otherwise_all}}),
                    builder);
  };
  CHECK(within({{"waiting-queue", 2}}) == "bcd");
  CHECK(within({{"waiting-queue", 3}}) == "abcd");
  CHECK(within({{"running-requests", 8}}) == "acd");
  CHECK(within({{"kv-cache-utilization", 0.9}}) == "abd");
  CHECK(within({{"active-requests", 5}}) == "abc");
  CHECK(within({{"active-requests", 5}, {"kv-cache-utilization", 0.9}, {"running-requests", 8}, {"waiting-queue", 2}})
            .empty());
  CHECK(within({{"active-requests", 5}, {"kv-cache-utilization", 0.9}, {"running-requests", 8}, {"waiting-queue", 2}},
               true) == "abcd");
  builder.view(3).metrics.known = false;  // what we have in flight there waits or runs
  CHECK(within({{"waiting-queue", 5}}) == "abc");
  CHECK(within({{"running-requests", 5}}) == "ac");
}
