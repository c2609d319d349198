#include "penstock/epp/scheduling.h"

#include <doctest/doctest.h>

#include <map>

#include "penstock/routing/session_token.h"
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
  Features features;
  std::vector<uint32_t> matched;
  Random random{1};
  explicit Bench(size_t count) : builder(count) {}

  std::vector<Candidate> candidates() const {
    std::vector<Candidate> out;
    for (const auto& view : builder.pool.endpoints) out.push_back({&view});
    for (size_t i = 0; i < matched.size(); ++i) out[i].matched_blocks = matched[i];
    return out;
  }
  Scores score(const Scorer& scorer) {
    const auto all = candidates();
    Scores scores(all.size(), -7);
    scorer.score({features, at_ms(0), random}, all, scores);
    return scores;
  }
  Scores score(const PluginSpec& spec) {
    const auto scorer = make_scorer(spec);
    REQUIRE(scorer != nullptr);
    CHECK(scorer->type() == spec.info->type);
    return score(*scorer);
  }
  // Who is left, with the order that the filter gave.
  Names filter(const PluginSpec& spec, std::map<std::string, uint32_t>* order = nullptr) {
    const auto filter = make_filter(spec);
    REQUIRE(filter != nullptr);
    CHECK(filter->type() == spec.info->type);
    auto left = candidates();
    filter->filter({features, at_ms(0), random}, left);
    Names names;
    for (const Candidate& candidate : left) {
      names.push_back(candidate.endpoint->state->name);
      if (order != nullptr) (*order)[names.back()] = candidate.order;
    }
    return names;
  }
  void pick(const Scorer& scorer, size_t i, bool cold) {
    Decision decision;
    decision.endpoint = &builder.state(i);
    decision.cold = cold;
    scorer.picked(features, decision, at_ms(0));
  }
  void label(size_t i, std::string key, std::string value) {
    builder.view(i).labels = std::make_shared<objects::Labels>(objects::Labels{{std::move(key), std::move(value)}});
  }
};

}  // namespace

TEST_CASE("every plugin that runs in a profile can be made, and says which it is; aliases lead to their types") {
  for (const PluginInfo& info : plugin_types()) {
    CAPTURE(info.type);
    CHECK(find_plugin_type(info.type) == &info);
    CHECK(!to_string(info.kind).empty());
    if (!runs_in_profile(info.kind) || info.kind == PluginKind::picker) continue;
    const PluginSpec spec = plugin(info.type, {{"enableFiltering", true}});
    const bool scores = info.kind == PluginKind::scorer || info.kind == PluginKind::scorer_and_filter;
    CHECK((make_scorer(spec) != nullptr) == scores);
    CHECK((make_filter(spec) != nullptr) == (info.kind != PluginKind::scorer));
  }
  CHECK(find_plugin_type("kv-cache-scorer") == find_plugin_type("kv-cache-utilization-scorer"));
  CHECK(find_plugin_type("prefill-header-handler") == find_plugin_type("disagg-headers-handler"));
  CHECK(find_plugin_type("label-selector-filter") == find_plugin_type("by-label-selector"));
  CHECK(find_plugin_type("queue") == nullptr);
}

TEST_CASE("load-aware-scorer: 0.5 without a queue, 0 from the threshold on") {
  Bench bench(4);
  bench.builder.view(1).metrics.waiting = 32;
  bench.builder.view(2).metrics.waiting = 128;
  bench.builder.view(3).metrics.waiting = 500;
  CHECK(bench.score(plugin("load-aware-scorer")) == Scores{0.5, 0.375, 0, 0});
  CHECK(bench.score(plugin("load-aware-scorer", {{"threshold", 64.0}})) == Scores{0.5, 0.25, 0, 0});
}

TEST_CASE(
    "prefix-cache-scorer: with matchLengthWeight a long match counts more than the same share of a short prompt") {
  Bench bench(3);
  const std::vector<uint64_t> blocks(100);
  bench.features.blocks = blocks;
  bench.features.block_tokens = 16;
  bench.matched = {50, 100, 0};
  CHECK(bench.score(plugin("prefix-cache-scorer")) == Scores{0.5, 1, 0});
  CHECK(bench.score(plugin("prefix-cache-scorer", {{"matchLengthScaleTokens", 1600.0}})) == Scores{0.5, 1, 0});
  const std::pair<std::string, epp::ParameterValue> half = {"matchLengthWeight", 0.5};
  CHECK(bench.score(plugin("prefix-cache-scorer", {half, {"matchLengthScaleTokens", 1600.0}})) ==
        Scores{0.5 * 0.25 + 0.5 * 0.5, 1, 0});
  CHECK(bench.score(plugin("prefix-cache-scorer", {half, {"matchLengthScaleTokens", 800.0}})) == Scores{0.75, 1, 0});
}

TEST_CASE("expected-cost-scorer: what decides until something is learnt") {
  Bench bench(2);
  bench.features.prompt_tokens = 160;
  bench.matched = {10, 0};
  bench.builder.state(0).load.prefill_tokens = 100'000;
  CHECK(bench.score(plugin("expected-cost-scorer")) == Scores{0, 1});
  CHECK(bench.score(plugin("expected-cost-scorer", {{"coldStart", "defaults"}})) == Scores{0, 1});
  CHECK(bench.score(plugin("expected-cost-scorer", {{"coldStart", "token-rule"}})) == Scores{1, 0});
  for (auto& view : bench.builder.pool.endpoints) view.metrics.known = false;
  CHECK(bench.score(plugin("expected-cost-scorer")) == Scores{1, 0});
  CHECK(bench.score(plugin("expected-cost-scorer", {{"coldStart", "assumed-pace"}})) == Scores{0, 1});
}

TEST_CASE("active-request-scorer: idle 1, busy by share of the busiest") {
  Bench bench(3);
  CHECK(bench.score(plugin("active-request-scorer")) == Scores{1, 1, 1});
  bench.builder.state(1).load.requests = 1;
  bench.builder.state(2).load.requests = 4;
  CHECK(bench.score(plugin("active-request-scorer")) == Scores{1, 0.75, 0});
  CHECK(bench.score(plugin("active-request-scorer", {{"idleThreshold", 1.0}})) == Scores{1, 1, 0});
  CHECK(bench.score(plugin("active-request-scorer", {{"maxBusyScore", 0.5}})) == Scores{1, 0.375, 0});
}

TEST_CASE("token-load-scorer: tokens in flight against the threshold") {
  Bench bench(3);
  bench.builder.state(1).load.kv_tokens = 250;
  bench.builder.state(2).load.kv_tokens = 2000;
  CHECK(bench.score(plugin("token-load-scorer", {{"queueThresholdTokens", 1000.0}})) == Scores{1, 0.75, 0});
}

TEST_CASE("session-affinity-scorer: the endpoint whose token the request brings") {
  Bench bench(3);
  CHECK(bench.score(plugin("session-affinity-scorer")) == Scores{0, 0, 0});
  std::string token;
  append_session_token(token, "b");
  CHECK(token == "Yg==");
  bench.features.session = token;
  CHECK(bench.score(plugin("session-affinity-scorer")) == Scores{0, 1, 0});
  bench.features.session = "anything else";
  CHECK(bench.score(plugin("session-affinity-scorer")) == Scores{0, 0, 0});
}

TEST_CASE("session-affinity-filter: that endpoint alone, or all when it is not among them") {
  Bench bench(3);
  CHECK(bench.filter(plugin("session-affinity-filter")) == Names{"a", "b", "c"});
  std::string token;
  append_session_token(token, "b");
  bench.features.session = token;
  CHECK(bench.filter(plugin("session-affinity-filter")) == Names{"b"});
  bench.features.session = "anything else";
  CHECK(bench.filter(plugin("session-affinity-filter")) == Names{"a", "b", "c"});
  ProfileSpec profile;
  profile.plugins.push_back({plugin("session-affinity-filter")});
  CHECK(make_profile(SchedulingSpec{.primary = profile})->gives_session_tokens);
}

TEST_CASE("lmetric-scorer: tokens to compute times requests in flight") {
  Bench bench(3);
  const std::vector<uint64_t> blocks(10, 1);
  bench.features.blocks = blocks;
  CHECK(bench.score(plugin("lmetric-scorer")) == Scores{1, 1, 1});
  bench.matched = {5, 0, 9};
  bench.builder.state(2).load.requests = 4;
  CHECK(bench.score(plugin("lmetric-scorer")) == Scores{1, 0, 1});  // 5 x 1, 10 x 1, 1 x 5
}

TEST_CASE("probabilistic-admitter: the busier the pool, the more of the sheddable requests are refused") {
  Bench bench(2);
  const auto refused = [&](Parameters parameters = {}) {
    const auto admitter = make_admitter(plugin("probabilistic-admitter", std::move(parameters)));
    int count = 0;
    for (int i = 0; i < 1000; ++i) {
      const NoEndpoint why = admitter->refusal({bench.features, at_ms(0), bench.random}, bench.candidates());
      CHECK((why == NoEndpoint::none || why == NoEndpoint::shed));
      count += why == NoEndpoint::shed ? 1 : 0;
    }
    return count;
  };
  bench.features.priority = -1;
  CHECK(refused() == 0);                                                                   // idle
  bench.builder.view(0).metrics.kv_usage = bench.builder.view(1).metrics.kv_usage = 0.16;  // a fifth of 0.8
  const int some = refused();                                                              // 300 x 0.2^5: 96 of 1,000
  CHECK(some > 50);
  CHECK(some < 150);
  CHECK(refused({{"k", 1e6}}) == 1000);
  bench.builder.view(0).metrics.waiting = 10;
  CHECK(refused() == 1000);
  bench.features.priority = 0;
  CHECK(refused() == 0);
}

TEST_CASE("session tokens are base64 of the name, whatever its length") {
  const std::pair<const char*, const char*> cases[] = {
      {"pod", "cG9k"}, {"pods", "cG9kcw=="}, {"pods1", "cG9kczE="}, {"10.0.0.1:8000", "MTAuMC4wLjE6ODAwMA=="}};
  for (const auto& [name, expected] : cases) {
    std::string token;
    append_session_token(token, name);
    CHECK(token == expected);
    CHECK(is_session_token(token, name));
    CHECK_FALSE(is_session_token(token, std::string(name) + "x"));
    CHECK_FALSE(is_session_token(token.substr(1), name));
    token.back() = '!';
    CHECK_FALSE(is_session_token(token, name));
  }
  CHECK_FALSE(is_session_token("", ""));
}

TEST_CASE("no-hit-lru-scorer: never used first, then longest ago; warm prompts are nobody's") {
  Bench bench(3);
  const auto scorer = make_scorer(plugin("no-hit-lru-scorer"));
  CHECK(bench.score(*scorer) == Scores{1, 0.5, 0});
  bench.pick(*scorer, 0, true);
  CHECK(bench.score(*scorer) == Scores{0, 1, 0.5});
  bench.pick(*scorer, 1, true);
  bench.pick(*scorer, 2, false);  // warm: does not count
  CHECK(bench.score(*scorer) == Scores{0.5, 0, 1});
  bench.pick(*scorer, 2, true);
  bench.pick(*scorer, 0, true);
  CHECK(bench.score(*scorer) == Scores{0, 1, 0.5});
  bench.builder.state(0).incarnation = 99;  // another pod in its slot
  CHECK(bench.score(*scorer) == Scores{1, 0.5, 0});
  bench.matched = {0, 3, 0};
  CHECK(bench.score(*scorer) == Scores{0.5, 0.5, 0.5});
  Bench one(1);
  CHECK(one.score(*scorer) == Scores{1});
}

TEST_CASE("no-hit-lru-scorer remembers lruSize endpoints") {
  Bench bench(4);
  const auto scorer = make_scorer(plugin("no-hit-lru-scorer", {{"lruSize", 2.0}}));
  for (const size_t i : {3, 2, 1, 0}) bench.pick(*scorer, i, true);
  // 3 and 2 are forgotten: never used, in the order of the candidates; then 1, then 0.
  const Scores scores = bench.score(*scorer);
  CHECK(scores[2] == 1);
  CHECK(scores[3] == doctest::Approx(2.0 / 3));
  CHECK(scores[1] == doctest::Approx(1.0 / 3));
  CHECK(scores[0] == 0);
}

TEST_CASE("header-label-affinity-scorer: whose label says what the header asks for") {
  Bench bench(3);
  bench.label(0, "zone", "a");
  bench.label(1, "zone", "b");
  const PluginSpec spec = plugin("header-label-affinity-scorer",
                                 {{"headerName", std::string("X-Zone")}, {"labelKey", std::string("zone")}});
  CHECK(bench.score(spec) == Scores{0, 0, 0});
  bench.features.header_fields = "x-zonex: a\r\nx-zone: b\r\nx-zone: a\r\n";
  CHECK(bench.score(spec) == Scores{0, 1, 0});
  bench.features.header_fields = "x-zone: c\r\n";
  CHECK(bench.score(spec) == Scores{0, 0, 0});
}

TEST_CASE("endpoint-attribute-weight-scorer: by the weight of what the label says, else by the least of the weights") {
  Bench bench(4);
  bench.label(0, "gpu", "H100");
  bench.label(1, "gpu", "L40S");
  bench.label(2, "gpu", "A10");
  const PluginSpec spec =
      plugin("endpoint-attribute-weight-scorer",
             {{"label", std::string("gpu")}, {"weights", Caps{{"L40S", 1}, {"H100", 4}, {"A100", 2}}}});
  CHECK(bench.score(spec) == Scores{1, 0.25, 0.25, 0.25});
}

TEST_CASE("a field of the head is found by its name, whole and in any case, without the spaces around its value") {
  Features features;
  CHECK(header_of(features, "a").empty());
  features.header_fields = "ab: 1\r\na:2\r\nA: \t 3 4 \t\r\nempty:\r\nlast: 5";
  CHECK(header_of(features, "a") == "2");
  CHECK(header_of(features, "AB") == "1");
  CHECK(header_of(features, "b").empty());
  CHECK(header_of(features, "empty").empty());
  CHECK(header_of(features, "last") == "5");
  features.header_fields = "A: \t 3 4 \t\r\n";
  CHECK(header_of(features, "a") == "3 4");
}

TEST_CASE("context-length-aware: fits, fits badly, does not fit, does not say") {
  Bench bench(4);
  bench.features.prompt_tokens = 1000;
  bench.label(0, "llm-d.ai/context-length-range", "0-2000");
  bench.label(1, "llm-d.ai/context-length-range", "0-10000");
  bench.label(2, "llm-d.ai/context-length-range", "2000-10000");
  const Scores scores = bench.score(plugin("context-length-aware"));
  CHECK(scores[0] == doctest::Approx(0.3 + 0.7 * (0.7 / 1.2 + 0.3 * 0.5)));
  CHECK(scores[1] == doctest::Approx(0.3 + 0.7 * (0.7 / 2 + 0.3 * 0.9)));
  CHECK(scores[2] == doctest::Approx(0.15));
  CHECK(scores[3] == 0.5);
  CHECK(make_filter(plugin("context-length-aware")) == nullptr);
  CHECK(bench.filter(plugin("context-length-aware", {{"enableFiltering", true}})) == Names{"a", "b", "d"});
}

TEST_CASE("ranges are two numbers with a dash between") {
  double low = 0, high = 0;
  CHECK(parse_range("10-20", &low, &high));
  CHECK(low == 10);
  CHECK(high == 20);
  for (const char* const text : {"", "10", "10-", "-10", "20-10", "a-b", "10-20x", "10 - 20"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_range(text, &low, &high));
  }
}

TEST_CASE("by-label keeps the values listed, and those without the label if told so") {
  Bench bench(3);
  bench.label(0, "tier", "gold");
  bench.label(1, "tier", "iron");
  const std::vector<std::string> gold = {"gold", "silver"};
  CHECK(bench.filter(plugin("by-label", {{"label", "tier"}, {"validValues", gold}})) == Names{"a"});
  CHECK(bench.filter(plugin("by-label", {{"label", "tier"}, {"validValues", gold}, {"allowsNoLabel", true}})) ==
        Names{"a", "c"});
}

TEST_CASE("by-label-selector keeps what the selector matches") {
  Bench bench(3);
  bench.label(0, "tier", "gold");
  bench.label(1, "tier", "iron");
  PluginSpec spec = plugin("by-label-selector");
  spec.selector.match_labels = {{"tier", "gold"}};
  CHECK(bench.filter(spec) == Names{"a"});
  spec.selector = {};
  spec.selector.requirements = {{.key = "tier", .op = objects::LabelRequirement::Operator::does_not_exist}};
  CHECK(bench.filter(spec) == Names{"c"});
}

TEST_CASE("role filters: who decodes, prefills, encodes; a pod without role decodes") {
  const char* const roles[] = {
      "decode", "prefill", "encode", "both", "prefill-decode", "encode-prefill", "encode-prefill-decode", "other"};
  Bench bench(9);
  for (size_t i = 0; i < std::size(roles); ++i) bench.label(i, "llm-d.ai/role", roles[i]);
  CHECK(bench.filter(plugin("decode-filter")) == Names{"a", "d", "e", "g", "i"});
  CHECK(bench.filter(plugin("prefill-filter")) == Names{"b", "d", "e", "f", "g"});
  CHECK(bench.filter(plugin("encode-filter")) == Names{"c", "f", "g"});
}

TEST_CASE("header-based-testing-filter: by ip or ip:port, in the header's order") {
  Bench bench(4);
  const char* const addresses[] = {"10.0.0.1:8000", "10.0.0.1:8001", "[2001:db8::1]:80", "10.0.0.11:8000"};
  for (size_t i = 0; i < 4; ++i) bench.builder.state(i).address = addresses[i];
  const PluginSpec filter = plugin("header-based-testing-filter");
  CHECK(bench.filter(filter).empty());  // no header: nobody
  const auto named = [&](std::string_view header) {
    bench.features.test_endpoints = header;
    return bench.filter(filter);
  };
  CHECK(named("10.0.0.1") == Names{"a", "b"});
  CHECK(named("10.0.0.1:8001") == Names{"b"});
  CHECK(named("2001:db8::1") == Names{"c"});
  CHECK(named("[2001:db8::1]") == Names{"c"});
  CHECK(named("[2001:db8::1]:80") == Names{"c"});
  CHECK(named("10.0.0.2, ,x").empty());
  std::map<std::string, uint32_t> order;
  bench.features.test_endpoints = "10.0.0.11:8000 , 10.0.0.1:8001,10.0.0.1";
  CHECK(bench.filter(filter, &order) == Names{"a", "b", "d"});
  CHECK(order == std::map<std::string, uint32_t>{{"d", 0}, {"b", 1}, {"a", 2}});
}

TEST_CASE("prefix-cache-affinity-filter keeps those that hold the prompt, unless their queues are much longer") {
  Bench bench(3);
  const std::vector<uint64_t> blocks(10);
  bench.features.blocks = blocks;
  bench.matched = {8, 7, 0};
  const Parameters sure = {{"explorationProbability", 0.0}, {"maxTokensInFlightPenalty", 1000.0}};
  CHECK(bench.filter(plugin("prefix-cache-affinity-filter", sure)) == Names{"a"});
  bench.builder.state(0).load.prefill_tokens = 1000;
  CHECK(bench.filter(plugin("prefix-cache-affinity-filter", sure)) == Names{"a"});
  bench.builder.state(0).load.prefill_tokens = 1001;
  CHECK(bench.filter(plugin("prefix-cache-affinity-filter", sure)) == Names{"a", "b", "c"});
  // In time: 0.1 ms for a token until better is known.
  const Parameters in_time = {{"explorationProbability", 0.0}, {"maxTTFTPenaltyMs", 100.0}};
  bench.builder.state(0).load.prefill_tokens = 999;
  CHECK(bench.filter(plugin("prefix-cache-affinity-filter", in_time)) == Names{"a"});
  bench.builder.state(0).load.prefill_tokens = 1001;
  CHECK(bench.filter(plugin("prefix-cache-affinity-filter", in_time)).size() == 3);
  bench.builder.state(0).load.prefill_tokens = 0;
  CHECK(bench.filter(plugin("prefix-cache-affinity-filter", {{"explorationProbability", 1.0}})).size() == 3);
  bench.matched = {7, 7, 0};
  CHECK(bench.filter(plugin("prefix-cache-affinity-filter", sure)).size() == 3);
}

TEST_CASE("prefix-cache-affinity-filter: a limit of 0 is none, both limits hold, and the pace may be given") {
  Bench bench(2);
  const std::vector<uint64_t> blocks(10);
  bench.features.blocks = blocks;
  bench.matched = {10, 0};
  bench.builder.state(0).load.prefill_tokens = 100'000;  // 10 s at 0.1 ms for a token
  const auto sticks = [&bench](Parameters limits) {
    limits.emplace_back("explorationProbability", 0.0);
    return bench.filter(plugin("prefix-cache-affinity-filter", limits)) == Names{"a"};
  };
  CHECK(sticks({{"maxTTFTPenaltyMs", 0.0}}));
  CHECK(sticks({{"maxTokensInFlightPenalty", 0.0}}));
  CHECK(sticks({{"maxTokensInFlightPenalty", 0.0}, {"maxTTFTPenaltyMs", 0.0}}));
  CHECK_FALSE(sticks({}));  // 5 s
  CHECK_FALSE(sticks({{"maxTokensInFlightPenalty", 0.0}, {"maxTTFTPenaltyMs", 9000.0}}));
  CHECK_FALSE(sticks({{"maxTokensInFlightPenalty", 99'999.0}, {"maxTTFTPenaltyMs", 0.0}}));
  CHECK_FALSE(sticks({{"maxTokensInFlightPenalty", 99'999.0}, {"maxTTFTPenaltyMs", 11'000.0}}));
  CHECK_FALSE(sticks({{"maxTokensInFlightPenalty", 100'000.0}, {"maxTTFTPenaltyMs", 9000.0}}));
  CHECK(sticks({{"maxTokensInFlightPenalty", 100'000.0}, {"maxTTFTPenaltyMs", 11'000.0}}));
  CHECK(sticks({{"peakPrefillThroughput", 20'000.0}, {"maxTTFTPenaltyMs", 5000.0}}));
  CHECK_FALSE(sticks({{"peakPrefillThroughput", 19'999.0}, {"maxTTFTPenaltyMs", 5000.0}}));
  CHECK(sticks({{"peakPrefillThroughput", 5600.0}}));  // 18 s
  CHECK_FALSE(sticks({{"peakPrefillThroughput", 5500.0}}));
}

TEST_CASE("concurrency-detector as a filter: requests or tokens in flight below the cap") {
  Bench bench(2);
  bench.builder.state(0).load.requests = 10;
  bench.builder.state(1).load.kv_tokens = 500;
  CHECK(bench.filter(plugin("concurrency-detector", {{"maxConcurrency", 10.0}})) == Names{"b"});
  CHECK(bench.filter(plugin("concurrency-detector", {{"maxConcurrency", 10.0}, {"headroom", 0.2}})).size() == 2);
  for (const char* const mode : {"mode", "concurrencyMode"}) {
    CHECK(bench.filter(plugin("concurrency-detector", {{mode, "tokens"}, {"maxTokenConcurrency", 500.0}})) ==
          Names{"a"});
  }
  const std::pair<double, double> caps[] = {{10, 500}, {11, 500}, {10, 501}, {11, 501}};
  const Names left[] = {{}, {"a"}, {"b"}, {"a", "b"}};
  for (size_t i = 0; i < 4; ++i) {
    CHECK(bench.filter(plugin("concurrency-detector", {{"concurrencyMode", "hybrid"},
                                                       {"maxConcurrency", caps[i].first},
                                                       {"maxTokenConcurrency", caps[i].second}})) == left[i]);
  }
}

TEST_CASE("utilization-detector as a filter: within bounds; all when nobody is") {
  Bench bench(3);
  bench.builder.view(0).metrics.waiting = 6;
  bench.builder.view(1).metrics.kv_usage = 0.9;
  CHECK(bench.filter(plugin("utilization-detector")) == Names{"c"});
  CHECK(bench.filter(plugin("utilization-detector", {{"headroom", 0.2}})) == Names{"a", "b", "c"});
  bench.builder.view(2).metrics.known = false;
  CHECK(bench.filter(plugin("utilization-detector")).size() == 3);
}

TEST_CASE("active-request-filter: those with at most so many requests in flight; none or all where there is none") {
  Bench bench(3);
  bench.builder.state(0).load.requests = 3;
  bench.builder.state(1).load.requests = 2;
  CHECK(bench.filter(plugin("active-request-filter", {{"maxRequests", 2.0}})) == Names{"b", "c"});
  bench.builder.state(2).load.requests = 4;
  CHECK(bench.filter(plugin("active-request-filter", {{"maxRequests", 1.0}})).empty());
  CHECK(bench.filter(plugin("active-request-filter", {{"maxRequests", 1.0}, {"fallbackOnEmpty", true}})) ==
        Names{"a", "b", "c"});
}

TEST_CASE("pickers make their choices in order") {
  PoolBuilder builder(5);
  Random random(3);
  const Features features;
  const auto pick = [&](std::string_view type, size_t choices, const Scores& scores,
                        const std::vector<uint32_t>& order = {}) {
    std::vector<Candidate> all;
    for (const auto& view : builder.pool.endpoints) all.push_back({&view});
    for (size_t i = 0; i < scores.size(); ++i) all[i].score = scores[i];
    for (size_t i = 0; i < order.size(); ++i) all[i].order = order[i];
    const PluginSpec spec = plugin(type, {{"maxNumOfEndpoints", static_cast<double>(choices)}});
    const auto picker = spec.info->make.picker(spec);
    REQUIRE(picker != nullptr);
    CHECK(picker->choices() == choices);
    picker->pick({features, at_ms(0), random}, all);
    std::string names;
    for (size_t i = 0; i < std::min(choices, all.size()); ++i) names += all[i].endpoint->state->name;
    return names;
  };
  CHECK(pick("max-score-picker", 3, {1, 5, 3, 4, 2}) == "bdc");
  CHECK(pick("max-score-picker", 8, {1, 5, 3, 4, 2}) == "bdcea");
  CHECK(pick("max-score-picker", 5, {1, 1, 1, 1, 1}, {3, 0, 4, 1, 2}) == "bdeac");
  std::map<std::string, int> counts;
  for (int i = 0; i < 4000; ++i) ++counts[pick("weighted-random-picker", 1, {0, 1, 3, 0, 0})];
  CHECK(counts.size() == 2);
  CHECK(counts["c"] == doctest::Approx(3000).epsilon(0.05));
  counts.clear();
  // Of two, the first with 1/4; then the other one, and then those without a score.
  for (int i = 0; i < 4000; ++i) ++counts[pick("weighted-random-picker", 2, {0, 1, 3, 0, 0})];
  CHECK(counts["bc"] == doctest::Approx(1000).epsilon(0.1));
  CHECK(counts["bc"] + counts["cb"] == 4000);
  counts.clear();
  for (int i = 0; i < 4000; ++i) ++counts[pick("weighted-random-picker", 1, {0, 0, 0, 0, 0})];
  CHECK(counts.size() == 5);
  counts.clear();
  for (int i = 0; i < 4000; ++i) ++counts[pick("random-picker", 2, {})];
  CHECK(counts.size() == 20);
}
