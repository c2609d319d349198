// Metrics under the Endpoint Picker's names. Dashboards and alert rules know them: names, labels, buckets and the mark
// in the help texts are an interface (tests/golden/metrics/epp_metrics.txt lists them).
#include <algorithm>
#include <map>

#include "metrics_parts.h"

namespace penstock::observability {
namespace {

std::string alpha(std::string_view help) {
  return "[ALPHA] " + std::string(help);
}

// One row for each (model, target model) that any shard knows: its labels and the shards' statistics.
struct ModelRow {
  Labels labels;
  std::vector<const ModelStats*> stats;
};

std::vector<ModelRow> model_rows(const ExportInput& input) {
  std::vector<ModelRow> rows;
  const NameTable& pairs = input.names->model_pairs;
  for (uint32_t i = 0, end = pairs.size(); i <= end; ++i) {
    ModelRow row;
    for (const ShardInput& shard : input.shards) {
      if (const ModelStats* const stats = shard.stats->model(i)) row.stats.push_back(stats);
    }
    if (row.stats.empty()) continue;
    const NameTable::Name& name = pairs.name(i);
    row.labels = {{"model_name", name.parts[0]}, {"target_model_name", name.parts[1]}};
    rows.push_back(std::move(row));
  }
  return rows;
}

template <typename Member>
void add_model_histogram(Families& families, const std::vector<ModelRow>& rows, std::string_view name, std::string help,
                         Member member) {
  auto family = families.histogram(name, std::move(help));
  for (const ModelRow& row : rows) {
    HistogramSum sum;
    for (const ModelStats* const stats : row.stats) sum.add(stats->*member);
    if (!sum.empty()) family.add(sum, row.labels);
  }
}

void add_request_counters(Families& families, const std::vector<ModelRow>& rows) {
  auto requests = families.counter("inference_objective_request_total",
                                   alpha("Requests that were given an endpoint, by model and priority."));
  for (const ModelRow& row : rows) {
    std::map<std::string, double> by_priority;
    for (const ModelStats* const stats : row.stats) {
      for (size_t i = 0; i < ModelStats::priorities_max; ++i) {
        const ModelStats::Priority& place = stats->priorities[i];
        if (!place.used.load(std::memory_order_acquire)) break;
        const bool last = i + 1 == ModelStats::priorities_max;
        by_priority[last ? "other" : std::to_string(place.value.load(std::memory_order_relaxed))] +=
            static_cast<double>(place.requests.get());
      }
    }
    for (const auto& [priority, count] : by_priority) {
      Labels labels = row.labels;
      labels.push_back({"priority", priority});
      requests.add(count, std::move(labels));
    }
  }

  auto errors = families.counter("inference_objective_request_error_total",
                                 alpha("Requests that failed, by model and error code."));
  for (const ModelRow& row : rows) {
    for (size_t code = 1; code < epp_error_count; ++code) {
      uint64_t count = 0;
      for (const ModelStats* const stats : row.stats) count += stats->errors[code].get();
      if (count == 0) continue;
      Labels labels = row.labels;
      labels.push_back({"error_code", to_string(static_cast<EppError>(code))});
      errors.add(static_cast<double>(count), std::move(labels));
    }
  }
}

// What the last request of each model had, whichever shard it was on.
void add_last_values(Families& families, const std::vector<ModelRow>& rows) {
  auto values = families.gauge("inference_objective_inference_request_metric",
                               alpha("What the last request had, by model: seconds, or 1 for a violation."));
  for (const ModelRow& row : rows) {
    for (size_t type = 0; type < last_value_count; ++type) {
      int64_t at = 0;
      double value = 0;
      for (const ModelStats* const stats : row.stats) {
        const ModelStats::Last& last = stats->last[type];
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
  for (const ModelRow& row : rows) {
    const std::pair<const char*, Counter ModelStats::*> types[] = {{"ttft", &ModelStats::ttft_violations},
                                                                   {"tpot", &ModelStats::tpot_violations}};
    for (const auto& [type, member] : types) {
      double count = 0;
      for (const ModelStats* const stats : row.stats) count += static_cast<double>((stats->*member).get());
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

void add_running_requests(Families& families, const ExportInput& input) {
  auto running = families.gauge("inference_objective_running_requests",
                                alpha("Requests that endpoints are working on, by model."));
  const NameTable& models = input.names->models;
  for (uint32_t i = 0, end = models.size(); i <= end; ++i) {
    const double count = sum_over_shards(input, [&](const ShardStats& stats) { return stats.running(i); });
    if (i == NameTable::other && count == 0) continue;  // usually nobody is beyond the limit
    running.add(count, {{"model_name", models.name(i).parts[0]}});
  }
}

// Means over the endpoints that are ready and whose metrics are known and fresh.
struct PoolMeans {
  double kv_usage = 0, waiting = 0, running = 0;
};

PoolMeans means_of(const endpoints::Pool& pool, const ExportInput& input) {
  PoolMeans means;
  size_t count = 0;
  for (const endpoints::EndpointView& endpoint : pool.endpoints) {
    if (endpoint.readiness != endpoints::Readiness::ready) continue;
    if (!endpoints::fresh(endpoint.metrics, input.now, input.metrics_stale_after)) continue;
    ++count;
    means.kv_usage += endpoint.metrics.kv_usage;
    means.waiting += endpoint.metrics.waiting;
    means.running += endpoint.metrics.running;
  }
  if (count == 0) return {};
  const auto n = static_cast<double>(count);
  return {means.kv_usage / n, means.waiting / n, means.running / n};
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
  const std::vector<ModelRow> rows = model_rows(input);
  const auto histogram = [&](std::string_view name, std::string_view help, auto member) {
    add_model_histogram(families, rows, name, alpha(help), member);
  };
  add_request_counters(families, rows);
  histogram("inference_objective_request_ttft_seconds",
            "Time from a request's head to the first byte of its answer, by model.", &ModelStats::time_to_first_token);
  histogram("inference_objective_request_tpot_seconds",
            "Mean time between output tokens of a streamed answer, by model.", &ModelStats::time_per_output_token);
  histogram("inference_objective_request_predicted_ttft_seconds",
            "Predicted time to the first token of those streams that had a prediction, by model.",
            &ModelStats::predicted_ttft);
  histogram("inference_objective_request_predicted_tpot_seconds",
            "Predicted time between output tokens of those streams that had a prediction, by model.",
            &ModelStats::predicted_tpot);
  add_model_histogram(families, rows, "penstock_predicted_ttft_error_seconds",
                      "Difference between predicted and seen time to the first token, by model.",
                      &ModelStats::predicted_ttft_error);
  add_model_histogram(families, rows, "penstock_predicted_tpot_error_seconds",
                      "Difference between predicted and seen time between output tokens, by model.",
                      &ModelStats::predicted_tpot_error);
  histogram("inference_objective_request_duration_seconds",
            "Time from a request's head to the end of its answer, by model.", &ModelStats::duration);
  histogram("inference_objective_request_sizes", "Bytes of request bodies, by model.", &ModelStats::request_bytes);
  histogram("inference_objective_response_sizes", "Bytes of answers' bodies, by model.", &ModelStats::response_bytes);
  histogram("inference_objective_input_tokens", "Prompt tokens as the model server counted them, by model.",
            &ModelStats::input_tokens);
  histogram("inference_objective_output_tokens", "Output tokens as the model server counted them, by model.",
            &ModelStats::output_tokens);
  histogram("inference_objective_prompt_cached_tokens", "Prompt tokens that the model server had cached, by model.",
            &ModelStats::cached_tokens);
  histogram("inference_objective_normalized_time_per_output_token_seconds",
            "Duration of a request divided by its output tokens, by model.",
            &ModelStats::normalized_time_per_output_token);
  add_last_values(families, rows);
  add_running_requests(families, input);
}

void add_epp_pool_metrics(Families& families, const ExportInput& input) {
  if (input.snapshot == nullptr) return;
  const auto each_pool = [&](std::string_view name, std::string_view help, const auto& value) {
    auto family = families.gauge(name, alpha(help));
    for (const endpoints::Pool& pool : input.snapshot->pools) family.add(value(pool), {{"name", pool.name}});
  };
  each_pool("inference_pool_average_kv_cache_utilization", "Mean KV-cache use of the pool's ready endpoints, 0 to 1.",
            [&](const endpoints::Pool& pool) { return means_of(pool, input).kv_usage; });
  each_pool("inference_pool_average_queue_size", "Mean number of requests waiting in the pool's ready endpoints.",
            [&](const endpoints::Pool& pool) { return means_of(pool, input).waiting; });
  each_pool("inference_pool_average_running_requests", "Mean number of requests running in the pool's ready endpoints.",
            [&](const endpoints::Pool& pool) { return means_of(pool, input).running; });
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
}

void add_epp_extension_metrics(Families& families, const ExportInput& input) {
  families.gauge("inference_extension_info", alpha("What this process was built from."))
      .add(1, {{"commit", input.build.commit}, {"build_ref", input.build.build_ref}});
  families.histogram("inference_extension_scheduler_e2e_duration_seconds", alpha("Time of a routing decision."))
      .add(merge_over_shards(
          input, [](const ShardStats& stats) -> auto& { return stats.decision_time(); }));
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
