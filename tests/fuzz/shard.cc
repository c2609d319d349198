// A whole shard fed from a byte script: what one client sends, what one endpoint answers, when either hangs up, and how
// the network cuts it into pieces. Nothing that peers do may make the gateway assert, leak, or forget an exchange.
//
// Script: seed (1 byte), then steps of {operation, length, bytes}. Operations, by the low two bits: 0 the client sends
// the bytes, 1 the endpoint sends them (on every connection it has), 2 time passes (length x 10 ms), 3 one side hangs
// up.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "tests/support/sim_shard.h"

namespace penstock::test {
namespace {

class Counter final : public proxy::ExchangeObserver {
 public:
  void exchange_started() override { ++open; }
  void running_changed(const proxy::RequestKind&, int) override {}
  void decision_made(Duration, bool, const endpoints::EndpointState*, std::string_view) override {}
  void attempt_failed(proxy::AttemptFailure, bool) override {}
  void endpoint_ejected(const endpoints::EndpointState&) override {}
  void finished(const proxy::ExchangeRecord&) override { --open; }
  void client_connections_changed(int) override {}
  void limit_hit(std::string_view) override {}
  int64_t open = 0;
};

// True when the client will send no more.
bool hang_up(uint8_t how, SimPeer& client, SimServer& endpoint) {
  if (how & 4) client.close(/*reset=*/(how & 8) != 0);
  else if (how & 16) client.finish();
  if (how & (4 | 16)) return true;
  for (const auto& peer : endpoint.peers()) peer->close(/*reset=*/(how & 8) != 0);
  return false;
}

void run(std::string_view script) {
  const uint64_t seed = script.empty() ? 0 : static_cast<uint8_t>(script[0]);
  SimFaults faults = SimFaults::none();
  faults.fragment = faults.short_delivery = faults.short_send = seed % 2 == 0 ? 0.5 : 0;
  SimNetwork network(seed, faults);
  Counter counter;
  {
    SimServer endpoint(network, sim_address(9000));
    proxy::Options options;
    options.body_bytes_max = 4096;
    SimShard shard(network, {endpoint.address()}, counter, options);
    SimPeer client(network);
    client.connect(shard.address());
    bool client_sends = true;
    for (size_t at = 1; at + 2 <= script.size();) {
      const auto operation = static_cast<uint8_t>(script[at]);
      const size_t length = static_cast<uint8_t>(script[at + 1]) | (operation & 64 ? 256u : 0u);
      const std::string_view bytes = script.substr(at + 2, length);
      at += 2;
      if (operation % 4 < 2) at += bytes.size();
      if (operation % 4 == 0 && client_sends) client.send(bytes);
      if (operation % 4 == 1)
        for (const auto& peer : endpoint.peers()) peer->send(bytes);
      if (operation % 4 == 2) network.run_for(milliseconds(static_cast<int64_t>(length) * 10));
      if (operation % 4 == 3 && hang_up(operation, client, endpoint)) client_sends = false;
      network.run_for(milliseconds(5));
    }
    client.close();
    for (const auto& peer : endpoint.peers()) peer->close();
    network.run_for(seconds(2));
    shard.close_and_check(network);
  }
  if (counter.open != 0) std::abort();
}

}  // namespace
}  // namespace penstock::test

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  penstock::test::run({reinterpret_cast<const char*>(data), size});
  return 0;
}
