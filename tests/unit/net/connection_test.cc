#include "penstock/net/connection.h"

#include <doctest/doctest.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/sim_peer.h"

namespace penstock::net {
namespace {

using test::SimFaults;
using test::SimLoop;
using test::SimNetwork;
using test::SimPeer;
using test::SimServer;

const Address kAnyPort = test::sim_address(0);

// Counts its events, and lets a test act in them.
class TestConnection final : public Connection, public Disposable {
 public:
  explicit TestConnection(SimLoop& sim) : Connection(sim.loop(), sim.pool()) {}
  using Connection::adopt;
  using Connection::connect;
  using Connection::take_over;

  void on_connected() override { connected = true; }
  void on_bytes(std::span<char> bytes) override {
    received.append(bytes.data(), bytes.size());
    if (bytes_hook) bytes_hook();
  }
  void on_eof() override {
    eof = true;
    if (eof_hook) eof_hook();
  }
  void on_error(int e) override {
    CHECK(error == 0);
    error = e;
    if (error_hook) error_hook();
  }
  void on_drained() override {
    CHECK_FALSE(congested());
    CHECK(queued() < low_mark);
    ++drained;
    if (drained_hook) drained_hook();
  }
  void on_flushed() override {
    CHECK(queued() == 0);
    ++flushed;
    if (flushed_hook) flushed_hook();
  }

  std::string received;
  bool connected = false, eof = false;
  int error = 0, drained = 0, flushed = 0;
  std::function<void()> bytes_hook, eof_hook, error_hook, drained_hook, flushed_hook;
};

// A connection to a peer that the test scripts; the peer starts paused when `slow`.
struct Pair {
  explicit Pair(bool slow = false, size_t budget = 1024 * 1024 * 1024, size_t socket_buffer = 10'000)
      : network(1, faults(socket_buffer)), sim(network, budget), server(network, kAnyPort) {
    connection = std::make_unique<TestConnection>(sim);
    REQUIRE(connection->connect(server.address()) == 0);
    REQUIRE(network.run_until([&] { return connection->connected && !server.peers().empty(); }));
    if (slow) peer().pause();
  }
  static SimFaults faults(size_t socket_buffer) {
    SimFaults faults;
    faults.socket_buffer_min = faults.socket_buffer_max = socket_buffer;
    return faults;
  }
  SimPeer& peer() { return *server.peers()[0]; }

  SimNetwork network;
  SimLoop sim;
  SimServer server;
  std::unique_ptr<TestConnection> connection;
};

TEST_CASE("small writes of one turn go out together at its end") {
  Pair pair;
  const uint64_t before = pair.sim.loop().ring().stats().syscalls.get();
  REQUIRE(pair.connection->write("hel"));
  REQUIRE(pair.connection->write("lo"));
  CHECK(pair.connection->queued() == 5);
  CHECK_FALSE(pair.connection->blocked());
  CHECK(pair.sim.loop().ring().stats().syscalls.get() == before);
  REQUIRE(pair.network.run_until([&] { return pair.peer().received() == "hello"; }));
  CHECK(pair.connection->queued() == 0);
  CHECK(pair.sim.budget().used() == 0);
  CHECK(pair.connection->flushed == 1);
  CHECK(pair.connection->drained == 0);
}

TEST_CASE("what the kernel takes of a large write at once is not queued, and nothing is told") {
  Pair pair(/*slow=*/false, 64 * 1024 * 1024, /*socket_buffer=*/100'000);
  const std::string large(Connection::gather_max + 1, 'x');
  REQUIRE(pair.connection->write("first"));
  REQUIRE(pair.connection->write(large));
  CHECK(pair.connection->queued() == 0);
  CHECK(pair.sim.budget().used() == 0);
  REQUIRE(pair.network.run_until([&] { return pair.peer().received() == "first" + large; }));
  CHECK(pair.connection->flushed == 0);
}

TEST_CASE("with no memory to gather in, the kernel still takes what it can") {
  Pair pair(/*slow=*/false, /*budget=*/64 * 1024);
  REQUIRE(pair.sim.budget().try_take(64 * 1024));
  REQUIRE(pair.connection->write("sorry"));
  CHECK(pair.connection->queued() == 0);
  REQUIRE(pair.network.run_until([&] { return pair.peer().received() == "sorry"; }));
  pair.sim.budget().give_back(64 * 1024);
}

TEST_CASE("that the peer is gone comes out once, whether the ring or the flush finds it") {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    Pair pair;
    pair.network.random() = Random(seed);
    pair.connection->error_hook = [&] { pair.connection->close(); };
    pair.peer().close(/*reset=*/true);
    for (int i = 0; i < 50 && pair.connection->write("x"); ++i) pair.network.run_for(microseconds(20));
    REQUIRE(pair.network.run_until([&] { return pair.connection->error != 0; }));
    CHECK_FALSE(pair.connection->open());
    CHECK(pair.sim.budget().used() == 0);
  }
}

TEST_CASE("pieces cut in the middle by the kernel go on where they were cut") {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    CAPTURE(seed);
    SimFaults faults;
    faults.short_send = 0.7;
    faults.socket_buffer_min = 10;
    faults.socket_buffer_max = 3000;
    SimNetwork network(seed, faults);
    SimLoop sim(network);
    SimServer server(network, kAnyPort);
    TestConnection connection(sim);
    REQUIRE(connection.connect(server.address()) == 0);
    std::string sent;
    for (int i = 0; i < 20; ++i) {
      std::string parts[4];
      iovec pieces[4];
      for (int k = 0; k < 4; ++k) {
        parts[k] = std::string(network.random().below(300), static_cast<char>('a' + k));
        pieces[k] = {parts[k].data(), parts[k].size()};
        sent += parts[k];
      }
      REQUIRE(connection.write(pieces));
      if (network.random().chance(0.3)) network.run_for(microseconds(300));
    }
    connection.finish_sending();
    REQUIRE(network.run_until([&] { return !server.peers().empty() && server.peers()[0]->eof(); }));
    CHECK(server.peers()[0]->received() == sent);
    CHECK(connection.queued() == 0);
    CHECK(sim.budget().used() == 0);
  }
}

TEST_CASE("beyond the high mark a connection is congested until it falls below the low mark") {
  Pair pair(/*slow=*/true);
  TestConnection& connection = *pair.connection;
  const std::string chunk(16 * 1024, 'x');
  size_t sent = 0;
  while (!connection.congested()) {
    REQUIRE(connection.queued() <= Connection::high_mark);
    REQUIRE(connection.write(chunk));
    sent += chunk.size();
  }
  CHECK(connection.queued() > Connection::high_mark);
  bool was_low = false;
  connection.drained_hook = [&] { was_low = true; };
  pair.peer().resume();
  while (!was_low) {
    CHECK(connection.congested());
    CHECK(connection.drained == 0);
    REQUIRE(pair.network.step());
  }
  CHECK(connection.queued() > 0);  // before the end
  CHECK(connection.flushed == 0);
  REQUIRE(pair.network.run_until([&] { return connection.flushed == 1; }));
  REQUIRE(pair.network.run_until([&] { return pair.peer().received().size() == sent; }));
  CHECK(connection.drained == 1);
  CHECK(pair.sim.budget().used() == 0);
}

TEST_CASE("under memory pressure any queued byte congests, until all is gone or the pressure is") {
  constexpr size_t limit = 64 * 1024 * 1024;
  SUBCASE("all gone") {
    Pair pair(/*slow=*/true, limit);
    REQUIRE(pair.sim.budget().try_take(limit / 8 * 7));
    REQUIRE(pair.connection->write(std::string(10'000, 'x')));  // the socket's buffer takes them
    CHECK_FALSE(pair.connection->congested());
    REQUIRE(pair.connection->write(std::string(30'000, 'y')));
    CHECK(pair.connection->congested());
    pair.peer().resume();
    REQUIRE(pair.network.run_until([&] { return pair.connection->drained == 1; }));
    CHECK(pair.connection->queued() == 0);
    pair.sim.budget().give_back(limit / 8 * 7);
  }
  SUBCASE("pressure gone") {
    Pair pair(/*slow=*/true, limit);
    REQUIRE(pair.sim.budget().try_take(limit / 8 * 7));
    REQUIRE(pair.connection->write(std::string(40'000, 'x')));
    CHECK(pair.connection->congested());
    pair.sim.budget().give_back(limit / 8 * 7);
    pair.peer().resume();
    REQUIRE(pair.network.run_until([&] { return pair.connection->drained == 1; }));
    CHECK(pair.connection->queued() > 0);
  }
}

TEST_CASE("the fuller the budget, the sooner a connection is congested") {
  constexpr size_t limit = 64 * 1024 * 1024;
  Pair pair(/*slow=*/true, limit);
  REQUIRE(pair.sim.budget().try_take(limit / 2));
  size_t queued = 0;
  while (!pair.connection->congested()) {
    queued = pair.connection->queued();
    REQUIRE(pair.connection->write(std::string(16 * 1024, 'x')));
  }
  CHECK(queued <= limit / 2 / 2048);
  CHECK(pair.connection->queued() > limit / 4 / 2048);
  pair.sim.budget().give_back(limit / 2);
}

TEST_CASE("when the budget refuses, write says so, and closing gives everything back") {
  Pair pair(/*slow=*/true, 100 * 1024);
  REQUIRE(pair.connection->write(std::string(50'000, 'x')));
  CHECK_FALSE(pair.connection->starved());
  CHECK_FALSE(pair.connection->write(std::string(200'000, 'x')));
  CHECK(pair.connection->starved());
  CHECK(pair.sim.budget().used() > 0);
  pair.connection->close();
  CHECK(pair.sim.budget().used() == 0);
  CHECK_FALSE(pair.connection->congested());
  CHECK_FALSE(pair.connection->write("after the end"));
  pair.connection->close();  // again does no harm
  CHECK_FALSE(pair.connection->open());
}

TEST_CASE("FIN follows the last queued byte, and receiving goes on") {
  Pair pair(/*slow=*/true);
  pair.connection->flushed_hook = [&] { CHECK(pair.connection->open()); };
  REQUIRE(pair.connection->write(std::string(50'000, 'x')));
  pair.connection->finish_sending();
  pair.connection->finish_sending();
  pair.network.run_for(seconds(1));
  CHECK_FALSE(pair.peer().eof());
  pair.peer().resume();
  REQUIRE(pair.network.run_until([&] { return pair.peer().eof(); }));
  CHECK(pair.peer().received().size() == 50'000);
  CHECK(pair.connection->flushed == 1);
  pair.peer().send("answer");
  CHECK(pair.network.run_until([&] { return pair.connection->received == "answer"; }));
}

TEST_CASE("FIN goes at once when nothing is queued") {
  Pair pair;
  pair.connection->finish_sending();
  CHECK(pair.network.run_until([&] { return pair.peer().eof(); }));
  CHECK(pair.connection->flushed == 0);
}

TEST_CASE("a paused connection receives nothing more, and all of it after resume") {
  Pair pair;
  pair.connection->pause_recv();
  pair.connection->pause_recv();
  CHECK(pair.connection->recv_paused());
  pair.peer().send(std::string(30'000, 'x'));
  pair.network.run_for(seconds(1));
  CHECK(pair.connection->received.empty());
  CHECK(pair.peer().unsent() == 20'000);
  pair.connection->resume_recv();
  CHECK_FALSE(pair.connection->recv_paused());
  CHECK(pair.network.run_until([&] { return pair.connection->received.size() == 30'000; }));
}

TEST_CASE("an error found while sending the queue is told once, like any other") {
  // Whichever comes first: the ring's own on_error, or a send in on_writable that finds the socket dead.
  int told = 0;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    CAPTURE(seed);
    SimFaults faults;
    faults.socket_buffer_min = faults.socket_buffer_max = 10'000;
    faults.slow_turn = 0.5;
    faults.short_send = 0.5;
    faults.short_delivery = 0.5;
    SimNetwork network(seed, faults);
    SimLoop sim(network);
    SimServer server(network, kAnyPort, [&](SimPeer& peer) {
      peer.on_event = [](SimPeer& p) {
        if (p.received().size() > 20'000) p.close(/*reset=*/true);
      };
    });
    TestConnection connection(sim);
    REQUIRE(connection.connect(server.address()) == 0);
    REQUIRE(connection.write(std::string(100'000, 'x')));
    REQUIRE(network.run_until([&] { return connection.error != 0; }));
    CHECK(connection.error == ECONNRESET);
    CHECK(connection.open());  // closing is the owner's
    ++told;
    network.run_for(seconds(1));
    connection.close();
    CHECK(sim.budget().used() == 0);
  }
  CHECK(told == 100);
}

TEST_CASE("a refused connect is an error event, and the connection can be used again after close") {
  SimNetwork network(1);
  SimLoop sim(network);
  SimServer server(network, kAnyPort);
  TestConnection connection(sim);
  REQUIRE(connection.connect(test::sim_address(1)) == 0);
  REQUIRE(connection.write("early"));  // queued until connected
  REQUIRE(network.run_until([&] { return connection.error != 0; }));
  CHECK(connection.error == ECONNREFUSED);
  connection.pause_recv();
  connection.finish_sending();
  connection.close();
  CHECK(sim.budget().used() == 0);
  connection.error = 0;
  REQUIRE(connection.connect(server.address()) == 0);
  CHECK_FALSE(connection.recv_paused());
  REQUIRE(connection.write("second try"));
  REQUIRE(network.run_until([&] { return !server.peers().empty() && !server.peers()[0]->received().empty(); }));
  CHECK(server.peers()[0]->received() == "second try");
}

TEST_CASE("connect says so when no socket can be made") {
  SimFaults faults;
  faults.connect_no_socket = 1;
  SimNetwork network(1, faults);
  SimLoop sim(network);
  TestConnection connection(sim);
  CHECK(connection.connect(test::sim_address(1)) == EMFILE);
  CHECK_FALSE(connection.open());
  CHECK_FALSE(connection.write("x"));
}

TEST_CASE("a connection may be refilled, closed or destroyed while it tells that it has drained") {
  const auto drain = [](const std::function<void(Pair&)>& act, auto check) {
    Pair pair(/*slow=*/true, 64 * 1024 * 1024, /*socket_buffer=*/1024 * 1024);
    REQUIRE(pair.connection->write(std::string(1024 * 1024, 'x')));
    REQUIRE(pair.connection->write(std::string(300 * 1024, 'y')));
    REQUIRE(pair.connection->congested());
    bool acted = false;
    pair.connection->drained_hook = [&] {
      if (std::exchange(acted, true)) return;
      act(pair);
    };
    pair.peer().resume();
    REQUIRE(pair.network.run_until([&] { return acted; }));
    check(pair);
  };
  drain([](Pair& pair) { CHECK(pair.connection->write(std::string(1024 * 1024, 'z'))); },
        [](Pair& pair) {
          CHECK(pair.connection->flushed == 0);  // queued again: not flushed yet
          CHECK(pair.network.run_until([&] { return pair.connection->flushed == 1; }));
        });
  drain([](Pair& pair) { pair.connection->close(); },
        [](Pair& pair) {
          CHECK(pair.connection->flushed == 0);
          CHECK(pair.sim.budget().used() == 0);
        });
  // The function that destroys its owner is moved out of it first.
  drain(
      [](Pair& pair) {
        const auto hook = std::move(pair.connection->drained_hook);
        pair.connection.reset();
      },
      [](Pair& pair) { CHECK(pair.sim.budget().used() == 0); });
}

// A relay as the proxy is one: what comes from one side goes to the other, and the source pauses while the other side
// is congested.
class Relay final : public AcceptEvents {
 public:
  Relay(SimLoop& sim, const Address& to) : sim_(sim), to_(to) {
    const auto listener = sim_.loop().ring().listen(kAnyPort, false, *this, &address_);
    REQUIRE(listener.ok());
    listener_ = *listener;
  }
  ~Relay() {
    sim_.loop().ring().close_listener(listener_);
    for (auto& link : links_) link->end();
  }
  const Address& address() const { return address_; }
  size_t most_queued() const { return most_queued_; }
  uint64_t pauses() const { return pauses_; }
  size_t open_links() const {
    size_t n = 0;
    for (const auto& link : links_) n += link->front ? 1 : 0;
    return n;
  }

 private:
  struct Link {
    explicit Link(Relay& r) : relay(r) {}
    void end() {
      // From inside events of either: so at the end of the turn.
      for (auto* side : {&front, &back}) {
        if (!*side) continue;
        (*side)->close();
        relay.sim_.loop().dispose(std::move(*side));
      }
    }
    void join(std::unique_ptr<TestConnection>& from, std::unique_ptr<TestConnection>& to) {
      from->bytes_hook = [this, &from, &to] {
        if (!to->write(from->received)) return end();
        from->received.clear();
        relay.most_queued_ = std::max(relay.most_queued_, to->queued());
        if (!to->congested()) return;
        ++relay.pauses_;
        from->pause_recv();
      };
      from->eof_hook = [this, &from, &to] {
        to->finish_sending();
        if (to->eof && to->queued() == 0 && from->queued() == 0) end();
      };
      from->error_hook = [this] { end(); };
      to->drained_hook = [&from] { from->resume_recv(); };
      to->flushed_hook = [this, &from, &to] {
        if (to->eof && from->eof && from->queued() == 0) end();
      };
    }
    Relay& relay;
    std::unique_ptr<TestConnection> front, back;
  };

  void on_accept(int fd) override {
    auto& link = *links_.emplace_back(std::make_unique<Link>(*this));
    link.front = std::make_unique<TestConnection>(sim_);
    link.back = std::make_unique<TestConnection>(sim_);
    link.join(link.front, link.back);
    link.join(link.back, link.front);
    link.front->adopt(fd);
    if (link.back->connect(to_) != 0) link.end();
  }
  void on_accept_error(int) override {}

  SimLoop& sim_;
  Address to_, address_;
  SocketId listener_;
  std::vector<std::unique_ptr<Link>> links_;
  size_t most_queued_ = 0;
  uint64_t pauses_ = 0;
};

struct RelayRun {
  explicit RelayRun(uint64_t seed, const SimFaults& faults) : network(seed, faults), sim(network) {
    // The endpoint answers each byte with two, so that the answer is known.
    backend.emplace(network, kAnyPort, [](SimPeer& peer) {
      peer.on_event = [](SimPeer& p) {
        std::string twice;
        for (const char c : p.take()) twice.append(2, c);
        if (!twice.empty()) p.send(twice);
        if (p.eof()) p.finish();
      };
    });
    relay.emplace(sim, backend->address());
    for (size_t i = 0; i < 5; ++i) {
      Client& client = clients.emplace_back();
      client.peer = std::make_unique<SimPeer>(network);
      if (!client.peer->connect(relay->address())) continue;
      std::string question(network.random().below(uint64_t{1} << (10 + network.random().below(10))), '\0');
      for (char& c : question) c = static_cast<char>(network.random().next());
      for (const char c : question) client.expected.append(2, c);
      client.peer->send(question);
      client.peer->finish();
      if (network.random().chance(0.3)) {  // a slow reader
        client.peer->pause();
        network.after(seconds(20), [&peer = *client.peer] { peer.resume(); });
      }
    }
  }
  bool ended() const {
    for (const Client& client : clients) {
      if (!client.peer->ended()) return false;
    }
    return true;
  }
  void finish() {
    for (Client& client : clients) client.peer->close();
    relay.reset();
    backend.reset();
    while (network.step()) {
    }
    CHECK(sim.budget().used() == 0);
    CHECK(network.open_sockets() == 0);
    CHECK(network.open_listeners() == 0);
  }

  struct Client {
    std::unique_ptr<SimPeer> peer;
    std::string expected;
  };
  SimNetwork network;
  SimLoop sim;
  std::optional<SimServer> backend;
  std::optional<Relay> relay;
  std::vector<Client> clients;
};

TEST_CASE("relayed bytes equal sent bytes under every mix of faults, queues stay bounded and nothing leaks") {
  size_t whole = 0, broken = 0;
  uint64_t pauses = 0;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    CAPTURE(seed);
    const SimFaults faults = SimFaults::swarm(seed);
    RelayRun run(seed, faults);
    REQUIRE(run.network.run_until([&] { return run.ended(); }, seconds(20'000)));
    for (const auto& client : run.clients) {
      const std::string& received = client.peer->received();
      CHECK(client.expected.compare(0, received.size(), received) == 0);
      // An end without error is a promise that everything has come, unless the endpoint's side broke.
      const bool all = received.size() == client.expected.size() && client.peer->error() == 0;
      if (faults.reset == 0 && faults.connect_refused == 0 && faults.connect_lost == 0 &&
          faults.connect_no_socket == 0) {
        CHECK(all);
      }
      ++(all ? whole : broken);
    }
    // The mark, one delivery that passes it, and what was under way when the source was paused.
    CHECK(run.relay->most_queued() <= Connection::high_mark + 64 * 1024 + run.network.faults().socket_buffer_max);
    pauses += run.relay->pauses();
    run.finish();
  }
  CHECK(whole > 500);
  CHECK(broken > 100);
  CHECK(pauses > 20);
}

TEST_CASE("what waits to be sent goes on with the next owner, gathered or refused by the kernel") {
  for (const size_t size : {size_t{100}, size_t{50'000}}) {
    Pair pair(/*slow=*/true);
    const std::string bytes(size, 'x');
    REQUIRE(pair.connection->write(bytes));
    TestConnection next(pair.sim);
    next.take_over(*pair.connection);
    CHECK_FALSE(pair.connection->open());
    CHECK(pair.connection->queued() == 0);
    CHECK(next.blocked() == (size > 10'000));
    REQUIRE(next.write("y"));
    pair.peer().resume();
    pair.network.run_for(seconds(5));
    CHECK(pair.peer().received() == bytes + "y");
    CHECK(next.queued() == 0);
    CHECK(next.flushed > 0);
    pair.peer().send("back");
    pair.network.run_for(seconds(1));
    CHECK(next.received == "back");
    CHECK(pair.connection->received.empty());
  }
}

}  // namespace
}  // namespace penstock::net
