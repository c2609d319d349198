#include <cmath>
#include <span>
#include <utility>

#include "json_writer.h"
#include "penstock/observability/admin.h"
#include "penstock/routing/refusals.h"
#include "status_parts.h"

namespace penstock::observability {
namespace {

using proxy::Outcome;

const char* readiness_name(endpoints::Readiness readiness) {
  switch (readiness) {
    case endpoints::Readiness::ready:
      return "ready";
    case endpoints::Readiness::not_ready:
      return "not_ready";
    case endpoints::Readiness::draining:
      return "draining";
  }
  return "";
}

void write_load(Json& json, const endpoints::EndpointState& state) {
  const auto& load = state.load;
  json.key("in_flight").number(static_cast<double>(load.requests.load(std::memory_order_relaxed)));
  json.key("decoding").number(static_cast<double>(load.decoding.load(std::memory_order_relaxed)));
  json.key("prefill_tokens").number(static_cast<double>(load.prefill_tokens.load(std::memory_order_relaxed)));
  json.key("kv_tokens").number(static_cast<double>(load.kv_tokens.load(std::memory_order_relaxed)));
  json.key("picks").count(load.picks.load(std::memory_order_relaxed));
  json.key("connections").number(static_cast<double>(state.connections.load(std::memory_order_relaxed)));
}

// By status code; those that never came are left out.
void write_answers(Json& json, const endpoints::EndpointState& state, const ExportInput& input) {
  json.key("responses").open('{');
  for (size_t code = 0; code < answer_code_count; ++code) {
    uint64_t count = 0;
    for (const ShardInput& shard : input.shards) count += shard.stats->answers(state, code);
    if (count > 0) json.key(answer_code_name(code)).count(count);
  }
  json.close('}');
}

void write_metrics(Json& json, const endpoints::EngineMetrics& metrics, Instant now) {
  json.key("metrics");
  if (!metrics.known) return json.null();
  json.open('{');
  json.key("age_ms").number(std::round(to_seconds(now - metrics.scraped_at) * 1e3));
  json.key("waiting").number(metrics.waiting);
  json.key("running").number(metrics.running);
  json.key("kv_usage").number(metrics.kv_usage);
  json.key("block_size").count(metrics.block_size);
  json.key("kv_blocks").count(metrics.kv_blocks);
  json.close('}');
}

void write_kv_events(Json& json, const std::string& endpoint, const KvEventsInput& input) {
  json.key("kv_events").open('[');
  for (const kvevents::RankStatus& rank : input.ranks) {
    if (rank.endpoint != endpoint) continue;
    json.element();
    json.open('{');
    json.key("rank").count(rank.rank);
    json.key("connected").boolean(rank.connected);
    json.key("complete").boolean(rank.complete);
    json.key("blocks").count(rank.blocks);
    json.key("batches").count(rank.stream.batches);
    json.key("gaps").count(rank.stream.gaps);
    json.key("last_error").text(rank.last_error);
    json.close('}');
  }
  json.close(']');
}

double seconds_since(Instant then, Instant now) {
  return std::round(to_seconds(now - then) * 1e3) / 1e3;
}

// What stands against it, since when and why; an empty list: nothing.
void write_troubles(Json& json, const discovery::PollStatus& poll, Instant now) {
  const std::pair<const char*, const discovery::Trouble&> all[] = {
      {"health", poll.health}, {"metrics", poll.metrics}, {"models", poll.models}};
  json.key("problems").open('[');
  for (const auto& [what, trouble] : all) {
    if (trouble.text.empty()) continue;
    json.element();
    json.open('{');
    json.key("what").text(what);
    json.key("why").text(trouble.text);
    json.key("for_s").number(seconds_since(trouble.since, now));
    json.close('}');
  }
  json.close(']');
}

// The host names of endpoints; `error` is that of the last lookup, and `for_s` says how long it has been so.
void write_names(Json& json, const ExportInput& input) {
  json.key("names").open('[');
  for (const discovery::NameStatus& name : input.names_of_hosts) {
    json.element();
    json.open('{');
    json.key("host").text(name.host);
    json.key("addresses").open('[');
    for (const std::string& ip : name.addresses) {
      json.element();
      json.text(ip);
    }
    json.close(']');
    json.key("error").text(name.error);
    json.key("for_s").number(name.asked ? seconds_since(name.since, input.now) : 0);
    json.key("lookups").count(name.lookups);
    json.key("failures").count(name.failures);
    json.close('}');
  }
  json.close(']');
}

void write_endpoint(Json& json, const endpoints::EndpointView& endpoint, const ExportInput& input,
                    StatusDetail detail) {
  const endpoints::EndpointState& state = *endpoint.state;
  const auto ms_until = [&](const std::atomic<int64_t>& until_ns) {
    const int64_t left = until_ns.load(std::memory_order_relaxed) - input.now.time_since_epoch().count();
    return left > 0 ? std::ceil(static_cast<double>(left) / 1e6) : 0;
  };
  json.element();
  json.open('{');
  json.key("name").text(state.name);
  if (detail == StatusDetail::full) {
    json.key("url").text(state.url);
    json.key("address").text(state.address);
  }
  json.key("state").text(readiness_name(endpoint.readiness));
  json.key("last_resort").boolean(endpoint.last_resort);
  json.key("ejected_for_ms").number(ms_until(state.health.ejected_until_ns));
  json.key("busy_for_ms").number(ms_until(state.health.busy_until_ns));
  json.key("refused_kinds").count(routing::refused_kinds(state, input.now));
  json.key("refusals_in_row").count(state.health.refusals_in_row.load(std::memory_order_relaxed));
  json.key("consecutive_failures").count(state.health.consecutive_failures.load(std::memory_order_relaxed));
  write_load(json, state);
  write_answers(json, state, input);
  write_metrics(json, endpoint.metrics, input.now);
  json.key("models").open('[');
  for (const std::string& model : endpoint.models) {
    json.element();
    json.text(model);
  }
  json.close(']');
  for (const discovery::PollStatus& poll : input.polls) {
    if (poll.endpoint != state.name) continue;
    json.key("engine").text(poll.engine);
    json.key("state_for_s").number(seconds_since(poll.since, input.now));
    if (detail == StatusDetail::full) write_troubles(json, poll, input.now);
    json.key("scrape_errors").count(poll.scrape_errors);
    json.key("probe_errors").count(poll.probe_errors);
    break;
  }
  if (input.kv_events.has_value() && detail == StatusDetail::full) {
    write_kv_events(json, state.name, *input.kv_events);
  }
  json.close('}');
}

void write_pools(Json& json, const ExportInput& input, StatusDetail detail) {
  json.key("snapshot_version").count(input.snapshot == nullptr ? 0 : input.snapshot->version);
  json.key("pools").open('[');
  const admission::SaturationDetector detector(input.flow_options.detector);
  if (input.snapshot != nullptr) {
    for (const endpoints::Pool& pool : input.snapshot->pools) {
      json.element();
      json.open('{');
      json.key("name").text(pool.name);
      json.key("ready").count(pool.ready_count());
      const FlowStats::Held held = input.flow == nullptr ? FlowStats::Held() : input.flow->held_in(pool.name);
      json.key("held").number(static_cast<double>(held.requests));
      json.key("held_bytes").number(static_cast<double>(held.bytes));
      json.key("saturation").number(detector.saturation(pool, input.now));
      json.key("endpoints").open('[');
      for (const endpoints::EndpointView& endpoint : pool.endpoints) write_endpoint(json, endpoint, input, detail);
      json.close(']');
      json.close('}');
    }
  }
  json.close(']');
}

void write_shards(Json& json, const ExportInput& input) {
  json.key("shards").open('[');
  for (const ShardInput& shard : input.shards) {
    const ShardStats::Totals totals = shard.stats->totals();
    json.element();
    json.open('{');
    json.key("ring").text(shard.ring_name);
    json.key("in_flight").count(totals.in_flight());
    json.key("started").count(totals.started);
    json.key("client_connections").number(static_cast<double>(shard.stats->client_connections()));
    if (shard.ring != nullptr) {
      json.key("turns").count(shard.ring->turns.get());
      json.key("syscalls").count(shard.ring->syscalls.get());
      json.key("sockets").number(static_cast<double>(shard.ring->sockets.get()));
    }
    json.close('}');
  }
  json.close(']');
}

// In milliseconds; null without observations.
void write_quantile(Json& json, std::span<const double> bounds, std::span<const uint64_t> counts, double part) {
  const double value = quantile(bounds, counts, part);
  if (value < 0) return json.null();
  json.number(std::round(value * 1e6) / 1e3);
}

// Times of the last minutes, and how many seconds that is.
void write_recent_times(Json& json, const ExportInput& input) {
  std::vector<const ShardStats*> shards;
  for (const ShardInput& shard : input.shards) shards.push_back(shard.stats);
  const RecentTimes from_start(input.started_at);
  const RecentTimes& recent = input.recent == nullptr ? from_start : *input.recent;
  const RecentTimes::Window window = recent.window(input.now, shards);
  json.key("latency_window_s").number(std::round(to_seconds(window.span)));
  json.key("ttft_ms_p50");
  write_quantile(json, epp_general_seconds, window.counts.first_token, 0.5);
  json.key("ttft_ms_p99");
  write_quantile(json, epp_general_seconds, window.counts.first_token, 0.99);
  json.key("inter_token_ms_p50");
  write_quantile(json, inter_token_seconds, window.counts.inter_token, 0.5);
  json.key("inter_token_ms_p99");
  write_quantile(json, inter_token_seconds, window.counts.inter_token, 0.99);
}

void write_totals(Json& json, const ExportInput& input) {
  ShardStats::Totals totals;
  uint64_t attempts = 0, request_bytes = 0, response_bytes = 0, chunks = 0, retries = 0;
  int64_t connections = 0;
  for (const ShardInput& shard : input.shards) {
    totals += shard.stats->totals();
    attempts += shard.stats->attempts();
    request_bytes += shard.stats->request_bytes();
    response_bytes += shard.stats->response_bytes();
    chunks += shard.stats->chunks();
    connections += shard.stats->client_connections();
    for (size_t i = 0; i < proxy::attempt_failure_count; ++i) {
      retries += shard.stats->retries(static_cast<proxy::AttemptFailure>(i));
    }
  }
  json.key("totals").open('{');
  json.key("started").count(totals.started);
  json.key("in_flight").count(totals.in_flight());
  json.key("outcomes").open('{');
  for (size_t i = 0; i < proxy::outcome_count; ++i) {
    json.key(proxy::to_string(static_cast<Outcome>(i))).count(totals.outcomes[i]);
  }
  json.close('}');
  json.key("attempts").count(attempts);
  json.key("retries").count(retries);
  json.key("stream_events").count(chunks);
  json.key("request_bytes").count(request_bytes);
  json.key("response_bytes").count(response_bytes);
  json.key("client_connections").number(static_cast<double>(connections));
  write_recent_times(json, input);
  json.close('}');
}

}  // namespace

std::string status_json(const ExportInput& input, std::string_view not_ready, StatusDetail detail) {
  std::string out;
  Json json(out);
  json.open('{');
  json.key("version").text(input.build.version);
  json.key("commit").text(input.build.commit);
  json.key("uptime_s").number(std::round(to_seconds(input.now - input.started_at) * 1e3) / 1e3);
  json.key("now_ms").count(static_cast<uint64_t>(input.wall_us / 1000));
  json.key("ready").boolean(not_ready.empty());
  json.key("not_ready_because").text(not_ready);
  json.key("ring").text(input.shards.empty() ? "" : input.shards[0].ring_name);
  const bool full = detail == StatusDetail::full;
  json.key("reduced").boolean(!full);
  if (full) json.key("kernel").text(input.kernel);
  if (input.memory != nullptr) {
    json.key("memory").open('{');
    json.key("used_bytes").count(input.memory->used());
    json.key("limit_bytes").count(input.memory->limit());
    json.key("refusals").count(input.memory->refusals());
    json.close('}');
  }
  json.key("prefix_index").open('{');
  json.key("blocks").count(input.prefix_index_size);
  json.key("entries").count(input.prefix_index_entries);
  json.key("bytes").count(input.prefix_index_bytes);
  json.key("limit_bytes").count(input.prefix_index_bytes_most);
  json.close('}');
  write_totals(json, input);
  write_pools(json, input, detail);
  if (full) write_names(json, input);
  if (full && input.cluster.has_value()) write_cluster(json, *input.cluster);
  if (full) write_problems(json, input.problems);
  else json.key("problems_count").count(input.problems.size());
  write_shards(json, input);
  json.close('}');
  out += '\n';
  return out;
}

}  // namespace penstock::observability
