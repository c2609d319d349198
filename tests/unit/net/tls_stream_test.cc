// TLS streams against each other on the simulated network: bytes, ends, back-pressure, the order of handshakes.
#include <openssl/ssl.h>

#include <algorithm>
#include <cerrno>

#include "penstock/net/connection.h"
#include "tests/support/raw_tls_client.h"
#include "tests/unit/net/tls_sim_fixture.h"

namespace penstock::net::test {
namespace {

using penstock::test::RawTlsClient;
using penstock::test::SimFaults;
using penstock::test::SimPeer;

std::string noise(size_t size, uint64_t seed) {
  Random random(seed);
  std::string bytes(size, '\0');
  for (char& c : bytes) c = static_cast<char>(random.below(256));
  return bytes;
}

TEST_CASE("both forms carry bytes both ways and end cleanly, whatever the network does to them") {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    CAPTURE(seed);
    SimFaults faults;
    faults.short_send = faults.fragment = faults.short_delivery = 0.3;
    faults.late_bytes = faults.slow_turn = 0.1;
    faults.socket_buffer_min = 200;
    faults.socket_buffer_max = 100'000;
    Simulated s(server_options(), seed, faults);
    const std::string up = noise(seed * 3001 % 150'000 + 1, seed), down = noise(seed * 7001 % 300'000 + 1, seed + 1);
    s.server.when_accepted = [&](End& end) { end.send(down); };
    auto client = s.connect();
    client->send(up);
    client->finish();
    REQUIRE(s.network.run_until([&] { return !s.server.ends.empty() && s.server.last().eof; }));
    s.server.last().finish();
    REQUIRE(s.network.run_until([&] { return client->eof; }));
    CHECK(s.server.last().received == up);
    CHECK(client->received == down);
    CHECK(client->error == 0);
    CHECK(s.server.last().error == 0);
    CHECK(s.server.stats().handshakes.get() == 1);
    CHECK(s.client_runtime.client_stats().handshakes.get() == 1);
    client->stream.close();
    s.server.last().stream.close();
    CHECK(s.server_loop.budget().used() == 0);
    CHECK(s.client_loop.budget().used() == 0);
  }
}

TEST_CASE("a stream goes on with another owner, in the middle of an event") {
  Simulated s;
  auto client = s.connect();
  REQUIRE(s.talks(*client));
  End& first = s.server.last();
  End next(s.server_loop.loop());
  const std::string large = noise(200'000, 1);
  first.when_bytes = [&] { next.stream.take_over(first.stream, next); };
  client->send(large);
  REQUIRE(s.network.run_until([&] { return first.received.size() + next.received.size() == large.size() + 5; }));
  CHECK_FALSE(first.stream.open());
  CHECK(first.received.size() < large.size());
  CHECK((first.received + next.received).substr(5) == large);
  next.send("back");
  REQUIRE(s.network.run_until([&] { return client->received.ends_with("back"); }));
  client->finish();
  REQUIRE(s.network.run_until([&] { return next.eof; }));
  CHECK_FALSE(first.ended());
  client->stream.close();
  next.stream.close();
}

TEST_CASE("records cut after every byte, handshake included") {
  Simulated s;
  RawTlsClient client(s.network, s.server.address);
  REQUIRE(client.handshake(1));
  client.write("GET / HTTP/1.1\r\n\r\n", 1);
  REQUIRE(s.network.run_until([&] { return s.server.last().received == "GET / HTTP/1.1\r\n\r\n"; }));
  s.server.last().send("answer");
  CHECK(client.read() == "answer");
}

TEST_CASE("many small records that arrive together are one event") {
  Simulated s;
  RawTlsClient client(s.network, s.server.address);
  REQUIRE(client.handshake());
  client.carry(0);
  std::string expected;
  for (int i = 0; i < 50; ++i) {
    const std::string event = "data: " + std::to_string(i) + "\n\n";
    expected += event;
    REQUIRE(SSL_write(client.ssl(), event.data(), static_cast<int>(event.size())) > 0);
  }
  const size_t before = s.server.last().calls;
  client.carry(0);
  REQUIRE(s.network.run_until([&] { return s.server.last().received == expected; }));
  CHECK(s.server.last().calls == before + 1);
}

TEST_CASE("one send is one record and one system call") {
  Simulated s;
  auto client = s.connect();
  REQUIRE(s.talks(*client));
  s.network.run_for(seconds(1));
  const uint64_t calls = s.server_loop.loop().ring().stats().syscalls.get();
  const uint64_t bytes = s.server_loop.loop().ring().stats().bytes_sent.get();
  char first[] = "data: ", second[] = "token", third[] = "\n\n";
  const iovec pieces[] = {{first, 6}, {second, 5}, {third, 2}};
  CHECK(s.server.last().stream.send(pieces) == 13);
  CHECK(s.server_loop.loop().ring().stats().syscalls.get() == calls + 1);
  CHECK(s.server_loop.loop().ring().stats().bytes_sent.get() == bytes + 13 + 22);
  REQUIRE(s.network.run_until([&] { return client->received == "data: token\n\n"; }));
}

TEST_CASE("an end without close_notify is an error, one with it is an end") {
  Simulated s;
  RawTlsClient client(s.network, s.server.address);
  REQUIRE(client.handshake());
  client.write("half of an ans");
  SUBCASE("FIN alone: anybody may have cut it") {
    client.peer().finish();
    REQUIRE(s.network.run_until([&] { return s.server.last().ended(); }));
    CHECK(s.server.last().error == ECONNABORTED);
    CHECK(s.server.last().failure.find("close_notify") != std::string::npos);
  }
  SUBCASE("close_notify, then FIN") {
    SSL_shutdown(client.ssl());
    client.carry(0);
    REQUIRE(s.network.run_until([&] { return s.server.last().eof; }));
    s.server.last().send("still heard");  // the other direction is open
    CHECK(client.read() == "still heard");
    client.peer().finish();
    s.network.run_for(seconds(1));
    CHECK(s.server.last().error == 0);
  }
  SUBCASE("a reset") {
    client.peer().close(/*reset=*/true);
    REQUIRE(s.network.run_until([&] { return s.server.last().ended(); }));
    CHECK(s.server.last().error == ECONNRESET);
  }
  SUBCASE("a record that was changed on its way") {
    client.peer().send(std::string("\x17\x03\x03\x00\x20", 5) + std::string(32, 'x'));
    REQUIRE(s.network.run_until([&] { return s.server.last().ended(); }));
    CHECK(s.server.last().error == EPROTO);
  }
  CHECK(s.server.last().received == "half of an ans");
}

TEST_CASE("closing says goodbye, resetting does not") {
  Simulated s;
  auto client = s.connect();
  REQUIRE(s.talks(*client));
  SUBCASE("close") {
    s.server.last().stream.close();
    REQUIRE(s.network.run_until([&] { return client->ended(); }));
    CHECK(client->eof);
  }
  SUBCASE("reset") {
    s.server.last().stream.close(/*reset=*/true);
    REQUIRE(s.network.run_until([&] { return client->ended(); }));
    CHECK(client->error == ECONNRESET);
  }
}

TEST_CASE("a slow reader pauses the sender, and what waits is in the budget and bounded") {
  SimFaults faults;
  faults.socket_buffer_min = faults.socket_buffer_max = 20'000;
  Simulated s(server_options(), 1, faults);
  auto client = s.connect();
  REQUIRE(s.talks(*client));
  client->stream.pause_recv();
  const std::string much = noise(1'000'000, 5);
  s.server.last().send(much);
  s.network.run_for(seconds(5));
  CHECK(s.server.last().unsent.size() > 800'000);
  CHECK(s.server_loop.budget().used() > 0);
  CHECK(s.server_loop.budget().used() <= 128 * 1024);
  client->stream.resume_recv();
  REQUIRE(s.network.run_until([&] { return client->received.size() == much.size(); }));
  CHECK(client->received == much);
  CHECK(s.server_loop.budget().used() == 0);
}

TEST_CASE("without memory for what the socket does not take, send says so") {
  SimFaults faults;
  faults.socket_buffer_min = faults.socket_buffer_max = 20'000;
  Simulated s(server_options(), 1, faults, /*budget=*/16 * 1024);
  auto client = s.connect();
  REQUIRE(s.talks(*client));
  client->stream.pause_recv();
  s.server.last().send(noise(200'000, 5));
  CHECK(s.server.last().send_error == ENOBUFS);
}

TEST_CASE("an owner may close in any event") {
  for (const bool server_closes : {false, true}) {
    Simulated s;
    auto client = s.connect();
    End& closing = *client;
    if (server_closes) {
      s.server.when_accepted = [](End& end) { end.when_bytes = [&end] { end.stream.close(); }; };
    } else {
      closing.when_bytes = [&] { closing.stream.close(); };
      s.server.when_accepted = [](End& end) { end.send("early"); };
    }
    client->send("hello");
    REQUIRE(s.network.run_until([&] {
      return !s.server.ends.empty() && (server_closes ? !s.server.last().stream.open() : !closing.stream.open());
    }));
  }
}

TEST_CASE("a handshake that does not go on is ended after its time, and counted") {
  Simulated s;
  SimPeer silent(s.network);
  REQUIRE(silent.connect(s.server.address));
  SUBCASE("no byte") {}
  SUBCASE("a byte now and then") {
    for (int i = 0; i < 5; ++i) {
      s.network.after(seconds(i), [&silent] { silent.send(std::string(1, '\x16')); });
    }
  }
  const Instant before = s.network.now();
  REQUIRE(s.network.run_until([&] { return !s.server.ends.empty() && s.server.last().error != 0; }));
  CHECK(s.server.failed(TlsFailure::timed_out) + s.server.failed(TlsFailure::not_tls) == 1);
  CHECK(s.network.now() - before <= seconds(11));
}

TEST_CASE("what is not TLS is told apart") {
  Simulated s;
  SimPeer peer(s.network);
  REQUIRE(peer.connect(s.server.address));
  TlsFailure expected = TlsFailure::not_tls;
  uint64_t count = 1;
  bool answered = false;  // in plain HTTP
  SUBCASE("plain HTTP, whatever the method") {
    for (const std::string_view method : {"GET", "OPTIONS", "DELETE", "CONNECT", "PRI"}) {
      SimPeer other(s.network);
      REQUIRE(other.connect(s.server.address));
      other.send(std::string(method) + " / HTTP/1.1\r\nHost: a\r\n\r\n");
      CAPTURE(method);
      CHECK(s.network.run_until([&] { return other.received().starts_with("HTTP/1.1 400 "); }));
    }
    peer.send("POST / HTTP/1.1\r\nHost: a\r\n\r\n");
    count = 6;
    answered = true;
    REQUIRE(s.network.run_until([&] { return s.server.failed(TlsFailure::not_tls) == count; }));
  }
  SUBCASE("plain HTTP, byte by byte") {
    const std::string request = "PATCH / HTTP/1.1\r\n";
    for (size_t i = 0; i < request.size(); ++i) {
      s.network.after(milliseconds(10 * static_cast<int>(i)),
                      [&peer, byte = request.substr(i, 1)] { peer.send(byte); });
    }
    answered = true;
  }
  SUBCASE("noise") {
    peer.send(noise(1000, 3));
  }
  SUBCASE("nothing but an end") {
    peer.finish();
    expected = TlsFailure::closed;
  }
  REQUIRE(s.network.run_until([&] { return !s.server.ends.empty() && s.server.last().error != 0; }));
  CHECK(s.server.failed(expected) == count);
  CHECK(s.server.stats().handshakes.get() == 0);
  s.network.run_until([&] { return answered && !peer.received().empty(); });
  CHECK(peer.received().starts_with("HTTP/1.1 400 ") == answered);
}

TEST_CASE("handshakes take their turns: few steps in each turn of the loop, and all come to their end") {
  Simulated s;
  const auto context = client_context();
  constexpr size_t clients = 40;
  std::vector<std::unique_ptr<End>> ends;
  for (size_t i = 0; i < clients; ++i) ends.push_back(s.connect(context));
  uint64_t last = 0, most = 0;
  s.server_loop.loop().set_turn_hook([&] {
    const uint64_t now = s.server.stats().handshakes.get();
    most = std::max(most, now - last);
    last = now;
  });
  REQUIRE(s.network.run_until([&] { return s.server.stats().handshakes.get() == clients; }));
  CHECK(most <= static_cast<uint64_t>(TlsRuntime::steps_per_turn));
  CHECK(std::ranges::all_of(ends, [](const auto& end) { return end->connected; }));
}

// A byte connection over TLS: what downstream is made of.
struct Bytes final : Connection {
  explicit Bytes(penstock::test::SimLoop& sim) : Connection(sim.loop(), sim.pool()) {}
  using Connection::connect;
  void on_connected() override { connected = true; }
  void on_bytes(std::span<char> bytes) override { received.append(bytes.data(), bytes.size()); }
  void on_eof() override { eof = true; }
  void on_error(int e) override { error = e; }
  void on_drained() override { ++drained; }
  std::string received;
  bool connected = false, eof = false;
  int error = 0, drained = 0;
};

TEST_CASE("a byte connection over TLS gathers, congests, drains and finishes as a plain one") {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    CAPTURE(seed);
    SimFaults faults;
    faults.short_send = 0.3;
    faults.socket_buffer_min = faults.socket_buffer_max = 30'000;
    Simulated s(server_options(), seed, faults, 1024 * 1024 * 1024);
    Bytes client(s.client_loop);
    const TlsConnect connect{.runtime = &s.client_runtime, .context = client_context()};
    REQUIRE(client.connect(s.server.address, &connect) == 0);
    REQUIRE(client.write("early "));
    REQUIRE(s.network.run_until([&] { return client.connected; }));
    s.server.last().stream.pause_recv();
    std::string sent = "early ";
    while (!client.congested()) {
      const std::string chunk = noise(s.network.random().below(40'000), seed);
      REQUIRE(client.write(chunk));
      sent += chunk;
    }
    CHECK(client.queued() <= sent.size());
    s.server.last().stream.resume_recv();
    client.finish_sending();
    REQUIRE(s.network.run_until([&] { return s.server.last().eof; }));
    CHECK(s.server.last().received == sent);
    CHECK(client.drained == 1);
    CHECK(client.queued() == 0);
    client.close();
    CHECK(s.client_loop.budget().used() == 0);
  }
}

}  // namespace
}  // namespace penstock::net::test
