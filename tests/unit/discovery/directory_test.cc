#include "penstock/discovery/directory.h"

#include <doctest/doctest.h>

#include <chrono>
#include <functional>
#include <memory>

#include "penstock/discovery/desired_pools.h"
#include "penstock/endpoints/snapshot_reader.h"
#include "tests/support/sim_peer.h"

namespace penstock::discovery::test {
namespace {

using endpoints::Readiness;
using penstock::test::sim_address;
using penstock::test::SimLoop;
using penstock::test::SimNetwork;
using penstock::test::SimPeer;
using penstock::test::SimServer;

// Answers probes and scrapes at 10.x.x.x:8000, and counts them by path.
struct ModelServer {
  ModelServer(SimNetwork& net, uint32_t host)
      : network(net), server(net, sim_address(8000, host), [this](SimPeer& peer) {
          peer.on_event = [this](SimPeer& p) { on_event(p); };
        }) {}
  void on_event(SimPeer& peer) {
    const std::string text = peer.take();
    if (text.empty()) return;
    if (trickles) {
      peer.send("HTTP/1.1 200 OK\r\nx: ");
      return trickle(peer);
    }
    const std::string path = text.substr(4, text.find(' ', 4) - 4);
    ++asked[path];
    std::string body;
    if (path == "/metrics") body = metrics;
    if (path == "/v1/models") body = R"({"object":"list","data":[{"id":"m","owned_by":")" + owner + "\"}]}";
    const bool known = path != "/ready" || knows_ready;
    const std::string answer = std::string("HTTP/1.1 ") +
                               (!known    ? "404 Not Found"
                                : healthy ? "200 OK"
                                          : "503 Service Unavailable") +
                               "\r\ncontent-length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
    if (path != "/health" || health_takes == Duration{}) return peer.send(answer);
    later(health_takes, [&peer, answer] { peer.send(answer); });
  }
  void trickle(SimPeer& peer) {
    if (!peer.connected() || peer.ended()) return;
    peer.send("x");
    later(milliseconds(100), [this, &peer] { trickle(peer); });
  }
  // Unless the server is gone by then.
  void later(Duration delay, std::function<void()> action) {
    network.after(delay, [living = std::weak_ptr(alive), action = std::move(action)] {
      if (!living.expired()) action();
    });
  }
  size_t open() {
    size_t count = 0;
    for (const auto& peer : server.peers()) count += peer->connected() && !peer->ended();
    return count;
  }

  SimNetwork& network;
  SimServer server;
  std::map<std::string, size_t> asked;
  std::string metrics = "vllm:num_requests_waiting 3\n", owner = "somebody";
  bool healthy = true;
  bool knows_ready = true;  // the path
  bool trickles = false;    // answers a byte at a time, without end
  Duration health_takes{};  // until it answers that probe
  std::shared_ptr<const bool> alive = std::make_shared<const bool>(true);
};

struct Recorder final : DirectoryEvents {
  void on_caches_lost(const endpoints::EndpointState& endpoint) override { lost.push_back(endpoint.name); }
  void on_draining(const endpoints::EndpointState& endpoint) override { draining.push_back(endpoint.name); }
  void on_silent(const endpoints::EndpointState& endpoint, std::optional<Instant> unanswered_since) override {
    silent.push_back(endpoint.name);
    silent_since.push_back(unanswered_since);
  }
  std::vector<std::string> lost, draining, silent;
  std::vector<std::optional<Instant>> silent_since;
};

struct Bench {
  Bench() : publisher(1), directory(loop.loop(), client, publisher, registry, events, {}) {}
  ~Bench() {
    directory.stop();
    network.run_for(milliseconds(10));
  }
  std::shared_ptr<EndpointSpec> spec(const std::string& name, uint32_t host, Readiness readiness = Readiness::ready,
                                     const std::string& uid = "") {
    auto out = std::make_shared<EndpointSpec>();
    const net::Address address = sim_address(8000, host);
    out->name = name;
    out->host = address.ip_string();
    out->port = 8000;
    out->url = "http://" + address.to_string();
    out->uid = uid.empty() ? "u-" + name : uid;
    out->readiness = readiness;
    return out;
  }
  static PoolSpec pool(const std::string& name, std::vector<std::shared_ptr<const EndpointSpec>> endpoints) {
    return {.id = {objects::Source::inference_pool, "ns", name, ""},
            .name = name,
            .endpoints = std::move(endpoints),
            .rewrites = {},
            .objectives = {}};
  }
  void set(std::vector<PoolSpec> pools) {
    PoolsSpec spec;
    spec.pools = std::move(pools);
    CHECK(directory.set_pools(std::move(spec)).empty());
  }
  const endpoints::Pool& published(size_t i = 0) const { return publisher.current()->pools.at(i); }
  const endpoints::EndpointView& view(size_t i = 0, size_t pool = 0) const { return published(pool).endpoints.at(i); }
  void run(Duration time) { network.run_for(time); }

  SimNetwork network{1};
  SimLoop loop{network};
  upstream::Client client{loop.loop(), {}};
  endpoints::SnapshotPublisher publisher;
  endpoints::EndpointRegistry registry;
  Recorder events;
  Directory directory;
};

TEST_CASE("what the API server calls ready takes traffic before our first probe; our probe may take it out") {
  Bench b;
  ModelServer alive(b.network, 1);
  b.set({Bench::pool("p", {b.spec("a", 1), b.spec("dead", 2), b.spec("c", 3, Readiness::not_ready)})});
  CHECK(b.view(0).readiness == Readiness::ready);
  CHECK(b.view(1).readiness == Readiness::ready);
  CHECK(b.view(2).readiness == Readiness::not_ready);
  CHECK(b.published().ready_count() == 2);
  CHECK(!b.directory.synced());
  CHECK(b.view(0).state->health.recovered_at_ns.load() == 0);  // nobody to be compared with at the start
  b.run(milliseconds(100));
  CHECK(b.view(0).readiness == Readiness::ready);
  CHECK(b.view(0).metrics.waiting == 3);
  CHECK(b.view(0).models == std::vector<std::string>{"m"});
  CHECK(b.view(1).readiness == Readiness::not_ready);  // refused
  CHECK(b.directory.synced());
  alive.healthy = false;
  b.run(seconds(2));
  CHECK(b.view(0).readiness == Readiness::not_ready);
  alive.healthy = true;
  b.run(seconds(1));
  CHECK(b.view(0).readiness == Readiness::ready);
  CHECK(b.view(0).state->health.recovered_at_ns.load() > 0);
}

TEST_CASE("a newcomer starts slowly and does not make the gateway unready") {
  Bench b;
  ModelServer first(b.network, 1);
  const auto a = b.spec("a", 1);
  b.set({Bench::pool("p", {a})});
  b.run(milliseconds(100));
  CHECK(b.directory.synced());
  const int64_t now = b.network.now().time_since_epoch().count();
  b.set({Bench::pool("p", {a, b.spec("b", 2)})});
  CHECK(b.view(1).readiness == Readiness::ready);
  CHECK(b.view(1).state->health.recovered_at_ns.load() == now);
  CHECK(b.view(0).state->health.recovered_at_ns.load() == 0);
  CHECK(b.directory.synced());
}

TEST_CASE("what is known of a server outlives a moment in which it is not ready, but not its death") {
  Bench b;
  auto server = std::make_unique<ModelServer>(b.network, 1);
  const auto say = [&](Readiness readiness) { b.set({Bench::pool("p", {b.spec("a", 1, readiness)})}); };
  say(Readiness::ready);
  b.run(milliseconds(300));
  CHECK(b.events.lost.empty());  // it had none before
  say(Readiness::not_ready);
  const size_t scrapes = server->asked["/metrics"], probes = server->asked["/health"];
  b.run(seconds(5));
  CHECK(server->asked["/metrics"] == scrapes);
  CHECK(server->asked["/health"] > probes);
  CHECK(b.view().readiness == Readiness::not_ready);
  say(Readiness::ready);
  CHECK(b.view().readiness == Readiness::ready);
  CHECK(b.events.lost.empty());

  say(Readiness::not_ready);
  server = nullptr;
  b.run(seconds(5));
  say(Readiness::ready);
  CHECK(b.view().readiness == Readiness::ready);  // at once, whatever our last probe met
  CHECK(!b.view().state->health.probe_failed.load());
  CHECK(b.events.lost == std::vector<std::string>{"a"});
}

TEST_CASE("the first restart of a server is seen, also of one that was alive before it was called ready") {
  Bench b;
  auto server = std::make_unique<ModelServer>(b.network, 1);
  const auto say = [&](Readiness readiness) { b.set({Bench::pool("p", {b.spec("a", 1, readiness)})}); };
  say(Readiness::not_ready);
  b.run(seconds(5));
  say(Readiness::ready);
  b.run(seconds(5));
  CHECK(b.events.lost.empty());
  server = nullptr;
  b.run(seconds(5));
  server = std::make_unique<ModelServer>(b.network, 1);
  b.run(seconds(5));
  CHECK(b.events.lost == std::vector<std::string>{"a"});
}

TEST_CASE("an endpoint of the configuration is the last resort until it is probed") {
  Bench b;
  ModelServer alive(b.network, 1);
  const auto listed = [&](const char* name, uint8_t host) {
    auto spec = b.spec(name, host);
    spec->readiness.reset();
    return spec;
  };
  b.set({Bench::pool("p", {listed("a", 1), listed("dead", 2)})});
  for (size_t i = 0; i < 2; ++i) {
    CHECK(b.view(i).readiness == Readiness::not_ready);
    CHECK(b.view(i).last_resort);
  }
  b.run(seconds(1));
  CHECK(b.view(0).readiness == Readiness::ready);
  CHECK(b.view(1).readiness == Readiness::not_ready);
  for (size_t i = 0; i < 2; ++i) CHECK(!b.view(i).last_resort);
}

TEST_CASE("a draining endpoint: told at once, not asked any more, its idle connections close, its state stays") {
  Bench b;
  ModelServer server(b.network, 1);
  b.set({Bench::pool("p", {b.spec("a", 1)})});
  b.run(milliseconds(300));
  endpoints::EndpointState* const state = b.view().state;
  CHECK(server.open() == 1);
  const auto version = b.publisher.current()->version;
  auto draining = b.spec("a", 1, Readiness::draining);
  draining->last_resort = true;
  b.set({Bench::pool("p", {draining})});
  CHECK(b.publisher.current()->version == version + 1);
  CHECK(b.view().readiness == Readiness::draining);
  CHECK(b.view().last_resort);
  CHECK(b.view().state == state);
  CHECK(b.view().metrics.waiting == 3);  // what was known stays
  CHECK(b.events.draining == std::vector<std::string>{"a"});
  const auto asked = server.asked;
  b.run(seconds(5));
  CHECK(server.asked == asked);
  CHECK(server.open() == 0);
  CHECK(b.view().readiness == Readiness::draining);

  state->load.requests.store(1);  // a stream goes on
  b.set({Bench::pool("p", {})});
  b.run(seconds(1));
  CHECK(b.events.draining.size() == 1);  // said once
  CHECK(b.registry.lingering() == 1);
  state->load.requests.store(0);
  b.run(seconds(1));
  CHECK(b.registry.lingering() == 0);
}

TEST_CASE("an endpoint with requests is silent while no probe is answered, not while one is with an error") {
  Bench b;
  ModelServer server(b.network, 1);
  b.set({Bench::pool("p", {b.spec("a", 1)})});
  b.run(milliseconds(100));
  auto& requests = b.view(0).state->load.requests;
  requests = 1;
  server.healthy = false;
  b.run(seconds(4));
  CHECK(b.view(0).readiness == Readiness::not_ready);
  CHECK(b.events.silent.empty());
  server.healthy = true;
  b.run(seconds(2));
  REQUIRE(b.view(0).readiness == Readiness::ready);
  server.trickles = true;
  b.run(seconds(2));
  CHECK(b.events.silent.empty());  // one probe or two prove nothing
  b.run(seconds(6));
  CHECK(b.view(0).readiness == Readiness::not_ready);
  const size_t said = b.events.silent.size();
  CHECK(said >= 2);  // again with each probe: who could not leave may by then
  // Streams must have been silent since the probe before the one that has just failed.
  REQUIRE((b.events.silent_since[0] && b.events.silent_since[1]));
  CHECK(*b.events.silent_since[0] < *b.events.silent_since[1]);
  CHECK(*b.events.silent_since[said - 1] < b.network.now() - seconds(1));
  requests = 0;
  b.run(seconds(4));
  CHECK(b.events.silent.size() == said);
  server.trickles = false;
  b.run(seconds(4));
  REQUIRE(b.view(0).readiness == Readiness::ready);
  requests = 1;
  b.set({Bench::pool("p", {b.spec("a", 1, Readiness::not_ready)})});
  b.run(seconds(4));
  CHECK(b.events.silent.size() == said);  // it answers, whatever Kubernetes says
  requests = 0;
}

TEST_CASE("requests that the engine has not counted yet are as good as sent after the scrape") {
  Bench b;
  ModelServer server(b.network, 1);
  b.set({Bench::pool("p", {b.spec("a", 1)})});
  b.run(milliseconds(100));
  endpoints::LoadCounters& load = b.view(0).state->load;
  load.requests = 10;
  load.decoding = 3;
  const auto scraped = [&](const std::string& metrics) {
    server.metrics = metrics;
    b.run(seconds(2));
    CHECK(b.view(0).metrics.requests_at_scrape == 10);
    return b.view(0).metrics.not_counted_at_scrape;
  };
  // It is in a long step that began with four.
  CHECK(scraped("vllm:num_requests_waiting 0\nvllm:num_requests_running 4\n") == 6);
  CHECK(b.view(0).waiting_now() == 6);
  // Those with a first token were counted: they are over, and their answers are on their way.
  load.decoding = 8;
  CHECK(scraped("vllm:num_requests_waiting 0\nvllm:num_requests_running 4\n") == 2);
  CHECK(scraped("vllm:num_requests_waiting 3\nvllm:num_requests_running 20\n") == 0);  // others have some, too
  CHECK(scraped("vllm:num_requests_waiting 3\n") == 0);                                // not known how many run
  // Who only decodes does not know what is computed elsewhere, and has no queue for that.
  load.decoding = 3;
  REQUIRE(scraped("vllm:num_requests_waiting 0\nvllm:num_requests_running 4\n") == 6);
  const auto decodes = b.spec("a", 1);
  decodes->labels = std::make_shared<const objects::Labels>(objects::Labels{{"llm-d.ai/role", "decode"}});
  b.set({Bench::pool("p", {decodes})});
  CHECK(b.view(0).waiting_now() == 0);
  load.requests = 0;
  load.decoding = 0;
}

TEST_CASE("an endpoint that answered with errors is silent after as many probes as any other") {
  Bench b;
  ModelServer server(b.network, 1);
  b.set({Bench::pool("p", {b.spec("a", 1)})});
  b.run(milliseconds(100));
  auto& requests = b.view(0).state->load.requests;
  requests = 1;
  for (int round = 0; round < 2; ++round) {
    server.trickles = false;
    server.healthy = false;
    b.run(seconds(4));
    REQUIRE(b.view(0).readiness == Readiness::not_ready);
    const size_t said = b.events.silent.size();
    server.trickles = true;
    b.run(milliseconds(1500));
    CHECK(b.events.silent.size() == said);
    b.run(seconds(4));
    CHECK(b.events.silent.size() > said);
  }
  requests = 0;
}

TEST_CASE("another uid at the same address is another endpoint") {
  Bench b;
  ModelServer server(b.network, 1);
  b.set({Bench::pool("p", {b.spec("a", 1, Readiness::ready, "u1")})});
  b.run(milliseconds(100));
  const uint32_t before = b.view().state->incarnation;
  CHECK(b.view().metrics.known);
  b.set({Bench::pool("p", {b.spec("a", 1, Readiness::ready, "u2")})});
  CHECK(b.view().state->incarnation != before);
  CHECK(b.view().state->uid == "u2");
  CHECK(!b.view().metrics.known);
  CHECK(b.events.draining == std::vector<std::string>{"a"});
}

TEST_CASE("pools keep their ids, and share an endpoint that both have") {
  Bench b;
  ModelServer server(b.network, 1);
  b.set({Bench::pool("p", {b.spec("a", 1)}), Bench::pool("q", {b.spec("a", 1), b.spec("b", 2)})});
  CHECK(b.registry.living() == 2);
  CHECK(b.view(0, 0).state == b.view(0, 1).state);
  b.run(milliseconds(100));
  CHECK(server.server.peers().size() == 1);
  const uint32_t p = b.published(0).id, q = b.published(1).id;
  CHECK(p != q);

  b.set({Bench::pool("n", {}), Bench::pool("q", {b.spec("a", 1)})});
  CHECK(b.published(1).id == q);
  CHECK(b.published(0).id != p);
  CHECK(b.view(0, 1).metrics.known);  // the same poller still
  CHECK(b.registry.living() == 1);

  // One of them calls it not ready, and only there it is so; draining counts everywhere.
  b.set({Bench::pool("n", {b.spec("a", 1, Readiness::not_ready)}), Bench::pool("q", {b.spec("a", 1)})});
  CHECK(b.view(0, 0).readiness == Readiness::not_ready);
  CHECK(b.view(0, 1).readiness == Readiness::ready);
  b.set({Bench::pool("n", {b.spec("a", 1, Readiness::draining)}), Bench::pool("q", {b.spec("a", 1)})});
  CHECK(b.view(0, 1).readiness == Readiness::draining);
}

TEST_CASE("static endpoints are ready when they answer; a host that is no address is reported") {
  Bench b;
  ModelServer server(b.network, 1);
  const std::string ip = sim_address(8000, 1).ip_string();
  const std::vector<EndpointSpec> specs = {
      {.name = "a", .url = "http://" + ip + ":8000", .host = ip, .port = 8000, .engine = "vllm"},
      {.name = "b", .url = "http://no.such.host.invalid:1", .host = "no.such.host.invalid", .port = 1, .engine = ""}};
  const std::vector<std::string> problems = b.directory.set_endpoints("default", specs);
  REQUIRE(problems.size() == 1);
  CHECK(problems[0].find("no.such.host.invalid") != std::string::npos);
  CHECK(b.published().name == "default");
  CHECK(b.view().readiness == Readiness::not_ready);
  b.run(milliseconds(100));
  CHECK(b.view().readiness == Readiness::ready);
  const endpoints::EndpointState* const state = b.view().state;
  b.directory.set_endpoints("default", {specs[0]});
  CHECK(b.view().state == state);
  CHECK(b.view().readiness == Readiness::ready);
  CHECK(b.events.lost.empty());
  server.healthy = false;
  b.run(seconds(5));
  CHECK(b.view().readiness == Readiness::not_ready);
  server.healthy = true;
  b.run(seconds(5));
  CHECK(b.view().readiness == Readiness::ready);
  CHECK(b.events.lost == std::vector<std::string>{"a"});  // it may be another process
}

TEST_CASE("a server that was dead serves no penalty any more") {
  Bench b;
  ModelServer server(b.network, 1);
  b.set({Bench::pool("p", {b.spec("a", 1)})});
  b.run(milliseconds(100));
  std::atomic<int64_t>& until_ns = b.view().state->health.ejected_until_ns;
  const auto now_ns = [&] { return b.network.now().time_since_epoch().count(); };
  until_ns = now_ns() + Duration(seconds(60)).count();
  b.run(seconds(5));
  CHECK(until_ns > now_ns());  // only its death ends it
  server.healthy = false;
  b.run(seconds(5));
  server.healthy = true;
  b.run(seconds(5));
  CHECK(b.view().readiness == Readiness::ready);
  CHECK(until_ns < now_ns());
  CHECK(b.view().state->health.recovered_at_ns == until_ns);
}

TEST_CASE("each engine is probed where its answer is quick, unless the configuration names a path") {
  Bench b;
  ModelServer sglang(b.network, 1), vllm(b.network, 2);
  sglang.metrics = "sglang:num_queue_reqs 4\n";
  const auto first = b.spec("s", 1), second = b.spec("v", 2);
  first->engine = "sglang";
  b.set({Bench::pool("p", {first, second})});
  b.run(milliseconds(100));
  CHECK(sglang.asked["/ready"] == 1);
  CHECK(sglang.asked["/health"] == 0);
  CHECK(b.view(0).metrics.waiting == 4);
  CHECK(vllm.asked["/health"] == 1);
  CHECK(vllm.asked["/ready"] == 0);

  b.directory.set_options({.health_path = "/alive"});
  b.run(seconds(1));
  CHECK(sglang.asked["/alive"] == 1);
  CHECK(vllm.asked["/alive"] == 1);
}

TEST_CASE("an endpoint's engine is found out by its list of models, though its first probe is slow") {
  Bench b;
  ModelServer server(b.network, 1);
  server.owner = "sglang";
  server.metrics = "sglang:num_queue_reqs 4\n";
  server.health_takes = milliseconds(1500);  // longer than a probe may take
  b.set({Bench::pool("p", {b.spec("a", 1)})});
  b.run(seconds(4));
  CHECK(b.view().readiness == Readiness::ready);
  CHECK(b.view().metrics.waiting == 4);
  CHECK(server.asked["/health"] == 1);
  CHECK(server.asked["/ready"] >= 2);
  CHECK(b.directory.status()[0].scrape_errors == 0);
  CHECK(b.directory.status()[0].engine == "sglang");

  // Another engine takes its place.
  server.healthy = false;
  b.run(seconds(3));
  CHECK(b.view().readiness == Readiness::not_ready);
  server.healthy = true;
  server.owner = "vllm";
  server.metrics = "vllm:num_requests_waiting 5\n";
  server.health_takes = {};
  b.run(seconds(3));
  CHECK(b.view().readiness == Readiness::ready);
  CHECK(b.view().metrics.waiting == 5);
  CHECK(server.asked["/health"] >= 2);
}

TEST_CASE("an engine that its list of models does not name is found out by its metrics, at once") {
  Bench b;
  ModelServer triton(b.network, 1), none(b.network, 2);
  triton.metrics = "nv_trt_llm_request_metrics{request_type=\"waiting\"} 7\n";
  none.metrics = "up 1\n";
  b.set({Bench::pool("p", {b.spec("a", 1), b.spec("b", 2)})});
  b.run(milliseconds(200));
  CHECK(b.view(0).metrics.known);
  CHECK(b.view(0).metrics.waiting == 7);
  CHECK(triton.asked["/metrics"] == 4);
  CHECK(none.asked["/metrics"] == 4);
  CHECK_FALSE(b.view(1).metrics.known);
  CHECK(b.directory.synced());
  CHECK(b.directory.status()[0].engine == "triton-tensorrt-llm");
  CHECK(b.directory.status()[1].engine == "auto");
  b.run(seconds(3));
  CHECK(none.asked["/metrics"] <= 4 + 4);  // once a second then, while no traffic flows
  none.metrics = "trtllm_num_requests_waiting 2\n";
  b.run(seconds(5));
  CHECK(b.view(1).metrics.waiting == 2);
}

TEST_CASE("an engine that was added is scraped as it was described") {
  Bench b;
  EnginePreset atom{.name = "atom", .rules = {}};
  atom.replace(Signal::waiting, "atom:waiting", {});
  PollOptions options;
  options.engines = std::make_shared<const EngineSet>(std::vector<EnginePreset>{atom});
  b.directory.set_options(options);
  ModelServer server(b.network, 1);
  server.metrics = "atom:waiting 6\nvllm:num_requests_waiting 1\n";
  const auto spec = b.spec("a", 1);
  spec->engine = "atom";
  b.set({Bench::pool("p", {spec})});
  b.run(milliseconds(100));
  CHECK(b.view().metrics.waiting == 6);
  CHECK(server.asked["/metrics"] == 1);
}

TEST_CASE("a server that answers nothing but 404 where its engine is guessed does not live by that") {
  Bench b;
  ModelServer server(b.network, 1);
  server.health_takes = seconds(30);
  server.knows_ready = false;
  const auto spec = b.spec("a", 1);
  spec->readiness = std::nullopt;
  b.set({Bench::pool("p", {spec})});
  b.run(seconds(10));
  CHECK(server.asked["/ready"] >= 2);
  CHECK(b.view().readiness == Readiness::not_ready);
}

TEST_CASE("probes that take as long as their interval leave room for metrics and models") {
  Bench b;
  b.directory.set_options({.timeout = seconds(5)});
  ModelServer server(b.network, 1);
  server.health_takes = milliseconds(1200);
  b.set({Bench::pool("p", {b.spec("a", 1)})});
  b.run(seconds(8));
  CHECK(server.asked["/health"] >= 4);
  CHECK(server.asked["/metrics"] >= 3);
  CHECK(b.view().metrics.waiting == 3);
  CHECK(b.view().models == std::vector<std::string>{"m"});
}

TEST_CASE("an answer that trickles is none: who waits for the first probes does not wait for it") {
  Bench b;
  ModelServer good(b.network, 1), slow(b.network, 2);
  slow.trickles = true;
  const auto first = b.spec("good", 1), second = b.spec("slow", 2);
  first->readiness = second->readiness = std::nullopt;
  b.set({Bench::pool("p", {first, second})});
  b.run(milliseconds(1500));
  CHECK(b.directory.synced());
  CHECK(b.view(0).readiness == Readiness::ready);
  CHECK(b.view(1).readiness == Readiness::not_ready);
  slow.trickles = false;
  b.run(seconds(2));
  CHECK(b.view(1).readiness == Readiness::ready);
  slow.trickles = true;
  b.run(seconds(5));
  CHECK(b.view(1).readiness == Readiness::not_ready);
  CHECK(b.view(0).readiness == Readiness::ready);
}

TEST_CASE("with 1,000 endpoints an event costs little and disturbs nobody") {
  constexpr uint32_t count = 1000, events = 200;
  Bench b;
  std::vector<std::shared_ptr<const EndpointSpec>> specs;
  for (uint32_t i = 0; i < count; ++i) specs.push_back(b.spec("pod-" + std::to_string(i), i + 1, Readiness::not_ready));
  b.set({Bench::pool("p", specs)});
  const endpoints::EndpointState* const watched = b.view(500).state;
  const auto start = std::chrono::steady_clock::now();
  for (uint32_t i = 0; i < events; ++i) {
    specs[i] = b.spec("pod-" + std::to_string(i), i + 1, Readiness::draining);
    b.set({Bench::pool("p", specs)});
  }
  const std::chrono::duration<double, std::milli> each = (std::chrono::steady_clock::now() - start) / events;
  MESSAGE("set_pools() with 1,000 endpoints, one of them changed: " << each.count() << " ms");
  CHECK(each.count() < 500);  // 0.2 optimised and alone; here perhaps neither
  CHECK(b.view(500).state == watched);
  CHECK(b.events.draining.size() == events);
  CHECK(b.registry.living() == count);
}

}  // namespace
}  // namespace penstock::discovery::test
