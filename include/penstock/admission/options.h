// What flow control may be told: when a pool counts as saturated, and what becomes of the requests that then have to
// wait. Beside each field stands the key of our own configuration (flow_control.*) and, behind "EPC:", the key of an
// EndpointPickerConfig that means the same; where several spellings exist (1.4; 1.5; llm-d), all of them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
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
};

struct DetectorOptions {
  Detector detector = Detector::late_binding;  // flow_control.detector
                                               // EPC 1.5: saturationDetector.pluginRef
                                               // llm-d: flowControl.saturationDetector.pluginRef
  // late_binding: an endpoint with this much prefill before it, or more KV cache taken than kv_limit with the request,
  // takes no more.
  Duration hold = seconds(1);  // flow_control.hold       EPC: late-binding-detector holdSeconds; 0 holds nothing
  double kv_limit = 0.9;       // flow_control.kv_limit   EPC: late-binding-detector kvThreshold
  // utilization.
  double queue_depth = 5;     // flow_control.queue_depth     EPC: queueDepthThreshold
  double kv_usage_max = 0.8;  // flow_control.kv_usage_max    EPC: kvCacheUtilThreshold
  // Older metrics count as unknown: an endpoint is then judged by what we have in flight there.
  Duration metrics_stale_after = seconds(2);  // from metrics.idle_interval   EPC: metricsStalenessThreshold
  // concurrency.
  uint32_t concurrency = 100;  // flow_control.concurrency   EPC: concurrency-detector maxConcurrency (mode requests)
  bool by_tokens = false;      // EPC: concurrency-detector mode tokens: tokens in flight are counted, not requests
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
  // How long a request may wait for a pool without a single endpoint to use (scale from zero; 503 then). 0: not at all.
  Duration no_endpoint_ttl{0};      // flow_control.no_endpoint_ttl   EPC: flowControl.noEndpointRequestTTL (llm-d)
  size_t requests_max = 0;          // flow_control.requests          EPC: flowControl.maxRequests; 0: no limit
  size_t bytes_max = 0;             // flow_control.bytes             EPC: flowControl.maxBytes; 0: no limit
  BandOptions band;                 // of every priority not listed   EPC: flowControl.defaultPriorityBand
  bool band_given = false;          // EPC: it was: negative priorities that are not listed may wait, too
  std::vector<PriorityBand> bands;  // EPC: flowControl.priorityBands

  // Requests of negative priority wait only where a band is made for them. Others wait in `band` at least.
  bool may_wait(int priority) const {
    if (!enabled || priority >= 0 || band_given) return enabled;
    return std::any_of(bands.begin(), bands.end(), [=](const PriorityBand& one) { return one.priority == priority; });
  }
};

}  // namespace penstock::admission
