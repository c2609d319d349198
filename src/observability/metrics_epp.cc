// Metrics under the Endpoint Picker's names. Dashboards and alert rules know them: names, labels, buckets and the mark
// in the help texts are an interface (tests/golden/metrics/epp_metrics.txt lists them).
#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <set>

#include "metrics_parts.h"

namespace penstock::observability {
namespace {

std::string alpha(std::string_view help) {
  return "[ALPHA] " + std::string(help);
}

// Requests that some labels do not tell apart: those labels, and all shards' statistics of them.
struct RequestRow {
  Labels labels;
  std::vector<const KindStats*> stats;
  int64_t running = 0;
};
using RequestRows = std::vector<RequestRow>;

Labels labels_of_model(const std::string& model, const std::string& target_model) {
  return {{"model_name", model}, {"target_model_name", target_model}};
}

// As the older names tell requests apart: by model, and some by priority.
RequestRows rows_by_model(const ExportInput& input, bool by_priority) {
  RequestRows rows;
  std::map<std::string, size_t> known;
  const NameTable& kinds = input.names->kinds;
  for (uint32_t i = 0, end = kinds.size(); i <= end; ++i) {
    const auto& [model, target_model, none, priority] = kinds.name(i).parts;
    const std::string key = model + '\0' + target_model + '\0' + (by_priority ? priority : "");
    const auto [place, fresh] = known.try_emplace(key, rows.size());
    if (fresh) {
      rows.push_back({labels_of_model(model, target_model), {}, 0});
      if (by_priority) rows.back().labels.push_back({"priority", priority});
    }
    RequestRow& row = rows[place->second];
    for (const ShardInput& shard : input.shards) {
      if (const KindStats* const stats = shard.stats->kind(i)) row.stats.push_back(stats);
      row.running += shard.stats->running(i);
    }
  }
  return rows;
}

// As the newer names do: by model, fairness id and priority. Fairness ids without series of their own are "other".
class RowsByTenant {
 public:
  explicit RowsByTenant(const ExportInput& input) {
    for (const ShardInput& shard : input.shards) {
      for (auto& tenant : shard.stats->tenants()) {
        add(*tenant);
        kept_.push_back(std::move(tenant));
      }
      for (uint32_t i = 0, end = input.names->kinds.size(); i <= end; ++i) {
        if (const Tenant* const crowd = shard.stats->crowd(i)) add(*crowd);
      }
    }
  }
  const RequestRows& rows() const { return rows_; }

 private:
  void add(const Tenant& tenant) {
    const auto& [model, target_model, fairness_id, priority] = tenant.names;
    std::string key;
    for (const std::string& part : tenant.names) key.append(part).append(1, '\0');
    const auto [place, fresh] = known_.try_emplace(std::move(key), rows_.size());
    if (fresh) {
      rows_.push_back({labels_of_model(model, target_model), {}, 0});
      rows_.back().labels.push_back({"fairness_id", fairness_id});
      rows_.back().labels.push_back({"priority", priority});
    }
    RequestRow& row = rows_[place->second];
    row.stats.push_back(&tenant.stats);
    row.running += tenant.running.get();
  }

  RequestRows rows_;
  std::map<std::string, size_t> known_;
  std::vector<std::shared_ptr<const Tenant>> kept_;  // as long as rows_ is
};

// By what the older names tell requests apart, and by what the newer ones do.
struct Requests {
  RequestRows by_model, by_priority;
  RowsByTenant tenants;
  const RequestRows& by_kind = tenants.rows();
};

// `bounds`: of the histogram's own, those that the page shows; none: all.
template <typename Get>
void add_row_histogram(Families& families, const RequestRows& rows, std::string_view name, std::string_view help,
                       const Get& get, std::span<const double> bounds = {}) {
  auto family = families.histogram(name, std::string(help));
  for (const RequestRow& row : rows) {
    HistogramSum sum;
    for (const KindStats* const stats : row.stats) get(*stats, sum);
    if (!bounds.empty()) sum.keep_bounds(bounds);
    if (!sum.empty()) family.add(sum, row.labels);
  }
}

template <typename Get>
void add_row_counter(Families& families, const RequestRows& rows, std::string_view name, std::string_view help,
                     const Get& get) {
  auto family = families.counter(name, std::string(help));
  for (const RequestRow& row : rows) {
    double count = 0;
    for (const KindStats* const stats : row.stats) count += static_cast<double>(get(*stats));
    if (count > 0) family.add(count, row.labels);
  }
}

void add_errors(Families& families, const RequestRows& rows, std::string_view name) {
  auto errors = families.counter(name, alpha("Requests that failed, by model and error code."));
  for (const RequestRow& row : rows) {
    for (size_t code = 1; code < epp_error_count; ++code) {
      uint64_t count = 0;
      for (const KindStats* const stats : row.stats) count += stats->errors[code].get();
      if (count == 0) continue;
      Labels labels = row.labels;
      labels.push_back({"error_code", to_string(static_cast<EppError>(code))});
      errors.add(static_cast<double>(count), std::move(labels));
    }
  }
}

void add_request_counters(Families& families, const Requests& requests) {
  const auto count = [](const KindStats& stats) { return stats.requests.get(); };
  const std::string help = alpha("Requests that were given an endpoint, by model and priority.");
  add_row_counter(families, requests.by_priority, "inference_objective_request_total", help, count);
  add_row_counter(families, requests.by_kind, "llm_d_epp_request_total", help, count);
  add_errors(families, requests.by_model, "inference_objective_request_error_total");
  add_errors(families, requests.by_kind, "llm_d_epp_request_error_total");
}

// What the last request of each model had, whichever shard it was on.
void add_last_values(Families& families, const RequestRows& rows) {
  auto values = families.gauge("inference_objective_inference_request_metric",
                               alpha("What the last request had, by model: seconds, or 1 for a violation."));
  for (const RequestRow& row : rows) {
    for (size_t type = 0; type < last_value_count; ++type) {
      int64_t at = 0;
      double value = 0;
      for (const KindStats* const stats : row.stats) {
        const KindStats::Last& last = stats->last[type];
        const int64_t ended = last.at_us.load(std::memory_order_acquire);
        if (ended > at) value = last.value.load(std::memory_order_relaxed);
        at = std::max(at, ended);
      }
      if (at == 0) continue;
      Labels labels = row.labels;
      labels.push_back({"type", to_string(static_cast<LastValue>(type))});
      values.add(value, std::move(labels));
    }
  }
  auto violations = families.counter("inference_objective_request_slo_violation_total",
                                     alpha("Streams slower than their clients asked for, by model."));
  for (const RequestRow& row : rows) {
    const std::pair<const char*, Counter KindStats::*> types[] = {{"ttft", &KindStats::ttft_violations},
                                                                  {"tpot", &KindStats::tpot_violations}};
    for (const auto& [type, member] : types) {
      double count = 0;
      for (const KindStats* const stats : row.stats) count += static_cast<double>((stats->*member).get());
      Labels labels = row.labels;
      labels.push_back({"type", type});
      if (count > 0) violations.add(count, std::move(labels));
    }
  }
}

void add_plugin_times(Families& families, const ExportInput& input) {
  auto times = families.histogram("inference_extension_plugin_duration_seconds",
                                  alpha("Time of each plugin, of those decisions that are recorded, by plugin."));
  const NameTable& names = input.names->plugins;
  for (uint32_t i = 0, end = names.size(); i <= end; ++i) {
    HistogramSum sum;
    for (const ShardInput& shard : input.shards) {
      if (const auto* const time = shard.stats->plugin_time(i)) sum.add(*time);
    }
    const NameTable::Name& name = names.name(i);
    if (sum.empty()) continue;
    times.add(sum,
              {{"extension_point", name.parts[0]}, {"plugin_type", name.parts[1]}, {"plugin_name", name.parts[2]}});
  }
}

void add_running_requests(Families& families, const Requests& requests) {
  const auto add = [&](std::string_view name, const RequestRows& rows) {
    auto running = families.gauge(name, alpha("Requests that endpoints are working on, by model."));
    for (const RequestRow& row : rows) {
      const std::string& model = row.labels.front().value;
      // Nobody counts what is read for no model, and usually nobody is beyond the limit.
      if (model.empty() || (model == "other" && row.running == 0)) continue;
      running.add(static_cast<double>(row.running), row.labels);
    }
  };
  RequestRows by_name;  // a model's targets together
  for (const RequestRow& row : requests.by_model) {
    const std::string& model = row.labels.front().value;
    const auto same = [&](const RequestRow& known) { return known.labels.front().value == model; };
    const auto found = std::find_if(by_name.begin(), by_name.end(), same);
    if (found != by_name.end()) found->running += row.running;
    else by_name.push_back({{row.labels.front()}, {}, row.running});
  }
  add("inference_objective_running_requests", by_name);
  add("llm_d_epp_request_running", requests.by_kind);
}

// Times to the first byte under both names. The newer one tells streams apart and has fewer buckets.
void add_first_token_times(Families& families, const Requests& requests) {
  const std::string help = alpha("Time from a request's head to the first byte of its answer, by model.");
  add_row_histogram(families, requests.by_model, "inference_objective_request_ttft_seconds", help,
                    [](const KindStats& stats, HistogramSum& sum) {
                      for (const auto& times : stats.time_to_first_token) sum.add(times);
                    });
  auto family = families.histogram("llm_d_epp_request_ttft_seconds", help);
  for (const RequestRow& row : requests.by_kind) {
    for (const bool streaming : {false, true}) {
      HistogramSum sum;
      for (const KindStats* const stats : row.stats) sum.add(stats->time_to_first_token[streaming]);
      if (sum.empty()) continue;
      sum.keep_bounds(epp_first_token_seconds);
      Labels labels = row.labels;
      labels.push_back({"streaming", streaming ? "true" : "false"});
      family.add(sum, std::move(labels));
    }
  }
}

// Times between tokens and events of streams: the means by both names, of which the newer has fewer buckets, and each
// time between two events.
void add_token_times(Families& families, const Requests& requests) {
  const std::string help = alpha("Mean time between output tokens of a streamed answer, by model.");
  const auto paces = [](const KindStats& stats, HistogramSum& sum) { sum.add(stats.time_per_output_token); };
  add_row_histogram(families, requests.by_model, "inference_objective_request_tpot_seconds", help, paces);
  add_row_histogram(families, requests.by_kind, "llm_d_epp_request_streaming_tpot_seconds", help, paces,
                    epp_stream_token_seconds);
  add_row_histogram(families, requests.by_kind, "llm_d_epp_request_streaming_itl_seconds",
                    alpha("Time between two events of a streamed answer, by model."),
                    [](const KindStats& stats, HistogramSum& sum) { sum.add(stats.inter_token); });
}

// Of one gauge, over the endpoints that are ready and whose metrics are known and fresh. Zero where there are none.
struct Spread {
  double mean = 0, deviation = 0;
};

template <typename Get>
Spread spread_of(const endpoints::Pool& pool, const ExportInput& input, const Get& get) {
  std::vector<double> values;
  for (const endpoints::EndpointView& endpoint : pool.endpoints) {
    if (endpoint.readiness != endpoints::Readiness::ready) continue;
    if (!endpoints::fresh(endpoint.metrics, input.now, input.metrics_stale_after)) continue;
    values.push_back(get(endpoint.metrics));
  }
  if (values.empty()) return {};
  double sum = 0, squares = 0;
  for (const double value : values) sum += value;
  const double mean = sum / static_cast<double>(values.size());
  for (const double value : values) squares += (value - mean) * (value - mean);
  return {mean, values.size() < 2 ? 0 : std::sqrt(squares / static_cast<double>(values.size() - 1))};
}

// What is reserved on each endpoint, once however many pools it is in. Only llm-d's newer version counts it.
void add_load_in_flight(Families& families, const endpoints::Snapshot& snapshot) {
  const auto add = [&](std::string_view name, std::string_view help, const auto& get) {
    auto family = families.gauge(name, alpha(help));
    std::set<const endpoints::EndpointState*> seen;
    for (const endpoints::Pool& pool : snapshot.pools) {
      for (const endpoints::EndpointView& endpoint : pool.endpoints) {
        if (!seen.insert(endpoint.state).second) continue;
        const std::string& place = endpoint.state->place;
        const int64_t count = std::max<int64_t>(get(endpoint.state->load).load(std::memory_order_relaxed), 0);
        family.add(static_cast<double>(count), {{"endpoint_name", endpoint.state->name},
                                                {"namespace", place.substr(0, place.find('/'))},
                                                {"producer_name", "inflight-load-producer"}});
      }
    }
  };
  add(
      "llm_d_epp_inflight_requests", "Requests that are routed to the endpoint and have not ended.",
      [](const endpoints::LoadCounters& load) -> auto& { return load.requests; });
  add(
      "llm_d_epp_inflight_tokens", "Tokens of their prompts and expected answers, as estimated at the pick.",
      [](const endpoints::LoadCounters& load) -> auto& { return load.kv_tokens; });
}

void add_scheduler_attempts(Families& families, const ExportInput& input) {
  auto attempts = families.counter("inference_extension_scheduler_attempts_total",
                                   alpha("Routing decisions, by result and chosen endpoint."));
  const auto labels = [](const char* status, const NameTable::Name& name) {
    const std::string& place = name.parts[2];
    const size_t slash = std::min(place.find('/'), place.size());
    return Labels{{"status", status},
                  {"target_model_name", name.parts[0]},
                  {"pod_name", name.parts[1]},
                  {"namespace", place.substr(0, slash)},
                  {"port", place.substr(std::min(slash + 1, place.size()))}};
  };
  const NameTable& names = input.names->scheduled;
  for (uint32_t i = 0, end = names.size(); i <= end; ++i) {
    const double count = sum_over_shards(input, [&](const ShardStats& stats) { return stats.scheduled(i); });
    if (count > 0) attempts.add(count, labels("success", names.name(i)));
  }
  attempts.add(sum_over_shards(input, [](const ShardStats& stats) { return stats.decisions_failed(); }),
               labels("failure", {}));
}

void add_rewrite_decisions(Families& families, const ExportInput& input) {
  auto decisions = families.counter("inference_extension_model_rewrite_decisions_total",
                                    alpha("Requests for a model that were led to another one, by rewrite."));
  const NameTable& names = input.names->rewrites;
  for (uint32_t i = 0, end = names.size(); i <= end; ++i) {
    const double count = sum_over_shards(input, [&](const ShardStats& stats) { return stats.rewritten(i); });
    if (count == 0) continue;
    const NameTable::Name& name = names.name(i);
    decisions.add(
        count, {{"model_rewrite_name", name.parts[0]}, {"model_name", name.parts[1]}, {"target_model", name.parts[2]}});
  }
}

// Under both of llm-d's names: the older one has no word for what is encoded elsewhere.
void add_split_decisions(Families& families, const ExportInput& input) {
  const NameTable& names = input.names->splits;
  const auto add = [&](std::string_view name, std::string_view help, auto wanted) {
    auto decisions = families.counter(name, alpha(help));
    for (uint32_t i = 0, end = names.size(); i <= end; ++i) {
      const double count = sum_over_shards(input, [&](const ShardStats& stats) { return stats.split(i); });
      const std::string &model = names.name(i).parts[0], &type = names.name(i).parts[1];
      if (count > 0 && wanted(type)) decisions.add(count, {{"model_name", model}, {"decision_type", type}});
    }
  };
  add("llm_d_inference_scheduler_disagg_decision_total",
      "Routing decisions of a profile that disaggregates, by model and by the stages that run.",
      [](std::string_view) { return true; });
  add("llm_d_inference_scheduler_pd_decision_total",
      "Deprecated: as llm_d_inference_scheduler_disagg_decision_total, where nothing is encoded elsewhere.",
      [](std::string_view type) { return type == "decode-only" || type == "prefill-decode"; });
}

}  // namespace

void add_epp_objective_metrics(Families& families, const ExportInput& input) {
  const Requests requests = {rows_by_model(input, false), rows_by_model(input, true), RowsByTenant(input)};
  const auto by_model = [&](std::string_view name, std::string_view help, auto member) {
    add_row_histogram(families, requests.by_model, name, help,
                      [&](const KindStats& stats, HistogramSum& sum) { sum.add(stats.*member); });
  };
  const auto both = [&](std::string_view older, std::string_view newer, std::string_view help, auto member) {
    by_model(older, alpha(help), member);
    add_row_histogram(families, requests.by_kind, newer, alpha(help),
                      [&](const KindStats& stats, HistogramSum& sum) { sum.add(stats.*member); });
  };
  add_request_counters(families, requests);
  add_first_token_times(families, requests);
  add_token_times(families, requests);
  by_model("inference_objective_request_predicted_ttft_seconds",
           alpha("Predicted time to the first token of those streams that had a prediction, by model."),
           &KindStats::predicted_ttft);
  by_model("inference_objective_request_predicted_tpot_seconds",
           alpha("Predicted time between output tokens of those streams that had a prediction, by model."),
           &KindStats::predicted_tpot);
  by_model("penstock_predicted_ttft_error_seconds",
           "Difference between predicted and seen time to the first token, by model.",
           &KindStats::predicted_ttft_error);
  by_model("penstock_predicted_tpot_error_seconds",
           "Difference between predicted and seen time between output tokens, by model.",
           &KindStats::predicted_tpot_error);
  both("inference_objective_request_duration_seconds", "llm_d_epp_request_duration_seconds",
       "Time from a request's head to the end of its answer, by model.", &KindStats::duration);
  both("inference_objective_request_sizes", "llm_d_epp_request_size_bytes", "Bytes of request bodies, by model.",
       &KindStats::request_bytes);
  both("inference_objective_response_sizes", "llm_d_epp_response_size_bytes", "Bytes of answers' bodies, by model.",
       &KindStats::response_bytes);
  both("inference_objective_input_tokens", "llm_d_epp_request_input_tokens",
       "Prompt tokens as the model server counted them, by model.", &KindStats::input_tokens);
  both("inference_objective_output_tokens", "llm_d_epp_request_output_tokens",
       "Output tokens as the model server counted them, by model.", &KindStats::output_tokens);
  both("inference_objective_prompt_cached_tokens", "llm_d_epp_request_cached_tokens",
       "Prompt tokens that the model server had cached, by model.", &KindStats::cached_tokens);
  both("inference_objective_normalized_time_per_output_token_seconds", "llm_d_epp_request_ntpot_seconds",
       "Duration of a request divided by its output tokens, by model.", &KindStats::normalized_time_per_output_token);
  add_last_values(families, requests.by_model);
  add_running_requests(families, requests);
}

void add_epp_pool_metrics(Families& families, const ExportInput& input) {
  if (input.snapshot == nullptr) return;
  const auto each_pool = [&](std::string_view name, std::string_view help, const auto& value) {
    auto family = families.gauge(name, alpha(help));
    for (const endpoints::Pool& pool : input.snapshot->pools) family.add(value(pool), {{"name", pool.name}});
  };
  const auto spread = [&](std::string_view what, std::string_view of, const auto& get) {
    each_pool("inference_pool_average_" + std::string(what), "Mean of the pool's ready endpoints: " + std::string(of),
              [&](const endpoints::Pool& pool) { return spread_of(pool, input, get).mean; });
    each_pool("llm_d_epp_std_dev_" + std::string(what),
              "Standard deviation over the pool's ready endpoints: " + std::string(of),
              [&](const endpoints::Pool& pool) { return spread_of(pool, input, get).deviation; });
  };
  using endpoints::EngineMetrics;
  spread("kv_cache_utilization", "use of the KV cache, 0 to 1.",
         [](const EngineMetrics& metrics) { return metrics.kv_usage; });
  spread("queue_size", "requests that wait there.", [](const EngineMetrics& metrics) { return metrics.waiting; });
  spread("running_requests", "requests that run there.", [](const EngineMetrics& metrics) { return metrics.running; });
  each_pool("inference_pool_ready_pods", "Endpoints of the pool that are ready.",
            [](const endpoints::Pool& pool) { return static_cast<double>(pool.ready_count()); });

  auto queues =
      families.gauge("inference_pool_per_pod_queue_size", alpha("Requests waiting in each endpoint of the pool."));
  for (const endpoints::Pool& pool : input.snapshot->pools) {
    for (const endpoints::EndpointView& endpoint : pool.endpoints) {
      if (!endpoint.metrics.known) continue;  // never scraped: it must not look idle
      queues.add(endpoint.metrics.waiting, {{"name", pool.name}, {"model_server_pod", endpoint.state->name}});
    }
  }
  add_load_in_flight(families, *input.snapshot);
}

void add_epp_extension_metrics(Families& families, const ExportInput& input) {
  families.gauge("inference_extension_info", alpha("What this process was built from."))
      .add(1, {{"commit", input.build.commit}, {"build_ref", input.build.build_ref}});
  families.histogram("inference_extension_scheduler_e2e_duration_seconds", alpha("Time of a routing decision."))
      .add(merge_over_shards(
          input, [](const ShardStats& stats) -> auto& { return stats.decision_time(); }));
  families
      .histogram("llm_d_epp_request_processing_duration_seconds",
                 alpha("Time from a request's head to the choice of its endpoint, waiting for room included."))
      .add(merge_over_shards(
          input, [](const ShardStats& stats) -> auto& { return stats.processing_time(); }));
  add_plugin_times(families, input);
  add_scheduler_attempts(families, input);
  add_rewrite_decisions(families, input);
  add_split_decisions(families, input);
  families.gauge("inference_extension_prefix_indexer_size", alpha("Entries of the index of cached prompt blocks."))
      .add(static_cast<double>(input.prefix_index_size));
  families
      .histogram("inference_extension_prefix_indexer_hit_ratio",
                 alpha("Part of a prompt's blocks believed to be cached on the chosen endpoint."))
      .add(merge_over_shards(
          input, [](const ShardStats& stats) -> auto& { return stats.hit_ratio(); }));
  families
      .histogram("inference_extension_prefix_indexer_hit_bytes",
                 alpha("Bytes of a prompt believed to be cached on the chosen endpoint."))
      .add(merge_over_shards(
          input, [](const ShardStats& stats) -> auto& { return stats.hit_bytes(); }));
}

}  // namespace penstock::observability
