// Thousands of seeds through a whole shard. PENSTOCK_SEEDS sets how many, PENSTOCK_SEED runs a single one.
#include <doctest/doctest.h>

#include <cstdlib>

#include "world.h"

namespace penstock::test {
namespace {

uint64_t number_from(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

struct Totals {
  uint64_t whole = 0, broken = 0, refused = 0, retries = 0, gone = 0;
};

void run_seed(uint64_t seed, Totals& totals) {
  World world(seed, SimFaults::swarm(seed), 1 + seed % 3);
  world.endpoint_faults = EndpointFaults::swarm(world.random);
  const uint32_t clients = 1 + static_cast<uint32_t>(world.random.below(6));
  for (uint32_t i = 0; i < clients; ++i) {
    world.add_client(i * 10, 1 + static_cast<uint32_t>(world.random.below(5)), world.random.chance(0.5));
  }
  world.network.run_until([&] { return world.clients_done(); }, seconds(3000));
  if (!world.clients_done()) world.network.fail("a client waits for ever");

  // Faults stop; what was ejected comes back, and then everything must work.
  world.stop_faults();
  world.network.run_for(seconds(90));
  const uint64_t before = world.whole_answers;
  world.add_client(1000, 3, /*well_behaved=*/true);
  world.network.run_until([&] { return world.clients_done(); }, seconds(600));
  if (world.whole_answers != before + 3) world.network.fail("requests do not succeed after the faults have stopped");

  totals.whole += world.whole_answers;
  totals.broken += world.broken_answers;
  totals.refused += world.refused;
  totals.retries += world.observer.retries;
  totals.gone += world.observer.outcomes[static_cast<size_t>(proxy::Outcome::client_gone)];
  world.finish_and_check();
}

TEST_CASE("A shard keeps its promises under any mixture of faults") {
  Totals totals;
  if (const uint64_t only = number_from("PENSTOCK_SEED", 0); only != 0) return run_seed(only, totals);
  const uint64_t seeds = number_from("PENSTOCK_SEEDS", 2000);
  for (uint64_t seed = 1; seed <= seeds; ++seed) run_seed(seed, totals);
  // The simulation must reach what it is there for.
  CHECK(totals.whole > seeds);
  CHECK(totals.broken > seeds / 100);
  CHECK(totals.refused > seeds / 100);
  CHECK(totals.retries > seeds / 100);
  CHECK(totals.gone > seeds / 100);
}

TEST_CASE("Without faults every request of every client is answered whole") {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    World world(seed, SimFaults::none(), 3);
    for (uint32_t i = 0; i < 8; ++i) world.add_client(i * 10, 5, /*well_behaved=*/true);
    world.network.run_until([&] { return world.clients_done(); }, seconds(600));
    CHECK(world.whole_answers == 40);
    CHECK(world.observer.retries == 0);
    world.finish_and_check();
  }
}

TEST_CASE("A dead endpoint costs no request") {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    World world(seed, SimFaults::none(), 3);
    world.endpoint_faults.close_unanswered = 0.15;
    for (uint32_t i = 0; i < 8; ++i) world.add_client(i * 10, 5, /*well_behaved=*/true);
    world.network.run_until([&] { return world.clients_done(); }, seconds(600));
    CHECK(world.broken_answers == 0);
    CHECK(world.whole_answers + world.refused == 40);
    CHECK(world.whole_answers >= 36);
    world.finish_and_check();
  }
}

}  // namespace
}  // namespace penstock::test
