// Targets that want TLS, against a TLS server on the simulated network.
#include <doctest/doctest.h>

#include <optional>
#include <string>

#include "penstock/upstream/client.h"
#include "tests/unit/net/tls_sim_fixture.h"

namespace penstock::upstream {
namespace {

using net::test::client_context;
using net::test::client_options;
using net::test::End;

const std::string kHead = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

struct Sink final : ResponseSink {
  void on_connected() override { connected = true; }
  void on_response_head(http::Head& /*head*/) override {}
  void on_response_data(std::string_view decoded) override { body += decoded; }
  void on_response_raw(std::string_view /*raw*/) override {}
  void on_response_end(std::string_view /*trailers*/) override { ended = true; }
  void on_response_failed(Failure why, bool /*received*/, bool /*reused*/) override {
    ended = true;
    failure = why;
  }
  bool connected = false, ended = false;
  std::string body;
  std::optional<Failure> failure;
};

// A server that answers each request with `answer`, and a client that trusts it.
struct World : net::test::Simulated {
  explicit World(std::string text) : answer(std::move(text)), client(client_loop.loop(), {}) {
    server.when_accepted = [this](End& end) {
      end.when_bytes = [this, &end] {
        end.send(answer);
        if (then) then(end);
      };
    };
    client.set_tls(client_runtime, client_context());
  }
  Sink ask(Duration connect_timeout = seconds(1)) {
    Sink sink;
    client.start({.key = 3,
                  .incarnation = 1,
                  .address = server.address,
                  .open_connections = &open,
                  .tls_name = &name,
                  .tls_trust = &trust},
                 {.pieces = {kHead}, .connect_timeout = connect_timeout}, sink);
    network.run_until([&] { return sink.ended; });
    return sink;
  }
  std::string answer, name, trust;
  std::function<void(End&)> then;
  std::atomic<int64_t> open{0};
  Client client;
};

TEST_CASE("a request goes out encrypted, and its connection is used again") {
  World w("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
  for (int i = 0; i < 3; ++i) {
    const Sink sink = w.ask();
    CHECK(sink.connected == (i == 0));
    CHECK(sink.body == "hello");
    CHECK_FALSE(sink.failure.has_value());
  }
  CHECK(w.server.ends.size() == 1);
  CHECK(w.server.last().received.starts_with(kHead));
  CHECK(w.server.last().stream.tls_info().server_name == "server.test");
}

TEST_CASE("the next connection resumes the session of the last one") {
  World w("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello");
  for (int i = 0; i < 3; ++i) CHECK(w.ask().body == "hello");
  CHECK(w.server.stats().handshakes.get() == 3);
  CHECK(w.server.stats().resumed.get() == 2);
  w.client.set_tls(w.client_runtime, client_context());  // it may trust others
  w.ask();
  CHECK(w.server.stats().resumed.get() == 2);
}

TEST_CASE("an answer that ends with the connection needs a close_notify, one with a length does not") {
  const auto drop = [](End& end) { end.stream.close(/*reset=*/true); };
  SUBCASE("close_notify") {
    World w("HTTP/1.1 200 OK\r\n\r\nall of it");
    w.then = [](End& end) { end.finish(); };
    const Sink sink = w.ask();
    CHECK(sink.body == "all of it");
    CHECK_FALSE(sink.failure.has_value());
  }
  SUBCASE("cut off") {
    World w("HTTP/1.1 200 OK\r\n\r\nhalf of");
    w.then = drop;
    CHECK(w.ask().failure.has_value());
  }
  SUBCASE("cut off behind a whole answer") {
    World w("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
    w.then = [&](End& end) { w.network.after(milliseconds(50), [&end, drop] { drop(end); }); };
    CHECK_FALSE(w.ask().failure.has_value());
    w.network.run_for(seconds(1));
    CHECK(w.open.load() == 0);
  }
}

TEST_CASE("a target may have a context of its own, and without it nobody connects") {
  World w("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
  w.trust = "ns/policy";
  CHECK(w.ask().failure == Failure::tls_failed);
  CHECK(w.server.ends.empty());
  w.client.set_trust(w.client_runtime, "ns/policy", client_context());
  CHECK(w.ask().body == "hello");
  w.client.set_trust(w.client_runtime, "ns/policy", nullptr);  // idle connections close as well
  CHECK(w.ask().failure == Failure::tls_failed);
  w.trust.clear();
  CHECK(w.ask().body == "hello");
}

TEST_CASE("a server that is not trusted, or does not speak TLS, cannot be connected to") {
  World w("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
  SUBCASE("another name") {
    auto options = client_options();
    options.server_name.clear();
    w.client.set_tls(w.client_runtime, client_context(options));
    w.name = "another.test";
    CHECK(w.ask().failure == Failure::tls_failed);
  }
  SUBCASE("the name of the target counts if the context has none") {
    auto options = client_options();
    options.server_name.clear();
    w.client.set_tls(w.client_runtime, client_context(options));
    w.name = "server.test";
    CHECK_FALSE(w.ask().failure.has_value());
  }
  SUBCASE("not TLS") {
    penstock::test::SimServer plain(w.network, penstock::test::sim_address(0), [](auto& peer) {
      peer.on_event = [](auto& p) {
        if (!p.take().empty()) p.send("HTTP/1.1 400 Bad Request\r\n\r\n");
      };
    });
    w.server.address = plain.address();
    CHECK(w.ask().failure == Failure::tls_failed);
  }
  SUBCASE("silent") {
    penstock::test::SimServer silent(w.network, penstock::test::sim_address(0));
    w.server.address = silent.address();
    CHECK(w.ask().failure == Failure::connect_timeout);
  }
  CHECK(w.open.load() <= 1);
}

}  // namespace
}  // namespace penstock::upstream
