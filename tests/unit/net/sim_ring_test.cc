// The simulated network must itself be true to TCP and to ring.h: everything tested on it rests on that.
#include <doctest/doctest.h>

#include <cerrno>

#include "tests/support/sim_peer.h"

namespace penstock::test {
namespace {

const net::Address kAnyPort = sim_address(0);

std::string pattern(Random& random, size_t size) {
  std::string bytes(size, '\0');
  for (char& c : bytes) c = static_cast<char>(random.next());
  return bytes;
}

bool is_prefix(const std::string& part, const std::string& whole) {
  return whole.compare(0, part.size(), part) == 0;
}

SimFaults only_delays(uint64_t seed) {
  SimFaults faults = SimFaults::swarm(seed);
  faults.connect_refused = faults.connect_lost = faults.connect_no_socket = faults.reset = 0;
  return faults;
}

TEST_CASE("a connection to nobody is refused") {
  SimNetwork network(1);
  SimPeer client(network);
  REQUIRE(client.connect(sim_address(9)));
  CHECK(client.error() == 0);  // never from inside connect()
  CHECK(network.run_until([&] { return client.error() != 0; }));
  CHECK(client.error() == ECONNREFUSED);
  CHECK_FALSE(client.connected());
}

TEST_CASE("bytes arrive whole and in order in both directions, whatever delays and fragments them") {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    CAPTURE(seed);
    SimNetwork network(seed, only_delays(seed));
    SimServer server(network, kAnyPort);
    SimPeer client(network);
    const std::string question = pattern(network.random(), network.random().below(100'000));
    const std::string answer = pattern(network.random(), network.random().below(100'000));
    REQUIRE(client.connect(server.address()));
    client.send(question);
    client.finish();
    REQUIRE(network.run_until([&] { return !server.peers().empty() && server.peers()[0]->eof(); }, seconds(6000)));
    SimPeer& peer = *server.peers()[0];
    CHECK(peer.received() == question);
    CHECK_FALSE(client.eof());
    peer.send(answer);  // the other half is still open
    peer.finish();
    REQUIRE(network.run_until([&] { return client.eof(); }, seconds(6000)));
    CHECK(client.received() == answer);
    CHECK(client.error() == 0);
    CHECK(peer.error() == 0);
    CHECK(network.open_sockets() == 2);
    client.close();
    peer.close();
    CHECK(network.open_sockets() == 0);
    while (network.step()) {
    }
  }
}

TEST_CASE("under every mix of faults a receiver gets a prefix of what was sent, and every connection ends") {
  size_t whole = 0, broken = 0;
  for (uint64_t seed = 0; seed < 500; ++seed) {
    CAPTURE(seed);
    SimNetwork network(seed, SimFaults::swarm(seed));
    std::vector<std::string> echoed(8);
    SimServer server(network, kAnyPort, [&](SimPeer& peer) {
      peer.on_event = [](SimPeer& p) {
        if (const std::string bytes = p.take(); !bytes.empty()) p.send(bytes);
        if (p.eof()) p.finish();
      };
    });
    std::vector<std::unique_ptr<SimPeer>> clients;
    for (size_t i = 0; i < echoed.size(); ++i) {
      echoed[i] = pattern(network.random(), 1 + network.random().below(20'000));
      auto& client = *clients.emplace_back(std::make_unique<SimPeer>(network));
      if (!client.connect(server.address())) continue;
      client.send(echoed[i]);
      client.finish();
    }
    const auto ended = [&] {
      for (auto& client : clients) {
        if (!client->ended()) return false;
      }
      return true;
    };
    // A peer reads on for ever, so nothing but the network's own slowness is in the way.
    REQUIRE(network.run_until(ended, seconds(20'000)));
    for (size_t i = 0; i < clients.size(); ++i) {
      CHECK(is_prefix(clients[i]->received(), echoed[i]));
      const bool all = clients[i]->eof() && clients[i]->error() == 0;
      if (all) CHECK(clients[i]->received() == echoed[i]);
      ++(all ? whole : broken);
    }
    clients.clear();
    server.peers().clear();
    server.stop();
    while (network.step()) {
    }
    CHECK(network.open_sockets() == 0);
    CHECK(network.open_listeners() == 0);
  }
  CHECK(whole > 1000);  // neither the faults nor the good path may be missing
  CHECK(broken > 300);
}

std::string trace_of(uint64_t seed) {
  SimNetwork network(seed, SimFaults::swarm(seed));
  std::string trace;
  const auto write_down = [&](SimPeer& peer) {
    trace += std::to_string(network.now().time_since_epoch().count()) + ":" + std::to_string(peer.received().size()) +
             ":" + std::to_string(peer.eof()) + ":" + std::to_string(peer.error()) + "\n";
  };
  SimServer server(network, kAnyPort, [&](SimPeer& peer) { peer.on_event = write_down; });
  SimPeer client(network);
  client.on_event = write_down;
  if (!client.connect(server.address())) return "no socket";
  client.send(std::string(100'000, 'x'));
  client.finish();
  network.run_for(seconds(300));
  return trace;
}

TEST_CASE("a seed replays a run exactly") {
  size_t longest = 0;
  for (uint64_t seed = 0; seed < 30; ++seed) {
    CAPTURE(seed);
    const std::string first = trace_of(seed);
    CHECK(first == trace_of(seed));
    longest = std::max(longest, first.size());
  }
  CHECK(longest > 1000);
}

TEST_CASE("a paused receiver holds the sender back, and resuming lets it go on") {
  SimFaults faults;
  faults.socket_buffer_min = faults.socket_buffer_max = 10'000;
  SimNetwork network(7, faults);
  SimServer server(network, kAnyPort, [](SimPeer& peer) { peer.pause(); });
  SimPeer client(network);
  REQUIRE(client.connect(server.address()));
  client.send(std::string(50'000, 'x'));
  network.run_for(seconds(10));
  SimPeer& peer = *server.peers().at(0);
  CHECK(peer.received().empty());
  CHECK(client.unsent() == 40'000);
  peer.resume();
  CHECK(network.run_until([&] { return client.unsent() == 0; }));
  CHECK(network.run_until([&] { return peer.received().size() == 50'000; }));
}

TEST_CASE("closing with reset, or with bytes unread, resets the peer; closing after reading ends it with FIN") {
  for (const bool reset : {false, true}) {
    for (const bool unread : {false, true}) {
      CAPTURE(reset);
      CAPTURE(unread);
      SimNetwork network(3);
      SimServer server(network, kAnyPort, [&](SimPeer& peer) {
        if (unread) peer.pause();
      });
      SimPeer client(network);
      REQUIRE(client.connect(server.address()));
      client.send("hello");
      network.run_for(seconds(1));
      server.peers().at(0)->close(reset);
      REQUIRE(network.run_until([&] { return client.ended(); }));
      CHECK(client.error() == (reset || unread ? ECONNRESET : 0));
      CHECK(client.eof() == !(reset || unread));
    }
  }
}

TEST_CASE("sending to a peer that has closed brings a reset") {
  SimNetwork network(3);
  SimServer server(network, kAnyPort, [](SimPeer& peer) { peer.close(); });
  SimPeer client(network);
  REQUIRE(client.connect(server.address()));
  REQUIRE(network.run_until([&] { return client.eof(); }));
  client.send("too late");
  CHECK(network.run_until([&] { return client.error() == ECONNRESET; }));
}

TEST_CASE("after close() there are no events and the stale id is ignored") {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    CAPTURE(seed);
    SimNetwork network(seed, only_delays(seed));
    SimServer server(network, kAnyPort, [](SimPeer& peer) { peer.send(std::string(10'000, 'x')); });
    struct Once : net::SocketEvents {
      void on_connected() override { CHECK_FALSE(closed); }
      void on_bytes(std::span<char>) override {
        CHECK_FALSE(closed);
        closed = true;
        ring->close(id);  // from inside its own event
      }
      void on_eof() override { CHECK_FALSE(closed); }
      void on_writable() override { CHECK_FALSE(closed); }
      void on_error(int) override { CHECK_FALSE(closed); }
      SimRing* ring = nullptr;
      net::SocketId id;
      bool closed = false;
    } once;
    once.ring = &network.peer_ring();
    once.id = *once.ring->connect(server.address(), once);
    network.run_for(seconds(100));
    CHECK(once.closed);
    const iovec piece{const_cast<char*>("x"), 1};
    CHECK(once.ring->send(once.id, {&piece, 1}) < 0);
    once.ring->pause_recv(once.id);
    once.ring->resume_recv(once.id);
    once.ring->shutdown_send(once.id);
    once.ring->close(once.id);
    CHECK(network.open_sockets() == server.peers().size());
  }
}

TEST_CASE("a listener that closes resets those whom it has not accepted, and its port can be used again") {
  SimNetwork network(5);
  SimPeer client(network);
  net::Address at;
  {
    SimServer server(network, kAnyPort);
    at = server.address();
    REQUIRE(client.connect(at));
    server.stop();
  }
  CHECK(network.run_until([&] { return client.error() != 0; }));
  SimServer again(network, at);
  CHECK(again.address() == at);
  SimRing ring(network);
  struct Nobody : net::AcceptEvents {
    void on_accept(int) override {}
    void on_accept_error(int) override {}
  } nobody;
  CHECK_FALSE(ring.listen(at, true, nobody, nullptr).ok());
}

TEST_CASE("accept errors are told and the connection comes later") {
  SimFaults faults;
  faults.accept_error = 0.5;
  SimNetwork network(11, faults);
  SimServer server(network, kAnyPort);
  std::vector<std::unique_ptr<SimPeer>> clients;
  for (int i = 0; i < 20; ++i) {
    REQUIRE(clients.emplace_back(std::make_unique<SimPeer>(network))->connect(server.address()));
  }
  CHECK(network.run_until([&] { return server.peers().size() == 20; }));
  CHECK(server.accept_errors() > 0);
}

}  // namespace
}  // namespace penstock::test
