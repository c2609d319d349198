// The plugins that look at predicted latencies, and the predictions.
#include "src/routing/latency.h"

#include <doctest/doctest.h>

#include "penstock/epp/scheduling.h"
#include "src/routing/expected_cost.h"
#include "tests/unit/epp/plugin_spec.h"
#include "tests/unit/routing/pool_builder.h"

using namespace penstock;
using namespace penstock::routing;
using namespace penstock::routing::test;
using namespace penstock::epp;
using namespace penstock::epp::test;

namespace {

struct Bench {
  PoolBuilder builder;
  std::vector<Candidate> candidates;
  std::vector<uint64_t> blocks = std::vector<uint64_t>(10, 1);
  Features features;
  Random random{1};
  PredictionSpec prediction{.streaming = true};

  explicit Bench(size_t count) : builder(count) {
    for (size_t i = 0; i < count; ++i) {
      builder.state(i).load.requests = 1;
      builder.view(i).metrics.requests_at_scrape = 1;
      candidates.push_back({&builder.view(i)});
    }
    features.blocks = blocks;
    features.prompt_tokens = 160;
  }
  Inputs in() { return {features, at_ms(0), random}; }
  // In milliseconds.
  void expect(size_t i, double first_token, double per_token) {
    candidates[i].predicted = {.known = true,
                               .first_token = first_token / 1000,
                               .per_token = per_token / 1000,
                               .whole = (first_token + 100 * per_token) / 1000};
  }
  void ask(double first_token, double per_token) {
    features.slo_ttft_ms = first_token;
    features.slo_tpot_ms = per_token;
  }
  Scores score(const PluginSpec& spec) {
    Scores scores(candidates.size(), -7);
    make_scorer(spec, {.prediction = prediction})->score(in(), candidates, scores);
    return scores;
  }
  Names filter(const PluginSpec& spec) {
    std::vector<Candidate> left = candidates;
    make_filter(spec, {.prediction = prediction})->filter(in(), left);
    Names names;
    for (const Candidate& candidate : left) names.push_back(candidate.endpoint->state->name);
    return names;
  }
  NoEndpoint refusal(std::string_view type = "latency-slo-admitter") {
    return make_admitter(plugin(type), {.prediction = prediction})->refusal(in(), candidates);
  }
  // How often each candidate is chosen in 1,000 times.
  std::vector<int> choices(const PluginSpec& spec) {
    std::vector<int> out(candidates.size());
    for (int i = 0; i < 1000; ++i) {
      const Scores scores = score(spec);
      for (size_t c = 0; c < out.size(); ++c) out[c] += scores[c] == 1 ? 1 : 0;
    }
    return out;
  }
};

}  // namespace

TEST_CASE("headroom: what is asked less what is predicted; what is not asked constrains nothing") {
  Bench bench(1);
  bench.expect(0, 200, 20);
  const auto headroom = [&] {
    const PredictionSpec& said = bench.prediction;
    return headroom_of(bench.in(), bench.candidates[0], {said.streaming, said.pace_factor, said.role_label});
  };
  bench.ask(500, 30);
  CHECK(headroom().first_token == doctest::Approx(0.3));
  CHECK(headroom().pace == doctest::Approx(0.01));
  bench.ask(0, 15);
  CHECK(headroom().first_token == 0);
  CHECK(headroom().pace == doctest::Approx(-0.005));
  CHECK_FALSE(headroom().positive());
  bench.prediction.pace_factor = 2;
  CHECK(headroom().pace == doctest::Approx(0.01));
  bench.ask(0, 0);
  CHECK(headroom().first_token == doctest::Approx(-0.2));
  CHECK(headroom().pace == doctest::Approx(-0.02));
  // Without streaming the whole answer counts, against the limit of the first token, and the pace does not.
  bench.prediction = {};
  bench.ask(2500, 1);
  CHECK(headroom().first_token == doctest::Approx(0.3));
  CHECK(headroom().pace == 0);
  // Nor does it where only prompts are computed.
  bench.prediction = {.streaming = true, .role_label = "role"};
  bench.builder.view(0).labels = std::make_shared<objects::Labels>(objects::Labels{{"role", "prefill"}});
  bench.ask(500, 1);
  CHECK(headroom().pace == 0);
}

TEST_CASE("latency-scorer: the least headroom of those that have any, or the most") {
  Bench bench(4);
  bench.ask(200, 0);
  bench.expect(0, 80, 1);
  bench.expect(1, 150, 1);
  bench.expect(2, 180, 1);
  bench.expect(3, 300, 1);  // too slow
  // Headroom 120, 50, 20 ms.
  CHECK(bench.score(plugin("latency-scorer")) == Scores{0.01, 0.71, 1, 0});
  CHECK(bench.score(plugin("latency-scorer", {{"headroomSelectionStrategy", "most"}})) == Scores{1, 0.31, 0.01, 0});
}

TEST_CASE("latency-scorer: of those that are too slow idle ones, then those that miss the pace alone") {
  Bench bench(4);
  bench.ask(100, 10);
  bench.expect(0, 150, 5);   // misses the first token
  bench.expect(1, 50, 20);   // the pace
  bench.expect(2, 50, 40);   // the pace, by more
  bench.expect(3, 300, 50);  // both
  CHECK(bench.score(plugin("latency-scorer")) == Scores{0, 1, 0.01, 0});
  bench.builder.state(3).load.requests = 0;
  CHECK(bench.score(plugin("latency-scorer")) == Scores{0, 0, 0, 0.51});  // the only one
  bench.builder.state(3).load.requests = 1;
  bench.ask(0, 0);  // then the fastest, by 0.8 and 0.2 of the first token and the pace
  const Scores scores = bench.score(plugin("latency-scorer"));
  CHECK(scores[1] > scores[0]);
  CHECK(scores[1] > scores[2]);
  CHECK(scores[3] == 0.01);
  const Scores by_pace = bench.score(plugin("latency-scorer", {{"ttftWeight", 0.0}, {"tpotWeight", 1.0}}));
  CHECK(by_pace[0] == 1);
  CHECK(by_pace[3] == 0.01);
}

TEST_CASE("latency-scorer: while nothing is predicted, KV cache, queue and cached share") {
  Bench bench(2);
  bench.builder.view(0).metrics.kv_usage = 0.4;
  bench.builder.view(0).metrics.waiting = 2;
  bench.candidates[0].matched_blocks = 10;
  CHECK(bench.score(plugin("latency-scorer")) == Scores{0.53, 0.67});
  const Parameters prefix = {{"compositeKVWeight", 0.0}, {"compositeQueueWeight", 0.0}};
  CHECK(bench.score(plugin("latency-scorer", prefix)) == Scores{1, 0});
  bench.expect(0, 100, 1);
  bench.expect(1, 10, 1);
  CHECK(bench.score(plugin("latency-scorer", {{"headroomSelectionStrategy", "composite-only"}})) == Scores{0.53, 0.67});
}

TEST_CASE("slo-headroom-tier-filter: those with headroom, and now and then the others") {
  Bench bench(3);
  const PluginSpec never = plugin("slo-headroom-tier-filter", {{"epsilonExploreNeg", 0.0}});
  bench.ask(100, 0);
  CHECK(bench.filter(never) == Names{"a", "b", "c"});  // nothing is predicted
  bench.expect(0, 50, 1);
  bench.expect(1, 150, 1);
  bench.expect(2, 99, 1);
  CHECK(bench.filter(never) == Names{"a", "c"});
  CHECK(bench.filter(plugin("slo-headroom-tier-filter", {{"epsilonExploreNeg", 1.0}})) == Names{"b"});
  bench.ask(10, 0);
  CHECK(bench.filter(never) == Names{"a", "b", "c"});
  bench.ask(1000, 0);
  CHECK(bench.filter(plugin("slo-headroom-tier-filter", {{"epsilonExploreNeg", 1.0}})) == Names{"a", "b", "c"});
}

TEST_CASE("prefix-cache-affinity-filter by predictions: sticks until the answer would come so much later") {
  Bench bench(2);
  bench.candidates[0].matched_blocks = 9;
  bench.expect(0, 4000, 1);
  bench.expect(1, 500, 1);
  const auto by = [&](double limit) {
    return bench.filter(
        plugin("prefix-cache-affinity-filter", {{"ttftSource", "latencyPredictor"}, {"maxTTFTPenaltyMs", limit}}));
  };
  CHECK(by(4000) == Names{"a"});
  CHECK(by(3000) == Names{"a", "b"});
  // While nothing is predicted the tokens that wait count, at the pace of the endpoint.
  for (Candidate& candidate : bench.candidates) candidate.predicted = {};
  CHECK(by(3000) == Names{"a"});
  measured_prefills(bench.builder.state(0), 10, 1000, 1);
  bench.builder.state(0).load.prefill_tokens = 1'000'000;
  CHECK(by(3000) == Names{"a", "b"});
}

TEST_CASE("latency-slo-admitter: refuses what is sheddable when nobody can be as fast, busy and warm as they are") {
  Bench bench(2);
  bench.builder.view(0).metrics.kv_usage = bench.builder.view(1).metrics.kv_usage = 0.5;
  bench.ask(100, 0);
  bench.features.priority = -1;
  CHECK(bench.refusal() == NoEndpoint::none);  // nothing is predicted
  bench.expect(0, 150, 1);
  bench.expect(1, 200, 1);
  CHECK(bench.refusal() == NoEndpoint::too_slow);
  CHECK(bench.refusal("predicted-latency-scorer") == NoEndpoint::too_slow);
  bench.features.priority = 0;
  CHECK(bench.refusal() == NoEndpoint::none);
  bench.features.priority = -1;
  bench.ask(0, 0);
  CHECK(bench.refusal() == NoEndpoint::none);  // asks for nothing
  bench.ask(170, 0);
  CHECK(bench.refusal() == NoEndpoint::none);  // the first is that fast
  bench.ask(100, 0);
  bench.builder.view(1).metrics.kv_usage = 0.01;
  CHECK(bench.refusal() == NoEndpoint::none);  // the second is cold
  bench.builder.view(1).metrics.kv_usage = 0.5;
  bench.builder.state(1).load.requests = 0;
  CHECK(bench.refusal() == NoEndpoint::none);  // or idle
}

TEST_CASE("predicted-latency-scorer: one choice, by chance among those with headroom") {
  Bench bench(3);
  const auto with = [](Parameters parameters) {
    parameters.emplace_back("epsilonExploreNeg", 0.0);
    parameters.emplace_back("epsilonExploreSticky", 0.0);
    return plugin("predicted-latency-scorer", std::move(parameters));
  };
  bench.ask(200, 10);
  bench.expect(0, 100, 5);
  bench.expect(1, 190, 5);
  bench.expect(2, 400, 5);
  const std::vector<int> least = bench.choices(with({}));
  CHECK(least[0] + least[1] == 1000);
  CHECK(least[1] > 600);  // weights 21 and 100: the pace is the same for both
  CHECK(least[0] > 50);
  const std::vector<int> most = bench.choices(with({{"headroomSelectionStrategy", "most"}}));
  CHECK(most[0] > 900);
  CHECK(bench.choices(with({{"selectionMode", "max"}})) == std::vector<int>{0, 1000, 0});
  const std::vector<int> exploring = bench.choices(plugin("predicted-latency-scorer", {{"epsilonExploreNeg", 1.0}}));
  CHECK(exploring == std::vector<int>{0, 0, 1000});
}

TEST_CASE("predicted-latency-scorer: holders of the prompt first, idle ones where nobody is fast enough") {
  Bench bench(3);
  const PluginSpec spec =
      plugin("predicted-latency-scorer", {{"epsilonExploreNeg", 0.0}, {"epsilonExploreSticky", 0.0}});
  bench.ask(100, 10);
  for (size_t i = 0; i < 3; ++i) bench.expect(i, 200 + 100.0 * static_cast<double>(i), 20);
  const std::vector<int> busy = bench.choices(spec);
  CHECK(busy[0] > busy[1]);
  CHECK(busy[1] > busy[2]);
  bench.builder.state(2).load.requests = 0;
  CHECK(bench.choices(spec) == std::vector<int>{0, 0, 1000});
  bench.candidates[1].matched_blocks = 10;
  CHECK(bench.choices(spec) == std::vector<int>{0, 1000, 0});
}

TEST_CASE("predicted-latency-scorer: while nothing is predicted, by KV cache, queue and cached share") {
  Bench bench(2);
  bench.candidates[0].matched_blocks = 10;
  const Parameters prefix = {{"compositeKVWeight", 0.0}, {"compositeQueueWeight", 0.0}};
  CHECK(bench.choices(plugin("predicted-latency-scorer", prefix))[0] > 970);  // weights 100 and 1
}

TEST_CASE("predictions: the queue and the own prefill, then the pace of the pool at what is held") {
  Bench bench(2);
  bench.features.max_tokens = 100;
  predict(bench.in(), bench.candidates);
  CHECK_FALSE(bench.candidates[0].predicted.known);
  CHECK(bench.candidates[0].predicted.per_token == 0);
  for (size_t i = 0; i < 2; ++i) {
    endpoints::EndpointState& state = bench.builder.state(i);
    measured_prefills(state, 100, 1000, 0.1);
    // 20 answers at 10 ms a token.
    state.pace.decodes = state.pace.answers = 20;
    state.pace.decode_y = 0.2;
    state.pace.output_tokens = 2000;
  }
  endpoints::LoadCounters& load = bench.builder.state(1).load;
  load.prefill_tokens = 5000;
  predict(bench.in(), bench.candidates);
  const Prediction &idle = bench.candidates[0].predicted, &busy = bench.candidates[1].predicted;
  CHECK(idle.known);
  CHECK(idle.first_token == doctest::Approx(0.016));
  CHECK(busy.first_token == doctest::Approx(0.516));
  CHECK(idle.per_token == doctest::Approx(0.01));
  CHECK(idle.whole == doctest::Approx(1.016));
  // An endpoint whose answers are slower than the others' is expected to go on so.
  bench.builder.state(1).pace.decode_y = 0.6;
  predict(bench.in(), bench.candidates);
  CHECK(busy.per_token > 1.3 * idle.per_token);
}

TEST_CASE("a policy that does without predictions sees none of those that the other one makes") {
  PoolBuilder builder(2);
  for (endpoints::EndpointState& state : builder.states) measured_prefills(state, 10, 1000, 1);
  // By predictions the second, which has no prompt waiting; without them the first, whose KV cache is free.
  builder.state(0).load.prefill_tokens = 5000;
  builder.view(1).metrics.kv_usage = 0.9;
  for (size_t i = 0; i < 2; ++i) {
    builder.state(i).load.requests = 1;
    builder.view(i).metrics.requests_at_scrape = 1;
  }
  SchedulingSpec spec;
  spec.prediction = PredictionSpec{.streaming = true};
  spec.primary.plugins.push_back({plugin("latency-scorer", {{"compositePrefixWeight", 0.0}})});
  const std::unique_ptr<Profile> with = make_profile(spec);
  spec.prediction->made = false;
  const std::unique_ptr<Profile> without = make_profile(spec);
  REQUIRE(with->predicts);
  REQUIRE_FALSE(without->predicts);
  PrefixIndex index(1024);
  Features features;
  features.prompt_tokens = 1000;
  const auto decide = [&](const Profile& obeyed, const Profile* shadow) {
    return Router(obeyed, index, 1, {.shadow = shadow}).decide(features, builder.pool, at_ms(0), {});
  };
  CHECK(decide(*with, nullptr).endpoint == &builder.state(1));
  CHECK(decide(*without, nullptr).endpoint == &builder.state(0));
  const Decision predicted = decide(*with, without.get()), plain = decide(*without, with.get());
  CHECK(predicted.endpoint == &builder.state(1));
  CHECK(predicted.predicted.known);
  CHECK(predicted.shadow.value().endpoint == &builder.state(0));
  CHECK(plain.endpoint == &builder.state(0));
  CHECK_FALSE(plain.predicted.known);
  CHECK(plain.shadow.value().endpoint == &builder.state(1));
}

TEST_CASE("a profile that predicts says of the chosen what it expects, and its admitters refuse before") {
  PoolBuilder builder(2);
  for (size_t i = 0; i < 2; ++i) {
    measured_prefills(builder.state(i), 10, 1000, 1);
    builder.state(i).load.requests = 1;
    builder.view(i).metrics.kv_usage = 0.5;
  }
  SchedulingSpec spec;
  spec.prediction = PredictionSpec{.streaming = true};
  spec.primary.plugins.push_back({plugin("latency-scorer")});
  spec.admitters.push_back(plugin("latency-slo-admitter"));
  const std::unique_ptr<Profile> profile = make_profile(spec);
  CHECK(profile->predicts);
  PrefixIndex index(1024);
  Router router(*profile, index, 1);
  Features features;
  features.prompt_tokens = 1000;
  Explanation why;
  const Decision decision = router.decide(features, builder.pool, at_ms(0), {}, &why);
  REQUIRE(decision.endpoint != nullptr);
  CHECK(decision.predicted.known);
  CHECK(decision.predicted.first_token > 0.5);
  CHECK(why.terms == Names{"first_token_s", "per_token_s", "whole_s"});
  features.slo_ttft_ms = 100;
  features.priority = -1;
  const Decision refused = router.decide(features, builder.pool, at_ms(0), {});
  CHECK(refused.endpoint == nullptr);
  CHECK(refused.why_none == NoEndpoint::too_slow);
  // Who has been admitted is not asked again.
  endpoints::EndpointState* const tried[] = {&builder.state(0)};
  CHECK(router.decide(features, builder.pool, at_ms(0), tried).endpoint == &builder.state(1));
  // Where another endpoint computes the prompt, the first token is expected of that one.
  features.priority = 0;
  SchedulingSpec split = spec;
  split.prefill = spec.primary;
  split.prefill_rule.when = StageRule::When::always;
  builder.state(0).load.prefill_tokens = 50'000;
  const std::unique_ptr<Profile> stages = make_profile(split);
  Router splitting(*stages, index, 1);
  const Decision both = splitting.decide(features, builder.pool, at_ms(0), {});
  REQUIRE(both.prefill == &builder.state(1));
  CHECK(both.predicted.first_token < 10);
  endpoints::EndpointState* const only_busy[] = {&builder.state(1)};
  CHECK(splitting.decide(features, builder.pool, at_ms(0), only_busy).predicted.first_token < 10);
  builder.state(0).load.prefill_tokens = 0;
  // No predictions, no refusal.
  spec.prediction->made = false;
  const std::unique_ptr<Profile> without = make_profile(spec);
  CHECK_FALSE(without->predicts);
  CHECK(Router(*without, index, 1).decide(features, builder.pool, at_ms(0), {}).endpoint != nullptr);
}
