// WebSocket sessions through a whole shard: what passes, who is paused, how they end, with and without faults.
#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

#include "penstock/http/websocket.h"
#include "world.h"

namespace penstock::test {
namespace {

using proxy::Outcome;

constexpr const char* key = "dGhlIHNhbXBsZSBub25jZQ==";
const std::string asks = std::string("GET /v1/realtime HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\n") +
                         "Upgrade: websocket\r\nSec-WebSocket-Key: " + key + "\r\n\r\n";
const std::string close_frame("\x88\x02\x03\xe8", 4);

std::string switches() {
  return "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: " +
         http::websocket_accept(key) + "\r\n\r\n";
}

// What each side sends: whole frames, so that a Close frame of ours may stand behind any of them.
std::string frames(size_t bytes, char letter) {
  constexpr size_t payload = 1000;
  std::string out;
  while (out.size() < bytes) out += std::string("\x82\x7e\x03\xe8", 4) + std::string(payload, letter);
  return out;
}

proxy::Options options() {
  proxy::Options out;
  out.paths.allow = {"/**"};
  out.tunnel_idle_timeout = seconds(20);
  out.tunnels_max = 3;
  return out;
}

class Place {
 public:
  explicit Place(uint64_t seed = 1, const SimFaults& faults = SimFaults::none())
      : network(seed, faults), shard(network, {sim_address(9000)}, seen, options()) {
    server = std::make_unique<SimServer>(network, sim_address(9000), [this](SimPeer& peer) {
      line = &peer;
      peer.on_event = [this](SimPeer& at) {
        if (at.received().find("\r\n\r\n") == std::string::npos || answered == &at) return;
        answered = &at;
        request = at.take();
        at.send(answer);
      };
    });
  }
  ~Place() {
    client.reset();
    shard.close_and_check(network);
    server->stop();
    for (const auto& peer : server->peers()) peer->close();
    network.run_for(seconds(1));
    CHECK(seen.tunnels == 0);
    CHECK(seen.running == 0);
  }
  SimPeer& ask(const std::string& early = "") {
    client = std::make_unique<SimPeer>(network);
    client->connect(shard.address());
    client->send(asks + early);
    network.run_for(milliseconds(50));
    return *client;
  }
  // What the client has got behind the head of the answer.
  std::string got() const {
    const size_t end = client->received().find("\r\n\r\n");
    return end == std::string::npos ? "" : client->received().substr(end + 4);
  }
  bool switched() const { return client->received().starts_with("HTTP/1.1 101 "); }
  void run(Duration time) { network.run_for(time); }
  uint64_t ended(Outcome outcome) const { return seen.outcomes[static_cast<size_t>(outcome)]; }

  SimNetwork network;
  CountingObserver seen;
  SimShard shard;
  std::unique_ptr<SimServer> server;
  std::unique_ptr<SimPeer> client;
  SimPeer* line = nullptr;
  SimPeer* answered = nullptr;
  std::string request, answer = switches();
};

TEST_CASE("a session: early bytes on both sides, both directions, the close") {
  Place place;
  const std::string welcome = frames(1, 'w'), early = frames(1, 'e'), later = frames(5000, 'l');
  place.answer += welcome;
  place.ask(early);
  REQUIRE(place.switched());
  CHECK(place.got() == welcome);
  CHECK(place.request.ends_with("\r\n\r\n"));
  CHECK(place.line->take() == early);
  place.client->send(later);
  place.line->send(close_frame);
  place.run(seconds(1));
  CHECK(place.line->take() == later);
  CHECK(place.got() == welcome + close_frame);
  place.client->send(close_frame);
  place.run(seconds(1));
  CHECK(place.seen.tunnels == 1);
  place.line->finish();
  place.run(seconds(1));
  CHECK(place.client->eof());
  CHECK(place.line->ended());
  CHECK(place.ended(Outcome::ok) == 1);  // whether the client ends its half or not
  CHECK(place.seen.tunnels == 0);
}

TEST_CASE("a side that does not read pauses the other, and nothing is lost") {
  for (const bool client_reads : {false, true}) {
    Place place;
    place.ask();
    REQUIRE(place.switched());
    const std::string much = frames(8 << 20, 'x');
    SimPeer& slow = client_reads ? *place.line : *place.client;
    SimPeer& quick = client_reads ? *place.client : *place.line;
    slow.pause();
    quick.send(much);
    place.run(seconds(5));
    CHECK(quick.unsent() > much.size() / 2);
    CHECK(place.shard.budget().used() <= 2 * net::Connection::high_mark);
    slow.resume();
    place.run(seconds(15));
    CHECK(quick.unsent() == 0);
    CHECK((client_reads ? slow.received() : place.got()) == much);
  }
}

TEST_CASE("silence ends it, with a Close frame where one may stand") {
  for (const bool between : {true, false}) {
    Place place;
    place.ask();
    REQUIRE(place.switched());
    const std::string sent = frames(1, 'x').substr(0, between ? std::string::npos : 100);
    place.line->send(sent);
    place.run(seconds(19));
    CHECK(place.seen.tunnels == 1);
    place.run(seconds(2));
    CHECK(place.got() == sent + (between ? std::string("\x88\x02\x03\xe9") : std::string()));
    CHECK(place.client->eof());
    CHECK(place.line->ended());
    CHECK(place.ended(Outcome::timed_out_client) == 1);
  }
}

TEST_CASE("a side that vanishes ends it, and what it had sent arrives") {
  Place place;
  place.ask();
  place.line->send("last words");
  place.line->close(true);
  place.run(seconds(1));
  CHECK(place.client->eof());
  CHECK(place.ended(Outcome::stream_broken) == 1);
  place.ask();
  REQUIRE(place.switched());
  place.client->close(true);
  place.run(seconds(1));
  CHECK(place.line->ended());
  CHECK(place.ended(Outcome::client_gone) == 1);
}

TEST_CASE("one half may end long before the other; in silence it has ten seconds") {
  Place place;
  place.ask();
  place.client->finish();
  place.run(seconds(1));
  CHECK(place.line->eof());
  for (int i = 0; i < 5; ++i) {
    place.line->send("x");
    place.run(seconds(8));
  }
  CHECK(place.got() == "xxxxx");
  place.run(seconds(4));
  CHECK(place.line->ended());
  CHECK(place.ended(Outcome::client_gone) == 1);
}

TEST_CASE("an endpoint that answers no probe, and is silent, loses its sessions") {
  Place place;
  place.ask();
  place.run(seconds(6));
  place.shard.leave_silent(sim_address(9000), place.network.clock().now() - seconds(6));
  place.run(seconds(1));
  CHECK(place.got() == "\x88\x02\x03\xe9");
  CHECK(place.ended(Outcome::stream_broken) == 1);
  CHECK(place.seen.failures[static_cast<size_t>(proxy::AttemptFailure::probe_failed)] == 1);
}

TEST_CASE("the end of a drain") {
  Place place;
  place.ask();
  place.shard.drain();
  place.line->send(frames(1, 'x'));
  place.run(seconds(10));
  CHECK(place.got() == frames(1, 'x'));
  place.shard.end();
  place.run(milliseconds(5));
  place.shard.cut();
  place.run(seconds(1));
  CHECK(place.got() == frames(1, 'x') + "\x88\x02\x03\xe9");
  CHECK(place.client->error() == 0);
  CHECK(place.ended(Outcome::draining) == 1);
}

TEST_CASE("no more sessions than allowed") {
  Place place;
  std::vector<std::unique_ptr<SimPeer>> others;
  for (int i = 0; i < 3; ++i) {
    place.ask();
    REQUIRE(place.switched());
    others.push_back(std::move(place.client));
  }
  place.ask();
  CHECK(place.client->received().find("too_many_tunnels") != std::string::npos);
  others.clear();
  place.run(seconds(11));  // the server does not finish its half
  place.ask();
  CHECK(place.switched());
}

TEST_CASE("whatever the network does, each direction is a prefix of what was sent, and nothing is left") {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    Place place(seed, SimFaults::swarm(seed));
    const size_t most = 1 << 20;
    const std::string up = frames(seed % 3 == 0 ? most : 20'000, 'u'), down = frames(seed % 2 == 0 ? most : 100, 'd');
    place.ask(seed % 2 == 0 ? up : "");
    place.run(seconds(2));
    if (place.line != nullptr && place.switched()) {
      if (seed % 2 != 0) place.client->send(up);
      place.line->send(down);
      place.run(milliseconds(200));
      if (seed % 5 == 0) place.client->close(true);
      if (seed % 7 == 0) place.line->close(true);
      if (seed % 11 == 0) place.client->finish();
      if (seed % 13 == 0) place.line->pause();
    }
    place.run(seconds(300));
    const std::string got = place.got();
    if (place.switched()) {
      const size_t common = std::min(got.size(), down.size());
      CHECK(got.substr(0, common) == down.substr(0, common));
      CHECK(got.size() <= down.size() + close_frame.size());
      CHECK(up.starts_with(place.line->received()));
    }
    CHECK(place.seen.started == place.seen.finished_count());
    CHECK(place.seen.tunnels == 0);
  }
}

}  // namespace
}  // namespace penstock::test
