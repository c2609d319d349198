// Counts of how often prefixes were used lately.
#include "penstock/routing/prefix_uses.h"

#include <doctest/doctest.h>

#include "penstock/routing/router.h"
#include "tests/unit/routing/pool_builder.h"

using namespace penstock;
using namespace penstock::routing;
using routing::test::at_ms;
using routing::test::PoolBuilder;

namespace {
constexpr uint64_t prefix = 0x9e3779b97f4a7c15, same_cell = prefix ^ uint64_t { 1 } << 60;
}

TEST_CASE("uses are counted, and fade") {
  PrefixUses uses;
  CHECK(uses.count(prefix, at_ms(0)) == 0);
  for (int i = 0; i < 10; ++i) uses.add(prefix, at_ms(1000));
  CHECK(uses.count(prefix, at_ms(1000)) == 10);
  CHECK(uses.count(prefix, at_ms(6000)) == doctest::Approx(10 / 2.718).epsilon(0.01));
  CHECK(uses.count(prefix, at_ms(60'000)) < 0.01);
  uses.add(prefix, at_ms(60'000));
  CHECK(uses.count(prefix, at_ms(60'000)) < 1.01);
}

TEST_CASE("a steady rate counts as its uses in the memory") {
  PrefixUses uses;
  for (int ms = 0; ms < 60'000; ms += 50) uses.add(prefix, at_ms(ms));
  CHECK(uses.count(prefix, at_ms(60'000)) == doctest::Approx(20 * PrefixUses::memory_seconds).epsilon(0.03));
}

TEST_CASE("shards whose turns began at other times lose nothing of each other's uses") {
  PrefixUses uses;
  for (int ms = 0; ms < 20'000; ms += 2) {
    uses.add(prefix, at_ms(100'000 + ms));
    uses.add(prefix, at_ms(100'000 + ms - 3));
    REQUIRE(uses.count(prefix, at_ms(100'000 + ms - 3)) >= 2);
  }
  CHECK(uses.count(prefix, at_ms(120'000)) == doctest::Approx(1000 * PrefixUses::memory_seconds).epsilon(0.03));
}

TEST_CASE("of two prefixes in one cell the later counts") {
  PrefixUses uses;
  uses.add(prefix, at_ms(0), 7);
  CHECK(uses.count(same_cell, at_ms(0)) == 0);
  uses.add(same_cell, at_ms(0));
  CHECK(uses.count(same_cell, at_ms(0)) == 1);
  CHECK(uses.count(prefix, at_ms(0)) == 0);
}

TEST_CASE("what was read is the same when it is added again, and absurd counts are cut") {
  PrefixUses uses, again;
  for (int ms = 0; ms < 3000; ms += 70) uses.add(prefix, at_ms(ms));
  const double count = uses.count(prefix, at_ms(3100));
  again.add(prefix, at_ms(3100), count);
  CHECK(again.count(prefix, at_ms(3100)) == count);
  again.add(prefix, at_ms(3100), 1e300);
  CHECK(again.count(prefix, at_ms(3100)) == doctest::Approx(65'536));
  again.add(prefix, at_ms(3100), -1e300);
  CHECK(again.count(prefix, at_ms(3100)) == 0);
}

TEST_CASE("what is counted is the longest prefix that any endpoint holds, when a decision is followed") {
  PoolBuilder builder(2);
  PrefixIndex index(1024);
  const auto profile = make_profile(Policy::expected_cost);
  Router router(*profile, index, 1);
  const std::vector<uint64_t> blocks = {11, 22, 33, 44};
  index.bind(builder.state(0).slot, builder.state(0).incarnation);
  index.record(std::span(blocks).first(3), builder.state(0).slot);
  Features features;
  features.prompt_tokens = 64;
  features.blocks = blocks;
  const Decision decision = router.decide(features, builder.pool, at_ms(1), {});
  CHECK(decision.prefix == 33);
  CHECK(index.uses().count(33, at_ms(1)) == 0);
  router.picked(features, decision, at_ms(1));
  CHECK(index.uses().count(33, at_ms(1)) == 1);
  const std::vector<uint64_t> unknown = {55};
  features.blocks = unknown;
  CHECK(router.decide(features, builder.pool, at_ms(1), {}).prefix == 0);
}
