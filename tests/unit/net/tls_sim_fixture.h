// A TLS server and its clients on the simulated network.
#pragma once

#include <vector>

#include "tests/support/sim_peer.h"
#include "tests/unit/net/tls_fixture.h"

namespace penstock::net::test {

// Accepts streams; its loop is `sim`.
class TlsServerEnd final : public AcceptEvents {
 public:
  TlsServerEnd(penstock::test::SimLoop& sim, std::shared_ptr<const TlsServerContext> context)
      : runtime(sim.loop(), sim.pool()), loop_(sim.loop()), accept_{&runtime, std::move(context)} {
    listener_ = *loop_.ring().listen(penstock::test::sim_address(0), false, *this, &address);
  }
  ~TlsServerEnd() {
    ends.clear();
    loop_.ring().close_listener(listener_);
  }
  void use(std::shared_ptr<const TlsServerContext> context) { accept_.context = std::move(context); }
  End& last() { return *ends.back(); }
  const TlsStats& stats() const { return runtime.server_stats(); }
  uint64_t failed(TlsFailure why) const { return stats().failed[static_cast<size_t>(why)].get(); }

  void on_accept(int fd) override {
    ends.push_back(std::make_unique<End>(loop_));
    ends.back()->stream.adopt(fd, *ends.back(), &accept_);
    if (when_accepted) when_accepted(*ends.back());
  }
  void on_accept_error(int) override {}

  Address address;
  TlsRuntime runtime;
  std::vector<std::unique_ptr<End>> ends;
  std::function<void(End&)> when_accepted;

 private:
  EventLoop& loop_;
  TlsAccept accept_;
  SocketId listener_;
};

struct Simulated {
  explicit Simulated(const TlsServerOptions& options = server_options(), uint64_t seed = 1,
                     const penstock::test::SimFaults& faults = {}, size_t budget = 64 * 1024 * 1024)
      : network(seed, faults),
        server_loop(network, budget),
        client_loop(network, budget),
        client_runtime(client_loop.loop(), client_loop.pool()),
        server(server_loop, server_context(options)) {}

  std::unique_ptr<End> connect(const TlsClientOptions& options = client_options(),
                               std::shared_ptr<TlsSession> session = nullptr) {
    return connect(client_context(options), std::move(session));
  }
  std::unique_ptr<End> connect(std::shared_ptr<const TlsClientContext> context,
                               std::shared_ptr<TlsSession> session = nullptr) {
    auto end = std::make_unique<End>(client_loop.loop());
    const TlsConnect connect{.runtime = &client_runtime, .context = std::move(context), .session = std::move(session)};
    REQUIRE(end->stream.connect(server.address, *end, &connect) == 0);
    return end;
  }
  // Until both sides have the handshake behind them, or one has failed.
  bool settle(End& client) {
    const bool done = network.run_until([&] {
      if (client.error != 0) return true;
      return client.connected && !server.ends.empty() && server.last().received == "hello";
    });
    return done && client.error == 0 && server.last().error == 0;
  }
  bool talks(End& client) {
    client.send("hello");
    return settle(client);
  }

  penstock::test::SimNetwork network;
  penstock::test::SimLoop server_loop, client_loop;
  TlsRuntime client_runtime;
  TlsServerEnd server;
};

}  // namespace penstock::net::test
