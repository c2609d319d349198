#include "world.h"

#include <cstdio>

#include "fake_client.h"
#include "fake_endpoint.h"

namespace penstock::test {

std::string answer_body(uint32_t id) {
  Random random(id);
  std::string body;
  if (!answer_streams(id)) body = R"({"model":"m","text":")";
  const size_t events = 1 + random.below(12);
  for (size_t i = 0; i < events; ++i) {
    const std::string text(random.below(random.chance(0.1) ? 30'000 : 300), static_cast<char>('a' + random.below(26)));
    if (answer_streams(id)) {
      body += R"(data: {"model":"m","choices":[{"index":0,"text":")" + text + "\",\"finish_reason\":null}]}\n\n";
    } else {
      body += text;
    }
  }
  body += answer_streams(id) ? "data: [DONE]\n\n" : "\"}";
  return body;
}

bool answer_streams(uint32_t id) {
  return id % 2 == 0;
}

std::string request_bytes(uint32_t id, bool last) {
  Random random(id * 7919ull);
  const std::string prompt(random.below(random.chance(0.1) ? 100'000 : 500), 'p');
  const std::string body = R"({"model":"m","prompt":"id )" + std::to_string(id) + " " + prompt + R"(","stream":)" +
                           (answer_streams(id) ? "true}" : "false}");
  std::string head = "POST /v1/completions HTTP/1.1\r\nHost: sim\r\nContent-Type: application/json\r\n";
  if (random.chance(0.3)) head += "x-gateway-model-name-rewrite: " + std::string(other_model) + "\r\n";
  if (id % 3 != 0) head += "x-gateway-inference-fairness-id: tenant-" + std::to_string(id % 3) + "\r\n";
  if (id % 4 == 1) head += "x-gateway-inference-objective: batch\r\n";
  if (last) head += "Connection: close\r\n";
  if (random.chance(0.5)) return head + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  head += "Transfer-Encoding: chunked\r\n\r\n";
  const size_t half = body.size() / 2;
  char size_line[32];
  for (const std::string& part : {body.substr(0, half), body.substr(half)}) {
    std::snprintf(size_line, sizeof size_line, "%zx\r\n", part.size());
    head += size_line + part + "\r\n";
  }
  return head + "0\r\n\r\n";
}

uint64_t CountingObserver::finished_count() const {
  uint64_t sum = 0;
  for (const uint64_t count : outcomes) sum += count;
  return sum;
}

EndpointFaults EndpointFaults::swarm(Random& random) {
  EndpointFaults faults;
  for (double* fault : {&faults.close_unanswered, &faults.status_503, &faults.cut_body, &faults.slow_head}) {
    if (random.chance(0.5)) *fault = random.unit() * 0.3;
  }
  if (random.chance(0.3)) faults.until_close = 0.3;
  return faults;
}

// Simulated clients ask for any path.
proxy::Options with_all_paths(proxy::Options options) {
  options.paths.allow = {"/**"};
  return options;
}

World::World(uint64_t seed, const SimFaults& network_faults, size_t endpoint_count, const proxy::Options& options)
    : network(seed, network_faults), random(seed ^ 0x5eed) {
  for (size_t i = 0; i < endpoint_count; ++i) {
    endpoints_.push_back(std::make_unique<FakeEndpoint>(*this, static_cast<uint16_t>(9000 + i)));
  }
  std::vector<net::Address> addresses;
  for (const auto& endpoint : endpoints_) addresses.push_back(endpoint->address());
  shard_ = std::make_unique<SimShard>(network, addresses, observer, with_all_paths(options));
}

World::~World() = default;

void World::add_client(uint32_t first_id, uint32_t requests, bool well_behaved) {
  clients_.push_back(std::make_unique<FakeClient>(*this, first_id, requests, well_behaved));
  clients_.back()->begin();
}

bool World::clients_done() const {
  for (const auto& client : clients_) {
    if (!client->done()) return false;
  }
  return true;
}

void World::stop_faults() {
  network.faults() = SimFaults::none();
  endpoint_faults = {};
}

void World::finish_and_check() {
  network.run_for(seconds(10));  // what clients have put off
  clients_.clear();
  network.run_until([&] { return observer.finished_count() == observer.started; }, seconds(1200));
  if (observer.finished_count() != observer.started) network.fail("an exchange has not finished");
  if (observer.running != 0) network.fail("running requests do not add up");
  shard_->close_and_check(network);
  if (observer.connections != 0) network.fail("client connections do not add up");
  shard_.reset();
  endpoints_.clear();
}

}  // namespace penstock::test
