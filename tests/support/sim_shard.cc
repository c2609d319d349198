#include "tests/support/sim_shard.h"

#include <algorithm>

namespace penstock::test {

SimShard::SimShard(SimNetwork& network, const std::vector<net::Address>& endpoint_addresses,
                   proxy::ExchangeObserver& observer, const proxy::Options& options, routing::Policy policy)
    : sim_(network),
      client_(sim_.loop(), {}),
      publisher_(1),
      reader_(publisher_, 0),
      index_(1 << 12),
      profile_(routing::make_profile(policy)),
      router_(*profile_, index_, network.seed()),
      random_(network.seed()),
      retries_({}),
      hold_(options.flow, sim_.loop().clock()),
      context_{.loop = sim_.loop(),
               .client = client_,
               .router = router_,
               .hash_prompts = true,
               .chain_hash = {},
               .index = index_,
               .tokens = tokens_,
               .budget = sim_.pool().budget(),
               .random = random_,
               .observer = observer,
               .retries = retries_,
               .snapshots = reader_,
               .options = options,
               .hold = &hold_},
      gateway_(context_),
      server_(sim_.loop(), sim_.pool(), gateway_, {.http2 = {.enabled = true}}) {
  sim_.loop().set_turn_hook([this] { reader_.end_turn(); });
  publish(endpoint_addresses);
  if (!server_.listen(address(), true).ok()) network.fail("the gateway cannot listen");
}

void SimShard::publish(const std::vector<net::Address>& endpoint_addresses) {
  auto snapshot = std::make_unique<endpoints::Snapshot>();
  snapshot->pools.push_back({.name = "sim"});
  if (context_.options.flow.evicts) {
    const std::vector<std::pair<std::string, int32_t>> objectives = {{"batch", -1}};
    snapshot->pools.front().objectives = std::make_shared<objects::Objectives>(objectives);
  }
  for (const net::Address& at : endpoint_addresses) {
    const std::string address = at.to_string();
    snapshot->pools.front().endpoints.push_back({.state = state_of(address, address)});
  }
  publisher_.publish(std::move(snapshot));
}

void SimShard::leave_silent(const net::Address& endpoint, std::optional<Instant> unanswered_since) {
  const std::string address = endpoint.to_string();
  for (const endpoints::EndpointState* state : states_) {
    if (state->address == address) gateway_.leave_silent(state->slot, state->incarnation, unanswered_since);
  }
}

endpoints::EndpointState* SimShard::state_of(const std::string& name, const std::string& address) {
  endpoints::EndpointState* const state = &registry_.find_or_add(name, "http://" + address, address, address);
  if (std::find(states_.begin(), states_.end(), state) == states_.end()) states_.push_back(state);
  return state;
}

void SimShard::publish(const objects::Desired& desired, const Models& models) {
  auto snapshot = std::make_unique<endpoints::Snapshot>();
  snapshot->routes = desired.routes;
  for (const auto& wanted : desired.pools) {
    const auto id = pool_ids_.try_emplace(wanted->id, static_cast<uint32_t>(pool_ids_.size()) + 1).first->second;
    endpoints::Pool& pool = snapshot->pools.emplace_back();
    pool.id = id;
    pool.name = wanted->id.label();
    pool.rewrites = wanted->rewrites;
    pool.objectives = wanted->objectives;
    for (const auto& endpoint : wanted->endpoints) {
      const std::string address = endpoint->ip + ':' + std::to_string(endpoint->port);
      const auto known = models.find(endpoint->name);
      pool.endpoints.push_back({.state = state_of(endpoint->name, address),
                                .models = known == models.end() ? std::vector<std::string>() : known->second});
    }
  }
  for (const objects::PoolId& id : desired.routes->pools()) {
    const auto at =
        std::find_if(desired.pools.begin(), desired.pools.end(), [&](const auto& p) { return p->id == id; });
    snapshot->route_pools.push_back(static_cast<uint32_t>(at - desired.pools.begin()));
  }
  publisher_.publish(std::move(snapshot));
}

void SimShard::reload(const proxy::Options& options) {
  context_.options = options;
  hold_.set_options(options.flow);
  hold_.room_made(*publisher_.current(), sim_.loop().now());
}

void SimShard::drain() {
  server_.stop_listening();
  server_.drain();
}

void SimShard::end() {
  hold_.close();
  server_.stop_listening();
  server_.announce_end();
}

void SimShard::close_and_check(SimNetwork& network) {
  end();
  cut();
  client_.drop_all_idle();
  network.run_for(seconds(10));
  if (server_.connections() != 0) network.fail("a client connection is left");
  if (gateway_.in_flight() != 0) network.fail("an exchange is left");
  if (hold_.occupied()) network.fail("a request is still held");
  if (sim_.budget().used() != 0) network.fail("memory budget is not given back");
  for (const endpoints::EndpointState* state : states_) {
    const endpoints::LoadCounters& load = state->load;
    if (load.requests != 0 || load.prefill_tokens != 0 || load.kv_tokens != 0 || load.decoding != 0) {
      network.fail("reserved load is not given back");
    }
    if (state->connections != 0) network.fail("an upstream connection is left");
  }
}

}  // namespace penstock::test
