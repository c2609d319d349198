#include "penstock/routing/backlog.h"

#include <algorithm>
#include <cstring>

#include "decisions.h"
#include "load_estimate.h"
#include "pace.h"

namespace penstock::routing {
namespace {

constexpr auto relaxed = std::memory_order_relaxed;
// Of a request that is not ours, before first tokens have taught better. With the prior pace five of them are a quarter
// of a second: the Endpoint Picker's threshold for a queue.
constexpr double uncached_tokens_prior = 500;
constexpr double answer_tokens_prior = 300;

}  // namespace

bool usable(const endpoints::EndpointView& endpoint, std::string_view model, Instant now) {
  return endpoint.readiness == endpoints::Readiness::ready && !ejected(*endpoint.state, now) && serves(endpoint, model);
}

bool serves(const endpoints::EndpointView& view, std::string_view model) {
  if (model.empty() || view.models.empty()) return true;
  for (const std::string_view served : view.models) {
    if (served.size() == model.size() && std::memcmp(served.data(), model.data(), model.size()) == 0) return true;
  }
  return false;
}

bool pickable(const endpoints::EndpointView& endpoint, std::string_view model) {
  return (endpoint.readiness == endpoints::Readiness::ready || endpoint.last_resort) && serves(endpoint, model);
}

double tokens_to_compute(const endpoints::LoadCounters& load) {
  const int64_t tokens = load.prefill_tokens.load(relaxed) - load.unseen_tokens.load(relaxed);
  return static_cast<double>(std::max<int64_t>(tokens, 0));
}

Backlog backlog_of(const endpoints::EndpointView& endpoint, Instant now, Duration metrics_stale_after) {
  const endpoints::EndpointState& state = *endpoint.state;
  const double seen = tokens_to_compute(state.load);
  Backlog backlog{prefill_seconds(state, seen) + unseen_backlog(state.pace, now), seen > 0};
  if (!endpoints::fresh(endpoint.metrics, now, metrics_stale_after) || endpoint.metrics.waiting <= 0) return backlog;
  const double prefills = state.pace.prefills.load(relaxed);
  const double mean = prefills > 0 ? state.pace.prefill_tokens.load(relaxed) / prefills : uncached_tokens_prior;
  backlog.seconds += std::min(foreign_of(endpoint.metrics), endpoint.metrics.waiting) * prefill_seconds(state, mean);
  backlog.confirmed = true;
  return backlog;
}

double prefill_seconds(const endpoints::EndpointState& endpoint, double uncached_tokens) {
  return uncached_tokens * prefill_seconds_per_token(endpoint.pace);
}

double answer_tokens(const endpoints::EndpointState& endpoint) {
  const double answers = endpoint.pace.answers.load(relaxed);
  return answers > 0 ? endpoint.pace.output_tokens.load(relaxed) / answers : answer_tokens_prior;
}

}  // namespace penstock::routing
