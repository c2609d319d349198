// How busy an endpoint is now, from its last scrape and from what the shards did since. Pure.
#pragma once

#include <algorithm>

#include "penstock/routing/router.h"

namespace penstock::routing {

inline bool known(const Inputs& in, const Candidate& candidate) {
  return endpoints::fresh(candidate.endpoint->metrics, in.now, in.metrics_stale_after);
}

inline double in_flight(const Candidate& candidate) {
  const auto requests = candidate.endpoint->state->load.requests.load(std::memory_order_relaxed);
  return static_cast<double>(std::max<int64_t>(requests, 0));
}

// Requests waiting in the engine. Unknown or stale metrics must not look idle: all our own exchanges in flight then
// count as waiting.
inline double waiting(const Inputs& in, const Candidate& candidate) {
  return known(in, candidate) ? candidate.endpoint->waiting_now() : in_flight(candidate);
}

// Requests in the engine, waiting or running, of whatever origin; at least our own.
inline double in_engine(const Inputs& in, const Candidate& candidate) {
  const double own = in_flight(candidate);
  if (!known(in, candidate)) return own;
  const endpoints::EngineMetrics& metrics = candidate.endpoint->metrics;
  const double since = own - static_cast<double>(metrics.requests_at_scrape);
  return std::max(own, metrics.waiting + metrics.running + since);
}

// Requests that other gateways have in the engine.
inline double foreign_of(const endpoints::EngineMetrics& metrics) {
  const double ours = static_cast<double>(metrics.requests_at_scrape);
  return std::max(0.0, metrics.waiting + metrics.running - ours);
}

// Fewer is better: 1 for the least, 0 for the most, 1 for all when they are equal. `scores` holds the counts on entry.
inline void fewest_first(std::span<double> scores) {
  if (scores.empty()) return;
  double low = scores.front(), high = low;
  for (const double score : scores) {
    low = score < low ? score : low;
    high = score > high ? score : high;
  }
  if (high > low) {
    for (double& score : scores) score = (high - score) / (high - low);
  } else {
    std::fill(scores.begin(), scores.end(), 1.0);
  }
}

}  // namespace penstock::routing
