#include "penstock/upstream/client.h"

#include <doctest/doctest.h>

#include <optional>
#include <string>
#include <thread>
#include <vector>

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
  void on_response_end(std::string_view /*trailers*/) override { ended = true; }
  void on_response_failed(Failure why, bool /*received*/, bool /*reused*/) override {
    ended = true;
    failure = why;
  }
  bool ended = false;
  std::optional<Failure> failure;
};

void answer_at_once(SimPeer& peer) {
  peer.on_event = [](SimPeer& p) {
    if (!p.take().empty()) p.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
  };
}

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
    SimServer server(network, sim_address(8000), answer_at_once);
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

struct Piece {
  int64_t at_ms;  // after the request
  std::string bytes;
};
struct End {
  std::optional<Failure> failure;
  int64_t at_ms;  // to within the step
};

// How a request ends that is answered in these pieces.
End end_of(const std::vector<Piece>& answer, Duration first_byte, Duration chunk_idle) {
  constexpr int64_t step_ms = 10;
  SimNetwork network{1};
  SimServer server(network, sim_address(8000), [&](SimPeer& peer) {
    peer.on_event = [&](SimPeer& p) {
      if (p.take().empty()) return;
      for (const Piece& piece : answer) network.after(milliseconds(piece.at_ms), [&] { p.send(piece.bytes); });
    };
  });
  SimLoop loop{network};
  Client client(loop.loop(), {});
  const std::string head = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
  Sink sink;
  client.start({.key = 3, .incarnation = 1, .address = server.address()},
               {.pieces = {head}, .first_byte_timeout = first_byte, .chunk_idle_timeout = chunk_idle}, sink);
  int64_t passed = 0;
  for (; !sink.ended && passed < 60'000; passed += step_ms) network.run_for(milliseconds(step_ms));
  REQUIRE(sink.ended);
  return {sink.failure, passed};
}

TEST_CASE("a connection that was idle has no deadline left when it is used again") {
  SimNetwork network{1};
  SimServer server(network, sim_address(8000), [&](SimPeer& peer) {
    peer.on_event = [&](SimPeer& p) {
      if (p.take().empty()) return;
      network.after(seconds(3), [&p] { p.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"); });
    };
  });
  SimLoop loop{network};
  Client client(loop.loop(), {.idle_timeout = seconds(4)});
  const std::string head = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
  for (int i = 0; i < 2; ++i) {
    CAPTURE(i);
    Sink sink;
    client.start({.key = 3, .incarnation = 1, .address = server.address()}, {.pieces = {head}}, sink);
    network.run_for(seconds(5));  // answered after three, idle for two
    CHECK(sink.ended);
    CHECK_FALSE(sink.failure.has_value());
  }
  client.drop_idle(3);
  network.run_for(seconds(1));
}

TEST_CASE("a large request goes out at once, a small one at the turn's end with what else the turn has to send") {
  SimNetwork network{1};
  SimServer server(network, sim_address(8000), answer_at_once);
  SimLoop loop{network};
  Client client(loop.loop(), {});
  const Target target{.key = 3, .incarnation = 1, .address = server.address()};
  for (const size_t size : {100, 20'000}) {
    CAPTURE(size);
    const std::string head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: " + std::to_string(size) + "\r\n\r\n";
    const std::string body(size, 'x');
    uint64_t sent_by_start = 0;
    for (int i = 0; i < 2; ++i) {  // the second finds a connection
      Sink sink;
      const uint64_t before = loop.loop().ring().stats().bytes_sent.get();
      client.start(target, {.pieces = {head, body}}, sink);
      sent_by_start = loop.loop().ring().stats().bytes_sent.get() - before;
      network.run_for(seconds(1));
      CHECK(sink.ended);
      CHECK_FALSE(sink.failure.has_value());
    }
    CHECK(sent_by_start == (size > 16 * 1024 ? head.size() + body.size() : 0));
  }
  client.drop_idle(3);
  network.run_for(seconds(1));
}

// A ring may take a turn to give the descriptors of resting connections back.
TEST_CASE("without a descriptor resting connections go, and a moment later it is tried once more") {
  for (const bool freed : {true, false}) {
    CAPTURE(freed);
    SimNetwork network{1};
    SimServer server(network, sim_address(8000), answer_at_once);
    SimLoop loop{network};
    Client client(loop.loop(), {});
    const std::string head = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    std::atomic<int64_t> open{0};
    Sink first, second;
    client.start({.key = 1, .incarnation = 1, .address = server.address(), .open_connections = &open},
                 {.pieces = {head}}, first);
    network.run_for(seconds(1));
    REQUIRE(first.ended);
    REQUIRE(open == 1);
    network.faults().connect_no_socket = 1;
    client.start({.key = 2, .incarnation = 1, .address = server.address()}, {.pieces = {head}}, second);
    if (freed) network.faults().connect_no_socket = 0;
    network.run_for(milliseconds(100));
    CHECK(open == 0);
    CHECK(second.ended);
    CHECK(second.failure == (freed ? std::nullopt : std::optional(Failure::no_socket)));
    client.drop_all_idle();
    network.run_for(seconds(1));
  }
}

// Each 100 ms a byte more, from `from_ms` on.
std::vector<Piece> trickle(const std::string& first, int64_t from_ms = 100, int64_t count = 100) {
  std::vector<Piece> out = {{from_ms, first}};
  for (int64_t i = 1; i < count; ++i) out.push_back({from_ms + i * 100, "x"});
  return out;
}

TEST_CASE("the head of an answer has its time as a whole, however it comes") {
  const std::string begun = "HTTP/1.1 200 OK\r\nx-slow: ";
  for (const Duration idle : {Duration(milliseconds(500)), Duration{0}}) {
    const End end = end_of(trickle(begun), seconds(2), idle);
    CHECK(end.failure == Failure::first_byte_timeout);
    CHECK(end.at_ms >= 2000);
    CHECK(end.at_ms <= 2050);
  }
  const End interim = end_of({{100, "HTTP/1.1 103 Early Hints\r\n\r\n"}}, seconds(2), {});
  CHECK(interim.failure == Failure::first_byte_timeout);
  CHECK(interim.at_ms <= 2050);
}

TEST_CASE("within its head an answer may not pause for too long either") {
  const End end = end_of({{100, "HTTP/1.1 200 OK\r\n"}, {1000, "x: y\r\n"}}, seconds(2), milliseconds(500));
  CHECK(end.failure == Failure::idle_timeout);
  CHECK(end.at_ms >= 600);
  CHECK(end.at_ms <= 650);
}

TEST_CASE("behind the head only the pauses count") {
  const std::string head = "HTTP/1.1 200 OK\r\ncontent-length: ";
  const End whole = end_of(trickle(head + "29\r\n\r\n", 900, 30), seconds(1), milliseconds(500));
  CHECK_FALSE(whole.failure.has_value());
  CHECK(whole.at_ms >= 3800);
  const End cut = end_of(trickle(head + "100\r\n\r\n", 900, 10), seconds(1), milliseconds(500));
  CHECK(cut.failure == Failure::idle_timeout);
  CHECK(cut.at_ms >= 2300);
  CHECK(cut.at_ms <= 2350);
}

}  // namespace
}  // namespace penstock::upstream
