// Our own metrics, all under penstock_.
#include <algorithm>
#include <map>

#include "metrics_parts.h"
#include "penstock/routing/prefix_hash.h"
#include "penstock/routing/refusals.h"

namespace penstock::observability {
namespace {

using proxy::AttemptFailure;
using proxy::Outcome;
using proxy::Stage;

const char* stage_name(Stage stage) {
  switch (stage) {
    case Stage::read:
      return "read";
    case Stage::route:
      return "route";
    case Stage::connect:
      return "connect";
    case Stage::first_byte:
      return "first_byte";
    case Stage::relay:
      return "relay";
    case Stage::hold:
      return "hold";
  }
  return "";
}

void add_outcomes(Families& families, const ExportInput& input) {
  ShardStats::Totals totals;
  for (const ShardInput& shard : input.shards) totals += shard.stats->totals();
  auto outcomes = families.counter("penstock_requests_total", "Exchanges that ended, by how they ended.");
  for (size_t i = 0; i < proxy::outcome_count; ++i) {
    outcomes.add(static_cast<double>(totals.outcomes[i]), {{"outcome", proxy::to_string(static_cast<Outcome>(i))}});
  }
  families.counter("penstock_requests_started_total", "Exchanges that began.").add(static_cast<double>(totals.started));
  families.gauge("penstock_requests_in_flight", "Exchanges that have begun and not ended.")
      .add(static_cast<double>(totals.in_flight()));
}

void add_resumes(Families& families, const ExportInput& input) {
  auto resumes = families.counter("penstock_stream_resumes_total",
                                  "Breaks of streams that clients had begun to receive, by result: resumed (it went on "
                                  "at another endpoint), or why it "
                                  "did not and the client was told.");
  resumes.add(sum_over_shards(input, [](const ShardStats& stats) { return stats.resumed(); }), {{"result", "resumed"}});
  for (size_t i = 1; i < openai::resume_obstacles; ++i) {
    const auto why = static_cast<openai::ResumeObstacle>(i);
    resumes.add(sum_over_shards(input, [&](const ShardStats& stats) { return stats.not_resumed(why); }),
                {{"result", openai::to_string(why)}});
  }
  families
      .counter("penstock_resumed_tokens_total",
               "Tokens of prompts and texts that endpoints computed again to resume streams.")
      .add(sum_over_shards(input, [](const ShardStats& stats) { return stats.resumed_tokens(); }));
  families
      .histogram("penstock_resume_seconds", "Time from the break of a stream to its next event, from another endpoint.")
      .add(merge_over_shards(
          input, [](const ShardStats& s) -> auto& { return s.resume_seam(); }));
}

void add_attempts(Families& families, const ExportInput& input) {
  families.counter("penstock_attempts_total", "Tries of ended exchanges on endpoints.")
      .add(sum_over_shards(input, [](const ShardStats& stats) { return stats.attempts(); }));
  const auto by_reason = [&](std::string_view name, std::string help, auto member) {
    auto family = families.counter(name, std::move(help));
    for (size_t i = 0; i < proxy::attempt_failure_count; ++i) {
      const auto failure = static_cast<AttemptFailure>(i);
      family.add(sum_over_shards(input, [&](const ShardStats& stats) { return (stats.*member)(failure); }),
                 {{"reason", proxy::to_string(failure)}});
    }
  };
  by_reason("penstock_attempt_failures_total", "Tries that failed, by reason.", &ShardStats::failures);
  by_reason("penstock_retries_total", "Failed tries that were followed by another one, by reason of the failure.",
            &ShardStats::retries);
  auto ejections = families.counter(
      "penstock_ejections_total",
      "Ejections of endpoints, by reason: fails (failures in a row), refuses_all (it refuses requests that other "
      "endpoints answer), refuses_kind (the same for one model and API; it is ejected for these requests only), wedged "
      "(all its streams stand still while others move), slow (its streams are far slower than those of the others).");
  for (size_t i = 0; i < proxy::ejection_count; ++i) {
    const auto reason = static_cast<proxy::Ejection>(i);
    ejections.add(sum_over_shards(input, [&](const ShardStats& stats) { return stats.ejections(reason); }),
                  {{"reason", proxy::to_string(reason)}});
  }
  auto broken =
      families.counter("penstock_broken_streams_total",
                       "Answers that broke after a part of them had reached the client, by reason. Of streams, "
                       "penstock_stream_resumes_total says how many went on at another endpoint.");
  for (const AttemptFailure why : proxy::stream_breaks) {
    broken.add(sum_over_shards(input, [&](const ShardStats& stats) { return stats.breaks(why); }),
               {{"reason", proxy::to_string(why)}});
  }
  add_resumes(families, input);
  families
      .counter("penstock_models_not_restored_total",
               "Answers that told the server's name of a rewritten model, since they came compressed.")
      .add(sum_over_shards(input, [](const ShardStats& stats) { return stats.not_restored(); }));
}

void add_prefix_index(Families& families, const ExportInput& input) {
  families.gauge("penstock_prefix_index_entries", "Blocks that the prefix index has room for.")
      .add(static_cast<double>(input.prefix_index_entries));
  families.gauge("penstock_prefix_index_bytes", "Memory of the prefix index, and of that of KV events.")
      .add(static_cast<double>(input.prefix_index_bytes));
  families.gauge("penstock_prefix_index_limit_bytes", "Most that these may grow to.")
      .add(static_cast<double>(input.prefix_index_bytes_most));
  if (input.snapshot == nullptr) return;
  families.gauge("penstock_prefix_index_wanted_entries", "Blocks that the caches of all endpoints hold when full.")
      .add(prefix_blocks_cached(*input.snapshot));
}

void add_responses(Families& families, const ExportInput& input) {
  if (input.responses == nullptr) return;
  const proxy::ResponseOwners& responses = *input.responses;
  families
      .gauge("penstock_responses_remembered", "Stored responses of which it is remembered which endpoint made them.")
      .add(static_cast<double>(responses.size()));
  families.gauge("penstock_responses_limit", "Stored responses that can be remembered (responses.remembered).")
      .add(static_cast<double>(responses.capacity()));
  families
      .counter("penstock_responses_displaced_total",
               "Stored responses that were forgotten before responses.ttl, to make room for newer ones.")
      .add(static_cast<double>(responses.displaced()));
  auto lookups = families.counter("penstock_response_lookups_total",
                                  "Requests that named a stored response: found (sent to the endpoint that made it), "
                                  "unknown, or gone (that endpoint).");
  using Lookup = proxy::ResponseOwners::Lookup;
  for (const Lookup lookup : {Lookup::found, Lookup::unknown, Lookup::gone}) {
    lookups.add(static_cast<double>(responses.lookups(lookup)), {{"result", proxy::to_string(lookup)}});
  }
}

void add_shadow(Families& families, const ExportInput& input) {
  if (input.shadow_policy.empty()) return;
  const std::string& policy = input.shadow_policy;
  auto decisions = families.counter("penstock_shadow_decisions_total",
                                    "Decisions of the shadow policy, by whether it chose what was obeyed.");
  decisions.add(sum_over_shards(input, [](const ShardStats& s) { return s.shadow_agreed(); }),
                {{"policy", policy}, {"agrees", "true"}});
  decisions.add(sum_over_shards(input, [](const ShardStats& s) { return s.shadow_differed(); }),
                {{"policy", policy}, {"agrees", "false"}});
  families
      .counter("penstock_shadow_gain_seconds_total",
               "Expected cost of what was obeyed less that of the shadow's choice, where the shadow's was cheaper.")
      .add(sum_over_shards(input, [](const ShardStats& s) { return s.shadow_gain(); }), {{"policy", policy}});
  families.counter("penstock_shadow_loss_seconds_total", "The same the other way round, where it was dearer.")
      .add(sum_over_shards(input, [](const ShardStats& s) { return s.shadow_loss(); }), {{"policy", policy}});
}

void add_limits(Families& families, const ExportInput& input) {
  std::map<std::string, double> hits;
  for (const ShardInput& shard : input.shards) {
    for (const ShardStats::Limit& limit : shard.stats->limits()) {
      if (!limit.used.load(std::memory_order_acquire)) break;
      hits[limit.name] += static_cast<double>(limit.hits.get());
    }
  }
  hits["admin_connections"] = static_cast<double>(input.admin_connections_refused);
  hits["admin_pages"] = static_cast<double>(input.admin_pages_refused);
  auto family = families.counter("penstock_limit_hits_total", "Refusals by a named limit.");
  for (const auto& [name, count] : hits) family.add(count, {{"limit", name}});
}

void add_rings(Families& families, const ExportInput& input) {
  auto info = families.gauge("penstock_ring_info", "Which engine the shards run on, and why.");
  std::map<std::string, std::string> engines;
  for (const ShardInput& shard : input.shards) {
    if (!shard.ring_name.empty()) engines.try_emplace(shard.ring_name, shard.ring_reason);
  }
  for (const auto& [engine, reason] : engines) {
    info.add(1, {{"engine", engine}, {"kernel", input.kernel}, {"detail", reason}});
  }

  const auto each_shard = [&](auto family, const auto& get) {
    for (size_t i = 0; i < input.shards.size(); ++i) {
      if (input.shards[i].ring == nullptr) continue;
      family.add(static_cast<double>(get(*input.shards[i].ring)), {{"shard", std::to_string(i)}});
    }
  };
  const auto counter = [&](std::string_view name, std::string help, Counter net::RingStats::*member) {
    each_shard(families.counter(name, std::move(help)),
               [&](const net::RingStats& ring) { return (ring.*member).get(); });
  };
  counter("penstock_ring_turns_total", "Turns of each shard's event loop.", &net::RingStats::turns);
  counter("penstock_ring_waits_total", "Turns that slept in the kernel.", &net::RingStats::waits);
  counter("penstock_ring_events_total", "Events delivered.", &net::RingStats::events);
  counter("penstock_ring_syscalls_total", "Kernel entries made by the ring.", &net::RingStats::syscalls);
  counter("penstock_ring_received_bytes_total", "Bytes received from clients and endpoints.",
          &net::RingStats::bytes_received);
  counter("penstock_ring_sent_bytes_total", "Bytes sent to clients and endpoints.", &net::RingStats::bytes_sent);
  counter("penstock_ring_buffer_starvations_total", "Times the receive buffers ran out.",
          &net::RingStats::buffer_starvations);
  counter("penstock_ring_completion_overflows_total", "Times the kernel's completion queue overflowed.",
          &net::RingStats::completion_overflows);
  each_shard(families.gauge("penstock_ring_sockets", "Sockets open or closing."),
             [](const net::RingStats& ring) { return ring.sockets.get(); });
}

void add_upstream(Families& families, const ExportInput& input) {
  const auto sum = [&](const auto& get) {
    double total = 0;
    for (const ShardInput& shard : input.shards) {
      if (shard.upstream != nullptr) total += static_cast<double>(get(*shard.upstream));
    }
    return total;
  };
  using Stats = upstream::ClientStats;
  families.counter("penstock_upstream_connections_opened_total", "Connections opened to endpoints.")
      .add(sum([](const Stats& s) { return s.opened.get(); }));
  families.counter("penstock_upstream_connections_reused_total", "Tries that found an idle connection.")
      .add(sum([](const Stats& s) { return s.reused.get(); }));
  families.gauge("penstock_upstream_connections_idle", "Idle connections to endpoints.").add(sum([](const Stats& s) {
    return s.idle.get();
  }));
}

void add_memory(Families& families, const ExportInput& input) {
  if (input.memory == nullptr) return;
  families.gauge("penstock_memory_used_bytes", "Bytes of bodies and queued output that the process holds.")
      .add(static_cast<double>(input.memory->used()));
  families.gauge("penstock_memory_limit_bytes", "Most that it may hold (limits.memory).")
      .add(static_cast<double>(input.memory->limit()));
  families.counter("penstock_memory_refusals_total", "Times the budget said no.")
      .add(static_cast<double>(input.memory->refusals()));
}

// As Prometheus' own client libraries name them.
void add_process_usage(Families& families, const ExportInput& input) {
  const ProcessUsage& usage = input.process;
  const auto add = [](Families::Family family, double value) {
    if (value >= 0) family.add(value);
  };
  add(families.counter("process_cpu_seconds_total", "User and system CPU time of the process, in seconds."),
      usage.cpu_seconds);
  add(families.gauge("process_resident_memory_bytes", "Resident memory of the process, in bytes."),
      usage.resident_bytes);
  add(families.gauge("process_virtual_memory_bytes", "Virtual memory of the process, in bytes."), usage.virtual_bytes);
  add(families.gauge("process_open_fds", "Open file descriptors of the process."), usage.open_files);
  add(families.gauge("process_max_fds", "Most file descriptors that the process may open."), usage.open_files_max);
  add(families.gauge("process_threads", "Threads of the process."), usage.threads);
  add(families.gauge("process_start_time_seconds", "When the process started, in seconds since 1970."),
      static_cast<double>(input.started_wall_us) / 1e6);
}

// The admin port, and what its page of metrics has no room for.
void add_admin(Families& families, const ExportInput& input) {
  families
      .counter("penstock_metrics_folded_total",
               "Times something was counted as \"other\" because limits.metrics_page has no room for its name.")
      .add(sum_over_shards(input, [](const ShardStats& stats) { return stats.folded(); }) +
           static_cast<double>(input.flow == nullptr ? 0 : input.flow->folded()));
  families
      .counter("penstock_admin_connections_evicted_total",
               "Connections to the admin port that were closed for a new one because they had asked nothing for the "
               "longest time.")
      .add(static_cast<double>(input.admin_connections_evicted));
}

void add_logs(Families& families, const ExportInput& input) {
  families.counter("penstock_log_dropped_total", "Lines of the log lost because standard error did not take them.")
      .add(static_cast<double>(input.log_lines_lost));
  if (input.access_log == nullptr) return;
  families.counter("penstock_access_log_lines_total", "Lines taken for the access log.")
      .add(static_cast<double>(input.access_log->lines()));
  families.counter("penstock_access_log_dropped_total", "Lines lost because the file did not keep up or refused them.")
      .add(static_cast<double>(input.access_log->dropped()));
}

void add_names(Families& families, const ExportInput& input) {
  uint64_t lookups = 0, failures = 0, unresolved = 0;
  for (const discovery::NameStatus& name : input.names_of_hosts) {
    lookups += name.lookups;
    failures += name.failures;
    unresolved += !name.error.empty();
  }
  families.counter("penstock_name_lookups_total", "Lookups of host names of endpoints.")
      .add(static_cast<double>(lookups));
  families.counter("penstock_name_lookup_failures_total", "Lookups of host names of endpoints that brought no address.")
      .add(static_cast<double>(failures));
  families.gauge("penstock_names_unresolved", "Host names of endpoints whose last lookup brought no address.")
      .add(static_cast<double>(unresolved));
}

template <typename Value>
void each_endpoint(Families::Family family, const endpoints::Snapshot& snapshot, const Value& value) {
  for (const endpoints::Pool& pool : snapshot.pools) {
    for (const endpoints::EndpointView& endpoint : pool.endpoints) {
      family.add(static_cast<double>(value(endpoint)), {{"pool", pool.name}, {"endpoint", endpoint.state->name}});
    }
  }
}

// Answers by status: what endpoints sent, also where the request was then tried elsewhere.
void add_endpoint_answers(Families& families, const ExportInput& input, const endpoints::Snapshot& snapshot) {
  auto family = families.counter("penstock_endpoint_responses_total",
                                 "Answers of each endpoint by status code; a code without a series of its own counts "
                                 "under its class, such as 4xx.");
  for (const endpoints::Pool& pool : snapshot.pools) {
    for (const endpoints::EndpointView& endpoint : pool.endpoints) {
      for (size_t code = 0; code < answer_code_count; ++code) {
        const double count =
            sum_over_shards(input, [&](const ShardStats& stats) { return stats.answers(*endpoint.state, code); });
        if (count == 0) continue;
        family.add(count, {{"pool", pool.name}, {"endpoint", endpoint.state->name}, {"code", answer_code_name(code)}});
      }
    }
  }
}

// Endpoints of different pools may have the same name; as one series they add up.
std::map<std::string, discovery::PollStatus> polls_by_name(const ExportInput& input) {
  std::map<std::string, discovery::PollStatus> out;
  for (const discovery::PollStatus& poll : input.polls) {
    const auto [at, fresh] = out.emplace(poll.endpoint, poll);
    if (fresh) continue;
    discovery::PollStatus& sum = at->second;
    if (poll.ever) sum.last_success = sum.ever ? std::min(sum.last_success, poll.last_success) : poll.last_success;
    sum.ever |= poll.ever;
    sum.scrapes += poll.scrapes;
    sum.scrape_errors += poll.scrape_errors;
    sum.probe_errors += poll.probe_errors;
  }
  return out;
}

void add_polls(Families& families, const ExportInput& input) {
  const auto polls = polls_by_name(input);
  auto ages = families.gauge("penstock_scrape_age_seconds", "Time since an endpoint's metrics were last read.");
  for (const auto& [endpoint, poll] : polls) {
    if (poll.ever) ages.add(to_seconds(input.now - poll.last_success), {{"endpoint", endpoint}});
  }
  const auto counter = [&](std::string_view name, std::string help, uint64_t discovery::PollStatus::*member) {
    auto family = families.counter(name, std::move(help));
    for (const auto& [endpoint, poll] : polls) family.add(static_cast<double>(poll.*member), {{"endpoint", endpoint}});
  };
  counter("penstock_scrapes_total", "Scrapes of an endpoint's metrics.", &discovery::PollStatus::scrapes);
  counter("penstock_scrape_errors_total", "Scrapes that failed.", &discovery::PollStatus::scrape_errors);
  counter("penstock_scrapes_implausible_total", "Scrapes with a KV cache that no engine has; its size was ignored.",
          &discovery::PollStatus::implausible);
  counter("penstock_probe_errors_total", "Health probes that failed.", &discovery::PollStatus::probe_errors);
}

}  // namespace

double prefix_blocks_cached(const endpoints::Snapshot& snapshot) {
  constexpr double block_tokens = routing::PrefixHashOptions{}.block_tokens;
  constexpr double followed_max =
      block_tokens * routing::PrefixIndex::capacity_max;     // more than that is not remembered
  std::map<const endpoints::EndpointState*, double> tokens;  // an endpoint may be in several pools
  for (const endpoints::Pool& pool : snapshot.pools) {
    for (const endpoints::EndpointView& endpoint : pool.endpoints) {
      const double cached =
          static_cast<double>(endpoint.metrics.kv_blocks) * static_cast<double>(endpoint.metrics.block_size);
      tokens[endpoint.state] = std::min(cached, followed_max);
    }
  }
  double sum = 0;
  for (const auto& [state, count] : tokens) sum += count / block_tokens;
  return sum;
}

void add_tunnels(Families& families, const ExportInput& input) {
  families.gauge("penstock_tunnels", "WebSocket sessions between clients and endpoints.")
      .add(sum_over_shards(input, [](const ShardStats& s) { return s.tunnels(); }));
  auto bytes = families.counter("penstock_tunnel_bytes_total",
                                "Bytes that have passed in WebSocket sessions, as they pass, by direction.");
  for (const bool from_client : {true, false}) {
    bytes.add(sum_over_shards(input, [&](const ShardStats& s) { return s.tunnel_bytes(from_client); }),
              {{"direction", from_client ? "from_client" : "to_client"}});
  }
}

void add_exchange_metrics(Families& families, const ExportInput& input) {
  add_outcomes(families, input);
  add_attempts(families, input);
  families
      .histogram("penstock_time_to_first_token_seconds",
                 "Time from the head of an inference request to the first byte of the event stream that answers it. "
                 "Streams that ended in an error do not count.")
      .add(merge_over_shards(
          input, [](const ShardStats& s) -> auto& { return s.time_to_first_token(); }));
  families
      .histogram("penstock_time_to_whole_answer_seconds",
                 "Time from the head of an inference request to the first byte of an answer that is no stream. "
                 "Errors do not count.")
      .add(merge_over_shards(
          input, [](const ShardStats& s) -> auto& { return s.time_to_whole_answer(); }));
  families.histogram("penstock_inter_token_seconds", "Time between two events of a streamed answer.")
      .add(merge_over_shards(
          input, [](const ShardStats& s) -> auto& { return s.inter_token_gaps(); }));
  auto stages = families.histogram("penstock_stage_seconds", "Time of each stage that an exchange reached.");
  for (size_t i = 0; i < proxy::stage_count; ++i) {
    const auto stage = static_cast<Stage>(i);
    stages.add(merge_over_shards(
                   input, [&](const ShardStats& s) -> auto& { return s.stage(stage); }),
               {{"stage", stage_name(stage)}});
  }
  auto bytes = families.counter("penstock_body_bytes_total", "Bytes of bodies, by direction.");
  bytes.add(sum_over_shards(input, [](const ShardStats& s) { return s.request_bytes(); }), {{"direction", "request"}});
  bytes.add(sum_over_shards(input, [](const ShardStats& s) { return s.response_bytes(); }),
            {{"direction", "response"}});
  families.counter("penstock_stream_events_total", "Events of streamed answers.")
      .add(sum_over_shards(input, [](const ShardStats& s) { return s.chunks(); }));
  families.gauge("penstock_client_connections", "Open connections of clients.")
      .add(sum_over_shards(input, [](const ShardStats& s) { return s.client_connections(); }));
  families
      .counter("penstock_client_idle_evictions_total",
               "Idle client connections that were closed to make room for new ones at limits.connections.")
      .add(sum_over_shards(input, [](const ShardStats& s) { return s.idle_evicted(); }));
  add_tunnels(families, input);
  add_limits(families, input);
  add_prefix_index(families, input);
  add_responses(families, input);
  add_shadow(families, input);
}

void add_endpoint_metrics(Families& families, const ExportInput& input) {
  if (input.snapshot != nullptr) {
    const endpoints::Snapshot& snapshot = *input.snapshot;
    using View = endpoints::EndpointView;
    each_endpoint(families.gauge("penstock_endpoint_ready", "1 when the endpoint takes requests."), snapshot,
                  [](const View& e) { return e.readiness == endpoints::Readiness::ready ? 1 : 0; });
    each_endpoint(families.gauge("penstock_endpoint_draining", "1 when the endpoint ends: it takes no new requests."),
                  snapshot, [](const View& e) { return e.readiness == endpoints::Readiness::draining ? 1 : 0; });
    each_endpoint(families.gauge("penstock_endpoint_ejected", "1 while the endpoint is ejected for its failures."),
                  snapshot, [&](const View& e) {
                    return e.state->health.ejected_until_ns.load(std::memory_order_relaxed) >
                                   input.now.time_since_epoch().count()
                               ? 1
                               : 0;
                  });
    each_endpoint(families.gauge("penstock_endpoint_refused_kinds",
                                 "Kinds of request (model and API) for which the endpoint is ejected: it refuses them, "
                                 "and other endpoints answer them."),
                  snapshot, [&](const View& e) { return routing::refused_kinds(*e.state, input.now); });
    each_endpoint(families.gauge("penstock_endpoint_busy",
                                 "1 while the endpoint is left alone because it said that it is full (429, or 503 with "
                                 "Retry-After)."),
                  snapshot, [&](const View& e) {
                    return e.state->health.busy_until_ns.load(std::memory_order_relaxed) >
                                   input.now.time_since_epoch().count()
                               ? 1
                               : 0;
                  });
    each_endpoint(
        families.gauge("penstock_endpoint_requests_in_flight",
                       "Exchanges on the endpoint now, and those that it refused or failed and that run elsewhere."),
        snapshot, [](const View& e) { return e.state->load.requests.load(std::memory_order_relaxed); });
    each_endpoint(families.counter("penstock_endpoint_picks_total", "Times the endpoint was chosen."), snapshot,
                  [](const View& e) { return e.state->load.picks.load(std::memory_order_relaxed); });
    each_endpoint(families.counter("penstock_endpoint_ejections_total", "Times the endpoint was ejected."), snapshot,
                  [&](const View& e) {
                    return sum_over_shards(input, [&](const ShardStats& stats) { return stats.ejections(*e.state); });
                  });
    add_endpoint_answers(families, input, snapshot);
    each_endpoint(families.gauge("penstock_upstream_connections", "Open connections to the endpoint."), snapshot,
                  [](const View& e) { return e.state->connections.load(std::memory_order_relaxed); });
    families.gauge("penstock_snapshot_version", "Number of the current snapshot.")
        .add(static_cast<double>(snapshot.version));
    families.gauge("penstock_snapshot_age_seconds", "Time since it was published.")
        .add(to_seconds(input.now - input.snapshot_at));
  }
  add_upstream(families, input);
  add_polls(families, input);
}

void add_process_metrics(Families& families, const ExportInput& input) {
  add_memory(families, input);
  add_rings(families, input);
  add_logs(families, input);
  add_names(families, input);
  add_admin(families, input);
  add_process_usage(families, input);
  auto reloads = families.counter("penstock_config_reloads_total", "Reloads of the configuration, by result.");
  reloads.add(static_cast<double>(input.reloads), {{"result", "ok"}});
  reloads.add(static_cast<double>(input.reloads_failed), {{"result", "refused"}});
  families.gauge("penstock_start_time_seconds", "When the process started, in seconds since 1970.")
      .add(static_cast<double>(input.started_wall_us) / 1e6);
  families.gauge("penstock_build_info", "Version and compiler.")
      .add(1, {{"version", input.build.version}, {"commit", input.build.commit}, {"compiler", input.build.compiler}});
}

}  // namespace penstock::observability
