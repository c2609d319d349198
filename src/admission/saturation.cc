#include "penstock/admission/saturation.h"

#include <algorithm>
#include <cmath>

#include "penstock/routing/backlog.h"

namespace penstock::admission {
namespace {

using endpoints::EndpointView;
using endpoints::EngineMetrics;

// Of an answer's length, room for so many tokens is asked for ahead; what comes later finds what others have left.
constexpr double answer_tokens_ahead = 500;

// An engine may take so long to give up a request whose client has left.
constexpr Duration abort_time = milliseconds(200);

double in_flight(const EndpointView& endpoint) {
  return static_cast<double>(std::max<int64_t>(endpoint.state->load.requests.load(std::memory_order_relaxed), 0));
}

double tokens_in_flight(const EndpointView& endpoint) {
  return static_cast<double>(std::max<int64_t>(endpoint.state->load.kv_tokens.load(std::memory_order_relaxed), 0));
}

const Relief& of(const EndpointView& endpoint, const Reliefs& reliefs) {
  constexpr static Relief none;
  return endpoint.state->slot < reliefs.size() ? reliefs[endpoint.state->slot] : none;
}

// What would be left of a gauge to which every request that runs there adds the same.
double left_of(double gauge, const EngineMetrics& metrics, const Relief& relief) {
  return relief.requests > 0 ? gauge * (1 - relief.requests / std::max(metrics.running, relief.requests)) : gauge;
}

// The share of its KV cache that would be taken with the request, over the limit. 0: not known.
double kv_fullness(const EndpointView& endpoint, const Demand& demand, bool known, double limit, const Relief& relief) {
  const EngineMetrics& metrics = endpoint.metrics;
  const auto capacity = static_cast<double>(routing::kv_capacity(metrics));
  if (capacity <= 0 || limit <= 0) return 0;
  const endpoints::LoadCounters& load = endpoint.state->load;
  double answer = std::min(routing::answer_tokens(*endpoint.state), answer_tokens_ahead);
  if (demand.max_tokens > 0) answer = std::min(answer, static_cast<double>(demand.max_tokens));
  // The gauge does not show yet what is still to be computed; without one, all that we hold there counts.
  const double taken = known ? left_of(metrics.kv_usage, metrics, relief) * capacity +
                                   routing::tokens_to_compute(load) - relief.prefill_tokens
                             : tokens_in_flight(endpoint) - relief.kv_tokens;
  return (taken + demand.uncached_tokens + answer) / (limit * capacity);
}

// Whether the engine has more than it works on, by its own word: it said so when it was last asked, or was sent more
// since than it was at work on then, which it may not have begun. Prefill that we believe to be before a request proves
// no queue: an engine that computes prompts side by side, or takes the same time for each, has none. What does not
// stream may be long past its prefill, so it is no sign of such an engine.
bool queues(const EndpointView& endpoint) {
  if (endpoint.metrics.waiting >= 1) return true;
  const endpoints::LoadCounters& load = endpoint.state->load;
  const int64_t requests = load.requests.load(std::memory_order_relaxed);
  const int64_t in_prefill =
      requests - load.decoding.load(std::memory_order_relaxed) - load.unseen.load(std::memory_order_relaxed);
  const int64_t sent = requests - endpoint.metrics.requests_at_scrape + endpoint.metrics.not_counted_at_scrape;
  return sent >= std::max<int64_t>(in_prefill - sent, 1);
}

}  // namespace

// An endpoint with nothing to do is never full: whatever it is that we believe of it, nobody would come to correct it.
double SaturationDetector::late_binding(const EndpointView& endpoint, const Demand& demand, Instant now,
                                        const Relief& relief) const {
  const EngineMetrics& metrics = endpoint.metrics;
  const bool known = endpoints::fresh(metrics, now, options_.metrics_stale_after);
  const bool idle =
      in_flight(endpoint) <= relief.requests && !(known && metrics.waiting + metrics.running > relief.requests);
  if (idle || options_.hold <= Duration::zero()) return 0;
  const routing::Backlog backlog = routing::backlog_of(endpoint, now, options_.metrics_stale_after);
  const bool confirmed = backlog.confirmed && known && queues(endpoint);
  const double spared = routing::prefill_seconds(*endpoint.state, relief.prefill_tokens);
  const double before = confirmed ? (backlog.seconds - spared) / to_seconds(options_.hold) : 0;
  return std::max(before, kv_fullness(endpoint, demand, known, options_.kv_limit, relief));
}

// Unknown metrics must not look idle, nor stop all traffic: what we have in flight there counts as waiting.
double SaturationDetector::utilization(const EndpointView& endpoint, Instant now, const Relief& relief) const {
  const EngineMetrics& metrics = endpoint.metrics;
  if (!endpoints::fresh(metrics, now, options_.metrics_stale_after)) {
    return (in_flight(endpoint) - relief.requests) / options_.queue_depth;
  }
  return std::max((endpoint.waiting_now() - relief.requests) / options_.queue_depth,
                  left_of(metrics.kv_usage, metrics, relief) / options_.kv_usage_max);
}

double SaturationDetector::fullness(const EndpointView& endpoint, const Demand& demand, Instant now,
                                    const Relief& relief) const {
  switch (options_.detector) {
    case Detector::late_binding:
      return late_binding(endpoint, demand, now, relief);
    case Detector::utilization:
      return utilization(endpoint, now, relief);
    case Detector::concurrency:
      return std::max(
          options_.by_requests ? (in_flight(endpoint) - relief.requests) / options_.concurrency : -INFINITY,
          options_.by_tokens ? (tokens_in_flight(endpoint) - relief.kv_tokens) / options_.tokens : -INFINITY);
  }
  return 0;
}

Room SaturationDetector::room(const endpoints::Pool& pool, const Demand& demand, Instant now, uint32_t enough,
                              double ceiling, const Reliefs& reliefs) const {
  Room room;
  double sum = 0;
  uint32_t count = 0;
  for (const EndpointView& endpoint : pool.endpoints) {
    if (!routing::usable(endpoint, demand.model, now)) continue;
    room.any_endpoint = true;
    const double full = fullness(endpoint, demand, now, of(endpoint, reliefs));
    ++count;
    sum += full;
    if (options_.detector == Detector::late_binding && full < ceiling && ++room.requests >= enough) return room;
  }
  if (options_.detector == Detector::late_binding || count == 0) return room;
  // Means: what is left of the whole pool. A request takes a whole endpoint's unit at most, so one always fits below
  // the limit.
  const bool counted = options_.detector == Detector::concurrency && !options_.by_tokens;
  const double left = (count * options_.usage_limit * ceiling - sum) * (counted ? options_.concurrency : 1);
  if (left > 0) room.requests = static_cast<uint32_t>(std::min(std::ceil(left - 1e-9), static_cast<double>(enough)));
  return room;
}

const endpoints::EndpointState* SaturationDetector::nearest_room(const endpoints::Pool& pool, const Demand& demand,
                                                                 Instant now, double ceiling,
                                                                 const Reliefs& reliefs) const {
  if (options_.detector != Detector::late_binding) return nullptr;
  const endpoints::EndpointState* nearest = nullptr;
  double least = INFINITY;
  for (const EndpointView& endpoint : pool.endpoints) {
    if (of(endpoint, reliefs).requests == 0 || !routing::usable(endpoint, demand.model, now)) continue;
    const double full = fullness(endpoint, demand, now);
    if (full < ceiling || full >= least || fullness(endpoint, demand, now, of(endpoint, reliefs)) >= ceiling) continue;
    nearest = endpoint.state;
    least = full;
  }
  return nearest;
}

// What we count ourselves shows it at once. A scrape does when the engine had the time to give the request up.
bool SaturationDetector::shows(const EndpointView& endpoint, Instant left, Instant now) const {
  const EngineMetrics& metrics = endpoint.metrics;
  return options_.detector == Detector::concurrency || metrics.scraped_at >= left + abort_time ||
         !endpoints::fresh(metrics, now, options_.metrics_stale_after);
}

double SaturationDetector::saturation(const endpoints::Pool& pool, Instant now) const {
  double least = INFINITY, sum = 0, count = 0;
  for (const EndpointView& endpoint : pool.endpoints) {
    if (!routing::usable(endpoint, "", now)) continue;
    const double full = fullness(endpoint, {}, now);
    least = std::min(least, full);
    sum += full;
    ++count;
  }
  if (count == 0) return 1;
  return options_.detector == Detector::late_binding ? least : sum / count / options_.usage_limit;
}

}  // namespace penstock::admission
