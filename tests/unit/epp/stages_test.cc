// Profiles made from an EndpointPickerConfig: filters, several choices, and the stages beside the decode.
#include <doctest/doctest.h>

#include <map>

#include "penstock/epp/scheduling.h"
#include "tests/unit/epp/plugin_spec.h"
#include "tests/unit/routing/pool_builder.h"

using namespace penstock;
using namespace penstock::routing;
using namespace penstock::routing::test;
using namespace penstock::epp;
using namespace penstock::epp::test;

namespace {

ProfileSpec::Use use(std::string_view type, double weight = 1, Parameters parameters = {}) {
  return {plugin(type, std::move(parameters)), weight};
}

std::vector<uint64_t> prompt_of(size_t blocks) {
  Random random(7);
  std::vector<uint64_t> chain(blocks);
  for (uint64_t& block : chain) block = random.next();
  return chain;
}

// Two that decode, two that prefill, one that encodes.
struct Disaggregated {
  PoolBuilder builder{5};
  PrefixIndex index{1 << 10};
  std::unique_ptr<Profile> profile;
  std::unique_ptr<Router> router;
  std::vector<uint64_t> blocks;
  Features features;

  explicit Disaggregated(const StageRule& prefill, const StageRule& encode = {}) {
    const char* const roles[] = {"decode", "decode", "prefill", "prefill", "encode"};
    for (size_t i = 0; i < 5; ++i) {
      builder.view(i).labels = std::make_shared<objects::Labels>(objects::Labels{{"llm-d.ai/role", roles[i]}});
      builder.state(i).address = "10.0.0." + std::to_string(i) + ":8000";
    }
    SchedulingSpec spec;
    spec.primary = {"decode", {use("decode-filter"), use("prefix-cache-scorer", 3), use("queue-scorer")}};
    spec.prefill = ProfileSpec{"prefill", {use("prefill-filter"), use("prefix-cache-scorer", 3), use("queue-scorer")}};
    spec.encode = ProfileSpec{"encode", {use("encode-filter"), use("random-picker", 1, {{"maxNumOfEndpoints", 2.0}})}};
    spec.prefill_rule = prefill;
    spec.encode_rule = encode;
    profile = make_profile(spec);
    router = std::make_unique<Router>(*profile, index, 1);
    blocks = prompt_of(10);
    features.blocks = blocks;
    features.prompt_tokens = 170;
  }
  Decision decide() { return router->decide(features, builder.pool, at_ms(0), {}); }
};

}  // namespace

TEST_CASE("a filter that leaves nobody is no lack of endpoints, and explanations name it") {
  PoolBuilder builder(2);
  PrefixIndex index(64);
  SchedulingSpec spec;
  spec.primary.plugins = {use("prefill-filter"), use("queue-scorer")};
  spec.primary.plugins[0].plugin.name = "who-prefills";
  const auto profile = make_profile(spec);
  Router router(*profile, index, 1);
  Explanation why;
  CHECK(router.decide({}, builder.pool, at_ms(0), {}, &why).why_none == NoEndpoint::filtered);
  REQUIRE(why.excluded.size() == 2);
  CHECK(why.excluded[0] == std::pair<std::string, std::string>("a", "filtered by who-prefills"));
}

TEST_CASE("where the Endpoint Picker's scorer takes part, prompts are hashed as there") {
  SchedulingSpec spec;
  spec.primary.plugins = {use("queue-scorer"), use("prefix-cache-scorer", 3)};
  CHECK(make_profile(spec)->chain_hash == ChainHash::xxh64);
}

TEST_CASE("explanations show the names of plugins") {
  PoolBuilder builder(1);
  PrefixIndex index(64);
  SchedulingSpec spec;
  spec.primary.plugins = {use("queue-scorer", 2), use("load-aware-scorer", 0.5)};
  spec.primary.plugins[1].plugin.name = "by-queue";
  const auto profile = make_profile(spec);
  CHECK(profile->chain_hash == ChainHash::xxh3);
  Router router(*profile, index, 1);
  Explanation why;
  CHECK(router.decide({}, builder.pool, at_ms(0), {}, &why).score == 2.25);
  CHECK(why.scorers == std::vector<std::string>{"queue-scorer*2", "by-queue*0.5"});
}

TEST_CASE("who computes the prompt is told who holds so much more of it, the likelier the shorter its queue") {
  PoolBuilder builder(4);
  PrefixIndex index(1 << 10);
  const std::vector<uint64_t> blocks = prompt_of(10);
  Features features;
  features.blocks = blocks;
  features.block_tokens = 16;
  features.prompt_tokens = 170;
  SchedulingSpec spec;
  spec.primary.plugins = {use("queue-scorer")};
  for (size_t i = 1; i < 4; ++i) builder.view(i).metrics.waiting = i == 2 ? 9 : 1;
  const auto source = [&](uint32_t tokens) {
    spec.kv_source_tokens = tokens;
    const auto profile = make_profile(spec);
    Router router(*profile, index, 1);
    std::map<const endpoints::EndpointState*, int> times;
    for (int i = 0; i < 1000; ++i) ++times[router.decide(features, builder.pool, at_ms(0), {}).kv_source];
    return times;
  };
  CHECK(source(1)[nullptr] == 1000);
  index.record(std::span(blocks).first(9), 3);
  index.record(blocks, 1);
  CHECK(source(160)[&builder.state(1)] == 1000);
  CHECK(source(161)[nullptr] == 1000);
  CHECK(source(0)[nullptr] == 1000);
  index.record(blocks, 2);
  auto times = source(1);
  CHECK(times[&builder.state(1)] == doctest::Approx(1000 * 10 / 12).epsilon(0.1));
  CHECK(times[&builder.state(2)] == doctest::Approx(1000 * 2 / 12).epsilon(0.2));
  index.record(std::span(blocks).first(6), 0);  // which computes the prompt
  CHECK(source(65)[nullptr] == 1000);
  CHECK(source(64)[nullptr] == 0);
  index.record(blocks, 0);
  CHECK(source(1)[nullptr] == 1000);
}

TEST_CASE("where the prompt is computed elsewhere, that one is told") {
  Disaggregated bench({.when = StageRule::When::always});
  SchedulingSpec spec;
  spec.primary = {"decode", {use("decode-filter")}};
  spec.prefill = ProfileSpec{"prefill", {use("prefill-filter"), use("queue-scorer")}};
  spec.prefill_rule.when = StageRule::When::always;
  spec.kv_source_tokens = 1;
  const auto profile = make_profile(spec);
  Router router(*profile, bench.index, 1);
  bench.builder.view(3).metrics.waiting = 5;
  bench.index.record(bench.blocks, 0);
  bench.index.record(bench.blocks, 1);
  const Decision decision = router.decide(bench.features, bench.builder.pool, at_ms(0), {});
  REQUIRE(decision.prefill == &bench.builder.state(2));
  REQUIRE(decision.kv_source != nullptr);
  CHECK(decision.kv_source->slot < 2);
  bench.index.record(bench.blocks, 2);
  CHECK(router.decide(bench.features, bench.builder.pool, at_ms(0), {}).kv_source == nullptr);
}

TEST_CASE("several choices: what is next stands in the decision, and a later one follows it") {
  PoolBuilder builder(4);
  PrefixIndex index(64);
  SchedulingSpec spec;
  spec.primary.plugins = {use("queue-scorer"), use("max-score-picker", 1, {{"maxNumOfEndpoints", 3.0}})};
  const auto profile = make_profile(spec);
  Router router(*profile, index, 1);
  for (size_t i = 0; i < 4; ++i) builder.view(i).metrics.waiting = static_cast<double>(i);
  const Decision first = router.decide({}, builder.pool, at_ms(0), {});
  CHECK(first.endpoint == &builder.state(0));
  REQUIRE(first.next.size() == 2);
  CHECK(first.next[0] == &builder.state(1));
  CHECK(first.next[1] == &builder.state(2));

  // Meanwhile b has become the worst; the plan stands, as long as b may answer.
  const std::vector<endpoints::EndpointState*> plan(first.next.begin(), first.next.end());
  endpoints::EndpointState* tried[] = {first.endpoint};
  builder.view(1).metrics.waiting = 50;
  Features features;
  features.planned = plan;
  CHECK(router.decide(features, builder.pool, at_ms(0), tried).endpoint == &builder.state(1));
  builder.view(1).readiness = endpoints::Readiness::not_ready;
  CHECK(router.decide(features, builder.pool, at_ms(0), tried).endpoint == &builder.state(2));
  builder.view(2).readiness = endpoints::Readiness::not_ready;
  CHECK(router.decide(features, builder.pool, at_ms(0), tried).endpoint == &builder.state(3));
}

TEST_CASE("disaggregation: the decode first, then who prefills, each in its own profile") {
  Disaggregated bench({.when = StageRule::When::always});
  bench.builder.view(0).metrics.waiting = 5;
  bench.builder.view(3).metrics.waiting = 5;
  const Decision decision = bench.decide();
  CHECK(decision.endpoint == &bench.builder.state(1));
  CHECK(decision.prefill == &bench.builder.state(2));
  CHECK(decision.split == Split::prefill_decode);
  CHECK(decision.encode.empty());
  CHECK(decision.candidates == 2);

  Explanation why;
  bench.router->decide(bench.features, bench.builder.pool, at_ms(0), {}, &why);
  CHECK(why.to_header().find("; prefill: c; ") != std::string::npos);
  std::string json;
  why.append_json(json);
  CHECK(json.ends_with(",\"stages\":[{\"stage\":\"prefill\",\"endpoint\":\"c\"}]}"));
}

TEST_CASE("disaggregation when so many tokens are not cached where it will decode") {
  Disaggregated bench({.when = StageRule::When::uncached, .uncached_tokens = 100});
  CHECK(bench.decide().prefill != nullptr);
  bench.index.record(bench.blocks, 0);
  bench.index.record(bench.blocks, 3);
  const Decision warm = bench.decide();  // 160 of 170 tokens are there
  CHECK(warm.endpoint == &bench.builder.state(0));
  CHECK(warm.matched_blocks == 10);
  CHECK(warm.prefill == nullptr);
  CHECK(warm.split == Split::decode_only);
  bench.features.prompt_tokens = 260;  // exactly 100 are not
  const Decision longer = bench.decide();
  CHECK(longer.prefill == &bench.builder.state(3));
  CHECK(longer.prefill_matched_blocks == 10);
  bench.features.prompt_tokens = 259;
  CHECK(bench.decide().prefill == nullptr);
}

TEST_CASE("a decider of 0 tokens never disaggregates, and a stage without candidates is left out") {
  Disaggregated never({.when = StageRule::When::uncached});
  CHECK(never.decide().prefill == nullptr);
  Disaggregated alone({.when = StageRule::When::always});
  for (const size_t i : {2, 3}) alone.builder.view(i).readiness = endpoints::Readiness::not_ready;
  const Decision decision = alone.decide();
  CHECK(decision.endpoint != nullptr);
  CHECK(decision.prefill == nullptr);
  CHECK(decision.split == Split::decode_only);
}

TEST_CASE("media are encoded elsewhere, text is not") {
  Disaggregated bench({.when = StageRule::When::always}, {.when = StageRule::When::multimodal});
  CHECK(bench.decide().encode.empty());
  bench.features.multimodal = true;
  const Decision decision = bench.decide();
  REQUIRE(decision.encode.size() == 1);
  CHECK(decision.encode[0] == &bench.builder.state(4));
  CHECK(decision.split == Split::encode_prefill_decode);
  CHECK(decision.prefill != nullptr);
}

TEST_CASE("media are encoded elsewhere while the prompt is computed where it is decoded, and no stages are no split") {
  Disaggregated bench({}, {.when = StageRule::When::multimodal});
  bench.features.multimodal = true;
  CHECK(bench.decide().split == Split::encode_decode);
  for (size_t i = 0; i < 5; ++i) bench.builder.view(i).readiness = endpoints::Readiness::not_ready;
  CHECK_FALSE(bench.decide().split.has_value());  // nothing was decided
  const auto plain = make_profile(Policy::epp_default);
  bench.builder.view(0).readiness = endpoints::Readiness::ready;
  Router router(*plain, bench.index, 1);
  const Decision decision = router.decide(bench.features, bench.builder.pool, at_ms(0), {});
  CHECK(decision.endpoint != nullptr);
  CHECK_FALSE(decision.split.has_value());
}

TEST_CASE("cache capacity: the engine's word, else the configured one; without auto-tuning the configured one") {
  const auto matched = [](bool auto_tune, uint64_t engine_blocks) {
    PoolBuilder builder(1);
    builder.view(0).metrics.block_size = 16;
    builder.view(0).metrics.kv_blocks = engine_blocks;
    PrefixIndex index(1 << 10);
    SchedulingSpec spec;
    spec.primary.plugins = {use("prefix-cache-scorer")};
    spec.prefix = {.auto_tune = auto_tune, .capacity_blocks = 20};
    const auto profile = make_profile(spec);
    Router router(*profile, index, 1);
    const std::vector<uint64_t> chain = prompt_of(40);
    Features features;
    features.blocks = chain;
    router.decide(features, builder.pool, at_ms(0), {});
    index.record(chain, 0);
    return router.decide(features, builder.pool, at_ms(0), {}).matched_blocks;
  };
  CHECK(matched(true, 30) == 30);
  CHECK(matched(true, 0) == 20);
  CHECK(matched(false, 30) == 20);
}

TEST_CASE("blocks as long as the engines' own, within bounds") {
  PoolBuilder builder(2);
  CHECK(tuned_block_tokens(builder.pool, 16) == 16);
  builder.view(1).metrics.block_size = 128;
  CHECK(tuned_block_tokens(builder.pool, 16) == 128);
  builder.view(0).metrics.block_size = 1;
  CHECK(tuned_block_tokens(builder.pool, 32) == 16);
  builder.view(0).metrics.block_size = 4096;
  CHECK(tuned_block_tokens(builder.pool, 16) == 1024);
}

TEST_CASE("a request's header chooses the profile that decides") {
  PoolBuilder builder(3);
  PrefixIndex index(64);
  const char* const roles[] = {"decode", "prefill", "encode"};
  for (size_t i = 0; i < 3; ++i) {
    builder.view(i).labels = std::make_shared<objects::Labels>(objects::Labels{{"llm-d.ai/role", roles[i]}});
  }
  SchedulingSpec spec;
  spec.primary = {"decode", {use("decode-filter"), use("queue-scorer")}};
  spec.by_header = {{"prefill", {use("prefill-filter"), use("no-hit-lru-scorer"), use("session-affinity-scorer")}},
                    {"encode", {use("encode-filter"), use("random-picker", 1, {{"maxNumOfEndpoints", 2.0}})}}};
  spec.profile_header = "EPP-Profile";
  const auto profile = make_profile(spec);
  CHECK(profile->uses_prefix);
  CHECK(profile->gives_session_tokens);
  CHECK(profile->listeners.size() == 1);
  Router router(*profile, index, 1);
  Explanation why;
  const auto decided = [&](std::string_view fields) {
    Features features;
    features.header_fields = fields;
    const Decision decision = router.decide(features, builder.pool, at_ms(0), {}, &why);
    if (decision.endpoint == nullptr) return std::string(decision.why_none == NoEndpoint::no_profile ? "none" : "?");
    return decision.endpoint->name + " " + why.profile;
  };
  CHECK(decided("") == "a decode");
  CHECK(decided("epp-profile: \r\n") == "a decode");
  CHECK(decided("epp-profile: decode\r\n") == "a decode");
  CHECK(decided("epp-profile: prefill\r\n") == "b prefill");
  CHECK(why.scorers == std::vector<std::string>{"no-hit-lru-scorer*1", "session-affinity-scorer*1"});
  CHECK(decided("epp-profile: encode\r\n") == "c encode");
  CHECK(decided("epp-profile: Encode\r\n") == "none");

  // With a single profile it always runs. A shadow goes by the header, too.
  spec.by_header.clear();
  const auto single = make_profile(spec);
  Features features;
  features.header_fields = "epp-profile: nonsense\r\n";
  CHECK(Router(*single, index, 1).decide(features, builder.pool, at_ms(0), {}).endpoint->name == "a");
  const auto any = make_profile(Policy::random);
  Router shadowed(*any, index, 1, {.shadow = profile.get()});
  CHECK(!shadowed.decide(features, builder.pool, at_ms(0), {}).shadow.has_value());
  features.header_fields = "epp-profile: encode\r\n";
  CHECK(shadowed.decide(features, builder.pool, at_ms(0), {}).shadow->endpoint->name == "c");
}
