// Endpoints that refuse what others answer, clients whose requests every endpoint refuses, and endpoints that are dead:
// who sees what, who is ejected, and where requests go. One shard, virtual time.
#include <doctest/doctest.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "world.h"

namespace penstock::test {
namespace {

constexpr uint16_t first_port = 9101;
constexpr Duration answer_time = milliseconds(40);

// What an endpoint does with a request.
struct Reply {
  uint16_t status = 200;
  std::string fields = "";
  bool at_once = true;  // false: after answer_time
};
const Reply good{200, "", false};

// The status that a request asks for in its prompt ("status 404"), at every endpoint; 0: none.
uint16_t asked_status(const std::string& request) {
  const size_t at = request.find("status ");
  return at == std::string::npos ? 0 : static_cast<uint16_t>(std::stoi(request.substr(at + 7, 3)));
}
bool asks_for_model(const std::string& request, const std::string& model) {
  return request.find("\"model\":\"" + model + '"') != std::string::npos;
}
Reply like_the_others(const std::string& request) {
  const uint16_t status = asked_status(request);
  if (status == 0) return good;
  return {status, status == 429 ? "retry-after: 2\r\n" : ""};
}

// Some endpoints and a gateway before them, and clients that send one request after the other.
class Scene {
 public:
  using Behave = std::function<Reply(const std::string& request)>;

  Scene(routing::Policy policy, size_t endpoints, uint64_t seed = 1, const proxy::Options& options = {})
      : network(seed, SimFaults::none()), behave(endpoints, like_the_others), seen(endpoints, 0) {
    std::vector<net::Address> addresses;
    for (size_t i = 0; i < endpoints; ++i) {
      addresses.push_back(sim_address(static_cast<uint16_t>(first_port + i)));
      servers_.push_back(std::make_unique<SimServer>(network, addresses.back(), [this, i](SimPeer& peer) {
        peer.on_event = [this, i](SimPeer& at) { serve(i, at); };
      }));
    }
    shard_ = std::make_unique<SimShard>(network, addresses, observer, options, policy);
  }
  ~Scene() {
    clients_.clear();
    network.run_until([&] { return observer.finished_count() == observer.started; }, seconds(100));
    shard_->close_and_check(network);
    for (size_t i = 0; i < servers_.size(); ++i) kill(i);
    network.run_for(seconds(1));
  }

  // Adds clients that send this many requests in all, one after the other on a connection each.
  struct Kind {
    std::string prompt = "hello", model = "m";
    bool leaves = false;       // it closes its connection as soon as it has sent a request
    size_t left = 0;           // requests still to be sent
    std::map<int, int> got{};  // by status
  };
  void add(Kind& kind, size_t clients) {
    for (size_t i = 0; i < clients; ++i) {
      clients_.push_back(std::make_unique<SimPeer>(network));
      SimPeer& peer = *clients_.back();
      peer.on_event = [this, &kind](SimPeer& at) { take(kind, at); };
      peer.connect(shard_->address());
      send(kind, peer);
    }
  }
  void run(std::vector<Kind*> kinds) {
    const auto done = [&] {
      for (const Kind* kind : kinds) {
        if (kind->left > 0) return false;
      }
      return waiting_ == 0;
    };
    REQUIRE(network.run_until(done, seconds(1000)));
  }
  void kill(size_t i) {
    servers_[i]->stop();
    for (const auto& peer : servers_[i]->peers()) peer->close(/*reset=*/true);
  }

  SimNetwork network;
  CountingObserver observer;
  std::vector<Behave> behave;
  std::vector<int> seen;  // requests, by endpoint

 private:
  void send(Kind& kind, SimPeer& peer) {
    if (kind.left == 0) return;
    --kind.left;
    // Each prompt is another one, but for its beginning.
    const std::string body = R"({"model":")" + kind.model + R"(","prompt":")" + kind.prompt + ' ' +
                             std::to_string(next_prompt_++) + R"(","max_tokens":8})";
    peer.send("POST /v1/completions HTTP/1.1\r\nHost: h\r\nContent-Length: " + std::to_string(body.size()) +
              "\r\n\r\n" + body);
    if (!kind.leaves) {
      ++waiting_;
      return;
    }
    // It is gone a moment later; another one comes in its place.
    ++waiting_;
    network.after(milliseconds(1), [this, &kind, &peer] {
      peer.close(/*reset=*/true);
      --waiting_;
      if (kind.left > 0) add(kind, 1);
    });
  }
  static size_t message_size(const std::string& bytes) {
    const size_t end = bytes.find("\r\n\r\n");
    if (end == std::string::npos) return 0;
    size_t length = bytes.find("ontent-length: ");
    if (length == std::string::npos || length > end) length = bytes.find("ontent-Length: ");
    const size_t size = length < end ? std::stoul(bytes.substr(length + 15)) : 0;
    return bytes.size() < end + 4 + size ? 0 : end + 4 + size;
  }
  void take(Kind& kind, SimPeer& peer) {
    const size_t size = message_size(peer.received());
    if (size == 0) return;
    REQUIRE(peer.received().size() == size);
    ++kind.got[std::stoi(peer.take().substr(9, 3))];
    --waiting_;
    send(kind, peer);
  }
  void serve(size_t i, SimPeer& peer) {
    const size_t size = message_size(peer.received());
    if (size == 0) return;
    ++seen[i];
    const Reply reply = behave[i](peer.take());
    std::string bytes = "HTTP/1.1 " + std::to_string(reply.status) + " X\r\ncontent-type: application/json\r\n" +
                        reply.fields + "content-length: 14\r\n\r\n{\"choices\":[]}";
    if (reply.at_once) return peer.send(bytes);
    network.after(answer_time, [&peer, bytes] {
      if (peer.is_open()) peer.send(bytes);
    });
  }

  std::vector<std::unique_ptr<SimServer>> servers_;
  std::unique_ptr<SimShard> shard_;
  std::vector<std::unique_ptr<SimPeer>> clients_;
  size_t waiting_ = 0;
  uint64_t next_prompt_ = 1;
};

int others_than(const std::map<int, int>& got, int status) {
  int count = 0;
  for (const auto& [each, times] : got) {
    if (each != status) count += times;
  }
  return count;
}

std::vector<std::pair<std::string, routing::Policy>> policies() {
  std::vector<std::pair<std::string, routing::Policy>> all;
  for (const std::string_view name : routing::policy_names()) {
    routing::Policy policy{};
    REQUIRE(routing::parse_policy(name, &policy));
    all.emplace_back(name, policy);
  }
  return all;
}

TEST_CASE("one of three endpoints refuses at once what the others answer: clients do not see it, and it gets little") {
  for (const auto& [name, policy] : policies()) {
    for (const uint16_t status : {400, 401, 403, 404, 413, 422, 429, 500}) {
      for (const size_t clients : {1, 10, 30}) {
        INFO(name << ", status " << status << ", " << clients << " clients");
        Scene scene(policy, 3);
        scene.behave[0] = [&](const std::string&) { return Reply{status}; };
        Scene::Kind honest{.left = 300};
        scene.add(honest, clients);
        scene.run({&honest});
        CHECK(honest.got[200] == 300);
        CHECK(scene.seen[0] <= 60);
        if (status != 429) CHECK(scene.observer.ejections >= 1);
        if (status == 429) CHECK(scene.observer.ejections == 0);
      }
    }
  }
}

TEST_CASE("half of what an endpoint answers is a refusal: clients see at most five of three hundred") {
  for (const auto& [name, policy] : policies()) {
    for (const uint16_t status : {400, 401, 404, 429}) {
      INFO(name << ", status " << status);
      Scene scene(policy, 3);
      int turn = 0;
      scene.behave[0] = [&](const std::string&) { return turn++ % 2 == 0 ? Reply{status} : good; };
      Scene::Kind honest{.left = 300};
      scene.add(honest, 10);
      scene.run({&honest});
      CHECK(others_than(honest.got, 200) <= 5);
    }
  }
}

TEST_CASE("without second opinions an endpoint that refuses gets little of the traffic all the same") {
  for (const auto& [name, policy] : policies()) {
    INFO(name);
    proxy::Options options;
    options.second_opinions = 0;
    Scene scene(policy, 3, 1, options);
    scene.behave[0] = [](const std::string&) { return Reply{400}; };
    Scene::Kind honest{.left = 300};
    scene.add(honest, 10);
    scene.run({&honest});
    CHECK(honest.got[400] <= 40);
    CHECK(scene.observer.ejections == 0);  // without pairs there is no evidence
  }
}

// The six kinds of clients whose requests are bad wherever they go.
std::vector<Scene::Kind> poisonous() {
  std::vector<Scene::Kind> kinds;
  for (const int status : {400, 401, 404, 413, 422, 429}) {
    kinds.push_back({.prompt = "status " + std::to_string(status), .left = 500});
  }
  kinds.push_back({.prompt = "leaves", .leaves = true, .left = 500});
  return kinds;
}

TEST_CASE("clients whose requests are refused everywhere get their refusal, and eject nobody") {
  for (const auto& [name, policy] : policies()) {
    for (Scene::Kind& bad : poisonous()) {
      INFO(name << ": " << bad.prompt);
      Scene scene(policy, 3);
      scene.add(bad, 5);
      scene.run({&bad});
      CHECK(scene.observer.ejections == 0);
      if (!bad.leaves) CHECK(bad.got[asked_status(bad.prompt)] == 500);
      CHECK(scene.seen[0] + scene.seen[1] + scene.seen[2] <= 500 + 3 * 60);  // what is asked twice is bounded
    }
  }
}

TEST_CASE("honest clients among all of them notice nothing, and have all endpoints") {
  for (const auto& [name, policy] : policies()) {
    INFO(name);
    Scene scene(policy, 3);
    std::vector<Scene::Kind> bad = poisonous();
    Scene::Kind honest{.left = 1000};
    std::vector<Scene::Kind*> all = {&honest};
    std::vector<int> good_at(3, 0);
    for (size_t i = 0; i < 3; ++i) {
      scene.behave[i] = [&good_at, i](const std::string& request) {
        good_at[i] += asked_status(request) == 0 ? 1 : 0;
        return like_the_others(request);
      };
    }
    for (Scene::Kind& kind : bad) {
      scene.add(kind, 2);
      all.push_back(&kind);
    }
    scene.add(honest, 20);
    scene.run(all);
    CHECK(honest.got[200] == 1000);
    CHECK(scene.observer.ejections == 0);
    for (const int count : good_at) CHECK(count >= 150);
  }
}

TEST_CASE("poisonous clients do not keep an endpoint from being found out") {
  for (const auto& [name, policy] : policies()) {
    INFO(name);
    Scene scene(policy, 3);
    scene.behave[0] = [](const std::string&) { return Reply{401}; };
    Scene::Kind bad{.prompt = "status 401", .left = 2000}, honest{.left = 2000};
    scene.add(bad, 4);
    scene.add(honest, 10);
    scene.run({&bad, &honest});
    CHECK(others_than(honest.got, 200) <= 20);
    CHECK(scene.observer.ejections >= 1);
  }
}

TEST_CASE("an adapter that lives on one endpoint ejects nobody for the other models") {
  for (const auto& [name, policy] : policies()) {
    INFO(name);
    Scene scene(policy, 3);
    std::vector<int> of_base(3, 0), misses(3, 0);
    for (size_t i = 0; i < 3; ++i) {
      scene.behave[i] = [&of_base, &misses, i](const std::string& request) {
        if (asks_for_model(request, "base")) ++of_base[i];
        if (!asks_for_model(request, "adapter") || i == 2) return good;
        ++misses[i];
        return Reply{404};
      };
    }
    Scene::Kind base{.model = "base", .left = 600},
        adapter{.prompt = "to the adapter", .model = "adapter", .left = 200};
    scene.add(base, 9);
    scene.add(adapter, 3);
    scene.run({&base, &adapter});
    CHECK(base.got[200] == 600);
    CHECK(adapter.got[200] == 200);
    // Found out soon, and then asked only now and then.
    for (const size_t i : {0, 1}) CHECK(misses[i] <= 30);
    for (const size_t i : {0, 1}) CHECK(of_base[i] >= 150);
  }
}

TEST_CASE("a refusal that cannot be tried elsewhere after all reaches its client unchanged") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Scene scene(routing::Policy::round_robin, 3, seed);
    scene.kill(1);
    scene.kill(2);
    Scene::Kind bad{.prompt = "status 422", .left = 20};
    scene.add(bad, 1);
    scene.run({&bad});
    CHECK(bad.got[422] == 20);
  }
}

TEST_CASE("a server that is full for a while gets its requests back when it answers") {
  Scene scene(routing::Policy::least_load, 3);
  bool full = true;
  scene.behave[0] = [&](const std::string&) { return full ? Reply{429, "retry-after: 20\r\n"} : good; };
  Scene::Kind honest{.left = 500};
  scene.add(honest, 10);
  scene.run({&honest});
  CHECK(honest.got[200] == 500);
  CHECK(scene.seen[0] <= 50);
  full = false;
  scene.seen[0] = 0;
  honest.left = 1000;
  scene.add(honest, 10);
  scene.run({&honest});
  CHECK(honest.got[200] == 1500);
  CHECK(scene.seen[0] >= 100);  // long before it had asked to be left alone for
}

TEST_CASE("one live server of four answers everything, whatever the number of attempts") {
  for (const auto& [name, policy] : policies()) {
    for (const uint32_t attempts : {1, 3}) {
      for (uint64_t seed = 1; seed <= 10; ++seed) {
        INFO(name << ", seed " << seed << ", attempts " << attempts);
        proxy::Options options;
        options.attempts_max = attempts;
        Scene scene(policy, 4, seed, options);
        for (size_t i = 0; i < 3; ++i) scene.kill((seed + i) % 4);
        Scene::Kind honest{.left = 200};
        scene.add(honest, 20);
        scene.run({&honest});
        CHECK(honest.got[200] == 200);
      }
    }
  }
}

TEST_CASE("one live server of twelve: as many attempts as there are endpoints") {
  proxy::Options options;
  options.ejection.consecutive_failures = 1000;  // nobody is ejected, so every request meets the dead
  Scene scene(routing::Policy::round_robin, 12, 1, options);
  for (size_t i = 0; i < 11; ++i) scene.kill(i);
  Scene::Kind honest{.left = 50};
  scene.add(honest, 5);
  scene.run({&honest});
  CHECK(honest.got[200] == 50);
  CHECK(scene.observer.retries > 100);
}

TEST_CASE("where no endpoint is ready, attempts are limited as ever") {
  Scene scene(routing::Policy::round_robin, 12);
  for (size_t i = 0; i < 12; ++i) scene.kill(i);
  Scene::Kind honest{.left = 1};
  scene.add(honest, 1);
  scene.run({&honest});
  CHECK(honest.got[502] == 1);
  const uint64_t first = scene.observer.retries;
  CHECK(first <= 11 + 3);  // all were ready until then
  honest.left = 10;
  scene.add(honest, 1);
  scene.run({&honest});
  CHECK(honest.got[502] == 11);
  CHECK(scene.observer.retries - first <= 10 * 2);
}

}  // namespace
}  // namespace penstock::test
