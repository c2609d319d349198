// The rules of other routers, each on a pool where what it must choose is plain.
#include <doctest/doctest.h>

#include "penstock/replay/contestant.h"
#include "tests/unit/routing/pool_builder.h"

using namespace penstock;
using namespace penstock::replay;
using routing::test::at_ms;
using routing::test::PoolBuilder;

namespace {

struct Bench {
  explicit Bench(std::string_view policy, size_t endpoints = 3)
      : contestant(make_contestant(policy)), router(*contestant.profile, index, 1), builder(endpoints) {
    for (uint64_t i = 1; i <= 100; ++i) blocks.push_back(i * 0x9e3779b97f4a7c15ull);
    features.prompt_tokens = 1600;
    features.blocks = blocks;
  }
  void cached(size_t endpoint, size_t count) {
    index.bind(builder.state(endpoint).slot, builder.state(endpoint).incarnation);
    index.record(std::span(blocks).first(count), builder.state(endpoint).slot);
  }
  void load(size_t endpoint, int64_t requests, int64_t prefill_tokens = 0, int64_t kv_tokens = 0) {
    builder.state(endpoint).load.requests = requests;
    builder.state(endpoint).load.prefill_tokens = prefill_tokens;
    builder.state(endpoint).load.kv_tokens = kv_tokens;
  }
  // A request of which nobody has anything goes to this endpoint.
  void takes_cold(size_t endpoint) {
    router.picked(features, routing::Decision{.endpoint = &builder.state(endpoint)}, at_ms(1));
  }
  std::string choose() { return router.decide(features, builder.pool, at_ms(1), {}).endpoint->name; }

  Contestant contestant;
  routing::PrefixIndex index{1 << 14};
  routing::Router router;
  PoolBuilder builder;
  std::vector<uint64_t> blocks;
  routing::Features features;
};

}  // namespace

TEST_CASE("names") {
  CHECK(known_contestant("dynamo"));
  CHECK_FALSE(known_contestant("coin"));
  CHECK(known_contestant("dynamo+hold"));
  CHECK_FALSE(known_contestant("coin+hold"));
  CHECK(make_contestant("dynamo+hold").holds);
  CHECK_FALSE(make_contestant("dynamo").holds);
  for (const ContestantInfo& info : contestants()) CHECK(make_contestant(info.name).profile->picker != nullptr);
}

TEST_CASE("llmd-token: warm endpoints only, until their queues are far longer; among them fewest tokens") {
  Bench bench("llmd-token");
  bench.cached(0, 100);
  bench.cached(1, 85);
  bench.load(0, 3, 5000);
  CHECK(bench.choose() == "b");
  bench.load(1, 9, 200'000);
  CHECK(bench.choose() == "a");
  bench.load(0, 9, 300'000);
  bench.load(1, 9, 300'000);
  CHECK(bench.choose() == "c");
}

TEST_CASE("lmetric: tokens to compute, those that wait included, times the batch; SGLang's form without those") {
  for (const bool queued : {true, false}) {
    Bench bench(queued ? "lmetric" : "sglang-lmetric", 2);
    bench.cached(0, 50);
    bench.load(0, 0, 4000);  // queued: (4000 + 800) x 1 against 1600 x 2; else 800 x 1 against 1600 x 2
    bench.load(1, 1);
    CHECK(bench.choose() == (queued ? "b" : "a"));
  }
}

TEST_CASE("dynamo: tokens to compute and blocks in use") {
  Bench bench("dynamo", 2);
  bench.cached(0, 100);
  bench.load(0, 1, 0, 1000);
  CHECK(bench.choose() == "a");  // 0 + 1000 against 1600
  bench.load(0, 1, 0, 2000);
  CHECK(bench.choose() == "b");
}

TEST_CASE("sglang: the longest match when it is long enough and loads are in balance") {
  Bench bench("sglang");
  bench.cached(1, 40);
  bench.load(1, 60);
  CHECK(bench.choose() == "b");
  bench.load(1, 65);  // more than 64 apart, and more than half as much again
  CHECK(bench.choose() != "b");
  Bench brief("sglang");
  brief.cached(1, 20);  // 0.2 of the prompt
  brief.load(0, 1);
  brief.load(1, 1);
  CHECK(brief.choose() == "c");
}

TEST_CASE("aibrix: the longest match among those not far above the mean") {
  Bench bench("aibrix");
  bench.cached(0, 90);
  bench.cached(1, 50);
  CHECK(bench.choose() == "a");
  bench.load(0, 8);  // mean 2.7, sigma 3.8
  CHECK(bench.choose() == "b");
  bench.load(0, 9);  // more than 8 apart: fewest requests
  bench.load(1, 1);
  CHECK(bench.choose() == "c");
}

TEST_CASE("chwbl: the same beginning goes to the same endpoint, until that has more than its share") {
  Bench bench("chwbl");
  const std::string home = bench.choose();
  for (int i = 0; i < 10; ++i) CHECK(bench.choose() == home);
  for (size_t i = 0; i < 3; ++i) bench.load(i, bench.builder.state(i).name == home ? 20 : 1);
  CHECK(bench.choose() != home);
}

TEST_CASE("llmd-blend: a prompt that nobody has goes to who took such a one longest ago") {
  Bench bench("llmd-blend");
  bench.takes_cold(0);
  bench.takes_cold(2);
  CHECK(bench.choose() == "b");
  bench.takes_cold(1);
  CHECK(bench.choose() == "a");
}
