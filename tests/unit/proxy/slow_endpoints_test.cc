#include "src/proxy/slow_endpoints.h"

#include <doctest/doctest.h>

#include "penstock/base/random.h"

namespace penstock::proxy {
namespace {

// Endpoints of pool 0 by slot; how long each stream is silent when one looks.
struct Bench {
  const std::vector<SlowEndpoints::Found>& look(const std::vector<std::vector<Duration>>& endpoints,
                                                uint32_t pool = 0) {
    slow.begin();
    for (uint32_t slot = 0; slot < endpoints.size(); ++slot) {
      for (const Duration silent_for : endpoints[slot]) slow.saw(pool, slot, 1, silent_for);
    }
    return slow.end();
  }
  // Streams with this time per token, looked at whenever.
  std::vector<Duration> moving(Duration per_token, size_t streams) {
    std::vector<Duration> out;
    for (size_t i = 0; i < streams; ++i) {
      out.emplace_back(static_cast<int64_t>(random.below(static_cast<uint64_t>(per_token.count()))));
    }
    return out;
  }
  SlowOptions options;
  SlowEndpoints slow{options};
  Random random{1};
};

TEST_CASE("an endpoint whose streams all stand still is found where another one's move") {
  Bench bench;
  const std::vector<Duration> still(3, seconds(6)), nearly{seconds(6), seconds(6), seconds(4)}, few(2, seconds(60));
  const auto moves = bench.moving(milliseconds(50), 1);
  CHECK(bench.look({nearly, moves}).empty());
  CHECK(bench.look({few, moves}).empty());
  CHECK(bench.look({still, still}).empty());  // it is the gateway that stood still
  CHECK(bench.look({still}).empty());
  const auto& found = bench.look({still, moves, still});
  REQUIRE(found.size() == 1);  // one at a time
  CHECK(found[0].slot == 0);
  CHECK(found[0].wedged);
  CHECK(found[0].pause == seconds(6));
  bench.options.wedged = Duration{0};
  CHECK(bench.look({still, moves}).empty());
}

TEST_CASE("an endpoint far slower than the median of its pool is found, after so many looks in a row") {
  Bench bench;
  const auto look = [&](Duration slow) {
    return bench.look({bench.moving(slow, 5), bench.moving(milliseconds(40), 5), bench.moving(milliseconds(60), 5)});
  };
  for (size_t i = 0; i + 1 < SlowEndpoints::looks; ++i) CHECK(look(milliseconds(1500)).empty());
  const auto found = look(milliseconds(1500));
  REQUIRE(found.size() == 1);
  CHECK(found[0].slot == 0);
  CHECK(!found[0].wedged);
  CHECK(found[0].pause > milliseconds(500));
  CHECK(look(milliseconds(1500)).empty());  // the evidence is used up
  bench.options.factor = 0;
  for (size_t i = 0; i < 2 * SlowEndpoints::looks; ++i) CHECK(look(milliseconds(1500)).empty());
}

TEST_CASE("a factor below the limit, a pause that prefill explains and too few streams are no evidence") {
  Bench bench;
  for (size_t i = 0; i < 100; ++i) {
    CHECK(bench.look({bench.moving(milliseconds(500), 5), bench.moving(milliseconds(90), 5)}).empty());
    CHECK(bench.look({bench.moving(milliseconds(300), 5), bench.moving(milliseconds(8), 5)}, 1).empty());
    CHECK(bench.look({bench.moving(seconds(4), 2), bench.moving(milliseconds(8), 5)}, 2).empty());
  }
}

TEST_CASE("pools are judged apart, and a look without enough streams begins anew") {
  Bench bench;
  for (size_t i = 0; i < 3 * SlowEndpoints::looks; ++i) {
    bench.slow.begin();
    for (const Duration d : bench.moving(seconds(2), 5)) bench.slow.saw(1, 0, 1, d);
    for (const Duration d : bench.moving(milliseconds(20), 5)) bench.slow.saw(2, 1, 1, d);
    CHECK(bench.slow.end().empty());
    const size_t streams = i % (SlowEndpoints::looks - 1) == 0 ? 1 : 5;
    CHECK(bench.look({bench.moving(seconds(2), streams), bench.moving(milliseconds(20), 5)}, 3).empty());
  }
}

}  // namespace
}  // namespace penstock::proxy
