// Flow control in a whole shard: more clients than the endpoints take at once, with and without faults.
// PENSTOCK_SEEDS sets how many seeds, PENSTOCK_SEED runs a single one.
#include <doctest/doctest.h>

#include <cstdlib>

#include "world.h"

namespace penstock::test {
namespace {

proxy::Options one_request_each() {
  proxy::Options options;
  options.flow.enabled = true;
  options.flow.detector.detector = admission::Detector::concurrency;
  options.flow.detector.concurrency = 1;
  return options;
}

struct Totals {
  uint64_t held = 0, full = 0, timed_out = 0, whole = 0, gone = 0, evicted = 0;
};

void run_seed(uint64_t seed, Totals& totals) {
  Random random(seed * 31);
  proxy::Options options = one_request_each();
  options.flow.band.ordering = static_cast<admission::Ordering>(random.below(4));
  options.flow.band.fairness = static_cast<admission::Fairness>(random.below(2));
  if (random.chance(0.3)) options.flow.requests_max = 1 + random.below(3);
  if (random.chance(0.5)) options.flow.ttl = milliseconds(static_cast<int64_t>(1 + random.below(500)));
  options.flow.no_endpoint_ttl = random.chance(0.2) ? seconds(1) : Duration{0};
  if (random.chance(0.2)) options.flow.detector.detector = admission::Detector::late_binding;
  options.flow.evicts = random.chance(0.5);
  options.flow.band_given = random.chance(0.5);  // so that those of negative priority wait, too
  World world(seed, SimFaults::swarm(seed), 1 + seed % 3, options);
  world.endpoint_faults = EndpointFaults::swarm(world.random);
  const uint32_t clients = 3 + static_cast<uint32_t>(world.random.below(8));
  for (uint32_t i = 0; i < clients; ++i) {
    world.add_client(i * 10, 1 + static_cast<uint32_t>(world.random.below(4)), world.random.chance(0.5));
  }
  bool held = false;
  const auto done = [&] {
    held |= world.anybody_held();
    return world.clients_done();
  };
  world.network.run_until(done, seconds(3000));
  if (!world.clients_done()) world.network.fail("a client waits for ever");
  totals.held += held;
  totals.full += world.observer.queue_full;
  totals.timed_out += world.observer.queue_timeouts;
  totals.whole += world.whole_answers;
  totals.gone += world.observer.outcomes[static_cast<size_t>(proxy::Outcome::client_gone)];
  totals.evicted += world.observer.outcomes[static_cast<size_t>(proxy::Outcome::evicted)];
  world.finish_and_check();
}

TEST_CASE("Held requests end once, the queue empties, nothing is left, whatever goes wrong") {
  const char* const only = std::getenv("PENSTOCK_SEED");
  const char* const count = std::getenv("PENSTOCK_SEEDS");
  Totals totals;
  if (only != nullptr) return run_seed(std::strtoull(only, nullptr, 10), totals);
  const uint64_t seeds = count == nullptr ? 1000 : std::strtoull(count, nullptr, 10);
  for (uint64_t seed = 1; seed <= seeds; ++seed) run_seed(seed, totals);
  // The simulation must reach what it is there for.
  CHECK(totals.held > seeds / 3);
  CHECK(totals.full > seeds / 20);
  CHECK(totals.timed_out > seeds / 20);
  CHECK(totals.whole > seeds);
  CHECK(totals.gone > seeds / 20);
  CHECK(totals.evicted > seeds / 40);
}

TEST_CASE("Without faults and limits, whoever waits is served") {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    World world(seed, SimFaults::none(), 2, one_request_each());
    for (uint32_t i = 0; i < 10; ++i) world.add_client(i * 10, 4, /*well_behaved=*/true);
    bool held = false;
    world.network.run_until(
        [&] {
          held |= world.anybody_held();
          return world.clients_done();
        },
        seconds(600));
    CHECK(held);
    CHECK(world.whole_answers == 40);
    CHECK(world.refused == 0);
    world.finish_and_check();
  }
}

TEST_CASE("When the gateway ends, everybody is answered") {
  World world(7, SimFaults::none(), 1, one_request_each());
  world.endpoint_faults.slow_head = 1;
  for (uint32_t i = 0; i < 5; ++i) world.add_client(i * 10, 2, /*well_behaved=*/true);
  world.network.run_until([&] { return world.observer.started == 5; }, seconds(10));
  world.network.run_for(milliseconds(20));  // all have sent their bodies, the server has not answered
  REQUIRE(world.anybody_held());
  world.end_gateway();
  world.network.run_until([&] { return world.clients_done(); }, seconds(60));
  // Those that wait and the one that is under way. Of their second requests one finds the server free; the others do
  // not wait.
  CHECK(world.refused == 9);
  CHECK(world.observer.outcomes[static_cast<size_t>(proxy::Outcome::draining)] == 9);
  world.finish_and_check();
}

}  // namespace
}  // namespace penstock::test
