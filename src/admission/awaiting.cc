#include "penstock/admission/awaiting.h"

#include <algorithm>

#include "penstock/routing/backlog.h"

namespace penstock::admission {

std::optional<Instant> awaited_until(const endpoints::Pool& pool, std::string_view model, Instant arrived, Instant now,
                                     Duration ttl) {
  if (ttl <= Duration::zero()) return std::nullopt;
  Instant from = pool.endpoints.empty() ? arrived : Instant{};
  for (const endpoints::EndpointView& endpoint : pool.endpoints) {
    if (routing::pickable(endpoint, model)) return std::nullopt;
    if (!routing::serves(endpoint, model)) continue;
    const int64_t since_ns = endpoint.state->health.not_ready_since_ns.load(std::memory_order_relaxed);
    from = std::max(from, since_ns > 0 ? Instant(Duration(since_ns)) : now);  // a newer snapshot lists it as ready
  }
  if (from == Instant{} || now >= from + ttl) return std::nullopt;
  return from + ttl;
}

}  // namespace penstock::admission
