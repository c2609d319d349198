// Passive ejection. All fields are independent atomics; the one step that must happen once, starting a penalty, is a
// compare-and-swap of ejected_until_ns.
#include "ejection.h"

#include <algorithm>

namespace penstock::routing {
namespace {

constexpr auto relaxed = std::memory_order_relaxed;

int64_t to_ns(Instant at) {
  return at.time_since_epoch().count();
}

}  // namespace

Duration penalty_of(uint32_t ejections_before, const EjectionOptions& options) {
  Duration penalty = std::min(options.base_penalty, options.max_penalty);
  for (uint32_t i = 0; i < ejections_before && penalty < options.max_penalty; ++i) {
    penalty = std::min(penalty * 2, options.max_penalty);
  }
  return penalty;
}

bool eject(endpoints::HealthState& health, Instant now, const EjectionOptions& options) {
  int64_t until = health.ejected_until_ns.load(relaxed);
  if (until > to_ns(now)) return false;
  const int64_t new_until = to_ns(now + penalty_of(health.ejections.load(relaxed), options));
  if (!health.ejected_until_ns.compare_exchange_strong(until, new_until, relaxed)) return false;
  health.ejections.fetch_add(1, relaxed);
  health.consecutive_failures.store(0, relaxed);
  // The way back starts by itself when the penalty is over: nobody needs to wake up for it.
  health.recovered_at_ns.store(new_until, relaxed);
  return true;
}

bool report_failure(endpoints::EndpointState& endpoint, FailureKind kind, Instant now, const EjectionOptions& options) {
  endpoints::HealthState& health = endpoint.health;
  if (health.ejected_until_ns.load(relaxed) > to_ns(now)) return false;
  const uint32_t weight = kind == FailureKind::hard ? options.hard_weight : 1;
  if (health.consecutive_failures.fetch_add(weight, relaxed) + weight < options.consecutive_failures) return false;
  return eject(health, now, options);
}

void report_success(endpoints::EndpointState& endpoint, Instant now, const EjectionOptions& options) {
  endpoints::HealthState& health = endpoint.health;
  // Nearly always nothing to do: only read, so that the line stays shared between the shards.
  if (health.consecutive_failures.load(relaxed) != 0) health.consecutive_failures.store(0, relaxed);
  int64_t recovered_at = health.recovered_at_ns.load(relaxed);
  if (recovered_at == 0 || to_ns(now) < recovered_at + options.slow_start.count()) return;
  // Back for good: the next penalty starts from the base again. The swap fails when a new ejection has just begun.
  if (health.recovered_at_ns.compare_exchange_strong(recovered_at, 0, relaxed)) health.ejections.store(0, relaxed);
}

bool report_slow(endpoints::EndpointState& endpoint, Instant now, const EjectionOptions& options) {
  return eject(endpoint.health, now, options);
}

bool ejected(const endpoints::EndpointState& endpoint, Instant now) {
  return endpoint.health.ejected_until_ns.load(relaxed) > to_ns(now) || endpoint.health.probe_failed.load(relaxed);
}

double slow_start_share(const endpoints::EndpointState& endpoint, Instant now, Duration slow_start) {
  const int64_t recovered_at = endpoint.health.recovered_at_ns.load(relaxed);
  if (recovered_at == 0 || slow_start <= Duration::zero()) return 1;
  const double share = static_cast<double>(to_ns(now) - recovered_at) / static_cast<double>(slow_start.count());
  return std::clamp(share, 0.0, 1.0);
}

}  // namespace penstock::routing
