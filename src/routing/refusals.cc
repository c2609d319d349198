#include "penstock/routing/refusals.h"

#include <algorithm>

#include "ejection.h"

namespace penstock::routing {
namespace {

using endpoints::EndpointState;
using endpoints::HealthState;
using Kind = endpoints::Refusals::Kind;

constexpr auto relaxed = std::memory_order_relaxed;
constexpr Duration opinion_interval = seconds(1);
// Refusals in a row that nobody thinks anything of.
constexpr uint32_t refusals_allowed = 5;
// What an endpoint keeps while there is doubt: enough to notice soon that it answers again.
constexpr double share_in_doubt = 0.05;
constexpr uint32_t row_max = 1 << 20;  // beyond this nothing is counted

int64_t to_ns(Instant at) {
  return at.time_since_epoch().count();
}

// Nothing has been heard of the kind for so long that what was known of it is void.
bool stale(const Kind& entry, Instant now, const EjectionOptions& options) {
  const int64_t last = std::max(entry.seen_ns.load(relaxed), entry.until_ns.load(relaxed));
  return last + options.max_penalty.count() < to_ns(now);
}

const Kind* find(const EndpointState& endpoint, uint64_t kind) {
  if (kind == 0 || endpoint.health.kinds.load(relaxed) == 0) return nullptr;
  for (const Kind& entry : endpoint.refusals.kinds) {
    if (entry.kind.load(relaxed) == kind) return &entry;
  }
  return nullptr;
}

void start_anew(Kind& entry) {
  entry.until_ns.store(0, relaxed);
  entry.pairs.store(0, relaxed);
  entry.ejections.store(0, relaxed);
}

// The entry of this kind, or a new one; null: all are in use. Threads that meet a new kind at once may take two entries
// for it; the first is then the one that counts.
Kind* find_or_take(EndpointState& endpoint, uint64_t kind, Instant now, const EjectionOptions& options) {
  if (const Kind* const known = find(endpoint, kind)) return const_cast<Kind*>(known);
  for (Kind& entry : endpoint.refusals.kinds) {
    uint64_t holds = entry.kind.load(relaxed);
    if (holds != 0 && !stale(entry, now, options)) continue;
    if (!entry.kind.compare_exchange_strong(holds, kind, relaxed)) continue;
    if (holds == 0) endpoint.health.kinds.fetch_add(1, relaxed);
    start_anew(entry);
    return &entry;
  }
  return nullptr;
}

// Failures in a row that eject; one is enough for an endpoint that has just returned.
uint32_t threshold(uint32_t ejections_before, const EjectionOptions& options) {
  return ejections_before > 0 ? 1 : options.consecutive_failures;
}

bool eject_whole(HealthState& health, Instant now, const EjectionOptions& options) {
  if (health.ejected_until_ns.load(relaxed) > to_ns(now)) return false;
  const uint32_t pairs = health.refused_pairs.fetch_add(1, relaxed) + 1;
  if (pairs < threshold(health.ejections.load(relaxed), options) || !eject(health, now, options)) return false;
  health.refused_pairs.store(0, relaxed);
  return true;
}

bool eject_for(Kind& entry, Instant now, const EjectionOptions& options) {
  entry.seen_ns.store(to_ns(now), relaxed);
  int64_t until = entry.until_ns.load(relaxed);
  if (until > to_ns(now)) return false;
  const uint32_t before = entry.ejections.load(relaxed);
  if (entry.pairs.fetch_add(1, relaxed) + 1 < threshold(before, options)) return false;
  const int64_t new_until = to_ns(now + penalty_of(before, options));
  if (!entry.until_ns.compare_exchange_strong(until, new_until, relaxed)) return false;
  entry.ejections.fetch_add(1, relaxed);
  entry.pairs.store(0, relaxed);
  return true;
}

// A good answer to this kind. What was known of it is forgotten, after an ejection only when a whole slow start has
// passed.
void forgive(EndpointState& endpoint, uint64_t kind, Instant now, const EjectionOptions& options) {
  Kind* const entry = const_cast<Kind*>(find(endpoint, kind));
  if (entry == nullptr) return;
  if (entry->pairs.load(relaxed) != 0) entry->pairs.store(0, relaxed);
  const int64_t until = entry->until_ns.load(relaxed);
  if (until != 0 && to_ns(now) < until + options.slow_start.count()) return;
  if (entry->kind.compare_exchange_strong(kind, 0, relaxed)) endpoint.health.kinds.fetch_sub(1, relaxed);
}

}  // namespace

bool take_second_opinion(EndpointState& endpoint, Instant now, uint32_t most) {
  std::atomic<int64_t>& back = endpoint.refusals.opinions_back_ns;
  int64_t at = back.load(relaxed);
  int64_t next = 0;
  do {
    next = std::max(at, to_ns(now)) + opinion_interval.count();
    if (next - to_ns(now) > most * opinion_interval.count()) return false;
  } while (!back.compare_exchange_weak(at, next, relaxed));
  return true;
}

void report_refusal(EndpointState& endpoint) {
  std::atomic<uint32_t>& row = endpoint.health.refusals_in_row;
  if (row.load(relaxed) < row_max) row.fetch_add(1, relaxed);
}

Verdict report_pair(EndpointState& endpoint, const Refusal& refusal, Instant now, const EjectionOptions& options) {
  endpoint.refusals.opinions_back_ns.fetch_sub(opinion_interval.count(), relaxed);
  if (refusal.status == 429) {
    return report_busy(endpoint, refusal.retry_after, now, options) ? Verdict::busy : Verdict::none;
  }
  const bool every_kind = refusal.status == 401 || refusal.status == 403;
  Kind* const entry = every_kind ? nullptr : find_or_take(endpoint, refusal.kind, now, options);
  if (entry == nullptr) return eject_whole(endpoint.health, now, options) ? Verdict::ejected : Verdict::none;
  return eject_for(*entry, now, options) ? Verdict::ejected_for_kind : Verdict::none;
}

bool report_busy(EndpointState& endpoint, Duration retry_after, Instant now, const EjectionOptions& options) {
  int64_t until = endpoint.health.busy_until_ns.load(relaxed);
  if (until > to_ns(now)) return false;
  const Duration grown = penalty_of(endpoint.refusals.busy_in_row.load(relaxed), options);
  const int64_t new_until = to_ns(now + std::min(std::max(retry_after, grown), options.max_penalty));
  if (!endpoint.health.busy_until_ns.compare_exchange_strong(until, new_until, relaxed)) return false;
  endpoint.refusals.busy_since_ns.store(to_ns(now), relaxed);
  endpoint.refusals.busy_in_row.fetch_add(1, relaxed);
  return true;
}

void report_acceptance(EndpointState& endpoint, uint64_t kind, Instant sent, Instant now,
                       const EjectionOptions& options) {
  HealthState& health = endpoint.health;
  if (health.refusals_in_row.load(relaxed) != 0) health.refusals_in_row.store(0, relaxed);
  if (health.refused_pairs.load(relaxed) != 0) health.refused_pairs.store(0, relaxed);
  if (health.busy_until_ns.load(relaxed) != 0 && to_ns(sent) > endpoint.refusals.busy_since_ns.load(relaxed)) {
    health.busy_until_ns.store(0, relaxed);
    endpoint.refusals.busy_in_row.store(0, relaxed);
  }
  if (health.kinds.load(relaxed) != 0) forgive(endpoint, kind, now, options);
}

int64_t refuses_until_ns(const EndpointState& endpoint, uint64_t kind, Instant now) {
  const Kind* const entry = find(endpoint, kind);
  if (entry == nullptr) return 0;
  const int64_t until = entry->until_ns.load(relaxed);
  return until > to_ns(now) ? until : 0;
}

uint32_t refused_kinds(const EndpointState& endpoint, Instant now) {
  uint32_t count = 0;
  for (const Kind& entry : endpoint.refusals.kinds) {
    if (entry.kind.load(relaxed) != 0 && entry.until_ns.load(relaxed) > to_ns(now)) ++count;
  }
  return count;
}

Doubt doubt_about(const EndpointState& endpoint, uint64_t kind, Instant now, Duration slow_start) {
  const HealthState& health = endpoint.health;
  Doubt doubt;
  if (health.busy_until_ns.load(relaxed) > to_ns(now)) doubt = {share_in_doubt, "busy"};
  if (const uint32_t row = health.refusals_in_row.load(relaxed); row > refusals_allowed) {
    const double part = double{refusals_allowed} / row;
    const double share = std::max(share_in_doubt, part * part);
    if (share < doubt.share) doubt = {share, "refuses requests"};
  }
  const Kind* const entry = find(endpoint, kind);
  if (entry == nullptr || slow_start <= Duration::zero()) return doubt;
  const int64_t since = to_ns(now) - entry->until_ns.load(relaxed);
  const double share = std::max(share_in_doubt, static_cast<double>(since) / static_cast<double>(slow_start.count()));
  if (entry->ejections.load(relaxed) > 0 && share < doubt.share) doubt = {share, "slow start"};
  return doubt;
}

}  // namespace penstock::routing
