#include "penstock/downstream/connection.h"

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

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

  RequestHandler* on_request(Responder& client, http::Head&) override {
    connection_ = &static_cast<Connection&>(client);
    return this;
  }
  void on_bad_head(Responder&, const RequestFailure&) override { FAIL("bad head"); }
  void on_body(std::string_view) override {}
  void on_request_failed(const RequestFailure&) override { FAIL("bad request"); }
  void on_request_end() override {
    const std::string answer = head + std::string(1'000'000, 'x');
    for (size_t at = 0; at < answer.size(); at += piece_) {
      REQUIRE(connection_->send_raw(std::string_view(answer).substr(at, piece_)));
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

// Remembers how requests end, and what limits ended them.
class Recorder final : public Service, public RequestHandler {
 public:
  RequestHandler* on_request(Responder& client, http::Head&) override {
    connection_ = &static_cast<Connection&>(client);
    return this;
  }
  void on_bad_head(Responder& client, const RequestFailure& failure) override {
    ended += failure.timed_out ? "head-late " : failure.crowded_out ? "crowded-out " : "bad ";
    CHECK(static_cast<Connection&>(client).send_raw("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"));
  }
  void on_body(std::string_view bytes) override { body_bytes += bytes.size(); }
  void on_request_failed(const RequestFailure& failure) override {
    ended += failure.timed_out ? "body-late " : "failed ";
    CHECK(connection_->send_raw("HTTP/1.1 408 Late\r\ncontent-length: 0\r\n\r\n"));
    connection_->finish_response(After::close);
  }
  void on_request_end() override {
    if (answer_bytes == 0) return;
    CHECK(connection_->send_raw("HTTP/1.1 200 OK\r\ncontent-length: " + std::to_string(answer_bytes) + "\r\n\r\n"));
  }
  bool send(size_t bytes) { return connection_->send_raw(std::string(bytes, 'x')); }
  void finish() { connection_->finish_response(After::keep_alive); }
  void on_drained() override {}
  void on_gone(Gone why) override {
    ended += why == Gone::too_slow ? "too-slow " : why == Gone::write_timeout ? "write-timeout " : "gone ";
    unsent = connection_->unsent();
  }
  void on_limit(std::string_view limit) override { limits += std::string(limit) + ' '; }
  void on_idle_evicted() override { ++evicted; }

  std::string ended, limits;
  size_t body_bytes = 0, answer_bytes = 0, evicted = 0;
  uint64_t unsent = 0;

 private:
  Connection* connection_ = nullptr;
};

struct Slow {
  explicit Slow(const ServerOptions& options, size_t budget = 64 * 1024 * 1024)
      : loop(network, budget), server(loop.loop(), loop.pool(), recorder, options) {
    const Result<net::Address> listening = server.listen(sim_address(8080), false);
    REQUIRE(listening.ok());
    at = *listening;
  }
  ~Slow() {
    for (auto& client : clients) client->close();
    server.stop_listening();
    server.cut_all();
    network.run_for(seconds(1));
  }
  SimPeer& connect() {
    clients.push_back(std::make_unique<SimPeer>(network));
    REQUIRE(clients.back()->connect(at));
    network.run_for(milliseconds(10));
    return *clients.back();
  }
  // `bytes` every `pause`, until the connection has ended or `limit` has passed. Returns how long that was.
  Duration trickle(SimPeer& client, size_t bytes, Duration pause, Duration limit) {
    const Instant from = network.now();
    while (!client.ended() && network.now() - from < limit) {
      client.send(std::string(bytes, 'b'));
      network.run_for(pause);
    }
    return network.now() - from;
  }

  SimNetwork network{1};
  SimLoop loop;
  Recorder recorder;
  Server server;
  net::Address at;
  std::vector<std::unique_ptr<SimPeer>> clients;
};

const std::string long_body = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10000000\r\n\r\n";

TEST_CASE("a body of a byte per second is ended, and one of the least rate is not") {
  {
    Slow scene({.min_rate = 256, .rate_grace = seconds(60)});
    SimPeer& client = scene.connect();
    client.send(long_body);
    const Duration lasted = scene.trickle(client, 1, seconds(1), seconds(1000));
    CHECK(lasted >= seconds(60));
    CHECK(lasted < seconds(63));
    CHECK(client.received().starts_with("HTTP/1.1 408"));
    CHECK(scene.recorder.ended == "body-late ");
    CHECK(scene.recorder.limits == "client_min_rate ");
  }
  {
    Slow scene({.min_rate = 256, .rate_grace = seconds(60)});
    SimPeer& client = scene.connect();
    client.send(long_body);
    CHECK(scene.trickle(client, 2600, seconds(10), seconds(3000)) >= seconds(3000));
    CHECK(scene.recorder.ended.empty());
  }
}

TEST_CASE("bytes that came fast buy no more than the grace, and a pause is forgiven") {
  Slow scene({.body_timeout = seconds(3600), .min_rate = 256, .rate_grace = seconds(60)});
  SimPeer& client = scene.connect();
  client.send(long_body + std::string(5'000'000, 'b'));
  scene.network.run_for(seconds(55));
  CHECK(scene.recorder.ended.empty());
  client.send(std::string(100'000, 'b'));
  scene.network.run_for(seconds(55));
  CHECK(scene.recorder.ended.empty());
  CHECK(scene.trickle(client, 1, seconds(1), seconds(100)) < seconds(8));
  CHECK(scene.recorder.limits == "client_min_rate ");
}

TEST_CASE("without a least rate only a pause ends a body") {
  Slow scene({.body_timeout = seconds(60)});
  SimPeer& client = scene.connect();
  client.send(long_body);
  CHECK(scene.trickle(client, 1, seconds(50), seconds(1000)) >= seconds(1000));
  scene.network.run_for(seconds(61));
  CHECK(scene.recorder.ended == "body-late ");
  CHECK(scene.recorder.limits.empty());
}

// Reads `bytes` every `pause` of an answer that is there at once.
Duration read_slowly(Slow& scene, size_t bytes, Duration pause, Duration limit) {
  SimPeer& client = scene.connect();
  client.pause();
  scene.recorder.answer_bytes = 4'000'000;
  client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
  scene.network.run_for(milliseconds(10));
  REQUIRE(scene.recorder.send(4'000'000));
  const Instant from = scene.network.now();
  while (scene.recorder.ended.empty() && scene.network.now() - from < limit) {
    scene.network.run_for(pause);
    const size_t had = client.received().size();
    client.resume();
    scene.network.run_until([&] { return client.received().size() >= had + bytes; }, milliseconds(1));
    client.pause();
  }
  return scene.network.now() - from;
}

TEST_CASE("who reads an answer too slowly is ended, although each check sees progress") {
  Slow scene({.write_timeout = seconds(3600), .min_rate = 1'000'000, .rate_grace = seconds(60)});
  const Duration lasted = read_slowly(scene, 1, seconds(10), seconds(1000));
  CHECK(lasted >= seconds(60));
  CHECK(lasted < seconds(200));
  CHECK(scene.recorder.ended == "too-slow ");
  CHECK(scene.recorder.limits == "client_min_rate ");
  CHECK(scene.recorder.unsent > 1'000'000);
}

TEST_CASE("an answer that is slow itself does not count against its reader") {
  Slow scene({.min_rate = 1'000'000, .rate_grace = seconds(5)});
  SimPeer& client = scene.connect();
  scene.recorder.answer_bytes = 1000;
  client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
  for (int i = 0; i < 1000; ++i) {
    scene.network.run_for(seconds(3));
    REQUIRE(scene.recorder.send(1));
  }
  scene.recorder.finish();
  scene.network.run_for(seconds(1));
  CHECK(client.received().size() > 1000);
  CHECK(scene.recorder.ended.empty());
}

TEST_CASE("idle connections give way, the one that has waited longest first") {
  Slow scene({});
  CHECK_FALSE(scene.server.evict_idle());
  scene.network.run_for(seconds(1));
  SimPeer& first = scene.connect();
  SimPeer& second = scene.connect();
  SimPeer& busy = scene.connect();
  busy.send(long_body);
  first.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\n");
  scene.network.run_for(seconds(1));
  CHECK(scene.server.evict_idle());
  scene.network.run_for(seconds(1));
  CHECK(second.eof());
  CHECK_FALSE(first.ended());
  CHECK_FALSE(busy.ended());
  CHECK(scene.recorder.evicted == 1);
  CHECK_FALSE(scene.server.evict_idle());
  CHECK(scene.server.connections() == 2);
}

TEST_CASE("unfinished heads hold no more than their share: the oldest gives way") {
  Slow scene({.unfinished_heads = 64 * 1024});
  const std::string half = "GET / HTTP/1.1\r\nhost: a\r\nx-long: " + std::string(10'000, 'h');
  std::vector<SimPeer*> slow;
  for (int i = 0; i < 30; ++i) {
    slow.push_back(&scene.connect());
    slow.back()->send(half);
    scene.network.run_for(milliseconds(10));
    CHECK(scene.loop.budget().used() <= 512 * 1024);
  }
  CHECK(slow[0]->received().starts_with("HTTP/1.1 503"));
  CHECK_FALSE(slow[29]->ended());
  CHECK(scene.recorder.limits.find("incomplete_heads") == 0);
  // An honest one whose head comes in two pieces gets through.
  SimPeer& honest = scene.connect();
  honest.send(half);
  scene.network.run_for(milliseconds(10));
  scene.recorder.answer_bytes = 1;
  honest.send("\r\n\r\n");
  scene.network.run_for(milliseconds(10));
  CHECK(honest.received().starts_with("HTTP/1.1 200"));
  // One that is larger than the share is refused itself.
  SimPeer& huge = scene.connect();
  huge.send("GET / HTTP/1.1\r\nx: " + std::string(60'000, 'h'));
  scene.network.run_for(milliseconds(10));
  CHECK(huge.received().starts_with("HTTP/1.1 503"));
}

TEST_CASE("clients are counted exactly, an IPv6 subscriber as one") {
  ClientTable table;
  const uint64_t a = net::IpAddress::parse("192.0.2.1")->client(), b = net::IpAddress::parse("192.0.2.2")->client();
  const uint64_t c = net::IpAddress::parse("2001:db8:1:2::1")->client();
  CHECK(c == net::IpAddress::parse("2001:db8:1:2:ffff::9")->client());
  CHECK(c != net::IpAddress::parse("2001:db8:1:3::1")->client());
  CHECK(a == net::IpAddress::parse("::ffff:192.0.2.1")->client());
  CHECK(table.try_enter(a, 2));
  CHECK(table.try_enter(a, 2));
  CHECK_FALSE(table.try_enter(a, 2));
  CHECK(table.try_enter(b, 2));
  CHECK(table.clients() == 2);
  table.leave(a);
  {
    ClientTicket ticket;
    CHECK(ticket.take(table, a, 2));
    CHECK_FALSE(table.try_enter(a, 2));
  }
  CHECK(table.try_enter(a, 2));
  for (int i = 0; i < 2; ++i) table.leave(a);
  table.leave(b);
  CHECK(table.clients() == 0);
}

// Answers through the Responder, in the form that is asked for.
class FormAnswers final : public Service, public RequestHandler {
 public:
  RequestHandler* on_request(Responder& client, http::Head&) override {
    client_ = &client;
    return this;
  }
  void on_bad_head(Responder&, const RequestFailure&) override { FAIL("bad head"); }
  void on_body(std::string_view) override {}
  void on_request_failed(const RequestFailure&) override { FAIL("bad request"); }
  void on_request_end() override {
    http::Fields fields;
    fields.add("a", "b");
    if (form == BodyForm::sized) fields.add("content-length", uint64_t{3});
    CHECK(client_->begin({.fields = fields, .form = form}, first) == Sent::ok);
    for (const std::string& piece : pieces) CHECK(client_->send(piece) == Sent::ok);
    if (!inserted.empty()) CHECK(client_->insert(inserted) == Sent::ok);
    if (aborts) return client_->abort();
    CHECK(client_->end({}) == Sent::ok);
    client_->finish();
  }
  void on_drained() override {}
  void on_gone(Gone) override {}

  BodyForm form = BodyForm::sized;
  std::string first, inserted;
  std::vector<std::string> pieces;
  bool aborts = false;

 private:
  Responder* client_ = nullptr;
};

TEST_CASE("each form of a body, for clients of both versions") {
  struct Case {
    BodyForm form;
    std::string version, first;
    std::vector<std::string> pieces;
    std::string inserted;
    bool aborts;
    std::string expected;  // behind the status line and the field of the handler
    bool reset = false;
  };
  const std::string close = "connection: close\r\n", chunked = "transfer-encoding: chunked\r\n",
                    length = "content-length: 3\r\n";
  const Case cases[] = {
      {BodyForm::sized, "1.1", "abc", {}, "", false, length + "\r\nabc"},
      {BodyForm::sized, "1.0", "a", {"bc"}, "", false, length + close + "\r\nabc"},
      {BodyForm::none, "1.1", "", {}, "", false, "\r\n"},
      {BodyForm::chunked, "1.1", "1\r\na\r\n", {"0\r\n\r\n"}, "", false, chunked + "\r\n1\r\na\r\n0\r\n\r\n"},
      {BodyForm::chunked, "1.1", "1\r\na\r\n", {}, "oh", true, chunked + "\r\n1\r\na\r\n2\r\noh\r\n"},
      {BodyForm::open, "1.1", "", {"a", "", "bc"}, "", false, chunked + "\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"},
      {BodyForm::open, "1.1", "a", {}, "oh", true, chunked + "\r\n1\r\na\r\n2\r\noh\r\n"},
      {BodyForm::open, "1.0", "a", {"bc"}, "", false, close + "\r\nabc"},
      {BodyForm::open, "1.0", "a", {}, "oh", true, close + "\r\naoh", true},
  };
  for (const Case& one : cases) {
    CAPTURE(static_cast<int>(one.form));
    CAPTURE(one.version);
    CAPTURE(one.expected);
    SimNetwork network{1};
    SimLoop loop{network};
    FormAnswers answers;
    answers.form = one.form;
    answers.first = one.first;
    answers.pieces = one.pieces;
    answers.inserted = one.inserted;
    answers.aborts = one.aborts;
    Server server(loop.loop(), loop.pool(), answers, {});
    const Result<net::Address> at = server.listen(sim_address(8080), false);
    REQUIRE(at.ok());
    SimPeer client{network};
    REQUIRE(client.connect(*at));
    client.send("GET / HTTP/" + one.version + "\r\nhost: a\r\n\r\n");
    network.run_for(milliseconds(100));
    CHECK(client.received() == "HTTP/1.1 200 OK\r\na: b\r\n" + one.expected);
    const bool ends = one.aborts || one.version == "1.0";
    CHECK((client.eof() || client.error() != 0) == ends);
    CHECK((client.error() != 0) == one.reset);
    client.close();
    server.stop_listening();
    server.cut_all();
    network.run_for(seconds(1));
  }
}

}  // namespace
}  // namespace penstock::downstream
