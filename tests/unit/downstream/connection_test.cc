#include "penstock/downstream/connection.h"

#include <doctest/doctest.h>

#include <string>

#include "tests/support/sim_peer.h"

namespace penstock::downstream {
namespace {

using penstock::test::sim_address;
using penstock::test::SimLoop;
using penstock::test::SimNetwork;
using penstock::test::SimPeer;

const std::string head = "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n";

// Answers every request with a megabyte, given to the connection in one piece or in pieces of `piece` bytes.
class BigAnswers final : public Service, public RequestHandler {
 public:
  explicit BigAnswers(size_t piece) : piece_(piece) {}

  RequestHandler* on_request(Connection& connection, http::Head&) override {
    connection_ = &connection;
    return this;
  }
  void on_bad_head(Connection&, const RequestFailure&) override { FAIL("bad head"); }
  void on_body(std::string_view) override {}
  void on_request_failed(const RequestFailure&) override { FAIL("bad request"); }
  void on_request_end() override {
    const std::string answer = head + std::string(1'000'000, 'x');
    for (size_t at = 0; at < answer.size(); at += piece_) {
      REQUIRE(connection_->send(std::string_view(answer).substr(at, piece_)));
    }
    connection_->finish_response(After::keep_alive);
  }
  void on_drained() override {}
  void on_gone(Gone) override { FAIL("gone"); }

 private:
  size_t piece_;
  Connection* connection_ = nullptr;
};

struct Scene {
  explicit Scene(const ServerOptions& options, size_t piece = 2'000'000)
      : answers(piece), server(loop.loop(), loop.pool(), answers, options), client(network) {
    const Result<net::Address> at = server.listen(sim_address(8080), false);
    REQUIRE(at.ok());
    REQUIRE(client.connect(*at));
  }
  ~Scene() {
    client.close();
    server.stop_listening();
    server.cut_all();
    network.run_for(seconds(1));
  }
  void ask() {
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    network.run_for(milliseconds(100));
  }

  SimNetwork network{1};
  SimLoop loop{network};
  BigAnswers answers;
  Server server;
  SimPeer client;
};

TEST_CASE("who still has its answer to read is not idle") {
  for (const size_t piece : {2'000'000, 1000}) {
    CAPTURE(piece);
    Scene scene({.idle_timeout = seconds(5), .write_timeout = seconds(3600)}, piece);
    scene.client.pause();
    scene.ask();
    scene.network.run_for(seconds(1000));
    CHECK(scene.server.connections() == 1);
    scene.client.resume();
    scene.network.run_for(seconds(4));
    CHECK(scene.client.received().size() == head.size() + 1'000'000);
    CHECK(scene.server.connections() == 1);  // idle only since it was read
    scene.network.run_for(seconds(2));
    CHECK(scene.client.eof());
    CHECK(scene.client.error() == 0);
  }
}

TEST_CASE("who does not read its answer is given up after the write timeout, also behind the answer's end") {
  Scene scene({.idle_timeout = seconds(3600), .write_timeout = seconds(5)});
  scene.client.pause();
  scene.ask();
  scene.network.run_for(seconds(4));
  CHECK(scene.server.connections() == 1);
  scene.network.run_for(seconds(2));
  CHECK(scene.server.connections() == 0);
}

TEST_CASE("after a whole answer the idle timeout runs, after the next one again") {
  Scene scene({.idle_timeout = seconds(5), .write_timeout = seconds(1)});
  for (int i = 0; i < 3; ++i) {
    scene.ask();
    scene.network.run_for(seconds(4));
    CHECK(scene.server.connections() == 1);
  }
  scene.network.run_for(seconds(2));
  CHECK(scene.server.connections() == 0);
  CHECK(scene.client.error() == 0);
}

TEST_CASE("a drain waits for who still reads") {
  Scene scene({.write_timeout = seconds(3600), .parting_silence = seconds(1)});
  scene.client.pause();
  scene.ask();
  scene.server.stop_listening();
  scene.server.drain();
  scene.network.run_for(seconds(100));
  CHECK(scene.server.connections() == 1);
  scene.client.resume();
  scene.network.run_for(seconds(10));
  CHECK(scene.client.received().size() == head.size() + 1'000'000);
  CHECK(scene.server.connections() == 0);
}

}  // namespace
}  // namespace penstock::downstream
