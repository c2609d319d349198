// The groups of metrics of one page.
#pragma once

#include "families.h"
#include "penstock/observability/metrics.h"

namespace penstock::observability {

// The Endpoint Picker's (metrics_epp.cc).
void add_epp_objective_metrics(Families& families, const ExportInput& input);
void add_epp_pool_metrics(Families& families, const ExportInput& input);
void add_epp_extension_metrics(Families& families, const ExportInput& input);
// Gives all of these, and those of flow control and KV events, the names that are wanted (newer_names.cc): last.
void apply_epp_names(Families& families, EppNames wanted);
// Those of flow control, and ours of it (metrics_flow.cc).
void add_flow_metrics(Families& families, const ExportInput& input);

// Ours (metrics_own.cc).
void add_exchange_metrics(Families& families, const ExportInput& input);
void add_endpoint_metrics(Families& families, const ExportInput& input);
void add_process_metrics(Families& families, const ExportInput& input);
// Ours about TLS (metrics_tls.cc).
void add_tls_metrics(Families& families, const ExportInput& input);
// Ours about the API server (metrics_kube.cc).
void add_kube_metrics(Families& families, const ExportInput& input);
// Ours about KV events (metrics_kv_events.cc).
void add_kv_events_metrics(Families& families, const ExportInput& input);
// How old what we know of the cluster may be, in seconds: of its watches that were listed once, the one that has been
// without news for the longest.
double last_known_age(const discovery::ClusterStatus& cluster);

template <typename Get>
double sum_over_shards(const ExportInput& input, const Get& get) {
  double sum = 0;
  for (const ShardInput& shard : input.shards) sum += static_cast<double>(get(*shard.stats));
  return sum;
}

template <typename Get>
HistogramSum merge_over_shards(const ExportInput& input, const Get& get) {
  HistogramSum sum;
  for (const ShardInput& shard : input.shards) sum.add(get(*shard.stats));
  return sum;
}

}  // namespace penstock::observability
