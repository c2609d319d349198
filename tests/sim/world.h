// A whole shard in a simulated world: real downstream server, gateway, router and upstream client on a simulated ring,
// scripted model servers and clients around them, virtual time, seeded faults.
//
// What the checkers hold, for any seed:
//   - every exchange that started has finished once, whatever happened to it;
//   - an answer that a client receives whole is, byte for byte, what the endpoint sent for that request; one that broke
//   is a
//     prefix of it (with at most an error event behind), and the client can tell;
//   - afterwards nothing is left: no socket, no byte of the memory budget, no reserved load, no upstream connection;
//   - when the faults stop, requests succeed again.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/sim_shard.h"

namespace penstock::test {

// Some requests are for model "m" by this name at the model server, which then uses it in its answer.
inline constexpr std::string_view other_model = "served/other-name";
// What a model server answers to request `id`: a function of the id alone, so that every part of the test knows it.
std::string answer_body(uint32_t id);
bool answer_streams(uint32_t id);
std::string request_bytes(uint32_t id, bool last);

// Counts what the gateway says of its exchanges.
class CountingObserver : public proxy::ExchangeObserver {
 public:
  void exchange_started() override { ++started; }
  uint32_t running_began(const proxy::RequestKind&) override { return static_cast<uint32_t>(++running); }
  void running_ended(uint32_t) override { --running; }
  void decision_made(Duration, bool, const endpoints::EndpointState*, std::string_view) override {}
  void attempt_failed(proxy::AttemptFailure failure, bool retried) override {
    ++failures[static_cast<size_t>(failure)];
    if (retried) ++retries;
  }
  void endpoint_ejected(const endpoints::EndpointState&, proxy::Ejection) override { ++ejections; }
  void finished(const proxy::ExchangeRecord& record) override { ++outcomes[static_cast<size_t>(record.outcome)]; }
  void client_connections_changed(int delta) override { connections += delta; }
  void tunnels_changed(int delta) override { tunnels += delta; }
  void limit_hit(std::string_view name) override {
    if (name == "flow_control") ++queue_full;
    if (name == "flow_control_ttl") ++queue_timeouts;
  }

  uint64_t finished_count() const;
  uint64_t queue_full = 0, queue_timeouts = 0;
  uint64_t started = 0, retries = 0, ejections = 0;
  int64_t running = 0, connections = 0, tunnels = 0;
  uint64_t outcomes[proxy::outcome_count] = {};
  uint64_t failures[proxy::attempt_failure_count] = {};
};

// How often a model server misbehaves; probabilities per request.
struct EndpointFaults {
  double close_unanswered = 0, status_503 = 0, cut_body = 0, slow_head = 0, until_close = 0;
  static EndpointFaults swarm(Random& random);
};

class FakeEndpoint;
class FakeClient;

class World {
 public:
  World(uint64_t seed, const SimFaults& network_faults, size_t endpoint_count, const proxy::Options& options = {});
  ~World();

  // One client that sends `requests` one after the other or all at once, and behaves as the seed says.
  void add_client(uint32_t first_id, uint32_t requests, bool well_behaved);
  bool clients_done() const;
  bool anybody_held() const { return shard_->hold().occupied(); }
  void stop_faults();
  // As at the end of a drain: who is held is answered.
  void end_gateway() { shard_->end(); }
  // Tears the gateway down and checks that nothing is left.
  void finish_and_check();

  SimNetwork network;
  CountingObserver observer;
  EndpointFaults endpoint_faults;
  Random random;
  uint64_t whole_answers = 0, broken_answers = 0, refused = 0;

 private:
  friend class FakeClient;
  friend class FakeEndpoint;

  std::vector<std::unique_ptr<FakeEndpoint>> endpoints_;
  std::unique_ptr<SimShard> shard_;
  std::vector<std::unique_ptr<FakeClient>> clients_;
};

}  // namespace penstock::test
