// A small gateway that never ran: two shards, one pool of three endpoints, everything with fixed numbers.
#pragma once

#include <doctest/doctest.h>

#include <memory>
#include <string>

#include "penstock/observability/decision_log.h"
#include "penstock/observability/metrics.h"
#include "tests/support/files.h"

namespace penstock::observability {

using test::check_golden;
using test::read_whole;
using test::source_file;

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
  r.stage[5] = milliseconds(700);  // waited for room
  r.outcome = proxy::Outcome::ok;
  r.status = 200;
  r.method = "POST";
  r.target = "/v1/chat/completions";
  r.client = "127.0.0.1";
  r.protocol = "HTTP/2";
  r.request_id = "req-1";
  r.kind = {.model = "llama", .target_model = "llama-8b", .fairness_id = "tenant-a"};
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
  explicit Gateway(const PageLimits& page) : names(page), flow(names.bytes_for_flow()) { fill(); }
  Gateway() : Gateway(PageLimits{}) {}

  Names names;
  DecisionLog log{net::system_clock()};
  ShardStats shards[2] = {ShardStats(names, nullptr, &log), ShardStats(names)};
  net::RingStats rings[2];
  upstream::ClientStats upstreams[2];
  endpoints::EndpointState states[3];
  endpoints::Snapshot snapshot;
  MemoryBudget memory{1 << 30};
  FlowStats flow;
  ExportInput input;

  void fill() {
    const char* const names_of[] = {"pod-a", "pod-b", "pod-c"};
    snapshot.version = 7;
    endpoints::Pool& pool = snapshot.pools.emplace_back();
    pool.name = "default";
    for (uint32_t i = 0; i < 3; ++i) {
      states[i].slot = i;
      states[i].incarnation = i + 1;
      states[i].name = names_of[i];
      states[i].address = "10.0.0." + std::to_string(i + 1) + ":8000";
      states[i].place = "inference/8000";
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
    for (size_t i = 0; i < 2; ++i) {
      input.shards.push_back({&shards[i], &rings[i], &upstreams[i], "epoll", "all features"});
    }
    input.names = &names;
    input.snapshot = &snapshot;
    input.snapshot_at = Instant(seconds(99));
    input.memory = &memory;
    input.shadow_policy = "expected-cost";
    input.process = {.cpu_seconds = 12.5,
                     .resident_bytes = 4096,
                     .virtual_bytes = 8192,
                     .open_files = 40,
                     .open_files_max = 1024,
                     .threads = 7};
    input.flow = &flow;
  }

  // A second pool, which has an endpoint in common with the first one and one that is on its way out.
  void second_pool() {
    endpoints::Pool& pool = snapshot.pools.emplace_back();
    pool.id = 1;
    pool.name = "team-b/llama";
    pool.endpoints = {snapshot.pools[0].endpoints[0], snapshot.pools[0].endpoints[1]};
    pool.endpoints[1].readiness = endpoints::Readiness::draining;
    pool.endpoints[1].last_resort = true;
  }

  // Watches in good health, in trouble, and of what is not there.
  void on_a_cluster() {
    discovery::ClusterStatus& cluster = input.cluster.emplace();
    cluster.server = "https://10.96.0.1:443";
    cluster.synced = true;
    cluster.writes = true;
    const auto watch = [&](const char* name, kube::ReflectorState state, bool synced) -> kube::ReflectorStatus& {
      discovery::WatchStatus& status = cluster.watches.emplace_back();
      status.name = name;
      status.essential = cluster.watches.size() < 3;
      status.watch.state = state;
      status.watch.synced = synced;
      return status.watch;
    };
    kube::ReflectorStatus& pods = watch("pods in team-a", kube::ReflectorState::watching, true);
    pods.seconds_since_byte = pods.seconds_since_sync = 1.5;
    pods.objects = 3;
    pods.events = 40;
    pods.relists[0] = 1;
    pods.restarts[0] = 2;
    pods.undecodable = 1;
    cluster.watches.back().undecodable = 2;
    kube::ReflectorStatus& pools = watch("inferencepools in team-a", kube::ReflectorState::waiting, true);
    pools.seconds_since_byte = 200;
    pools.seconds_since_sync = 210.25;
    pools.restarts[static_cast<size_t>(kube::Restart::connect)] = 7;
    pools.last_error = "connection refused";
    kube::ReflectorStatus& rewrites = watch("inferencemodelrewrites in team-a", kube::ReflectorState::forbidden, false);
    rewrites.seconds_since_byte = 3;
    rewrites.seconds_since_sync = 5000;
    rewrites.last_error = "403 Forbidden";
    kube::WriterStatus& writer = cluster.writer;
    writer.patches_written = 4;
    writer.patches_unchanged = 1;
    writer.patches_coalesced = 2;
    writer.events_written = 3;
    writer.events_repeated = 9;
    writer.failures = 5;
    writer.patches_waiting = 1;
    writer.events_forbidden = true;
    writer.last_error = "events: 403 Forbidden";
    input.problems = {
        {objects::Kind::http_route, "team-a", "chat", "u", true, "UnsupportedValue", "rule 0: the filter CORS"},
        {objects::Kind::gateway_class, "", "c", "u", true, "Unreadable", "spec is text"}};
  }

  // Three requests came to the hold queue: one waits, one was let go, one found it full.
  void hold() {
    const proxy::HeldLabels tenant = {
        .fairness_id = "tenant-a", .pool = "default", .model = "llama", .target_model = "llama-8b", .priority = 10};
    flow.offered(tenant, 4000, true, microseconds(3));
    flow.offered(tenant, 1000, true, microseconds(2));
    flow.left(tenant, 1000, proxy::HoldOutcome::dispatched, milliseconds(700));
    flow.offered(tenant, 9000, false, microseconds(1));
    flow.cycle(microseconds(250));
  }

  // What was decided: by the policy, its shadow, and for each stage; and what the endpoints answered.
  void decisions() {
    answered();
    ShardStats& shard = shards[0];
    routing::Explanation* const why = shard.explanation_slot(Instant(seconds(99)), /*asked=*/true);
    REQUIRE(why != nullptr);
    why->times = {{"Filter", "by-label", "tier", microseconds(30)},
                  {"Scorer", "queue-scorer", "queue-scorer", microseconds(60)}};
    shard.decision_made(microseconds(150), true, &states[0], "llama-8b");
    shard.decision_made(microseconds(5), false, nullptr, "llama-8b");
    shard.split_decided(routing::Split::prefill_decode, "llama-8b");
    shard.split_decided(routing::Split::encode_prefill_decode, "llama-8b");
    shards[1].split_decided(routing::Split::prefill_decode, "llama-8b");
    shards[1].split_decided(routing::Split::decode_only, "");
    shard.shadow_decided(true, 0);
    shard.shadow_decided(false, 0.25);
    shard.shadow_decided(false, -0.125);
  }

  // By two endpoints, as both shards saw it.
  void answered() {
    for (const uint16_t status : {200, 200, 404, 418}) shards[0].endpoint_answered(states[0], status);
    shards[1].endpoint_answered(states[0], 200);
    shards[1].endpoint_answered(states[1], 503);
  }

  void indexed() {
    input.prefix_index_size = 1234;
    input.prefix_index_entries = 4096;
    input.prefix_index_bytes = 32768;
    input.prefix_index_bytes_most = 65536;
  }

  void polled() {
    input.polls = {{.endpoint = "pod-a",
                    .engine = "vllm",
                    .since = Instant(seconds(40)),
                    .last_success = Instant(milliseconds(99'950)),
                    .ever = true,
                    .scrapes = 100,
                    .scrape_errors = 1},
                   {.endpoint = "pod-c",
                    .engine = "auto",
                    .since = Instant(seconds(90)),
                    .health = {"GET /health: connection refused", Instant(seconds(88))},
                    .metrics = {"GET /metrics: status 401: it wants a key", Instant(seconds(10))},
                    .scrapes = 9,
                    .scrape_errors = 9,
                    .probe_errors = 3}};
    input.names_of_hosts = {{.host = "llm",
                             .addresses = {"10.0.0.7"},
                             .error = "Timeout while contacting DNS servers",
                             .since = Instant(seconds(70)),
                             .asked = true,
                             .lookups = 12,
                             .failures = 3}};
  }

  // What the golden page shows.
  void with_certificates() {
    input.tls_files =
        TlsFilesStatus{.reloads = 3, .reloads_failed = 1, .certificates = {{"secure", "/tls/tls.crt", 1'900'000'000}}};
  }

  void live() {
    on_a_cluster();
    with_certificates();
    hold();
    auto& views = snapshot.pools[0].endpoints;
    views[0].metrics = {
        .known = true, .scraped_at = Instant(milliseconds(99'950)), .waiting = 3, .running = 8, .kv_usage = 0.5};
    views[1].metrics = {.known = true,
                        .scraped_at = Instant(milliseconds(99'900)),
                        .waiting = 0,
                        .running = 4,
                        .kv_usage = 0.25,
                        .block_size = 32,
                        .kv_blocks = 1000};
    views[2].readiness = endpoints::Readiness::not_ready;
    states[2].health.ejected_until_ns = duration_cast<nanoseconds>(seconds(103)).count();
    states[0].load.requests = 2;
    states[0].load.picks = 5;
    states[0].connections = 4;
    polled();
    indexed();
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
    decisions();
    const proxy::RequestKind kind = streamed_answer(states[0]).kind;
    shard.running_began(kind);
    shard.running_ended(shard.running_began(kind));
    shard.stream_began(kind)->gap(milliseconds(12));
    shard.attempt_failed(proxy::AttemptFailure::connect_refused, true);
    shard.endpoint_ejected(states[2], proxy::Ejection::fails);
    shard.limit_hit("body_bytes");
    shard.model_rewritten("aliases", "chat", "llama-8b");
    shard.model_not_restored();
    proxy::ExchangeRecord hurried = streamed_answer(states[0]);
    hurried.slo_ttft_ms = 200;  // missed
    hurried.slo_tpot_ms = 20;
    shard.finished(hurried);

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
    whole.kind.priority = 10;
    shards[1].finished(whole);
  }
};

}  // namespace penstock::observability
