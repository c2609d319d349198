// The names that the Endpoint Picker's metrics have since llm-d's 0.9. What is new there beside the name, and known
// here, is said by a label. Metrics of requests are not here: their newer ones are told apart by more labels
// (metrics_epp.cc).
#include <algorithm>
#include <string_view>

#include "metrics_parts.h"

namespace penstock::observability {
namespace {

struct NewerName {
  std::string_view older, newer;
  // A label of another name; or one that the older metric does not have, with its value.
  std::string_view old_label = {}, new_label = {}, value = {};
};

// Labels of what plugins export: both say the plugin's type, which is its name where a configuration gives it no other.
constexpr std::string_view plugin = "plugin_type", plugin_name = "plugin_name";
constexpr std::string_view predictor = "predicted-latency-producer", indexer = "approx-prefix-cache-producer";

constexpr NewerName newer_names[] = {
    {"inference_objective_request_predicted_ttft_seconds", "llm_d_epp_request_predicted_ttft_seconds", "", plugin,
     predictor},
    {"inference_objective_request_predicted_tpot_seconds", "llm_d_epp_request_predicted_tpot_seconds", "", plugin,
     predictor},
    {"inference_objective_inference_request_metric", "llm_d_epp_inference_request_metric", "", plugin, predictor},
    {"inference_objective_request_slo_violation_total", "llm_d_epp_request_slo_violation_total", "", plugin, predictor},
    {"inference_pool_average_kv_cache_utilization", "llm_d_epp_average_kv_cache_utilization"},
    {"inference_pool_average_queue_size", "llm_d_epp_average_queue_size"},
    {"inference_pool_average_running_requests", "llm_d_epp_average_running_requests"},
    {"inference_pool_ready_pods", "llm_d_epp_ready_endpoints"},
    {"inference_pool_per_pod_queue_size", "llm_d_epp_per_endpoint_queue_size", "model_server_pod",
     "model_server_endpoint"},
    {"inference_extension_info", "llm_d_epp_info"},
    {"inference_extension_scheduler_e2e_duration_seconds", "llm_d_epp_scheduler_e2e_duration_seconds"},
    {"inference_extension_plugin_duration_seconds", "llm_d_epp_plugin_duration_seconds"},
    {"inference_extension_scheduler_attempts_total", "llm_d_epp_scheduler_attempts_total", "pod_name", "endpoint_name"},
    {"inference_extension_model_rewrite_decisions_total", "llm_d_epp_model_rewrite_decisions_total"},
    {"llm_d_inference_scheduler_disagg_decision_total", "llm_d_epp_disagg_decision_total", "", plugin,
     "disagg-profile-handler"},
    {"inference_extension_prefix_indexer_size", "llm_d_epp_prefix_indexer_size", "", plugin, indexer},
    {"inference_extension_prefix_indexer_hit_ratio", "llm_d_epp_prefix_indexer_hit_ratio", "", plugin, indexer},
    {"inference_extension_prefix_indexer_hit_bytes", "llm_d_epp_prefix_indexer_hit_bytes", "", plugin, indexer},
    {"inference_extension_flow_control_request_queue_duration_seconds",
     "llm_d_epp_flow_control_request_queue_duration_seconds"},
    {"inference_extension_flow_control_request_enqueue_duration_seconds",
     "llm_d_epp_flow_control_request_enqueue_duration_seconds"},
    {"inference_extension_flow_control_dispatch_cycle_duration_seconds",
     "llm_d_epp_flow_control_dispatch_cycle_duration_seconds"},
    {"inference_extension_flow_control_queue_size", "llm_d_epp_flow_control_queue_size"},
    {"inference_extension_flow_control_queue_bytes", "llm_d_epp_flow_control_queue_bytes"},
    {"inference_extension_flow_control_pool_saturation", "llm_d_epp_flow_control_pool_saturation", "", "stage",
     "effective"},
    {"kvcache_index_admissions_total", "llm_d_epp_kv_cache_index_admissions_total"},
    {"kvcache_index_evictions_total", "llm_d_epp_kv_cache_index_evictions_total"},
    {"kvcache_index_lookup_requests_total", "llm_d_epp_kv_cache_index_lookup_requests_total"},
    {"kvcache_index_lookup_hits_total", "llm_d_epp_kv_cache_index_lookup_hits_total"},
    {"kvcache_index_max_pod_hit_count_total", "llm_d_epp_kv_cache_index_max_pod_hit_count_total"},
    {"kvcache_index_lookup_latency_seconds", "llm_d_epp_kv_cache_index_lookup_latency_seconds"},
};

void change_labels(Labels& labels, const NewerName& names) {
  if (names.new_label.empty()) return;
  if (names.old_label.empty()) {
    labels.push_back({std::string(names.new_label), std::string(names.value)});
    if (names.new_label == plugin) labels.push_back({std::string(plugin_name), std::string(names.value)});
    return;
  }
  for (Label& label : labels) {
    if (label.name == names.old_label) label.name = names.new_label;
  }
}

// Every metric of these has a newer name.
constexpr std::string_view older_prefixes[] = {"inference_", "llm_d_inference_scheduler_", "kvcache_"};

}  // namespace

// Those that tell requests apart by fairness id are not made at all without newer names.
void apply_epp_names(Families& families, EppNames wanted) {
  if (wanted == EppNames::v1) return;
  for (const NewerName& names : newer_names) {
    const auto change = [&](Labels& labels) { change_labels(labels, names); };
    families.repeat(names.older, names.newer, change);
  }
  if (wanted == EppNames::llm_d) families.remove(older_prefixes);
}

}  // namespace penstock::observability
