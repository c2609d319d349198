#include "penstock/routing/router.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>

#include "tests/unit/routing/pool_builder.h"

using namespace penstock;
using namespace penstock::routing;
using namespace penstock::routing::test;
using endpoints::EndpointState;
using endpoints::Readiness;

namespace {

struct Bench {
  PrefixIndex index{1 << 14};
  std::unique_ptr<Profile> profile;
  Router router;

  explicit Bench(Policy policy = Policy::epp_default, uint64_t seed = 1, const RouterOptions& options = {})
      : profile(make_profile(policy)), router(*profile, index, seed, options) {}

  std::map<std::string, int> histogram(const PoolBuilder& builder, int decisions, Instant now = at_ms(0),
                                       const Features& features = {}) {
    std::map<std::string, int> counts;
    for (int i = 0; i < decisions; ++i) {
      const Decision decision = router.decide(features, builder.pool, now, {});
      ++counts[decision.endpoint == nullptr ? "none" : decision.endpoint->name];
    }
    return counts;
  }
};

using Counts = std::map<std::string, int>;

}  // namespace

TEST_CASE("policies have names and profiles") {
  CHECK(policy_names().size() == 5);
  for (const std::string_view name : policy_names()) {
    Policy policy{};
    REQUIRE(parse_policy(name, &policy));
    CHECK(make_profile(policy)->picker != nullptr);
  }
  Policy policy = Policy::random;
  CHECK(make_profile(Policy::epp_default)->chain_hash == ChainHash::xxh64);
  CHECK(make_profile(Policy::expected_cost)->chain_hash == ChainHash::xxh3);
  CHECK(!parse_policy("fastest", &policy));
  CHECK(policy == Policy::random);

  const auto profile = make_profile(Policy::epp_default);
  REQUIRE(profile->scorers.size() == 3);
  CHECK(profile->scorers[0].scorer->type() == "queue-scorer");
  CHECK(profile->scorers[0].weight == 2);
  CHECK(profile->scorers[1].scorer->type() == "kv-cache-utilization-scorer");
  CHECK(profile->scorers[1].weight == 2);
  CHECK(profile->scorers[2].scorer->type() == "prefix-cache-scorer");
  CHECK(profile->scorers[2].weight == 3);
  CHECK(profile->picker->type() == "max-score-picker");
  CHECK(profile->uses_prefix);
}

TEST_CASE("why there is no endpoint") {
  Bench bench;
  PoolBuilder builder;
  const auto why = [&](std::span<EndpointState* const> tried = {}, std::string_view model = "") {
    Features features;
    features.model = model;
    const Decision decision = bench.router.decide(features, builder.pool, at_ms(0), tried);
    CHECK((decision.endpoint == nullptr) == (decision.why_none != NoEndpoint::none));
    return decision.why_none;
  };
  CHECK(why() == NoEndpoint::pool_empty);
  builder.add("a").readiness = Readiness::not_ready;
  builder.add("b").readiness = Readiness::draining;
  CHECK(why() == NoEndpoint::none_ready);
  builder.add("c").models = {"m1", "m2"};
  CHECK(why() == NoEndpoint::none);
  CHECK(why({}, "m2") == NoEndpoint::none);
  CHECK(why({}, "m3") == NoEndpoint::none_ready);
  EndpointState* tried[] = {&builder.state(2)};
  CHECK(why(tried) == NoEndpoint::all_ejected_or_tried);
}

TEST_CASE("only ready endpoints that serve the model, are not ejected and were not tried are candidates") {
  Bench bench;
  PoolBuilder builder(5);
  builder.view(0).readiness = Readiness::not_ready;
  builder.view(1).models = {"other"};
  report_failure(builder.state(2), FailureKind::hard, at_ms(0), {});
  EndpointState* tried[] = {&builder.state(3)};
  Features features;
  features.model = "m";
  for (int i = 0; i < 50; ++i) {
    const Decision decision = bench.router.decide(features, builder.pool, at_ms(1), tried);
    REQUIRE(decision.endpoint == &builder.state(4));
    REQUIRE(decision.candidates == 1);
  }
}

TEST_CASE("of a pool whose endpoints list the same models one is asked for all") {
  Bench bench;
  PoolBuilder builder(2);
  for (size_t i = 0; i < 2; ++i) builder.view(i).models = {"m", "n"};
  builder.pool.models_alike = true;
  Features features;
  features.model = "n";
  CHECK(bench.router.decide(features, builder.pool, at_ms(0), {}).candidates == 2);
  features.model = "other";
  CHECK(bench.router.decide(features, builder.pool, at_ms(0), {}).why_none == NoEndpoint::none_ready);
}

TEST_CASE("a published pool binds its slots once for each version: a new incarnation starts empty") {
  Bench bench;
  PoolBuilder builder(1);
  builder.pool.version = 1;
  const std::vector<uint64_t> chain = hashes(8);
  Features features;
  features.blocks = chain;
  features.block_tokens = 16;
  CHECK(bench.router.decide(features, builder.pool, at_ms(0), {}).matched_blocks == 0);
  bench.index.record(chain, 0);
  CHECK(bench.router.decide(features, builder.pool, at_ms(0), {}).matched_blocks == 8);
  builder.state(0).incarnation = 7;
  builder.pool.version = 2;
  CHECK(bench.router.decide(features, builder.pool, at_ms(0), {}).matched_blocks == 0);
}

TEST_CASE("when no ready endpoint is left, those that drain but still serve or were not probed are used") {
  Bench bench;
  PoolBuilder builder(4);
  for (size_t i = 1; i < 4; ++i) builder.view(i).readiness = Readiness::draining;
  builder.view(1).last_resort = builder.view(2).last_resort = true;
  builder.view(2).models = {"other"};
  Features features;
  features.model = "m";
  CHECK(bench.router.decide(features, builder.pool, at_ms(0), {}).endpoint == &builder.state(0));
  builder.view(0).readiness = Readiness::not_ready;
  Explanation why;
  const Decision decision = bench.router.decide(features, builder.pool, at_ms(0), {}, &why);
  CHECK(decision.endpoint == &builder.state(1));
  CHECK(decision.candidates == 1);
  CHECK(why.excluded.size() == 3);
  EndpointState* tried[] = {&builder.state(1)};
  CHECK(bench.router.decide(features, builder.pool, at_ms(0), tried).endpoint == nullptr);
  builder.view(0).last_resort = true;
  CHECK(bench.router.decide(features, builder.pool, at_ms(0), tried).endpoint == &builder.state(0));
  // A ready one that was tried in vain is no reason to fail while another still serves.
  builder.view(0).readiness = Readiness::ready;
  EndpointState* ready_tried[] = {&builder.state(0)};
  CHECK(bench.router.decide(features, builder.pool, at_ms(0), ready_tried).endpoint == &builder.state(1));
}

TEST_CASE("when all are ejected, those whose ejection ends first are tried again") {
  Bench bench(Policy::random);
  PoolBuilder builder(4);
  report_failure(builder.state(0), FailureKind::hard, at_ms(0), {});
  report_failure(builder.state(1), FailureKind::hard, at_ms(400), {});
  builder.state(2).health.ejected_until_ns = Duration(seconds(60)).count();
  builder.state(3).health.probe_failed = true;
  Counts counts = bench.histogram(builder, 100, at_ms(500));
  CHECK(counts.size() == 2);
  CHECK(counts["a"] > 20);
  CHECK(counts["b"] > 20);

  EndpointState* tried[] = {&builder.state(0), &builder.state(1)};
  CHECK(bench.router.decide({}, builder.pool, at_ms(500), tried).endpoint == &builder.state(2));
  EndpointState* more[] = {&builder.state(0), &builder.state(1), &builder.state(2)};
  CHECK(bench.router.decide({}, builder.pool, at_ms(500), more).endpoint == &builder.state(3));
}

TEST_CASE("an endpoint that comes back gets a share that grows over the slow start") {
  Bench bench(Policy::random);
  PoolBuilder builder(2);
  report_failure(builder.state(0), FailureKind::hard, at_ms(0), {});
  builder.state(0).load.requests = 1;
  CHECK(bench.histogram(builder, 100, at_ms(1000))["a"] == 0);
  const int early = bench.histogram(builder, 4000, at_ms(1000 + 2000))["a"];  // a fifth of a half
  CHECK(early > 280);
  CHECK(early < 520);
  const int late = bench.histogram(builder, 4000, at_ms(1000 + 8000))["a"];  // four fifths of a half
  CHECK(late > 1450);
  CHECK(late < 1750);
  const int back = bench.histogram(builder, 4000, at_ms(1000 + 10'000))["a"];
  CHECK(back > 1850);
  CHECK(back < 2150);
}

TEST_CASE("a reload may change how long the slow start takes") {
  Bench bench(Policy::random);
  PoolBuilder builder(2);
  report_failure(builder.state(0), FailureKind::hard, at_ms(0), {});
  builder.state(0).load.requests = 1;
  bench.router.set_times(seconds(2), seconds(100));
  CHECK(bench.histogram(builder, 4000, at_ms(1000 + 2000))["a"] < 100);
  bench.router.set_times(seconds(2), Duration{0});
  CHECK(bench.histogram(builder, 4000, at_ms(1000 + 2000))["a"] > 1850);
}

TEST_CASE("an endpoint on its way back that has nothing to do gets its full share") {
  Bench bench(Policy::random);
  PoolBuilder builder(2);
  report_failure(builder.state(0), FailureKind::hard, at_ms(0), {});
  const int back = bench.histogram(builder, 4000, at_ms(1000))["a"];
  CHECK(back > 1850);
  CHECK(back < 2150);
}

TEST_CASE("an endpoint on its way back is used when there is no other") {
  Bench bench;
  PoolBuilder builder(1);
  report_failure(builder.state(0), FailureKind::hard, at_ms(0), {});
  CHECK(bench.histogram(builder, 100, at_ms(1001)) == Counts{{"a", 100}});
}

TEST_CASE("the prefix wins over a short queue, not over a full one with a full cache") {
  Bench bench;
  PoolBuilder builder(2);
  std::vector<uint64_t> blocks(100);
  Random random(3);
  for (uint64_t& block : blocks) block = random.next();
  bench.index.bind(1, builder.state(1).incarnation);
  bench.index.record(std::span(blocks).first(80), 1);
  Features features;
  features.blocks = blocks;

  builder.view(1).metrics.waiting = 3;
  Decision decision = bench.router.decide(features, builder.pool, at_ms(0), {});
  CHECK(decision.endpoint == &builder.state(1));
  CHECK(decision.matched_blocks == 80);
  CHECK(decision.score == doctest::Approx(2 * 0 + 2 * 1 + 3 * 0.8));

  builder.view(1).metrics.kv_usage = 0.9;
  decision = bench.router.decide(features, builder.pool, at_ms(0), {});
  CHECK(decision.endpoint == &builder.state(0));
  CHECK(decision.matched_blocks == 0);
  CHECK(decision.score == doctest::Approx(4));
}

TEST_CASE("a restarted endpoint in the same slot has no prefix") {
  Bench bench;
  PoolBuilder builder(1);
  const std::vector<uint64_t> blocks = {11ull << 40, 12ull << 40, 13ull << 40};
  Features features;
  features.blocks = blocks;
  bench.router.decide(features, builder.pool, at_ms(0), {});
  bench.index.record(blocks, 0);
  CHECK(bench.router.decide(features, builder.pool, at_ms(0), {}).matched_blocks == 3);
  ++builder.state(0).incarnation;
  CHECK(bench.router.decide(features, builder.pool, at_ms(0), {}).matched_blocks == 0);
}

TEST_CASE("the engine's cache size bounds what it is believed to hold") {
  Bench bench;
  PoolBuilder builder(1);
  builder.view(0).metrics.kv_blocks = 10;
  builder.view(0).metrics.block_size = 32;
  std::vector<uint64_t> blocks(50);
  Random random(4);
  for (uint64_t& block : blocks) block = random.next();
  Features features;
  features.blocks = blocks;
  features.block_tokens = 16;
  bench.router.decide(features, builder.pool, at_ms(0), {});
  bench.index.record(blocks, 0);
  CHECK(bench.router.decide(features, builder.pool, at_ms(0), {}).matched_blocks == 20);
}

TEST_CASE("100 decisions at once, without a scrape between them, spread evenly over equal endpoints") {
  for (const Policy policy : {Policy::epp_default, Policy::least_load}) {
    Bench bench(policy);
    PoolBuilder builder(5);
    for (auto& view : builder.pool.endpoints) {
      view.metrics.waiting = 2;
      view.metrics.running = 7;
    }
    std::vector<Reservation> reservations;
    for (int i = 0; i < 100; ++i) {
      const Decision decision = bench.router.decide({}, builder.pool, at_ms(0), {});
      REQUIRE(decision.endpoint != nullptr);
      reservations.emplace_back(*decision.endpoint, 100, 100, 100, at_ms(0));
    }
    for (size_t i = 0; i < 5; ++i) CHECK(builder.state(i).load.requests == 20);
  }
}

TEST_CASE("an endpoint that was never scraped does not draw all traffic") {
  Bench bench;
  PoolBuilder builder(4);
  for (auto& view : builder.pool.endpoints) {
    view.metrics.kv_usage = 0.5;
    view.metrics.requests_at_scrape = 0;
  }
  builder.view(0).metrics = {};
  std::vector<Reservation> reservations;
  for (int i = 0; i < 100; ++i) {
    reservations.emplace_back(*bench.router.decide({}, builder.pool, at_ms(0), {}).endpoint, 0, 0, 0, at_ms(0));
  }
  CHECK(builder.state(0).load.requests == 25);
}

TEST_CASE("ties are broken at random, each endpoint as often") {
  Bench bench;
  const PoolBuilder builder(4);
  const Counts counts = bench.histogram(builder, 4000);
  CHECK(counts.size() == 4);
  for (const auto& [name, count] : counts) {
    CHECK(count > 850);
    CHECK(count < 1150);
  }
}

TEST_CASE("random chooses each as often, round-robin each in turn") {
  const PoolBuilder builder(4);
  Bench random(Policy::random);
  for (const auto& [name, count] : random.histogram(builder, 4000)) CHECK(std::abs(count - 1000) < 150);
  Bench round_robin(Policy::round_robin);
  CHECK(round_robin.histogram(builder, 40) == Counts{{"a", 10}, {"b", 10}, {"c", 10}, {"d", 10}});
}

TEST_CASE("round-robin goes on in order when an endpoint drops out, and shards share the turn") {
  PoolBuilder builder(3);
  Bench bench(Policy::round_robin);
  Router second(*bench.profile, bench.index, 2);
  std::string order;
  for (int i = 0; i < 4; ++i) {
    order += bench.router.decide({}, builder.pool, at_ms(0), {}).endpoint->name;
    order += second.decide({}, builder.pool, at_ms(0), {}).endpoint->name;
  }
  CHECK(order == "abcabcab");
  builder.view(2).readiness = Readiness::not_ready;
  order.clear();
  for (int i = 0; i < 4; ++i) order += bench.router.decide({}, builder.pool, at_ms(0), {}).endpoint->name;
  CHECK(order == "abab");
}

TEST_CASE("the same seed and inputs decide the same") {
  const PoolBuilder builder(6);
  Bench a(Policy::random, 77), b(Policy::random, 77);
  for (int i = 0; i < 200; ++i) {
    REQUIRE(a.router.decide({}, builder.pool, at_ms(0), {}).endpoint ==
            b.router.decide({}, builder.pool, at_ms(0), {}).endpoint);
  }
}

TEST_CASE("filters and scorers of a profile apply, and a filter that leaves nothing means no endpoint") {
  struct OnlyNamed final : Filter {
    std::string name;
    std::string_view type() const override { return "only-named"; }
    void filter(const Inputs&, std::vector<Candidate>& candidates) const override {
      std::erase_if(candidates, [this](const Candidate& c) { return c.endpoint->state->name != name; });
    }
  };
  struct Wild final : Scorer {
    std::string_view type() const override { return "wild"; }
    void score(const Inputs&, std::span<const Candidate>, std::span<double> scores) const override {
      for (double& score : scores) score = 100;
    }
  };
  Profile profile;
  auto filter = std::make_unique<OnlyNamed>();
  OnlyNamed& only = *filter;
  profile.filters.push_back(std::move(filter));
  profile.scorers.push_back({std::make_unique<Wild>(), 0.5});
  profile.picker = make_picker(Pick::max_score);
  PrefixIndex index(64);
  Router router(profile, index, 1);
  const PoolBuilder builder(3);
  only.name = "c";
  const Decision decision = router.decide({}, builder.pool, at_ms(0), {});
  CHECK(decision.endpoint->name == "c");
  CHECK(decision.score == 0.5);  // scores are cut to [0, 1]
  only.name = "x";
  CHECK(router.decide({}, builder.pool, at_ms(0), {}).why_none == NoEndpoint::filtered);
}

TEST_CASE("a shadow of the same policy always agrees, and no shadow changes what is decided") {
  for (const std::string_view name : policy_names()) {
    CAPTURE(name);
    Policy policy{};
    REQUIRE(parse_policy(name, &policy));
    const auto same = make_profile(policy);
    const auto cost = make_profile(Policy::expected_cost);
    Bench plain(policy), with_same(policy, 1, {.shadow = same.get()}), with_cost(policy, 1, {.shadow = cost.get()});
    PoolBuilder builder(6);
    for (size_t i = 0; i < 6; ++i) builder.view(i).metrics.waiting = static_cast<double>(i % 3);
    for (int i = 0; i < 200; ++i) {
      const Decision decision = plain.router.decide({}, builder.pool, at_ms(0), {});
      CHECK_FALSE(decision.shadow.has_value());
      const Decision agreed = with_same.router.decide({}, builder.pool, at_ms(0), {});
      CHECK(agreed.endpoint == decision.endpoint);
      REQUIRE(agreed.shadow.has_value());
      if (policy != Policy::round_robin) CHECK(agreed.shadow->agrees);  // it has its own turn
      CHECK(with_cost.router.decide({}, builder.pool, at_ms(0), {}).endpoint == decision.endpoint);
    }
  }
}

TEST_CASE("where a shadow differs, what it would gain is the difference of the expected costs") {
  PoolBuilder builder(2);
  for (EndpointState& state : builder.states) measured_prefills(state, 10, 1000, 1);
  builder.state(0).load.requests = 1;
  builder.state(0).load.prefill_tokens = 5000;  // five seconds at 1 ms each
  builder.state(1).load.requests = 2;
  Features features;
  features.prompt_tokens = 100;
  const auto cost = make_profile(Policy::expected_cost), least = make_profile(Policy::least_load);
  Bench obeys_least(Policy::least_load, 1, {.shadow = cost.get()});
  const Decision decision = obeys_least.router.decide(features, builder.pool, at_ms(0), {});
  CHECK(decision.endpoint == &builder.state(0));
  REQUIRE(decision.shadow.has_value());
  CHECK(decision.shadow->endpoint == &builder.state(1));
  CHECK_FALSE(decision.shadow->agrees);
  CHECK(decision.shadow->gain_seconds == doctest::Approx(5));
  Bench obeys_cost(Policy::expected_cost, 1, {.shadow = least.get()});
  Explanation why;
  CHECK(obeys_cost.router.decide(features, builder.pool, at_ms(0), {}, &why).shadow->gain_seconds ==
        doctest::Approx(-5));
  CHECK(why.shadow == "a");
  CHECK(why.shadow_gain_seconds == doctest::Approx(-5));
  CHECK(why.to_header().find("shadow: a gain_s=-5") != std::string::npos);
}
