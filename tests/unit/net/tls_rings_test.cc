// TLS streams over real sockets, on each engine.
#include "penstock/net/clock.h"
#include "tests/unit/net/ring_fixture.h"
#include "tests/unit/net/tls_fixture.h"

namespace penstock::net::test {
namespace {

TEST_CASE_TEMPLATE("client and server form over a real socket", Engine, Epoll, IoUring) {
  NEEDS(Engine);
  Fixture<Engine> f;
  EventLoop loop(*f.ring, system_clock());
  MemoryBudget budget(64 * 1024 * 1024);
  BlockPool pool(budget);
  TlsRuntime runtime(loop, pool);
  End server(loop), client(loop);
  const TlsAccept accept{&runtime, server_context()};
  Pair sockets;
  server.stream.adopt(sockets.ours.release(), server, &accept);

  // The other end is adopted as a client would be: connect() to a listener.
  Acceptor acceptor;
  Address bound;
  const SocketId listener = *f.ring->listen(loopback(), false, acceptor, &bound);
  const TlsConnect connect{.runtime = &runtime, .context = client_context()};
  REQUIRE(client.stream.connect(bound, client, &connect) == 0);
  const auto until = [&](const auto& done) {
    const Instant deadline = system_clock().now() + seconds(10);
    while (!done() && system_clock().now() < deadline) loop.run_turn(milliseconds(20));
    return done();
  };
  REQUIRE(until([&] { return !acceptor.accepted.empty(); }));
  server.stream.close();
  server.stream.adopt(acceptor.accepted.front().release(), server, &accept);
  const std::string up = pattern_string(3'000'000, 1), down = pattern_string(5'000'000, 2);
  client.send(up);
  server.send(down);
  REQUIRE(until([&] { return client.received.size() == down.size() && server.received.size() == up.size(); }));
  CHECK(client.received == down);
  CHECK(server.received == up);
  client.finish();
  REQUIRE(until([&] { return server.eof; }));
  server.finish();
  REQUIRE(until([&] { return client.eof; }));
  CHECK(runtime.server_stats().handshakes.get() == 1);
  client.stream.close();
  server.stream.close();
  CHECK(budget.used() == 0);
  CHECK(runtime.server_stats().streams.get() == 0);
  f.ring->close_listener(listener);
}

}  // namespace
}  // namespace penstock::net::test
