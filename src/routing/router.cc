#include "penstock/routing/router.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "load_estimate.h"
#include "penstock/base/assert.h"

namespace penstock::routing {
namespace {

using endpoints::EndpointState;
using endpoints::EndpointView;
using endpoints::Readiness;

// When all are ejected, those whose ejection ends this soon after the first are considered together: a mass ejection
// must not end with all traffic on one endpoint.
constexpr Duration panic_window = seconds(1);

enum class Excluded : uint8_t { no, not_ready, draining, other_model, tried, ejected };

const char* reason(Excluded excluded) {
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
    case Excluded::no:
      break;
  }
  return "";
}

bool contains(std::span<EndpointState* const> list, const EndpointState* state) {
  return std::find(list.begin(), list.end(), state) != list.end();
}

bool serves(const EndpointView& view, std::string_view model) {
  if (model.empty() || view.models.empty()) return true;
  return std::find(view.models.begin(), view.models.end(), model) != view.models.end();
}

Excluded judge(const EndpointView& view, const Features& features, Instant now, std::span<EndpointState* const> tried) {
  if (view.readiness == Readiness::not_ready) return Excluded::not_ready;
  if (view.readiness == Readiness::draining) return Excluded::draining;
  if (!serves(view, features.model)) return Excluded::other_model;
  if (contains(tried, view.state)) return Excluded::tried;
  return ejected(*view.state, now) ? Excluded::ejected : Excluded::no;
}

// When the endpoint may be used again; one whose probe fails comes after all that merely serve a penalty.
int64_t back_at(const EndpointView& view) {
  const endpoints::HealthState& health = view.state->health;
  if (health.probe_failed.load(std::memory_order_relaxed)) return INT64_MAX;
  return health.ejected_until_ns.load(std::memory_order_relaxed);
}

}  // namespace

struct Router::State {
  const Profile& profile;
  PrefixIndex& index;
  Random random;
  RouterOptions options;
  // Kept for their memory between decisions.
  std::vector<Candidate> candidates;
  std::vector<const EndpointView*> ejected_ones;
  std::vector<uint32_t> slots, matched;
  std::vector<double> scores;  // one row per scorer

  NoEndpoint gather(const Features& features, const endpoints::Pool& pool, Instant now,
                    std::span<EndpointState* const> tried, Explanation* why);
  void panic(Explanation* why);
  void thin_recovering(Instant now, Explanation* why);
  void match_prefix(const Features& features);
  void score(const Inputs& in);
  void explain(const Inputs& in, Explanation& why) const;
};

Router::Router(const Profile& profile, PrefixIndex& index, uint64_t seed, const RouterOptions& options)
    : state_(std::make_unique<State>(State{profile, index, Random(seed), options, {}, {}, {}, {}, {}})) {
  PENSTOCK_ASSERT(profile.picker != nullptr);
}

Router::~Router() = default;

Decision Router::decide(const Features& features, const endpoints::Pool& pool, Instant now,
                        std::span<EndpointState* const> tried, Explanation* why) {
  State& state = *state_;
  Decision decision;
  if (why != nullptr) *why = {};
  decision.why_none = state.gather(features, pool, now, tried, why);
  if (state.candidates.empty()) return decision;
  if (state.profile.uses_prefix && !features.blocks.empty()) state.match_prefix(features);

  const Inputs in{features, now, state.random, state.options.metrics_stale_after};
  for (const auto& filter : state.profile.filters) {
    filter->filter(in, state.candidates);
    if (!state.candidates.empty()) continue;
    decision.why_none = NoEndpoint::all_ejected_or_tried;
    return decision;
  }
  state.score(in);
  if (why != nullptr) state.explain(in, *why);
  decision.candidates = static_cast<uint32_t>(state.candidates.size());
  state.profile.picker->pick(in, state.candidates);

  const Candidate& chosen = state.candidates.front();
  decision.endpoint = chosen.endpoint->state;
  decision.matched_blocks = chosen.matched_blocks;
  decision.score = chosen.score;
  if (why != nullptr) {
    const auto row = std::find_if(why->rows.begin(), why->rows.end(),
                                  [&](const Explanation::Row& r) { return r.endpoint == decision.endpoint->name; });
    PENSTOCK_ASSERT(row != why->rows.end());
    std::rotate(why->rows.begin(), row, row + 1);  // the choice first, also among equals
  }
  return decision;
}

// Fills `candidates`; says why there is none.
NoEndpoint Router::State::gather(const Features& features, const endpoints::Pool& pool, Instant now,
                                 std::span<EndpointState* const> tried, Explanation* why) {
  candidates.clear();
  ejected_ones.clear();
  bool any_usable = false;
  for (const EndpointView& view : pool.endpoints) {
    const Excluded excluded = judge(view, features, now, tried);
    if (excluded == Excluded::no) {
      candidates.push_back({&view});
      continue;
    }
    if (excluded == Excluded::ejected) ejected_ones.push_back(&view);
    if (excluded == Excluded::ejected || excluded == Excluded::tried) any_usable = true;
    if (why != nullptr) why->excluded.emplace_back(view.state->name, reason(excluded));
  }
  if (!candidates.empty()) {
    thin_recovering(now, why);
  } else if (!ejected_ones.empty()) {
    panic(why);
  }
  if (!candidates.empty()) return NoEndpoint::none;
  if (pool.endpoints.empty()) return NoEndpoint::pool_empty;
  return any_usable ? NoEndpoint::all_ejected_or_tried : NoEndpoint::none_ready;
}

void Router::State::panic(Explanation* why) {
  int64_t first = INT64_MAX;
  for (const EndpointView* view : ejected_ones) first = std::min(first, back_at(*view));
  for (const EndpointView* view : ejected_ones) {
    if (back_at(*view) - first > panic_window.count()) continue;
    candidates.push_back({view});
    if (why != nullptr) std::erase_if(why->excluded, [&](const auto& e) { return e.first == view->state->name; });
  }
}

// Drops endpoints on their way back, each with the chance that its slow start asks for, if others remain.
void Router::State::thin_recovering(Instant now, Explanation* why) {
  size_t kept = 0;
  for (size_t i = 0; i < candidates.size(); ++i) {
    const double share = slow_start_share(*candidates[i].endpoint->state, now, options.slow_start);
    if (share >= 1 || random.chance(share)) std::swap(candidates[kept++], candidates[i]);
  }
  if (kept == 0) return;
  if (why != nullptr) {
    for (size_t i = kept; i < candidates.size(); ++i) {
      why->excluded.emplace_back(candidates[i].endpoint->state->name, "slow start");
    }
  }
  candidates.resize(kept, Candidate{nullptr});
}

void Router::State::match_prefix(const Features& features) {
  slots.clear();
  for (const Candidate& candidate : candidates) {
    const EndpointState& endpoint = *candidate.endpoint->state;
    const endpoints::EngineMetrics& metrics = candidate.endpoint->metrics;
    index.bind(endpoint.slot, endpoint.incarnation);
    const uint64_t capacity = metrics.kv_blocks * metrics.block_size / std::max(features.block_tokens, 1u);
    if (capacity != 0) index.set_capacity(endpoint.slot, capacity);
    slots.push_back(endpoint.slot);
  }
  matched.resize(slots.size());
  index.match(features.blocks, slots, matched);
  for (size_t i = 0; i < candidates.size(); ++i) candidates[i].matched_blocks = matched[i];
}

void Router::State::score(const Inputs& in) {
  const size_t count = candidates.size();
  scores.assign(profile.scorers.size() * count, 0.0);
  std::span<double> row(scores);
  for (const WeightedScorer& weighted : profile.scorers) {
    const std::span<double> own = row.first(count);
    row = row.subspan(count);
    weighted.scorer->score(in, candidates, own);
    for (size_t i = 0; i < count; ++i) {
      own[i] = std::clamp(own[i], 0.0, 1.0);
      candidates[i].score += weighted.weight * own[i];
    }
  }
}

void Router::State::explain(const Inputs& in, Explanation& why) const {
  for (const WeightedScorer& weighted : profile.scorers) {
    char weight[32];
    std::snprintf(weight, sizeof weight, "*%g", weighted.weight);
    why.scorers.push_back(std::string(weighted.scorer->type()) + weight);
  }
  const size_t count = candidates.size();
  for (size_t i = 0; i < count; ++i) {
    const Candidate& candidate = candidates[i];
    Explanation::Row& row = why.rows.emplace_back();
    row.endpoint = candidate.endpoint->state->name;
    row.total = candidate.score;
    for (size_t s = 0; s < profile.scorers.size(); ++s) row.scores.push_back(scores[s * count + i]);
    row.matched_blocks = candidate.matched_blocks;
    row.waiting = waiting(in, candidate);
    row.kv_usage = known(in, candidate) ? candidate.endpoint->metrics.kv_usage : std::nan("");
    row.in_flight = candidate.endpoint->state->load.requests.load(std::memory_order_relaxed);
  }
  std::stable_sort(why.rows.begin(), why.rows.end(), [](const auto& a, const auto& b) { return a.total > b.total; });
}

}  // namespace penstock::routing
