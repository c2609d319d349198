#include "tests/support/sim_shard.h"

namespace penstock::test {

SimShard::SimShard(SimNetwork& network, const std::vector<net::Address>& endpoint_addresses,
                   proxy::ExchangeObserver& observer, const proxy::Options& options)
    : sim_(network),
      client_(sim_.loop(), {}),
      publisher_(1),
      reader_(publisher_, 0),
      index_(1 << 12),
      profile_(routing::make_profile(routing::Policy::epp_default)),
      router_(*profile_, index_, network.seed()),
      random_(network.seed()),
      retries_({}),
      context_{.loop = sim_.loop(),
               .client = client_,
               .router = router_,
               .hash_prompts = true,
               .index = index_,
               .tokens = tokens_,
               .budget = sim_.budget(),
               .random = random_,
               .observer = observer,
               .retries = retries_,
               .snapshots = reader_,
               .options = options},
      gateway_(context_),
      server_(sim_.loop(), sim_.pool(), gateway_, {}) {
  sim_.loop().set_turn_hook([this] { reader_.end_turn(); });
  auto snapshot = std::make_unique<endpoints::Snapshot>();
  snapshot->pools.push_back({.name = "sim"});
  for (const net::Address& at : endpoint_addresses) {
    const std::string address = at.to_string();
    states_.push_back(&registry_.find_or_add(address, "http://" + address, address, address));
    snapshot->pools.front().endpoints.push_back({.state = states_.back()});
  }
  publisher_.publish(std::move(snapshot));
  if (!server_.listen(address(), true).ok()) network.fail("the gateway cannot listen");
}

void SimShard::close_and_check(SimNetwork& network) {
  server_.stop_listening();
  server_.cut_all();
  client_.drop_all_idle();
  network.run_for(seconds(10));
  if (server_.connections() != 0) network.fail("a client connection is left");
  if (gateway_.in_flight() != 0) network.fail("an exchange is left");
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
