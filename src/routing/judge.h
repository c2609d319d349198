// Which endpoints of a pool a decision may choose from. Pure; lives as long as the decision.
#pragma once

#include <optional>
#include <span>

#include "decisions.h"
#include "penstock/endpoints/snapshot.h"
#include "penstock/routing/refusals.h"

namespace penstock::routing {

enum class Excluded : uint8_t { no, not_ready, draining, other_model, tried, ejected, refuses };

inline const char* reason(Excluded excluded) {
  switch (excluded) {
    case Excluded::not_ready:
      return "not ready";
    case Excluded::draining:
      return "draining";
    case Excluded::other_model:
      return "does not serve the model";
    case Excluded::tried:
      return "already tried";
    case Excluded::ejected:
      return "ejected";
    case Excluded::refuses:
      return "ejected for this kind of request";
    case Excluded::no:
      break;
  }
  return "";
}

inline bool contains(std::span<endpoints::EndpointState* const> list, const endpoints::EndpointState* state) {
  for (const endpoints::EndpointState* one : list) {
    if (one == state) return true;
  }
  return false;
}

class Judge {
 public:
  Judge(const Features& features, const endpoints::Pool& pool, Instant now,
        std::span<endpoints::EndpointState* const> tried)
      : features_(features), now_(now), tried_(tried) {
    if (pool.models_alike && !pool.endpoints.empty()) serves_ = serves(pool.endpoints.front(), features.model);
  }
  Excluded all(const endpoints::EndpointView& view) const {
    if (view.readiness == endpoints::Readiness::not_ready) return Excluded::not_ready;
    if (view.readiness == endpoints::Readiness::draining) return Excluded::draining;
    return usable(view);
  }
  // But for its readiness.
  Excluded usable(const endpoints::EndpointView& view) const {
    if (!(serves_.has_value() ? *serves_ : serves(view, features_.model))) return Excluded::other_model;
    if (contains(tried_, view.state)) return Excluded::tried;
    if (ejected(*view.state, now_)) return Excluded::ejected;
    return refuses_until_ns(*view.state, features_.kind, now_) > 0 ? Excluded::refuses : Excluded::no;
  }

 private:
  const Features& features_;
  Instant now_;
  std::span<endpoints::EndpointState* const> tried_;
  std::optional<bool> serves_;  // of all of them
};

}  // namespace penstock::routing
