#include <doctest/doctest.h>

#include <algorithm>

#include "penstock/epp/scheduling.h"
#include "penstock/routing/router.h"
#include "tests/unit/routing/pool_builder.h"

using namespace penstock;
using namespace penstock::routing;
using namespace penstock::routing::test;
using namespace penstock::epp;

namespace {

Explanation explained(const PoolBuilder& builder, Instant now = at_ms(0)) {
  const auto profile = make_profile(Policy::epp_default);
  PrefixIndex index(256);
  Router router(*profile, index, 1);
  Explanation why;
  const Decision decision = router.decide({}, builder.pool, now, {}, &why);
  if (decision.endpoint != nullptr) CHECK(why.rows.front().endpoint == decision.endpoint->name);
  return why;
}

// Every look at it takes a microsecond.
int64_t ticks = 0;
Instant ticking_clock() {
  return Instant{microseconds(++ticks)};
}

std::string json_of(const Explanation& why) {
  std::string json = "before:";
  why.append_json(json);
  return json;
}

}  // namespace

TEST_CASE("an explanation lists candidates best first, then who was excluded and why") {
  PoolBuilder builder(6);
  builder.view(0).metrics.waiting = 4;
  builder.view(0).metrics.kv_usage = 0.5;
  builder.state(1).load.requests = 1;
  builder.view(2).readiness = endpoints::Readiness::not_ready;
  builder.view(3).readiness = endpoints::Readiness::draining;
  report_failure(builder.state(4), FailureKind::hard, at_ms(0), {});
  builder.view(5).metrics.waiting = 2;
  const Explanation why = explained(builder);
  CHECK(why.scorers ==
        std::vector<std::string>{"queue-scorer*2", "kv-cache-utilization-scorer*2", "prefix-cache-scorer*3"});
  REQUIRE(why.rows.size() == 3);
  CHECK(why.rows[0].endpoint == "b");
  CHECK(why.rows[0].total == doctest::Approx(4));
  CHECK(why.rows[0].in_flight == 1);
  CHECK(why.rows[0].waiting == 1);
  CHECK(why.rows[1].endpoint == "f");
  CHECK(why.rows[2].endpoint == "a");
  CHECK(why.rows[2].scores == std::vector<double>{0, 0.5, 0});
  CHECK(why.to_header() ==
        "profile: epp-default; "
        "b total=4 queue-scorer*2=1 kv-cache-utilization-scorer*2=1 prefix-cache-scorer*3=0 matched=0 waiting=1 kv=0 "
        "in-flight=1; "
        "f total=3.333 queue-scorer*2=0.6667 kv-cache-utilization-scorer*2=1 prefix-cache-scorer*3=0 matched=0 "
        "waiting=2 kv=0 in-flight=0; "
        "a total=1 queue-scorer*2=0 kv-cache-utilization-scorer*2=0.5 prefix-cache-scorer*3=0 matched=0 waiting=4 "
        "kv=0.5 in-flight=0; "
        "c excluded: not ready; d excluded: draining; e excluded: ejected");
}

TEST_CASE("the choice comes first also among equals") {
  const PoolBuilder builder(8);
  const auto profile = make_profile(Policy::epp_default);
  PrefixIndex index(256);
  Router router(*profile, index, 5);
  for (int i = 0; i < 50; ++i) {
    Explanation why;
    const Decision decision = router.decide({}, builder.pool, at_ms(0), {}, &why);
    REQUIRE(why.rows.size() == 8);
    REQUIRE(why.rows[0].endpoint == decision.endpoint->name);
  }
}

TEST_CASE("in panic the endpoints that are considered again are not listed as excluded") {
  PoolBuilder builder(2);
  report_failure(builder.state(0), FailureKind::hard, at_ms(0), {});
  builder.state(1).health.probe_failed = true;
  const Explanation why = explained(builder);
  REQUIRE(why.rows.size() == 1);
  CHECK(why.rows[0].endpoint == "a");
  REQUIRE(why.excluded.size() == 1);
  CHECK(why.excluded[0].first == "b");
}

TEST_CASE("an endpoint held back by its slow start is excluded for that reason") {
  PoolBuilder builder(2);
  report_failure(builder.state(0), FailureKind::hard, at_ms(0), {});
  builder.state(0).load.requests = 1;
  const Explanation why = explained(builder, at_ms(1000));
  REQUIRE(why.excluded.size() == 1);
  CHECK(why.excluded[0] == std::pair<std::string, std::string>("a", "slow start"));
}

TEST_CASE("KV use that is unknown is not shown as zero") {
  PoolBuilder builder(1);
  builder.view(0).metrics = {};
  const Explanation why = explained(builder);
  CHECK(why.to_header().find(" kv=? ") != std::string::npos);
  CHECK(json_of(why).find(R"("kv_usage":null,)") != std::string::npos);
}

TEST_CASE("no candidates: only the excluded are explained") {
  PoolBuilder builder(1);
  builder.view(0).readiness = endpoints::Readiness::not_ready;
  const Explanation why = explained(builder);
  CHECK(why.rows.empty());
  CHECK(why.to_header() == "profile: epp-default; a excluded: not ready");
  CHECK(json_of(why) == R"(before:{"profile":"epp-default","scorers":[],"terms":[],"candidates":[],)"
                        R"("excluded":[{"endpoint":"a","reason":"not ready"}]})");
}

TEST_CASE("the header is one line of ASCII within 2 KiB, cut between endpoints") {
  PoolBuilder builder;
  for (int i = 0; i < 100; ++i) builder.add("pod\r\n\xc3\xa4;\t" + std::to_string(i));
  const std::string header = explained(builder).to_header();
  CHECK(header.size() <= 2048);
  CHECK(header.size() > 1700);
  CHECK(header.ends_with("in-flight=0; ..."));
  CHECK(std::all_of(header.begin(), header.end(), [](char c) { return c >= ' ' && c < 0x7f; }));
  PoolBuilder huge;
  huge.add(std::string(5000, 'x'));
  CHECK(explained(huge).to_header().size() <= 2048);
}

TEST_CASE("JSON escapes names") {
  PoolBuilder builder;
  builder.add("a\"\\\n");
  CHECK(
      json_of(explained(builder)) ==
      R"(before:{"profile":"epp-default",)"
      R"("scorers":["queue-scorer*2","kv-cache-utilization-scorer*2","prefix-cache-scorer*3"],"terms":[],"candidates":[{"endpoint":"a\"\\\u000a","total":4,"scores":[1,1,0],"matched_blocks":0,"waiting":0,)"
      R"("kv_usage":0,"in_flight":0,"terms":[]}],"excluded":[]})");
}

TEST_CASE("the expected cost shows its terms, in seconds, and what they add up to decides") {
  PoolBuilder builder(2);
  for (auto& state : builder.states) measured_prefills(state, 50, 1000, 1);
  builder.state(0).load.requests = 1;
  builder.state(0).load.prefill_tokens = 700;
  const auto profile = make_profile(Policy::expected_cost);
  PrefixIndex index(256);
  Router router(*profile, index, 5);
  Explanation why;
  Features features;
  features.prompt_tokens = 1600;
  REQUIRE(router.decide(features, builder.pool, at_ms(1), {}, &why).endpoint->name == "b");
  CHECK(why.terms == std::vector<std::string>{"backlog_s", "foreign_s", "prefill_s", "stall_s", "decode_s", "room_s"});
  REQUIRE(why.rows.size() == 2);
  CHECK(why.rows[0].terms[0] == 0);
  CHECK(why.rows[0].terms[2] == doctest::Approx(1.25 * 1.6));
  CHECK(why.rows[1].terms[0] == doctest::Approx(0.7));
  CHECK(
      why.to_header().starts_with("profile: expected-cost; b total=1 expected-cost-scorer*1=1 matched=0 waiting=0 kv=0 "
                                  "in-flight=0 backlog_s=0 foreign_s=0 prefill_s=2 stall_s=0"));
}

TEST_CASE("of pools too large nothing is recorded, and an explanation that is used again forgets") {
  const auto profile = make_profile(Policy::least_load);
  PrefixIndex index(256);
  Router router(*profile, index, 5);
  PoolBuilder builder(DecisionInputs::endpoints_max);
  Explanation why;
  router.decide({}, builder.pool, at_ms(0), {}, &why);
  CHECK(why.inputs.whole);
  CHECK(why.inputs.endpoints.size() == DecisionInputs::endpoints_max);
  builder.add("one too many");
  router.decide({}, builder.pool, at_ms(0), {}, &why);
  CHECK_FALSE(why.inputs.whole);
  CHECK(why.inputs.endpoints.empty());
  CHECK(why.rows.size() == builder.pool.endpoints.size());
}

TEST_CASE("plugins are timed where a decision is explained, and only there") {
  const PoolBuilder builder(3);
  const SchedulingSpec spec = {
      .primary = {.plugins = {{{.name = "testers", .info = find_plugin_type("decode-filter")}},
                              {{.name = "queue-scorer", .info = find_plugin_type("queue-scorer")}},
                              {{.name = "best", .info = find_plugin_type("random-picker")}}}},
      .prefill = ProfileSpec{.plugins = {{{.name = "load", .info = find_plugin_type("least-load-scorer")}}}},
      .encode = {},
      .prefill_rule = {.when = StageRule::When::always},
      .encode_rule = {},
      .prefix = {},
      .kv_events = {}};
  const auto profile = make_profile(spec);
  PrefixIndex index(256);
  Router router(*profile, index, 1, {.clock = ticking_clock});
  Explanation why;
  CHECK(router.decide({}, builder.pool, at_ms(0), {}, &why).prefill != nullptr);
  std::string times;
  for (const Explanation::PluginTime& time : why.times) {
    CHECK(time.took == microseconds(1));
    times += std::string(time.point) + ' ' + std::string(time.type) + ' ' + std::string(time.name) + '\n';
  }
  CHECK(times ==
        "Filter decode-filter testers\nScorer queue-scorer queue-scorer\nPicker random-picker random-picker\n"
        "Scorer least-load-scorer load\nPicker max-score-picker max-score-picker\n");
  const int64_t looks = ticks;
  router.decide({}, builder.pool, at_ms(0), {});
  CHECK(ticks == looks);
  Router without(*profile, index, 1);
  without.decide({}, builder.pool, at_ms(0), {}, &why);
  CHECK(why.times.empty());
}
