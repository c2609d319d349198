#include "penstock/routing/router.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "decisions.h"
#include "expected_cost.h"
#include "judge.h"
#include "kv_source.h"
#include "load_estimate.h"
#include "penstock/base/assert.h"
#include "penstock/routing/backlog.h"
#include "penstock/routing/refusals.h"

namespace penstock::routing {
namespace {

using endpoints::EndpointState;
using endpoints::EndpointView;
using endpoints::Readiness;

// If all endpoints are ejected, those whose ejection ends within this time after the first one are candidates together,
// so that a mass ejection does not end with all traffic on one endpoint.
constexpr Duration panic_window = seconds(1);

// Removes an endpoint from the list of excluded ones, because it became a candidate after all.
void readmit(Explanation* why, const EndpointView& view) {
  if (why == nullptr) return;
  std::erase_if(why->excluded, [&](const auto& entry) { return entry.first == view.state->name; });
}

// When the endpoint may be used again. Endpoints whose health probe fails come after all those with a penalty.
int64_t back_at(const EndpointView& view, uint64_t kind, Instant now) {
  const endpoints::HealthState& health = view.state->health;
  if (health.probe_failed.load(std::memory_order_relaxed)) return INT64_MAX;
  return std::max(health.ejected_until_ns.load(std::memory_order_relaxed), refuses_until_ns(*view.state, kind, now));
}

// Times plugins. Reads the clock only if the decision is explained.
class PluginTimer {
 public:
  PluginTimer(const RouterOptions& options, Explanation* why)
      : clock_(why == nullptr ? nullptr : options.clock), why_(why) {}
  template <typename Run>
  void time(const char* point, std::string_view type, std::string_view name, const Run& run) {
    if (clock_ == nullptr) return run();
    const Instant from = clock_();
    run();
    why_->times.push_back({point, type, name.empty() ? type : name, clock_() - from});
  }

 private:
  Instant (*clock_)();
  Explanation* why_;
};

}  // namespace

struct Router::State {
  State(const Profile& by, PrefixIndex& prefix_index, uint64_t seed, const RouterOptions& with)
      : profile(by), active(&by), index(prefix_index), random(seed), options(with) {}

  const Profile& profile;
  const Profile* active;  // `profile`, or the one that the request's header chooses
  PrefixIndex& index;
  Random random;
  RouterOptions options;
  // Scratch, kept to avoid allocations.
  std::vector<Candidate> candidates;
  std::vector<const EndpointView*> ejected_ones;
  std::vector<uint32_t> slots, matched;
  std::vector<ToldIndex::Match> told;
  std::optional<uint32_t> told_longest;  // Decision::told_blocks
  ToldIndex::Scratch told_scratch;
  std::vector<double> scores;  // one row per scorer
  std::vector<EndpointState*> next, encode;
  // For the shadow policy: all candidates, those left after its filters, their scores.
  std::vector<Candidate> offered, shadowed;
  std::vector<double> shadow_scores;
  KvSource kv_source;  // if Profile::kv_source_tokens
  // The pool that was last bound to the index: see bind_pool().
  struct Bound {
    uint32_t pool = 0;
    uint64_t version = 0;
    uint32_t block_tokens = 0;
    bool operator==(const Bound&) const = default;
  };
  Bound bound;

  void gather_ready(const Features& features, const endpoints::Pool& pool, Instant now,
                    std::span<EndpointState* const> tried, Explanation* why, bool* any_usable);
  void gather_last_resort(const Features& features, const endpoints::Pool& pool, Instant now,
                          std::span<EndpointState* const> tried, Explanation* why);
  NoEndpoint gather(const Features& features, const endpoints::Pool& pool, Instant now,
                    std::span<EndpointState* const> tried, Explanation* why);
  void panic(const Features& features, Instant now, Explanation* why);
  void thin_out(const Features& features, Instant now, Explanation* why);
  void bind_pool(const endpoints::Pool& pool, uint32_t block_tokens);
  void match_prefix(const Features& features, const endpoints::Pool& pool, PluginTimer timer);
  void match_told(const Features& features);
  void predict_all(const Inputs& in, PluginTimer timer);
  void predict_and_offer(const Inputs& in, PluginTimer timer);
  NoEndpoint refusal(const Inputs& in) const;
  uint64_t longest_prefix(const Features& features) const;
  void look_up_prefix(const Features& features, const endpoints::Pool& pool, PluginTimer timer, Decision& decision);
  void note_choices(Decision& decision);
  bool keep_planned(std::span<EndpointState* const> planned);
  bool filter(const Profile& by, const Inputs& in, PluginTimer timer, Explanation* why);
  void run_stages(Inputs in, const endpoints::Pool& pool, Decision& decision, Explanation* why);
  bool run_stage(const Profile::Stage& stage, const Inputs& in, const endpoints::Pool& pool, const Decision& decision,
                 PluginTimer timer);
  void pick(const Profile& by, const Inputs& in, PluginTimer timer);
  void explain(const Inputs& in, Explanation& why) const;
  void explain_terms(const Inputs& in, Explanation& why) const;
  std::optional<Decision::Shadow> decide_shadow(Inputs in, const EndpointState* chosen);
};

uint32_t tuned_block_tokens(const endpoints::Pool& pool, uint32_t otherwise) {
  for (const EndpointView& endpoint : pool.endpoints) {
    if (endpoint.metrics.block_size != 0) return std::clamp(endpoint.metrics.block_size, 16u, 1024u);
  }
  return otherwise;
}

Router::Router(const Profile& profile, PrefixIndex& index, uint64_t seed, const RouterOptions& options)
    : state_(std::make_unique<State>(profile, index, seed, options)) {
  PENSTOCK_ASSERT(profile.picker != nullptr);
}

Router::~Router() = default;

namespace {

void score_all(const Profile& profile, const Inputs& in, std::span<Candidate> all, std::vector<double>& scores,
               PluginTimer timer) {
  scores.resize(profile.scorers.size() * all.size());
  double* row = scores.data();
  for (const WeightedScorer& weighted : profile.scorers) {
    timer.time("Scorer", weighted.scorer->type(), weighted.name, [&] {
      weighted.scorer->score(in, all, {row, all.size()});
    });
    const double weight = weighted.weight;
    for (Candidate& candidate : all) {
      const double score = std::clamp(double{*row}, 0.0, 1.0);
      candidate.score += weight * score;
      *row++ = score;
    }
  }
}

// Moves the chosen endpoint to the first row, also among equal scores, and adds the shadow's choice.
void explain_choice(const Decision& decision, Explanation& why) {
  const auto row = std::find_if(why.rows.begin(), why.rows.end(),
                                [&](const Explanation::Row& r) { return r.endpoint == decision.endpoint->name; });
  PENSTOCK_ASSERT(row != why.rows.end());
  std::rotate(why.rows.begin(), row, row + 1);
  if (!decision.shadow.has_value()) return;
  why.shadow = decision.shadow->endpoint->name;
  why.shadow_gain_seconds = decision.shadow->gain_seconds;
}

}  // namespace

Decision Router::decide(const Features& features, const endpoints::Pool& pool, Instant now,
                        std::span<EndpointState* const> tried, Explanation* why) {
  State& state = *state_;
  Decision decision;
  const Profile* const shadow = state.options.shadow;
  state.active = state.profile.chosen(features);
  if (state.active == nullptr) return {.why_none = NoEndpoint::no_profile};
  if (why != nullptr) {
    why->clear();
    why->profile = state.active->name;
    record_inputs(features, pool, now, tried, state.options, state.random, why->inputs);
  }
  decision.why_none = state.gather(features, pool, now, tried, why);
  if (state.candidates.empty()) return decision;
  const PluginTimer timer(state.options, why);
  state.look_up_prefix(features, pool, timer, decision);
  const double uses = decision.prefix != 0 ? state.index.uses().count(decision.prefix, now) : 0;
  if (why != nullptr) record_matches(state.candidates, uses, pool, why->inputs);

  const Inputs in{features, now, state.random, state.options.metrics_stale_after, uses};
  state.predict_and_offer(in, timer);
  if (state.profile.kv_source_tokens > 0) state.kv_source = find_kv_source(in, state.candidates);
  Random shadow_random = state.random;
  if (tried.empty() && features.planned.empty()) decision.why_none = state.refusal(in);
  if (decision.why_none != NoEndpoint::none) return decision;
  const bool planned = !features.planned.empty() && state.keep_planned(features.planned);
  if (!planned && !state.active->filters.empty() && !state.filter(*state.active, in, timer, why)) {
    decision.why_none = NoEndpoint::filtered;
    return decision;
  }
  score_all(*state.active, in, state.candidates, state.scores, timer);
  if (why != nullptr) state.explain(in, *why);
  decision.candidates = static_cast<uint32_t>(state.candidates.size());
  state.pick(*state.active, in, timer);

  const Candidate& chosen = state.candidates.front();
  decision.endpoint = chosen.endpoint->state;
  decision.matched_blocks = chosen.matched_blocks;
  decision.predicted = chosen.predicted;
  decision.score = chosen.score;
  state.note_choices(decision);
  if (shadow != nullptr) {
    decision.shadow =
        state.decide_shadow({features, now, shadow_random, in.metrics_stale_after, uses}, decision.endpoint);
  }
  if (why != nullptr) explain_choice(decision, *why);
  if (state.profile.prefill.profile != nullptr || state.profile.encode.profile != nullptr) {
    state.run_stages(in, pool, decision, why);
  }
  if (state.profile.kv_source_tokens > 0) {
    decision.kv_source = kv_source_of(decision, state.kv_source, state.profile.kv_source_tokens, features);
    if (decision.kv_source != nullptr && why != nullptr)
      why->stages.emplace_back("kv-source", decision.kv_source->name);
  }
  return decision;
}

void Router::picked(const Features& features, const Decision& decision, Instant now) const {
  if (decision.prefix != 0) state_->index.uses().add(decision.prefix, now);
  for (const Scorer* scorer : state_->profile.listeners) scorer->picked(features, decision, now);
}

// Finds how much of the prompt each candidate holds, if the policy or its shadow uses that.
void Router::State::look_up_prefix(const Features& features, const endpoints::Pool& pool, PluginTimer timer,
                                   Decision& decision) {
  told_longest.reset();
  if (!profile.uses_prefix && (options.shadow == nullptr || !options.shadow->uses_prefix)) return;
  match_prefix(features, pool, timer);
  decision.told_blocks = told_longest;
  decision.prefix = longest_prefix(features);
}

// Fills Decision::cold and Decision::next. The picker's choices are the first candidates.
void Router::State::note_choices(Decision& decision) {
  if (!profile.listeners.empty()) {
    decision.cold = std::all_of(candidates.begin(), candidates.end(),
                                [](const Candidate& candidate) { return candidate.matched_blocks == 0; });
  }
  const size_t choices = std::min(active->picker->choices(), candidates.size());
  if (choices <= 1) return;
  next.clear();
  for (size_t i = 1; i < choices; ++i) next.push_back(candidates[i].endpoint->state);
  decision.next = next;
}

// Reduces the candidates to the first planned endpoint that is one. False: no planned endpoint is a candidate.
bool Router::State::keep_planned(std::span<EndpointState* const> planned) {
  for (const EndpointState* const state : planned) {
    const auto found = std::find_if(candidates.begin(), candidates.end(),
                                    [state](const Candidate& candidate) { return candidate.endpoint->state == state; });
    if (found == candidates.end()) continue;
    std::swap(candidates.front(), *found);
    candidates.resize(1);
    return true;
  }
  return false;
}

void Router::State::pick(const Profile& by, const Inputs& in, PluginTimer timer) {
  timer.time("Picker", by.picker->type(), "", [&] { by.picker->pick(in, candidates); });
}

// Runs the profile's filters. False: no candidate is left.
bool Router::State::filter(const Profile& by, const Inputs& in, PluginTimer timer, Explanation* why) {
  std::vector<Candidate> before;
  for (size_t i = 0; i < by.filters.size() && !candidates.empty(); ++i) {
    if (why != nullptr) before = candidates;
    const std::string_view type = by.filters[i]->type();
    const std::string_view name = i < by.filter_names.size() ? std::string_view(by.filter_names[i]) : type;
    timer.time("Filter", type, name, [&] { by.filters[i]->filter(in, candidates); });
    for (const Candidate& candidate : before) {
      const bool kept = std::any_of(candidates.begin(), candidates.end(),
                                    [&](const Candidate& c) { return c.endpoint == candidate.endpoint; });
      if (kept) continue;
      why->excluded.emplace_back(candidate.endpoint->state->name, "filtered by " + std::string(name));
    }
  }
  return !candidates.empty();
}

void Router::State::run_stages(Inputs in, const endpoints::Pool& pool, Decision& decision, Explanation* why) {
  const PluginTimer timer(options, why);
  in.peer = candidates.front().endpoint;
  if (run_stage(profile.encode, in, pool, decision, timer)) {
    encode.clear();
    const size_t choices = std::min(profile.encode.profile->picker->choices(), candidates.size());
    for (size_t i = 0; i < choices; ++i) encode.push_back(candidates[i].endpoint->state);
    decision.encode = encode;
    for (const EndpointState* const state : encode) {
      if (why != nullptr) why->stages.emplace_back("encode", state->name);
    }
  }
  if (run_stage(profile.prefill, in, pool, decision, timer)) {
    decision.prefill = candidates.front().endpoint->state;
    decision.prefill_matched_blocks = candidates.front().matched_blocks;
    const Prediction& there = candidates.front().predicted;
    decision.predicted.known |= there.known;
    if (there.known) decision.predicted.first_token = there.first_token;
    if (why != nullptr) why->stages.emplace_back("prefill", decision.prefill->name);
  }
  const bool prefills = decision.prefill != nullptr;
  if (!decision.encode.empty()) decision.split = prefills ? Split::encode_prefill_decode : Split::encode_decode;
  else decision.split = prefills ? Split::prefill_decode : Split::decode_only;
}

const char* to_string(Split split) {
  switch (split) {
    case Split::decode_only:
      return "decode-only";
    case Split::prefill_decode:
      return "prefill-decode";
    case Split::encode_decode:
      return "encode-decode";
    case Split::encode_prefill_decode:
      return "encode-prefill-decode";
  }
  return "decode-only";
}

// True: the stage runs elsewhere, and its choices are the first candidates.
bool Router::State::run_stage(const Profile::Stage& stage, const Inputs& in, const endpoints::Pool& pool,
                              const Decision& decision, PluginTimer timer) {
  if (stage.profile == nullptr) return false;
  switch (stage.rule.when) {
    case StageRule::When::never:
      return false;
    case StageRule::When::always:
      break;
    case StageRule::When::multimodal:
      if (!in.features.multimodal) return false;
      break;
    case StageRule::When::uncached: {
      const uint64_t cached = uint64_t{decision.matched_blocks} * in.features.block_tokens;
      if (stage.rule.uncached_tokens == 0 || cached + stage.rule.uncached_tokens > in.features.prompt_tokens) {
        return false;
      }
    }
  }
  gather(in.features, pool, in.now, {}, nullptr);
  if (candidates.empty()) return false;
  const Profile& by = *stage.profile;
  if (by.uses_prefix) match_prefix(in.features, pool, timer);
  if (by.predicts) predict_all(in, timer);
  if (!filter(by, in, timer, nullptr)) return false;
  score_all(by, in, candidates, scores, timer);
  pick(by, in, timer);
  return true;
}

void Router::set_times(Duration metrics_stale_after, Duration slow_start) {
  state_->options.metrics_stale_after = metrics_stale_after;
  state_->options.slow_start = slow_start;
}

void Router::set_random(const Random::State& state) {
  state_->random = Random(state);
}

// The shadow policy's choice among the same candidates; nothing if its filters leave none.
std::optional<Decision::Shadow> Router::State::decide_shadow(Inputs in, const EndpointState* chosen) {
  const Profile* const shadow = options.shadow->chosen(in.features);
  if (shadow == nullptr) return std::nullopt;
  shadowed = offered;
  for (const auto& filter : shadow->filters) {
    filter->filter(in, shadowed);
    if (shadowed.empty()) return std::nullopt;
  }
  score_all(*shadow, in, shadowed, shadow_scores, {options, nullptr});
  shadow->picker->pick(in, shadowed);
  Decision::Shadow out{shadowed.front().endpoint->state, shadowed.front().endpoint->state == chosen, 0};
  if (out.agrees) return out;
  std::vector<double>& costs = shadow_scores;
  costs.resize(offered.size());
  if (!ExpectedCostScorer().costs(in, offered, costs)) return out;
  for (size_t i = 0; i < offered.size(); ++i) {
    if (offered[i].endpoint->state == chosen) out.gain_seconds += costs[i];
    if (offered[i].endpoint->state == out.endpoint) out.gain_seconds -= costs[i];
  }
  return out;
}

// Fills `candidates`. Returns why there is none, if so.
NoEndpoint Router::State::gather(const Features& features, const endpoints::Pool& pool, Instant now,
                                 std::span<EndpointState* const> tried, Explanation* why) {
  candidates.clear();
  ejected_ones.clear();
  bool any_usable = false;
  gather_ready(features, pool, now, tried, why, &any_usable);
  if (!candidates.empty()) {
    thin_out(features, now, why);
  } else if (!ejected_ones.empty()) {
    panic(features, now, why);
  } else {
    gather_last_resort(features, pool, now, tried, why);
  }
  if (!candidates.empty()) return NoEndpoint::none;
  if (pool.endpoints.empty()) return NoEndpoint::pool_empty;
  return any_usable ? NoEndpoint::all_ejected_or_tried : NoEndpoint::none_ready;
}

void Router::State::gather_ready(const Features& features, const endpoints::Pool& pool, Instant now,
                                 std::span<EndpointState* const> tried, Explanation* why, bool* any_usable) {
  const Judge judge(features, pool, now, tried);
  for (const EndpointView& view : pool.endpoints) {
    const Excluded excluded = judge.all(view);
    if (excluded == Excluded::no) {
      candidates.emplace_back().endpoint = &view;  // in place: a copy waits for the parts that were just stored
      continue;
    }
    const bool out = excluded == Excluded::ejected || excluded == Excluded::refuses;
    if (out) ejected_ones.push_back(&view);
    if (out || excluded == Excluded::tried) *any_usable = true;
    if (why != nullptr) why->excluded.emplace_back(view.state->name, reason(excluded));
  }
}

// No ready endpoint is left: those that drain but still serve, or were not probed yet, are better than an error.
void Router::State::gather_last_resort(const Features& features, const endpoints::Pool& pool, Instant now,
                                       std::span<EndpointState* const> tried, Explanation* why) {
  const Judge judge(features, pool, now, tried);
  for (const EndpointView& view : pool.endpoints) {
    if (!view.last_resort || view.readiness == Readiness::ready) continue;
    if (judge.usable(view) != Excluded::no) continue;
    candidates.push_back({&view});
    readmit(why, view);
  }
}

void Router::State::panic(const Features& features, Instant now, Explanation* why) {
  int64_t first = INT64_MAX;
  for (const EndpointView* view : ejected_ones) first = std::min(first, back_at(*view, features.kind, now));
  for (const EndpointView* view : ejected_ones) {
    if (back_at(*view, features.kind, now) - first > panic_window.count()) continue;
    candidates.push_back({view});
    readmit(why, *view);
  }
}

// Drops endpoints that are on their way back (slow start), or of which there is doubt, at random: each with the
// probability that its share asks for, unless no other candidate remains. Of those on their way back an idle one is
// kept: one request cannot flood it, and under light load all endpoints then have the same share immediately.
void Router::State::thin_out(const Features& features, Instant now, Explanation* why) {
  size_t kept = 0;
  for (size_t i = 0; i < candidates.size(); ++i) {
    const EndpointState& endpoint = *candidates[i].endpoint->state;
    const bool recovering = endpoint.health.recovered_at_ns.load(std::memory_order_relaxed) != 0;
    const double share = recovering ? slow_start_share(endpoint, now, options.slow_start) : 1;
    if (share < 1 && !random.chance(share) && endpoint.load.requests.load(std::memory_order_relaxed) > 0) continue;
    const double trusted = doubt_about(endpoint, features.kind, now, options.slow_start).share;
    if (trusted < 1 && !random.chance(trusted)) continue;
    if (kept != i) std::swap(candidates[kept], candidates[i]);
    ++kept;
  }
  if (kept == 0 || kept == candidates.size()) return;
  for (size_t i = kept; why != nullptr && i < candidates.size(); ++i) {
    const EndpointState& endpoint = *candidates[i].endpoint->state;
    const Doubt doubt = doubt_about(endpoint, features.kind, now, options.slow_start);
    why->excluded.emplace_back(endpoint.name, doubt.share < 1 ? doubt.why : "slow start");
  }
  candidates.resize(kept);
}

// Tells the index which endpoints own the slots and how large their caches are. Once for each snapshot of a pool.
void Router::State::bind_pool(const endpoints::Pool& pool, uint32_t block_tokens) {
  const Bound now{pool.id, pool.version, block_tokens};
  if (pool.version != 0 && now == bound) return;
  bound = now;
  for (const EndpointView& view : pool.endpoints) {
    const EndpointState& endpoint = *view.state;
    index.bind(endpoint.slot, endpoint.incarnation);
    uint64_t capacity = kv_capacity(view.metrics) / std::max(block_tokens, 1u);
    if (capacity == 0 || !profile.prefix.from_metrics) capacity = profile.prefix.capacity_blocks;
    if (capacity != 0) index.set_capacity(endpoint.slot, capacity);
  }
}

void Router::State::match_prefix(const Features& features, const endpoints::Pool& pool, PluginTimer timer) {
  if (features.blocks.empty()) return;
  bind_pool(pool, features.block_tokens);
  slots.clear();
  for (const Candidate& candidate : candidates) slots.push_back(candidate.endpoint->state->slot);
  matched.resize(slots.size());
  index.match(features.blocks, slots, matched);
  for (size_t i = 0; i < candidates.size(); ++i) candidates[i].matched_blocks = matched[i];
  if (options.told == nullptr || features.told_blocks.empty()) return;
  timer.time("DataProducer", "precise-prefix-cache-producer", "", [&] { match_told(features); });
}

// Uses what endpoints report about their caches. If the report is complete, it replaces the match of the prefix index.
// Otherwise the longer match counts, because the endpoint may hold blocks from before the gateway listened.
void Router::State::match_told(const Features& features) {
  told.resize(slots.size());
  options.told->match(features.told_blocks, features.block_tokens, slots, told, told_scratch);
  for (size_t i = 0; i < candidates.size(); ++i) {
    Candidate& candidate = candidates[i];
    const ToldIndex::Match& match = told[i];
    told_longest = std::max(told_longest.value_or(0), match.blocks);
    candidate.told = match.complete || (match.told && match.blocks > candidate.matched_blocks);
    if (candidate.told) candidate.matched_blocks = match.blocks;
  }
}

void Router::State::predict_all(const Inputs& in, PluginTimer timer) {
  timer.time("DataProducer", "predicted-latency-producer", "", [&] { predict(in, candidates); });
}

// Each of the two policies sees predictions only if its own profile predicts, so that a shadow cannot change decisions.
void Router::State::predict_and_offer(const Inputs& in, PluginTimer timer) {
  const Profile* const shadow = options.shadow;
  const bool offers_predictions = shadow != nullptr && shadow->predicts;
  if (profile.predicts || offers_predictions) predict_all(in, timer);
  if (shadow != nullptr) offered = candidates;
  if (!offers_predictions) {
    for (Candidate& candidate : offered) candidate.predicted = {};
  }
  if (!profile.predicts && offers_predictions) {
    for (Candidate& candidate : candidates) candidate.predicted = {};
  }
}

// The refusal of the first admitter that refuses the request; `none` if all admit it. Called only for the first
// attempt.
NoEndpoint Router::State::refusal(const Inputs& in) const {
  for (const auto& admitter : profile.admitters) {
    const NoEndpoint refused = admitter->refusal(in, candidates);
    if (refused != NoEndpoint::none) return refused;
  }
  return NoEndpoint::none;
}

// The hash of the last block of the longest prefix that any candidate holds; 0: no candidate holds any.
uint64_t Router::State::longest_prefix(const Features& features) const {
  uint32_t most = 0;
  for (const Candidate& candidate : candidates) most = std::max(most, candidate.matched_blocks);
  most = std::min<uint32_t>(most, static_cast<uint32_t>(features.blocks.size()));
  return most > 0 ? features.blocks[most - 1] : 0;
}

void Router::State::explain(const Inputs& in, Explanation& why) const {
  for (const WeightedScorer& weighted : active->scorers) {
    char weight[32];
    std::snprintf(weight, sizeof weight, "*%g", weighted.weight);
    const std::string_view name = weighted.name.empty() ? weighted.scorer->type() : weighted.name;
    why.scorers.push_back(std::string(name) + weight);
  }
  const size_t count = candidates.size();
  for (size_t i = 0; i < count; ++i) {
    const Candidate& candidate = candidates[i];
    Explanation::Row& row = why.rows.emplace_back();
    row.endpoint = candidate.endpoint->state->name;
    row.total = candidate.score;
    for (size_t s = 0; s < active->scorers.size(); ++s) row.scores.push_back(scores[s * count + i]);
    row.matched_blocks = candidate.matched_blocks;
    row.told = candidate.told;
    row.waiting = waiting(in, candidate);
    row.kv_usage = known(in, candidate) ? candidate.endpoint->metrics.kv_usage : std::nan("");
    row.in_flight = candidate.endpoint->state->load.requests.load(std::memory_order_relaxed);
  }
  explain_terms(in, why);
  std::stable_sort(why.rows.begin(), why.rows.end(), [](const auto& a, const auto& b) { return a.total > b.total; });
}

// Adds the scorers' terms. `why` must have one row for each candidate, in their order.
void Router::State::explain_terms(const Inputs& in, Explanation& why) const {
  std::vector<double> values;
  for (const WeightedScorer& weighted : active->scorers) {
    const auto names = weighted.scorer->term_names();
    if (names.empty()) continue;
    why.terms.insert(why.terms.end(), names.begin(), names.end());
    values.assign(names.size() * candidates.size(), 0);
    weighted.scorer->terms(in, candidates, values);
    auto value = values.begin();
    for (Explanation::Row& row : why.rows) {
      const auto end = value + static_cast<std::ptrdiff_t>(names.size());
      row.terms.insert(row.terms.end(), value, end);
      value = end;
    }
  }
}

}  // namespace penstock::routing
