#include "penstock/upstream/client.h"

#include <doctest/doctest.h>

#include <thread>

#include "tests/support/sim_peer.h"

namespace penstock::upstream {
namespace {

using penstock::test::sim_address;
using penstock::test::SimLoop;
using penstock::test::SimNetwork;
using penstock::test::SimPeer;
using penstock::test::SimServer;

struct Sink final : ResponseSink {
  void on_response_head(http::Head& /*head*/) override {}
  void on_response_data(std::string_view /*decoded*/) override {}
  void on_response_raw(std::string_view /*raw*/) override {}
  void on_response_end() override { ended = true; }
  void on_response_failed(Failure /*failure*/, bool /*received*/, bool /*reused*/) override { ended = true; }
  bool ended = false;
};

void await(const std::atomic<int64_t>& value, int64_t wanted, std::memory_order order) {
  while (value.load(order) != wanted) std::this_thread::yield();
}

// The registry of endpoints frees what `open_connections` is part of as soon as it reads zero there, while the shard
// whose connection was the last may still be in the middle of closing it. ThreadSanitizer is the judge of this one.
TEST_CASE("who reads zero open connections may free the counter") {
  auto open = std::make_unique<std::atomic<int64_t>>(0);
  std::atomic<int64_t> go{0};
  std::thread shard([&go, counter = open.get()] {
    SimNetwork network{1};
    SimServer server(network, sim_address(8000), [](SimPeer& peer) {
      peer.on_event = [](SimPeer& p) {
        if (!p.take().empty()) p.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
      };
    });
    SimLoop loop{network};
    Client client(loop.loop(), {});
    const std::string head = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    Sink sink;
    client.start({.key = 3, .incarnation = 1, .address = server.address(), .open_connections = counter},
                 {.pieces = {head}}, sink);
    network.run_for(seconds(1));
    await(go, 1, std::memory_order_relaxed);
    client.drop_idle(3);
    network.run_for(seconds(1));
    go.store(sink.ended ? 2 : 3, std::memory_order_relaxed);
  });
  await(*open, 1, std::memory_order_relaxed);
  go.store(1, std::memory_order_relaxed);
  await(*open, 0, std::memory_order_acquire);
  open.reset();
  shard.join();
  CHECK(go == 2);
}

}  // namespace
}  // namespace penstock::upstream
