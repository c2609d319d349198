// Everything that /metrics, /status and the status page show, gathered by app on the control thread, and the writer of
// the Prometheus text format. The Endpoint Picker's metrics come first, exact in name, labels and buckets; then our
// own.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "penstock/admission/programs.h"
#include "penstock/base/memory_budget.h"
#include "penstock/discovery/cluster.h"
#include "penstock/discovery/directory.h"
#include "penstock/discovery/names.h"
#include "penstock/endpoints/snapshot.h"
#include "penstock/kvevents/listener.h"
#include "penstock/net/ring.h"
#include "penstock/observability/access_log.h"
#include "penstock/observability/flow_stats.h"
#include "penstock/observability/recent_times.h"
#include "penstock/observability/shard_stats.h"
#include "penstock/proxy/response_owners.h"
#include "penstock/upstream/client.h"

namespace penstock::observability {

struct BuildInfo {
  std::string version;    // "0.1.0"
  std::string commit;     // "" when unknown
  std::string build_ref;  // branch or tag; "" when unknown
  std::string compiler;
};

// What the kernel says about this process; a value that it does not say is negative.
struct ProcessUsage {
  double cpu_seconds = -1, resident_bytes = -1, virtual_bytes = -1, open_files = -1, open_files_max = -1, threads = -1;
};
ProcessUsage process_usage();

struct ShardInput {
  const ShardStats* stats = nullptr;     // never null
  const net::RingStats* ring = nullptr;  // null: not running yet
  const upstream::ClientStats* upstream = nullptr;
  std::string ring_name, ring_reason;    // "io_uring" or "epoll", and why
  const net::TlsRuntime* tls = nullptr;  // null: not running yet
};

struct KvEventsInput {
  std::vector<kvevents::RankStatus> ranks;
  Duration time_spent{};
  size_t index_size = 0;               // of routing::ToldIndex
  uint64_t admitted = 0, evicted = 0;  // likewise
};

// The certificates that are served, and how their files fared.
struct TlsFilesStatus {
  struct Certificate {
    std::string listener, origin;  // its file
    int64_t not_after_s = 0;       // since 1970
  };
  uint64_t reloads = 0, reloads_failed = 0;
  std::vector<Certificate> certificates;
};

struct ExportInput {
  Instant now{};
  int64_t wall_us = 0;
  Instant started_at{};
  int64_t started_wall_us = 0;
  BuildInfo build;
  std::string kernel;  // uname release
  std::vector<ShardInput> shards;
  const Names* names = nullptr;                   // the Names of all shards' stats
  const RecentTimes* recent = nullptr;            // null: the status tells of all time since the start
  const endpoints::Snapshot* snapshot = nullptr;  // the current one; null before the first
  Instant snapshot_at{};                          // when it was published
  Duration metrics_stale_after = seconds(5);      // older scrapes do not count in the pool's averages
  std::vector<discovery::PollStatus> polls;
  std::vector<discovery::NameStatus> names_of_hosts;  // that the configuration gives instead of addresses
  std::optional<discovery::ClusterStatus> cluster;    // nothing: endpoints do not come from one
  std::vector<objects::Notice> problems;   // what stands against Kubernetes objects, of a cluster or in files
  std::optional<KvEventsInput> kv_events;  // nothing: they are not listened to
  const FlowStats* flow = nullptr;
  const admission::Programs* programs = nullptr;  // null: no fairness policy goes by them
  admission::FlowOptions flow_options;
  const proxy::ResponseOwners* responses = nullptr;
  const MemoryBudget* memory = nullptr;
  size_t prefix_index_size = 0, prefix_index_entries = 0;
  size_t prefix_index_bytes = 0, prefix_index_bytes_most = 0;  // with that of KV events
  std::string shadow_policy;                                   // "": none
  uint64_t reloads = 0, reloads_failed = 0;
  const net::TlsRuntime* control_tls = nullptr;  // of the control thread: scrapes and probes
  const net::TlsRuntime* admin_tls = nullptr;    // likewise: the admin port
  std::optional<TlsFilesStatus> tls_files;       // nothing: neither a listener nor the admin port has TLS
  const AccessLog* access_log = nullptr;
  uint64_t log_lines_lost = 0;
  uint64_t admin_connections_refused = 0, admin_connections_evicted = 0;
  uint64_t admin_pages_refused = 0;
  ProcessUsage process;
};

// Collects the numbers of the page. What it returns appends the page, once, on any thread: it needs nothing of `input`
// any more.
using PageText = std::function<void(std::string& out)>;
PageText collect_metrics(const ExportInput& input);
// Both at once.
void export_metrics(std::string& out, const ExportInput& input);
// What the caches of all endpoints hold, in blocks of the prefix index, as far as they say: with less room than that it
// forgets before they do.
double prefix_blocks_cached(const endpoints::Snapshot& snapshot);
constexpr const char* metrics_content_type = "text/plain; version=0.0.4; charset=utf-8";

}  // namespace penstock::observability
