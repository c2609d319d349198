#include <doctest/doctest.h>

#include "penstock/epp/scheduling.h"
#include "tests/unit/routing/pool_builder.h"

using namespace penstock;
using namespace penstock::routing;
using namespace penstock::routing::test;
using namespace penstock::epp;

namespace {

using Scores = std::vector<double>;

struct Bursts {
  PoolBuilder builder;
  std::unique_ptr<Scorer> scorer;
  Random random{1};

  explicit Bursts(size_t count, const BurstOptions& burst = {}) : builder(count), scorer(make_burst_scorer(burst)) {}

  Scores score(std::span<const uint64_t> blocks, int64_t ms) {
    std::vector<Candidate> all;
    for (const auto& view : builder.pool.endpoints) all.push_back({&view});
    Scores scores(all.size(), -7);
    Features features;
    features.blocks = blocks;
    scorer->score({features, at_ms(ms), random}, all, scores);
    return scores;
  }
  void pick(std::span<const uint64_t> blocks, size_t i, int64_t ms) {
    Features features;
    features.blocks = blocks;
    Decision decision;
    decision.endpoint = &builder.state(i);
    scorer->picked(features, decision, at_ms(ms));
  }
};

}  // namespace

TEST_CASE("bursts: the same prompt goes where the first of it went, as long as the window lasts") {
  Bursts bursts(3);
  const auto one = hashes(20, 1), other = hashes(20, 2);
  CHECK(bursts.score(one, 5000) == Scores{0, 0, 0});
  bursts.pick(one, 1, 5000);
  CHECK(bursts.score(one, 5000) == Scores{0, 1, 0});
  CHECK(bursts.score(one, 5099) == Scores{0, 1, 0});
  CHECK(bursts.score(one, 4999) == Scores{0, 1, 0});  // another shard, whose turn began before
  CHECK(bursts.score(other, 5000) == Scores{0, 0, 0});
  CHECK(bursts.score(std::span(one).first(19), 5000) == Scores{0, 0, 0});
  CHECK(bursts.score({}, 5000) == Scores{0, 0, 0});
  bursts.pick(one, 1, 5090);  // does not make it longer
  CHECK(bursts.score(one, 5100) == Scores{0, 0, 0});
  CHECK(bursts.score(one, 5000 + 600'000) == Scores{0, 0, 0});
  bursts.pick(one, 2, 6000);
  CHECK(bursts.score(one, 6000) == Scores{0, 0, 1});
}

TEST_CASE("bursts: an endpoint that got as many as it may gets no more") {
  Bursts bursts(3, {.per_replica = 2});
  const auto one = hashes(20, 1);
  bursts.pick(one, 0, 10);
  CHECK(bursts.score(one, 11) == Scores{1, 0, 0});
  bursts.pick(one, 0, 11);
  CHECK(bursts.score(one, 12) == Scores{0, 1, 1});
  bursts.pick(one, 2, 12);
  CHECK(bursts.score(one, 13) == Scores{0, 0, 1});
}

TEST_CASE("bursts: a long beginning in common counts, where it does not make the endpoint busier than the others") {
  Bursts bursts(2, {.begin_tokens = 8 * 16});
  auto one = hashes(20, 1), like = hashes(20, 2);
  std::copy(one.begin(), one.begin() + 8, like.begin());
  auto unlike = hashes(20, 3);
  std::copy(one.begin(), one.begin() + 7, unlike.begin());
  bursts.pick(one, 1, 10);
  CHECK(bursts.score(like, 11) == Scores{0, 1});
  CHECK(bursts.score(unlike, 11) == Scores{0, 0});
  bursts.builder.state(1).load.requests = 3;
  bursts.builder.state(0).load.requests = 2;
  CHECK(bursts.score(like, 11) == Scores{0, 0});
  CHECK(bursts.score(one, 11) == Scores{0, 1});  // the whole prompt is another matter
  Bursts capped(2, {.tokens_max = 8 * 16});
  capped.pick(one, 0, 10);
  CHECK(capped.score(like, 11) == Scores{1, 0});
}

TEST_CASE("a prefix-cache-scorer scores bursts when it names their producer, and the profile tells it who was picked") {
  const auto scorer = [](const char* producer) {
    return ProfileSpec::Use{{.name = "scorer",
                             .info = find_plugin_type("prefix-cache-scorer"),
                             .parameters = {{"prefixMatchInfoProducerName", std::string(producer)}}}};
  };
  SchedulingSpec spec;
  spec.burst = BurstSpec{.producer = "bursts"};
  spec.primary.plugins = {scorer("bursts")};
  CHECK(make_profile(spec)->listeners.size() == 1);
  CHECK(make_profile(spec)->uses_prefix);
  spec.primary.plugins = {scorer("other")};
  CHECK(make_profile(spec)->listeners.empty());

  spec.primary.plugins = {scorer("bursts")};
  const auto profile = make_profile(spec);
  PoolBuilder builder(8);
  PrefixIndex index(1024);
  Router router(*profile, index, 1);
  const auto one = hashes(20, 1);
  Features features;
  features.blocks = one;
  const Decision first = router.decide(features, builder.pool, at_ms(5), {});
  router.picked(features, first, at_ms(5));
  for (int i = 0; i < 20; ++i) {
    const Decision next = router.decide(features, builder.pool, at_ms(50), {});
    CHECK(next.endpoint == first.endpoint);
    router.picked(features, next, at_ms(50));
  }
}
