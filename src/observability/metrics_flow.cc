// Metrics of flow control: the Endpoint Picker's, and our own sums.
#include <map>
#include <set>
#include <string>

#include "metrics_parts.h"

namespace penstock::observability {
namespace {

using proxy::HoldOutcome;

Labels labels_of(const FlowStats::Series& series) {
  return {{"fairness_id", series.fairness_id},
          {"priority", std::to_string(series.priority)},
          {"inference_pool", series.pool},
          {"model_name", series.model},
          {"target_model_name", series.target_model}};
}

void add_waiting_times(Families& families, const FlowStats& stats) {
  auto family = families.histogram("inference_extension_flow_control_request_queue_duration_seconds",
                                   "[ALPHA] Time that requests have waited for room, by how that ended.");
  stats.each([&](const FlowStats::Series& series) {
    for (size_t i = 0; i < proxy::hold_outcome_count; ++i) {
      HistogramSum waited;
      waited.add(series.waited[i]);
      if (waited.empty()) continue;
      Labels labels = labels_of(series);
      labels.push_back({"outcome", proxy::to_string(static_cast<HoldOutcome>(i))});
      family.add(waited, std::move(labels));
    }
  });
}

// Its labels are fewer than a series has.
void add_offer_times(Families& families, const FlowStats& stats) {
  std::map<std::tuple<std::string, int, bool>, HistogramSum> sums;
  stats.each([&](const FlowStats::Series& series) {
    for (const bool in : {false, true}) sums[{series.fairness_id, series.priority, in}].add(series.offered[in]);
  });
  auto family = families.histogram("inference_extension_flow_control_request_enqueue_duration_seconds",
                                   "[ALPHA] Time that it took to put a request into the queue, or to refuse it.");
  for (const auto& [key, sum] : sums) {
    if (sum.empty()) continue;
    const auto& [fairness_id, priority, in] = key;
    const char* const outcome = in ? "NotYetFinalized" : proxy::to_string(HoldOutcome::rejected_capacity);
    family.add(sum, {{"fairness_id", fairness_id}, {"priority", std::to_string(priority)}, {"outcome", outcome}});
  }
}

void add_waiting_now(Families& families, const FlowStats& stats) {
  const auto gauge = [&](std::string_view name, std::string help, Gauge FlowStats::Series::*member) {
    auto family = families.gauge(name, std::move(help));
    stats.each([&](const FlowStats::Series& series) {
      family.add(static_cast<double>((series.*member).get()), labels_of(series));
    });
  };
  gauge("inference_extension_flow_control_queue_size", "[ALPHA] Requests that wait for room.",
        &FlowStats::Series::requests);
  gauge("inference_extension_flow_control_queue_bytes", "[ALPHA] Bytes of requests that wait for room.",
        &FlowStats::Series::bytes);
}

// As llm-d names them, whose they are alone. Nobody who is cut off fails to end: there is no other outcome.
void add_evictions(Families& families, const FlowStats& stats) {
  auto begun = families.counter(
      "llm_d_epp_flow_control_revocations_issued_total",
      "[ALPHA] Running requests chosen to be cut off, by the priority of the request that waited for room.");
  stats.evictions([&](const std::string& pool, const FlowStats::Evictions& evictions) {
    for (const auto& [priority, count] : evictions.begun) {
      begun.add(static_cast<double>(count), {{"priority", std::to_string(priority)}, {"inference_pool", pool}});
    }
  });
  auto ended = families.counter("llm_d_epp_flow_control_revocations_total",
                                "[ALPHA] Running requests cut off that have ended and left their room.");
  stats.evictions([&](const std::string& pool, const FlowStats::Evictions& evictions) {
    ended.add(static_cast<double>(evictions.ended), {{"outcome", "confirmed"}, {"inference_pool", pool}});
  });
  auto took = families.histogram("llm_d_epp_flow_control_revocation_confirmation_seconds",
                                 "[ALPHA] Time from the decision to cut a running request off to its end.");
  stats.evictions([&](const std::string& pool, const FlowStats::Evictions& evictions) {
    HistogramSum sum;
    sum.add(evictions.took);
    took.add(sum, {{"inference_pool", pool}});
  });
}

// How equal the values are: 1 when all are, 1 / n when one of n has everything (R. Jain).
double fairness_of(const std::map<std::string, double>& values) {
  double sum = 0, squares = 0;
  for (const auto& [id, value] : values) {
    sum += value;
    squares += value * value;
  }
  return squares > 0 ? sum * sum / (static_cast<double>(values.size()) * squares) : 1;
}

// Whether requests of this priority waited, were let go at once, or were turned away; only llm-d's newer version counts
// them so.
void add_outcomes(Families& families, const ExportInput& input) {
  std::map<std::tuple<std::string, std::string, std::string>, double> counts;  // outcome, priority, pool
  const NameTable& at_once = input.names->at_once;
  for (uint32_t i = 0, end = at_once.size(); i <= end; ++i) {
    const double count = sum_over_shards(input, [&](const ShardStats& stats) { return stats.did_not_wait(i); });
    const auto& [pool, priority, outcome, none] = at_once.name(i).parts;
    if (count > 0) counts[{outcome, priority, pool}] += count;
  }
  for (const auto& [place, ended] : input.flow->outcomes()) {
    const auto& [pool, priority] = place;
    for (size_t i = 0; i < proxy::hold_outcome_count; ++i) {
      const char* const outcome = proxy::to_string(static_cast<HoldOutcome>(i));
      if (ended[i] > 0) counts[{outcome, std::to_string(priority), pool}] += static_cast<double>(ended[i]);
    }
  }
  auto family = families.counter("llm_d_epp_flow_control_requests_total",
                                 "[ALPHA] Requests that flow control let go or turned away, also those that did not "
                                 "have to wait.");
  for (const auto& [labels, count] : counts) {
    const auto& [outcome, priority, pool] = labels;
    family.add(count, {{"outcome", outcome}, {"priority", priority}, {"inference_pool", pool}});
  }
}

// How much of what it may hold the queue of each pool holds: of each priority that ever had to wait, and altogether.
// What has no limit is not there.
void add_capacity_used(Families& families, const FlowStats& stats, const admission::FlowOptions& options) {
  std::map<std::pair<int, std::string>, FlowStats::Held> bands;
  std::map<std::string, FlowStats::Held> pools;
  stats.each([&](const FlowStats::Series& series) {
    for (FlowStats::Held* const held : {&bands[{series.priority, series.pool}], &pools[series.pool]}) {
      held->requests += series.requests.get();
      held->bytes += series.bytes.get();
    }
  });
  const auto share = [](Families::Family& family, int64_t held, size_t limit, Labels labels) {
    if (limit > 0) family.add(static_cast<double>(held) / static_cast<double>(limit), std::move(labels));
  };
  const auto add = [&](const std::string& unit, int64_t FlowStats::Held::*member, size_t admission::BandOptions::*most,
                       size_t most_of_all) {
    auto of_bands = families.gauge("llm_d_epp_flow_control_capacity_utilization_" + unit,
                                   "[ALPHA] Part of what one priority may hold that waits, 0 to 1.");
    for (const auto& [band, held] : bands) {
      const auto& [priority, pool] = band;
      share(of_bands, held.*member, options.options_of(priority).*most,
            {{"priority", std::to_string(priority)}, {"inference_pool", pool}});
    }
    auto of_all = families.gauge("llm_d_epp_flow_control_global_capacity_utilization_" + unit,
                                 "[ALPHA] Part of what all priorities together may hold that waits, 0 to 1.");
    for (const auto& [pool, held] : pools) share(of_all, held.*member, most_of_all, {{"inference_pool", pool}});
  };
  add("requests", &FlowStats::Held::requests, &admission::BandOptions::requests_max, options.requests_max);
  add("bytes", &FlowStats::Held::bytes, &admission::BandOptions::bytes_max, options.bytes_max);
}

// Those that the utilization detector judges by what we have in flight there.
void add_stale_endpoints(Families& families, const ExportInput& input) {
  const admission::DetectorOptions& detector = input.flow_options.detector;
  if (detector.detector != admission::Detector::utilization) return;
  std::set<const endpoints::EndpointState*> stale;  // once however many pools it is in
  for (const endpoints::Pool& pool : input.snapshot->pools) {
    for (const endpoints::EndpointView& endpoint : pool.endpoints) {
      if (endpoint.readiness != endpoints::Readiness::ready) continue;
      if (!endpoints::fresh(endpoint.metrics, input.now, detector.metrics_stale_after)) stale.insert(endpoint.state);
    }
  }
  families
      .gauge("llm_d_epp_flow_control_stale_endpoints",
             "[ALPHA] Ready endpoints whose metrics are missing or too old for flow_control.detector.")
      .add(static_cast<double>(stale.size()), {{"detector", "utilization-detector"}});
}

// Of the programs that ever had to wait, as long as each has a label of its own.
void add_programs(Families& families, const FlowStats& stats, const admission::Programs& programs, Instant now) {
  std::map<std::string, HistogramSum> waited;
  stats.each([&](const FlowStats::Series& series) {
    waited[series.fairness_id].add(series.waited[static_cast<size_t>(HoldOutcome::dispatched)]);
  });
  std::map<std::string, double> means;
  auto service = families.gauge("llm_d_epp_program_aware_attained_service_tokens",
                                "[ALPHA] Tokens that the program has had, faded; of those that ever had to wait.");
  for (const auto& [id, sum] : waited) {
    const auto times = sum.to_metric();
    if (times.sample_count > 0) means[id] = times.sample_sum / static_cast<double>(times.sample_count) * 1e3;
    if (id != "other") service.add(programs.service(admission::Programs::key_of(id), now), {{"program_id", id}});
  }
  auto wait =
      families.gauge("llm_d_epp_program_aware_avg_wait_time_milliseconds",
                     "[ALPHA] Mean time that requests of the program have waited for room, of those that had to.");
  for (const auto& [id, mean] : means) wait.add(mean, {{"program_id", id}});
  if (means.empty()) return;
  families
      .gauge("llm_d_epp_program_aware_jains_fairness_index",
             "[ALPHA] How equal these means of the programs are: 1 for all the same, 1 / n at worst.")
      .add(fairness_of(means));
}

}  // namespace

void add_flow_metrics(Families& families, const ExportInput& input) {
  if (input.flow != nullptr) {
    const FlowStats& stats = *input.flow;
    add_waiting_times(families, stats);
    add_offer_times(families, stats);
    HistogramSum cycles;
    stats.cycles([&](const auto& histogram) { cycles.add(histogram); });
    families
        .histogram("inference_extension_flow_control_dispatch_cycle_duration_seconds",
                   "[ALPHA] Time of a look for waiting requests that may go.")
        .add(cycles);
    add_waiting_now(families, stats);
    add_outcomes(families, input);
    add_capacity_used(families, stats, input.flow_options);
    add_evictions(families, stats);
    if (input.programs != nullptr) add_programs(families, stats, *input.programs, input.now);
  }
  if (input.snapshot == nullptr) return;
  const admission::SaturationDetector detector(input.flow_options.detector);
  auto saturation = families.gauge("inference_extension_flow_control_pool_saturation",
                                   "[ALPHA] How full the pool is by flow_control.detector; 1 and more: saturated.");
  for (const endpoints::Pool& pool : input.snapshot->pools) {
    saturation.add(detector.saturation(pool, input.now), {{"inference_pool", pool.name}});
  }
  add_stale_endpoints(families, input);
  if (input.flow == nullptr) return;
  const auto each_pool = [&](std::string_view name, std::string help, int64_t FlowStats::Held::*member) {
    auto family = families.gauge(name, std::move(help));
    for (const endpoints::Pool& pool : input.snapshot->pools) {
      family.add(static_cast<double>(input.flow->held_in(pool.name).*member), {{"pool", pool.name}});
    }
  };
  each_pool("penstock_held_requests", "Requests that wait at the gateway for room in the pool.",
            &FlowStats::Held::requests);
  each_pool("penstock_held_bytes", "Bytes of request bodies that wait at the gateway for room in the pool.",
            &FlowStats::Held::bytes);
}

}  // namespace penstock::observability
