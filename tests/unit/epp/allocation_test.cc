// The hot path allocates nothing once warm.
#include <doctest/doctest.h>

#include "penstock/epp/scheduling.h"
#include "penstock/routing/prefix_hash.h"
#include "penstock/routing/router.h"
#include "tests/support/allocations.h"
#include "tests/unit/epp/plugin_spec.h"
#include "tests/unit/routing/pool_builder.h"

using namespace penstock;
using namespace penstock::routing;
using namespace penstock::routing::test;
using namespace penstock::epp;
using namespace penstock::epp::test;

namespace {

// Every plugin that runs in a profile, in three profiles; filters that keep everybody.
std::unique_ptr<Profile> profile_of_all_plugins() {
  SchedulingSpec spec;
  spec.primary.plugins.clear();
  for (const PluginInfo& info : plugin_types()) {
    if (!runs_in_profile(info.kind) || info.kind == PluginKind::picker || info.type == "prefill-filter" ||
        info.type == "encode-filter") {
      continue;
    }
    PluginSpec one = plugin(info.type);
    if (info.type == "by-label") one.parameters = {{"label", "role"}, {"allowsNoLabel", true}};
    if (info.type == "active-request-filter") one.parameters = {{"maxRequests", 1e9}};
    if (info.type == "context-length-aware") one.parameters = {{"enableFiltering", true}};
    spec.primary.plugins.push_back({one, 0.5});
  }
  const auto picker = [](std::string_view type) {
    return ProfileSpec::Use{plugin(type, {{"maxNumOfEndpoints", 3.0}})};
  };
  spec.primary.plugins.push_back(picker("max-score-picker"));
  spec.prefill = ProfileSpec{"prefill", {picker("weighted-random-picker")}};
  spec.encode = ProfileSpec{"encode", {picker("random-picker")}};
  spec.prefill_rule.when = spec.encode_rule.when = StageRule::When::always;
  return make_profile(spec);
}

}  // namespace

TEST_CASE("hashing, deciding, reserving, recording and reporting allocate nothing once warm") {
  std::vector<std::string_view> names(policy_names().begin(), policy_names().end());
  names.push_back("all plugins");
  for (const std::string_view name : names) {
    CAPTURE(name);
    Policy policy{};
    REQUIRE(parse_policy(name, &policy) == (name != "all plugins"));
    const auto profile = name == "all plugins" ? profile_of_all_plugins() : make_profile(policy);
    PrefixIndex index(1 << 14);
    // With a shadow too: it decides on the hot path when there is one.
    const auto shadow = make_profile(Policy::expected_cost);
    Router router(*profile, index, 1, {.shadow = shadow.get()});
    TokenEstimator estimator;
    PoolBuilder builder(20);
    for (auto& state : builder.states) state.address = "10.0.0.1:8000";
    const std::string prompt(10'000, 'x');
    const std::string_view pieces[] = {prompt};
    std::vector<uint64_t> chain;
    const auto one_request = [&] {
      hash_prompt("model", "salt", pieces, {}, chain);
      Features features;
      features.model = "model";
      features.blocks = chain;
      features.prompt_tokens = estimator.estimate("model", prompt.size());
      features.session = "Yg==";
      features.media = std::span(chain).first(3);
      features.test_endpoints = "10.0.0.1, [::1]:80, 10.0.0.2:8000";
      const Decision decision = router.decide(features, builder.pool, at_ms(1), {});
      Reservation reservation(*decision.endpoint, 1, features.prompt_tokens, 1, at_ms(1));
      router.picked(features, decision, at_ms(1));
      index.record(chain, decision.endpoint->slot);
      reservation.first_token(at_ms(50));
      estimator.learn("model", prompt.size(), 2000);
      report_success(*decision.endpoint, at_ms(2), {});
    };
    one_request();
    const uint64_t before = penstock::test::allocations();
    for (int i = 0; i < 100; ++i) one_request();
    CHECK(penstock::test::allocations() == before);
  }
}
