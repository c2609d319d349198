#include <doctest/doctest.h>

#include "penstock/routing/router.h"
#include "tests/unit/epp/plugin_spec.h"
#include "tests/unit/routing/pool_builder.h"

using namespace penstock;
using namespace penstock::routing;
using namespace penstock::routing::test;
using namespace penstock::epp;
using namespace penstock::epp::test;

namespace {

Scores scores_of(std::string_view type, const PoolBuilder& builder, const Features& features = {},
                 Instant now = at_ms(0), std::vector<uint32_t> matched = {}) {
  std::vector<Candidate> candidates;
  for (const auto& view : builder.pool.endpoints) candidates.push_back({&view});
  for (size_t i = 0; i < matched.size(); ++i) candidates[i].matched_blocks = matched[i];
  Scores scores(candidates.size(), -7);
  Random random(1);
  const auto scorer = make_scorer(plugin(type));
  REQUIRE(scorer != nullptr);
  CHECK(scorer->type() == type);
  scorer->score({features, now, random}, candidates, scores);
  return scores;
}

}  // namespace

TEST_CASE("scorers without options score nobody where there is nobody") {
  for (const std::string_view type :
       {"queue-scorer", "kv-cache-utilization-scorer", "prefix-cache-scorer", "running-requests-size-scorer",
        "lora-affinity-scorer", "least-load-scorer", "expected-cost-scorer", "precise-prefix-cache-scorer"}) {
    CAPTURE(type);
    CHECK(scores_of(type, PoolBuilder(0)).empty());
  }
}

TEST_CASE("queue-scorer: the shortest queue 1, the longest 0, equal queues 1") {
  PoolBuilder builder(3);
  CHECK(scores_of("queue-scorer", builder) == Scores{1, 1, 1});
  builder.view(0).metrics.waiting = 10;
  builder.view(1).metrics.waiting = 5;
  CHECK(scores_of("queue-scorer", builder) == Scores{0, 0.5, 1});
}

TEST_CASE("queue-scorer counts what was sent since the scrape") {
  PoolBuilder builder(2);
  builder.view(0).metrics.requests_at_scrape = 3;
  builder.state(0).load.requests = 3;
  CHECK(scores_of("queue-scorer", builder) == Scores{1, 1});
  builder.state(0).load.requests = 4;
  CHECK(scores_of("queue-scorer", builder) == Scores{0, 1});
}

TEST_CASE("queue-scorer: an endpoint that was never scraped, or not lately, counts all it was given as waiting") {
  PoolBuilder builder(3);
  builder.view(0).metrics.known = false;
  builder.state(0).load.requests = 4;
  builder.view(1).metrics.waiting = 1;
  builder.state(1).load.requests = 8;
  builder.view(1).metrics.requests_at_scrape = 8;
  CHECK(scores_of("queue-scorer", builder) == Scores{0, 0.75, 1});
  // After two seconds nobody's gauge counts any more.
  CHECK(scores_of("queue-scorer", builder, {}, at_ms(2000)) == Scores{0, 0.75, 1});
  CHECK(scores_of("queue-scorer", builder, {}, at_ms(2001)) == Scores{0.5, 0, 1});
}

TEST_CASE("kv-cache-utilization-scorer: what is free; unknown endpoints get the mean of the known") {
  PoolBuilder builder(3);
  builder.view(0).metrics.kv_usage = 0.25;
  builder.view(1).metrics.kv_usage = 0.75;
  builder.view(2).metrics.known = false;
  CHECK(scores_of("kv-cache-utilization-scorer", builder) == Scores{0.75, 0.25, 0.5});
  builder.view(1).metrics.known = false;
  CHECK(scores_of("kv-cache-utilization-scorer", builder) == Scores{0.75, 0.75, 0.75});
  CHECK(scores_of("kv-cache-utilization-scorer", builder, {}, at_ms(5000)) == Scores{0.5, 0.5, 0.5});
  builder.view(0).metrics.kv_usage = 7;
  CHECK(scores_of("kv-cache-utilization-scorer", builder)[0] == 0);
}

TEST_CASE("prefix-cache-scorer: the matched share of the prompt") {
  const PoolBuilder builder(3);
  const std::vector<uint64_t> blocks(8);
  Features features;
  features.blocks = blocks;
  CHECK(scores_of("prefix-cache-scorer", builder, features, at_ms(0), {8, 2, 0}) == Scores{1, 0.25, 0});
  CHECK(scores_of("prefix-cache-scorer", builder) == Scores{0, 0, 0});
}

TEST_CASE("running-requests-size-scorer ranks by the running gauge, or by our own in flight when unknown") {
  PoolBuilder builder(3);
  builder.view(0).metrics.running = 4;
  builder.view(1).metrics.running = 2;
  builder.view(2).metrics.known = false;
  builder.state(2).load.requests = 3;
  CHECK(scores_of("running-requests-size-scorer", builder) == Scores{0, 1, 0.5});
}

TEST_CASE("least-load-scorer counts waiting and running of any origin, at least our own") {
  PoolBuilder builder(3);
  builder.view(0).metrics.waiting = 1;
  builder.view(0).metrics.running = 3;
  builder.state(1).load.requests = 2;
  builder.view(1).metrics.requests_at_scrape = 2;  // sent, but not yet in the engine's gauges
  CHECK(scores_of("least-load-scorer", builder) == Scores{0, 0.5, 1});
}

TEST_CASE("lora-affinity-scorer: active 1, room 0.8, waiting 0.6, else 0") {
  PoolBuilder builder(4);
  builder.view(0).metrics.running_loras = {"x", "tuned"};
  builder.view(0).metrics.max_loras = 2;
  builder.view(1).metrics.running_loras = {"x"};
  builder.view(1).metrics.max_loras = 2;
  builder.view(2).metrics.running_loras = {"x"};
  builder.view(2).metrics.waiting_loras = {"tuned"};
  builder.view(2).metrics.max_loras = 2;
  builder.view(3).metrics.running_loras = {"x", "y"};
  builder.view(3).metrics.max_loras = 2;
  Features features;
  features.model = "tuned";
  CHECK(scores_of("lora-affinity-scorer", builder, features) == Scores{1, 0.8, 0.6, 0});
}
