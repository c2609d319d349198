#include "latency.h"

#include <algorithm>
#include <cmath>

#include "load_estimate.h"
#include "penstock/routing/filters.h"
#include "penstock/routing/scorers.h"

namespace penstock::routing {
namespace {

using Candidates = std::span<const Candidate>;
using Headrooms = std::span<const Headroom>;

// Scores come in steps of this, and nobody who is a choice gets none: pickers that draw may take any.
constexpr double steps = 100;
// The place of each where all are equal.
constexpr double place_of_equals = 0.5;

// latency-scorer: of those that are expected to be as fast as asked, the least (or the most) headroom; of those that
// are not, idle ones, then those that miss the pace alone, the first token alone, both; the least missing first.
class LatencyScorer final : public Scorer {
 public:
  explicit LatencyScorer(const LatencyScorerOptions& options) : options_(options) {
    options_.composite = normalised(options.composite);
    if (options.first_token_weight + options.pace_weight <= 0) options_.first_token_weight = 1;
  }
  std::string_view type() const override { return "latency-scorer"; }

  void score(const Inputs& in, Candidates candidates, std::span<double> scores) const override {
    if (options_.composite_only || !predicted(candidates)) {
      return composite_scores(in, candidates, options_.composite, scores);
    }
    const Headrooms headrooms = headrooms_of(in, candidates, options_.headroom);
    std::fill(scores.begin(), scores.end(), 0.0);
    const auto idle = [&](size_t i) { return in_flight(candidates[i]) == 0; };
    const auto late = [&](size_t i) { return headrooms[i].first_token < 0; };
    const auto slow = [&](size_t i) { return headrooms[i].pace < 0; };
    const auto among = [&](const auto& member, bool most) { return rank(headrooms, member, most, scores); };
    static_cast<void>(among([&](size_t i) { return !late(i) && !slow(i); }, options_.most) || among(idle, false) ||
                      among([&](size_t i) { return !late(i); }, false) ||
                      among([&](size_t i) { return !slow(i); }, false) || among([](size_t) { return true; }, false));
  }

  std::span<const std::string_view> term_names() const override { return names; }
  void terms(const Inputs&, Candidates candidates, std::span<double> values) const override {
    auto value = values.begin();
    for (const Candidate& candidate : candidates) {
      *value++ = candidate.predicted.first_token;
      *value++ = candidate.predicted.per_token;
      *value++ = candidate.predicted.whole;
    }
  }

 private:
  static constexpr std::string_view names[] = {"first_token_s", "per_token_s", "whole_s"};

  // Scores the members by the size of their headroom, the smallest best, or the largest where `most`; false: there are
  // none.
  template <typename Member>
  bool rank(Headrooms headrooms, const Member& member, bool most, std::span<double> scores) const {
    Range first, pace;
    for (size_t i = 0; i < headrooms.size(); ++i) {
      if (!member(i)) continue;
      first.add(std::abs(headrooms[i].first_token));
      pace.add(std::abs(headrooms[i].pace));
    }
    if (first.high < 0) return false;
    double weight = options_.first_token_weight / (options_.first_token_weight + options_.pace_weight);
    if (first.empty() != pace.empty()) weight = first.empty() ? 0 : 1;
    for (size_t i = 0; i < headrooms.size(); ++i) {
      if (!member(i)) continue;
      const double place = weight * first.place(std::abs(headrooms[i].first_token), place_of_equals) +
                           (1 - weight) * pace.place(std::abs(headrooms[i].pace), place_of_equals);
      scores[i] = std::min(1.0, (std::floor((most ? place : 1 - place) * steps) + 1) / steps);
    }
    return true;
  }

  LatencyScorerOptions options_;
};

// slo-headroom-tier-filter: those with headroom, but now and then those without, so that they are tried again.
class HeadroomTierFilter final : public Filter {
 public:
  explicit HeadroomTierFilter(const HeadroomTierOptions& options) : options_(options) {}
  std::string_view type() const override { return "slo-headroom-tier-filter"; }
  void filter(const Inputs& in, std::vector<Candidate>& candidates) const override {
    if (!predicted(candidates)) return;
    const auto fits = [&](const Candidate& candidate) {
      return headroom_of(in, candidate, options_.headroom).positive();
    };
    const auto count = std::count_if(candidates.begin(), candidates.end(), fits);
    if (count == 0 || count == std::ssize(candidates)) return;
    const bool wanted = options_.exploration <= 0 || !in.random.chance(options_.exploration);
    std::erase_if(candidates, [&](const Candidate& candidate) { return fits(candidate) != wanted; });
  }

 private:
  HeadroomTierOptions options_;
};

}  // namespace

Headroom headroom_of(const Inputs& in, const Candidate& candidate, const HeadroomOptions& options) {
  const std::string* const role = options.role_label.empty() ? nullptr : label_of(candidate, options.role_label);
  const Prediction& predicted = candidate.predicted;
  const bool paced = options.streaming && predicted.per_token > 0 && (role == nullptr || *role != "prefill");
  const double time = options.streaming ? predicted.first_token : predicted.whole;
  const double first_slo = in.features.slo_ttft_ms / 1000;
  const double pace_slo = paced ? in.features.slo_tpot_ms / 1000 * options.pace_factor : 0;
  if (first_slo <= 0 && pace_slo <= 0) return {-time, paced ? -predicted.per_token : 0};
  return {first_slo > 0 ? first_slo - time : 0, pace_slo > 0 ? pace_slo - predicted.per_token : 0};
}

std::span<const Headroom> headrooms_of(const Inputs& in, Candidates candidates, const HeadroomOptions& options) {
  thread_local std::vector<Headroom> out;  // one for each shard
  out.clear();
  for (const Candidate& candidate : candidates) out.push_back(headroom_of(in, candidate, options));
  return out;
}

CompositeWeights normalised(const CompositeWeights& weights) {
  const double sum = weights.kv + weights.queue + weights.prefix;
  if (sum <= 0) return {1, 0, 0};
  return {weights.kv / sum, weights.queue / sum, weights.prefix / sum};
}

double cached_share(const Inputs& in, const Candidate& candidate) {
  const size_t blocks = in.features.blocks.size();
  return blocks == 0 ? 0 : static_cast<double>(candidate.matched_blocks) / static_cast<double>(blocks);
}

void composite_scores(const Inputs& in, Candidates candidates, const CompositeWeights& weights,
                      std::span<double> scores) {
  double longest = 0;
  for (const Candidate& candidate : candidates) longest = std::max(longest, waiting(in, candidate));
  for (size_t i = 0; i < candidates.size(); ++i) {
    const Candidate& candidate = candidates[i];
    const double queue = longest > 0 ? (longest - waiting(in, candidate)) / longest : 1;
    const double free = known(in, candidate) ? 1 - std::clamp(candidate.endpoint->metrics.kv_usage, 0.0, 1.0) : 0.5;
    const double score = weights.kv * free + weights.queue * queue + weights.prefix * cached_share(in, candidate);
    scores[i] = std::round(score * steps) / steps;
  }
}

std::unique_ptr<Scorer> make_latency_scorer(const LatencyScorerOptions& options) {
  return std::make_unique<LatencyScorer>(options);
}

std::unique_ptr<Filter> make_headroom_tier_filter(const HeadroomTierOptions& options) {
  return std::make_unique<HeadroomTierFilter>(options);
}

}  // namespace penstock::routing
