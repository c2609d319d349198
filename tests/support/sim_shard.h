// The parts of a shard, wired as app::Shard wires them, on a simulated ring; endpoints are given by address.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "penstock/objects/desired.h"
#include "penstock/proxy/gateway.h"
#include "tests/support/sim_peer.h"

namespace penstock::test {

class SimShard {
 public:
  static constexpr uint16_t port = 8080;

  // `options` as the gateway's; the body limit, for one, is worth lowering in a test.
  SimShard(SimNetwork& network, const std::vector<net::Address>& endpoint_addresses, proxy::ExchangeObserver& observer,
           const proxy::Options& options = {}, routing::Policy policy = routing::Policy::expected_cost);

  // From now on the pools are these. `models`: what endpoints serve, by name; of others nobody knows.
  using Models = std::map<std::string, std::vector<std::string>>;
  void publish(const objects::Desired& desired, const Models& models = {});
  // One pool of these, as at the beginning.
  void publish(const std::vector<net::Address>& endpoint_addresses);
  // This endpoint answers no health probe.
  void leave_silent(const net::Address& endpoint, std::optional<Instant> unanswered_since = {});
  // Called as app would have it called.
  void on_unreachable(std::function<void(const endpoints::EndpointState&)> hook) {
    context_.endpoint_unreachable = std::move(hook);
  }

  // With options.flow.enabled: the queue of held requests. With options.flow.evicts the objective "batch" is of
  // priority -1.
  proxy::HoldQueue& hold() { return hold_; }

  // As a reload of the configuration.
  void reload(const proxy::Options& options);
  // As when the process is asked to end: first it says so, then no new connections come and those that are there end
  // after their answer.
  void announce_drain() { server_.announce_drain(); }
  void drain();
  // No new connections; held requests are answered.
  void end();
  // A turn later: no connection is left.
  void cut() { server_.cut_all(); }

  MemoryBudget& budget() { return sim_.budget(); }
  net::Address address() const { return sim_address(port); }
  // Ends every connection, lets the network settle, and fails loudly when anything is left: memory budget, reserved
  // load, upstream connections.
  void close_and_check(SimNetwork& network);

 private:
  endpoints::EndpointState* state_of(const std::string& name, const std::string& address);

  SimLoop sim_;
  upstream::Client client_;
  endpoints::SnapshotPublisher publisher_;
  endpoints::SnapshotReader reader_;
  endpoints::EndpointRegistry registry_;
  std::vector<endpoints::EndpointState*> states_;
  std::map<objects::PoolId, uint32_t> pool_ids_;
  routing::PrefixIndex index_;
  std::unique_ptr<routing::Profile> profile_;
  routing::Router router_;
  routing::TokenEstimator tokens_;
  Random random_;
  admission::RetryBudget retries_;
  proxy::HoldQueue hold_;
  proxy::Context context_;
  proxy::Gateway gateway_;
  downstream::Server server_;
};

}  // namespace penstock::test
