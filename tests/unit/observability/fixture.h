// A small gateway that never ran: two shards, one pool of three endpoints, everything with fixed numbers.
#pragma once

#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>

#include "penstock/observability/metrics.h"

namespace penstock::observability {

inline std::string source_file(const std::string& name) {
  const char* const root = std::getenv("PENSTOCK_SOURCE");
  return std::string(root == nullptr ? "." : root) + "/" + name;
}

inline std::string read_whole(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream content;
  content << in.rdbuf();
  return std::move(content).str();
}

// Compares with a file of the source tree. PENSTOCK_UPDATE=1 rewrites the file instead.
inline void check_golden(const std::string& name, const std::string& actual) {
  if (const char* const update = std::getenv("PENSTOCK_UPDATE"); update != nullptr && std::string(update) == "1") {
    std::ofstream(source_file(name), std::ios::binary) << actual;
  }
  INFO("differs from " << name << "; PENSTOCK_UPDATE=1 rewrites it");
  CHECK(read_whole(source_file(name)) == actual);
}

// A whole streamed answer from `endpoint`.
inline proxy::ExchangeRecord streamed_answer(const endpoints::EndpointState& endpoint) {
  proxy::ExchangeRecord r;
  r.started_wall_us = 1'738'367'999'123'456;
  r.total = milliseconds(1300);
  r.time_to_first_token = milliseconds(300);
  r.stage[0] = microseconds(40);
  r.stage[1] = microseconds(15);
  r.stage[2] = microseconds(300);
  r.stage[3] = milliseconds(299);
  r.stage[4] = milliseconds(1000);
  r.outcome = proxy::Outcome::ok;
  r.status = 200;
  r.method = "POST";
  r.target = "/v1/chat/completions";
  r.client = "127.0.0.1";
  r.request_id = "req-1";
  r.model = "llama";
  r.target_model = "llama-8b";
  r.api = "chat_completions";
  r.inference = true;
  r.streaming = true;
  r.endpoint = &endpoint;
  r.attempts = 1;
  r.request_bytes = 1000;
  r.response_bytes = 20000;
  r.prompt_tokens = 250;
  r.completion_tokens = 101;
  r.cached_tokens = 128;
  r.has_usage = true;
  r.chunks = 103;
  r.matched_blocks = 8;
  r.prompt_blocks = 16;
  return r;
}

struct Gateway {
  Names names;
  ShardStats shards[2] = {ShardStats(names), ShardStats(names)};
  net::RingStats rings[2];
  upstream::ClientStats upstreams[2];
  endpoints::EndpointState states[3];
  endpoints::Snapshot snapshot;
  MemoryBudget memory{1 << 30};
  ExportInput input;

  Gateway() {
    const char* const names_of[] = {"pod-a", "pod-b", "pod-c"};
    snapshot.version = 7;
    endpoints::Pool& pool = snapshot.pools.emplace_back();
    pool.name = "default";
    for (uint32_t i = 0; i < 3; ++i) {
      states[i].slot = i;
      states[i].incarnation = i + 1;
      states[i].name = names_of[i];
      states[i].address = "10.0.0." + std::to_string(i + 1) + ":8000";
      states[i].url = "http://" + states[i].address;
      endpoints::EndpointView& view = pool.endpoints.emplace_back();
      view.state = &states[i];
      view.models = {"llama-8b"};
    }
    input.now = Instant(seconds(100));
    input.wall_us = 1'738'368'000'000'000;
    input.started_at = Instant(seconds(40));
    input.started_wall_us = 1'738'367'940'000'000;
    input.build = {"0.1.0", "abc123", "main", "g++ 12"};
    input.kernel = "6.1.0";
    input.ring_detail = "all features";
    for (size_t i = 0; i < 2; ++i) input.shards.push_back({&shards[i], &rings[i], &upstreams[i], "epoll"});
    input.names = &names;
    input.snapshot = &snapshot;
    input.snapshot_at = Instant(seconds(99));
    input.memory = &memory;
  }

  // What the golden page shows.
  void live() {
    auto& views = snapshot.pools[0].endpoints;
    views[0].metrics = {
        .known = true, .scraped_at = Instant(milliseconds(99'950)), .waiting = 3, .running = 8, .kv_usage = 0.5};
    views[1].metrics = {
        .known = true, .scraped_at = Instant(milliseconds(99'900)), .waiting = 0, .running = 4, .kv_usage = 0.25};
    views[2].readiness = endpoints::Readiness::not_ready;
    states[2].health.ejected_until_ns = duration_cast<nanoseconds>(seconds(103)).count();
    states[0].load.requests = 2;
    states[0].load.picks = 5;
    states[0].connections = 4;
    input.polls = {{"pod-a", Instant(milliseconds(99'950)), true, 100, 1, 0}, {"pod-c", Instant{}, false, 9, 9, 3}};
    input.prefix_index_size = 1234;
    input.reloads = 2;
    input.reloads_failed = 1;
    REQUIRE(memory.try_take(4096));
    REQUIRE_FALSE(memory.try_take(size_t{1} << 31));
    rings[0].turns.add(10);
    rings[0].syscalls.add(12);
    rings[1].sockets.set(6);
    upstreams[0].opened.add(3);
    upstreams[1].idle.set(2);

    ShardStats& shard = shards[0];
    for (int i = 0; i < 5; ++i) shard.exchange_started();
    shard.client_connections_changed(+3);
    shard.decision_made(microseconds(150), true, &states[0], "llama-8b");
    shard.decision_made(microseconds(5), false, nullptr, "llama-8b");
    shard.running_changed("llama", +1);
    shard.running_changed("llama", +1);
    shard.running_changed("llama", -1);
    shard.inter_token(milliseconds(12));
    shard.attempt_failed(proxy::AttemptFailure::connect_refused, true);
    shard.endpoint_ejected(states[2]);
    shard.limit_hit("body_bytes");
    shard.finished(streamed_answer(states[0]));

    proxy::ExchangeRecord refused;
    refused.outcome = proxy::Outcome::client_error;
    refused.status = 400;
    refused.reason = "invalid_body";
    shard.finished(refused);

    proxy::ExchangeRecord failed = streamed_answer(states[1]);
    failed.outcome = proxy::Outcome::upstream_failed;
    failed.time_to_first_token.reset();
    failed.attempts = 3;
    failed.has_usage = false;
    failed.cached_tokens.reset();
    shard.finished(failed);

    shards[1].exchange_started();
    shards[1].limit_hit("memory");
    proxy::ExchangeRecord whole = streamed_answer(states[1]);
    whole.streaming = false;
    whole.priority = 10;
    shards[1].finished(whole);
  }
};

}  // namespace penstock::observability
