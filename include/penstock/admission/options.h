// What flow control may be told: when a pool counts as saturated, and what becomes of the requests that then have to
// wait. Beside each field stands the key of our own configuration (flow_control.*) and, behind "EPC:", the key of an
// EndpointPickerConfig that means the same; where several spellings exist (1.4; 1.5; llm-d), all of them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "penstock/base/time.h"

namespace penstock::admission {

// Which rule says that a pool is saturated.
enum class Detector : uint8_t {
  // Every endpoint has more prefill reserved than `hold`, or no room in its KV cache. Counts what every shard has
  // reserved since the last scrape. EPC: plugin type late-binding-detector.
  late_binding,
  // The mean over endpoints of max(waiting / queue_depth, kv_usage / kv_usage_max) is 1 or more.
  // EPC 1.4: the saturationDetector section itself; 1.5: plugin type utilization-detector (the default there).
  utilization,
  // The requests in flight (or their tokens) are as many as concurrency x endpoints. EPC 1.5: plugin type
  // concurrency-detector.
  concurrency,
};

// In which order the requests of one flow leave.
enum class Ordering : uint8_t {
  least_work,    // EPC: least-work-ordering-policy: fewest seconds of uncached prefill, less waiting time / aging
  fcfs,          // EPC: fcfs-ordering-policy (the default there)
  edf,           // EPC: edf-ordering-policy: earliest end of its time to live
  slo_deadline,  // EPC: slo-deadline-ordering-policy: earliest arrival + x-slo-ttft-ms
};

// Which flow of a band is next. A flow is what one fairness id sends at one priority.
enum class Fairness : uint8_t {
  round_robin,    // EPC: round-robin-fairness-policy: each in turn
  global_strict,  // EPC: global-strict-fairness-policy (the default there): the best request of all flows
  least_service,  // EPC: program-aware-fairness, strategy las: who has had the fewest tokens lately, and waited longest
  turn_priority,  // EPC: the same, strategy turn-priority: who has sent the most requests, and waited longest
};

// EPC: parameters of program-aware-fairness. What a fairness id has had is counted once for all bands (programs.h).
struct ProgramOptions {
  double service_weight = 0.8, wait_weight = 0.2;  // las: lasWeightService, lasWeightHeadWait
  double half_life = 60;                           // seconds: lasHalfLifeSeconds; 0: what it has had never fades
  double wait_turns = 0.5;             // turn-priority: turnPriorityTimeWeight: turns for a second of waiting
  Duration inactivity = seconds(120);  // turnPriorityInactivitySeconds: a longer pause begins at turn one; 0: none does
  Duration forget_after = seconds(3600);  // evictionTtlSeconds; 0: never, while there is room
  bool operator==(const ProgramOptions&) const = default;
};

// EPC: usageLimitPolicyPluginRef. How full a pool may be for requests of a lower priority, so that there is room left
// for those of a higher one.
enum class UsageLimit : uint8_t {
  same,        // static-usage-limit-policy: for all the same, DetectorOptions::usage_limit
  by_rank,     // priority-holdback-policy, domain rank: from `most` for the highest to `least` in equal steps
  by_value,    // ..., domain value: in proportion to the priorities' numbers
  listed,      // ..., domain explicit: as listed, and else 0: nothing goes
  reflective,  // soft-reflective-ceiling-policy: the lower and the fuller, the rarer
};

// Where a priority stands among those that there are.
struct Rank {
  uint32_t above = 0;  // how many are higher
  uint32_t count = 1;
  int highest = 0, lowest = 0;
  void meet(int own, int other);  // counts another one, once each
};

struct UsageLimits {
  UsageLimit kind = UsageLimit::same;
  double least = 0, most = 1;
  struct Ceiling {
    int priority = 0;
    double ceiling = 0;
  };
  std::vector<Ceiling> listed;
  // How full the pool may be, 1: as full as the detector says. `reflective` may let some go beyond it.
  double ceiling(int priority, const Rank& rank) const;
};

struct DetectorOptions {
  Detector detector = Detector::late_binding;  // flow_control.detector
                                               // EPC 1.5: saturationDetector.pluginRef
                                               // llm-d: flowControl.saturationDetector.pluginRef
  // late_binding: an endpoint with this much prefill before it, or more KV cache taken than kv_limit with the request,
  // takes no more.
  Duration hold = seconds(1);  // flow_control.hold       EPC: late-binding-detector holdSeconds; 0 holds nothing
  double kv_limit = 0.95;      // flow_control.kv_limit   EPC: late-binding-detector kvThreshold
  // utilization.
  double queue_depth = 5;     // flow_control.queue_depth     EPC: queueDepthThreshold
  double kv_usage_max = 0.8;  // flow_control.kv_usage_max    EPC: kvCacheUtilThreshold
  // Older metrics count as unknown: an endpoint is then judged by what we have in flight there.
  Duration metrics_stale_after = seconds(2);  // from metrics.idle_interval   EPC: metricsStalenessThreshold
  // concurrency.
  uint32_t concurrency = 100;  // flow_control.concurrency   EPC: concurrency-detector maxConcurrency (mode requests)
  bool by_tokens = false;      // EPC: concurrency-detector mode tokens: tokens in flight are counted, not requests
  bool by_requests = true;     // EPC: false in mode tokens; in mode hybrid both are true, and the fuller counts
  double tokens = 1e6;         // EPC: maxTokenConcurrency
  // utilization and concurrency: saturated at this mean. EPC: static-usage-limit-policy threshold
  double usage_limit = 1;
};

// What one priority may hold, and how it is ordered.
struct BandOptions {
  size_t requests_max = 0;                    // flow_control.band_requests  EPC: maxRequests; 0: no limit
  size_t bytes_max = 1'000'000'000;           // flow_control.band_bytes     EPC: maxBytes; 0: no limit
  Ordering ordering = Ordering::least_work;   // flow_control.ordering       EPC: orderingPolicyRef
  Fairness fairness = Fairness::round_robin;  // flow_control.fairness       EPC: fairnessPolicyRef
  std::optional<Duration> ttl;                // else FlowOptions::ttl       EPC: defaultRequestTTL
  bool operator==(const BandOptions&) const = default;
};

struct PriorityBand {
  int priority = 0;  // EPC: flowControl.priorityBands[].priority
  BandOptions options;
};

struct FlowOptions {
  // flow_control.enabled   EPC: featureGates has flowControl, or ENABLE_EXPERIMENTAL_FLOW_CONTROL_LAYER.
  // False: nobody waits, and requests of negative priority are refused while the pool is saturated.
  bool enabled = false;
  DetectorOptions detector;
  // least_work: so many seconds of waiting are worth one second of prefill. 5 is nearer to first come, first served; 60
  // greedier. The one knob between the tail and everything else.
  double aging_seconds = 20;  // flow_control.aging   EPC: least-work-ordering-policy agingSeconds
  // How long a request may wait (503 then). 0: as long as its client does.
  Duration ttl = seconds(600);  // flow_control.ttl   EPC: flowControl.defaultRequestTTL (0 there)
  // How long requests may wait for a pool without a single endpoint to use (see awaiting.h; 503 then). 0: not at all.
  // A server that is replaced or restarted is mostly back by then, and clients wait longer for an answer.
  Duration no_endpoint_ttl = seconds(30);  // flow_control.no_endpoint_ttl
                                           // EPC: flowControl.noEndpointRequestTTL (llm-d; 0 there)
  size_t requests_max = 0;                 // flow_control.requests          EPC: flowControl.maxRequests; 0: no limit
  size_t bytes_max = 0;                    // flow_control.bytes             EPC: flowControl.maxBytes; 0: no limit
  BandOptions band;                        // of every priority not listed   EPC: flowControl.defaultPriorityBand
  bool band_given = false;                 // EPC: it was: negative priorities that are not listed may wait, too
  // Of every negative priority not listed, which then may wait. Nothing: as `band` and band_given say.
  std::optional<BandOptions> negative_band;  // EPC: flowControl.defaultNegativePriorityBand
  std::vector<PriorityBand> bands;           // EPC: flowControl.priorityBands

  // Requests of negative priority that run are cut off where that makes room for one of higher priority that waits.
  bool evicts = false;  // flow_control.eviction   EPC: flowControl.enableEviction (llm-d)

  UsageLimits usage;  // EPC: flowControl.usageLimitPolicyPluginRef
  ProgramOptions programs;

  // Requests of negative priority wait only where a band is made for them. Others wait in `band` at least.
  bool may_wait(int priority) const {
    if (!enabled || priority >= 0 || band_given || negative_band) return enabled;
    return std::any_of(bands.begin(), bands.end(), [=](const PriorityBand& one) { return one.priority == priority; });
  }
  const BandOptions& options_of(int priority) const;
  Duration ttl_of(int priority) const { return options_of(priority).ttl.value_or(ttl); }
  // Of this priority among those of `bands`.
  Rank rank_of(int priority) const;
  // A band goes by what its programs have had.
  bool counts_programs() const;
};

}  // namespace penstock::admission
