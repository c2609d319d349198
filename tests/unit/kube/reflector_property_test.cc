// Any history of objects with any faults: afterwards the sink holds the truth. PENSTOCK_SEEDS sets how many seeds,
// PENSTOCK_SEED runs a single one.
#include <cstdlib>

#include "fake_transport.h"
#include "model_server.h"

namespace penstock::kube::test {
namespace {

uint64_t number_from(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

struct Totals {
  uint64_t lists = 0, streams = 0, lost = 0, restores = 0, undecodable = 0, gets = 0;
  std::array<uint64_t, restart_count> restarts{};
  std::array<uint64_t, relist_count> relists{};
};

std::map<std::string, RecordingSink::Held> truth_of(const ModelServer& server) {
  std::map<std::string, RecordingSink::Held> held;
  for (const auto& [key, object] : server.truth()) held[key] = {object.uid, ModelServer::json_of(object)};
  return held;
}

void run_seed(uint64_t seed, Totals& totals) {
  CAPTURE(seed);
  penstock::test::SimNetwork network(seed);
  penstock::test::SimLoop loop(network);
  Random random(seed * 77);
  const ServerFaults faults = seed % 8 == 0 ? ServerFaults{} : ServerFaults::swarm(random);
  ModelServer server(network, seed * 31, faults);
  RecordingSink sink;
  Reflector reflector(loop.loop(), server, random, "things", {"/api/v1", "things", "", "", ""}, sink);
  reflector.start();
  for (int i = 0; i < 150; ++i) {
    server.change_something();
    network.run_for(milliseconds(random.below(random.chance(0.05) ? 60'000 : 400)));
    if (random.chance(0.1))
      reflector.get_now(random.chance(0.5) ? "one" : "two", "p" + std::to_string(random.below(12)));
    if (random.chance(0.005)) reflector.refresh();
  }
  // Nothing changes and nothing fails any more. Stalls, absence and lost deletions are found in time.
  server.calm();
  const bool honest = faults.lost_delete == 0 && faults.restore == 0 && faults.stall == 0;
  network.run_for(honest ? seconds(150) : seconds(1500));
  if (sink.held != truth_of(server)) {
    MESSAGE("seed " << seed << ": " << name(reflector.status().state) << ", " << reflector.status().last_error);
  }
  CHECK(sink.held == truth_of(server));
  CHECK(reflector.status().synced);
  CHECK(reflector.status().objects == server.truth().size());
  // And what changes from now on arrives at once.
  for (int i = 0; i < 20; ++i) server.change_something();
  network.run_for(seconds(1));
  CHECK(sink.held == truth_of(server));

  const ReflectorStatus status = reflector.status();
  totals.lists += server.lists;
  totals.streams += server.streams;
  totals.lost += server.lost;
  totals.restores += server.restores;
  totals.undecodable += status.undecodable;
  totals.gets += status.gets;
  for (size_t i = 0; i < restart_count; ++i) totals.restarts[i] += status.restarts[i];
  for (size_t i = 0; i < relist_count; ++i) totals.relists[i] += status.relists[i];
}

}  // namespace

TEST_CASE("after any history with any faults the sink holds the truth") {
  Totals totals;
  if (const uint64_t only = number_from("PENSTOCK_SEED", 0); only != 0) return run_seed(only, totals);
  const uint64_t seeds = number_from("PENSTOCK_SEEDS", 400);
  for (uint64_t seed = 1; seed <= seeds; ++seed) run_seed(seed, totals);
  if (seeds < 200) return;
  // The model must reach what it is there for.
  for (const uint64_t count :
       {totals.lists, totals.streams, totals.lost, totals.restores, totals.undecodable, totals.gets}) {
    CHECK(count > 20);
  }
  for (const Restart reason :
       {Restart::timeout, Restart::cut, Restart::connect, Restart::stalled, Restart::too_short, Restart::expired,
        Restart::too_large, Restart::overloaded, Restart::unauthorized, Restart::forbidden, Restart::absent,
        Restart::server_error, Restart::framing, Restart::no_watch_list}) {
    CAPTURE(name(reason));
    CHECK(totals.restarts[static_cast<size_t>(reason)] > 0);
  }
  for (size_t reason = 0; reason < relist_count; ++reason) {
    CAPTURE(name(static_cast<Relist>(reason)));
    if (static_cast<Relist>(reason) == Relist::absent) continue;  // three 404s in a row: reflector_test.cc has them
    CHECK(totals.relists[reason] > 0);
  }
}

}  // namespace penstock::kube::test
