// predicted-latency-scorer, which makes the choice itself: one candidate gets 1, the others 0.
#include <algorithm>
#include <cmath>

#include "draw.h"
#include "latency.h"
#include "load_estimate.h"

namespace penstock::routing {
namespace {

using Candidates = std::span<const Candidate>;

constexpr double weight_min = 1, weight_max = 100;
constexpr double deficit_weight_max = 80;

struct Weights {
  double first, pace;
  double blend(double of_first, double of_pace) const { return first * of_first + pace * of_pace; }
};

class PredictedLatencyScorer final : public Scorer {
 public:
  explicit PredictedLatencyScorer(const PluginSpec& spec)
      : prediction_(prediction_of(spec)),
        strategy_(spec.text("headroomSelectionStrategy", "least")),
        greedy_(spec.text("selectionMode") == "max"),
        with_headroom_(weights(spec, "headroomTTFTWeight", "headroomTPOTWeight")),
        without_(weights(spec, "negHeadroomTTFTWeight", "negHeadroomTPOTWeight")),
        composite_(CompositeWeights::of(spec)),
        explore_sticky_(spec.number("epsilonExploreSticky", 0.01)),
        explore_without_(spec.number("epsilonExploreNeg", 0.01)),
        gate_(spec.number("affinityGateTau", 0.8)),
        gate_of_all_(spec.number("affinityGateTauGlobal", 0.99)) {}
  std::string_view type() const override { return "predicted-latency-scorer"; }

  void score(const Inputs& in, Candidates candidates, std::span<double> scores) const override {
    thread_local Scratch scratch;  // one for each shard, kept for its memory
    Scratch& at = scratch;
    at.headrooms = headrooms_of(in, candidates, prediction_);
    at.members.resize(candidates.size());
    for (size_t i = 0; i < candidates.size(); ++i) at.members[i] = i;
    if (!predicted(candidates)) {
      weigh_composite(in, candidates, at, false);
    } else {
      keep_sticky(in, candidates, at, gate_of_all_);
      if (strategy_ == "composite-only") weigh_composite(in, candidates, at, false);
      else if (keep_tier(in, at)) weigh_headroom(in, candidates, at);
      else weigh_deficits(in, candidates, at);
    }
    std::fill(scores.begin(), scores.end(), 0.0);
    scores[at.members[choose(in, at.weights)]] = 1;
  }

 private:
  struct Scratch {
    std::span<const Headroom> headrooms;
    std::vector<size_t> members;  // of the candidates, those still considered
    std::vector<double> weights;  // of the members
    std::vector<double> scores;
  };

  Weights weights(const PluginSpec& spec, std::string_view first, std::string_view pace) const {
    const double a = spec.number(first, 0.8), b = prediction_.streaming ? spec.number(pace, 0.2) : 0;
    return a + b > 0 ? Weights{a / (a + b), b / (a + b)} : Weights{1, 0};
  }

  // Leaves those for which `keep` is true, if there are any.
  template <typename Keep>
  static bool narrow(Scratch& at, const Keep& keep) {
    if (std::none_of(at.members.begin(), at.members.end(), keep)) return false;
    std::erase_if(at.members, [&](size_t i) { return !keep(i); });
    return true;
  }

  // Those that hold so much of the prompt, if any does; now and then all the same.
  void keep_sticky(const Inputs& in, Candidates candidates, Scratch& at, double share) const {
    if (share <= 0) return;
    const auto sticky = [&](size_t i) { return cached_share(in, candidates[i]) >= share; };
    if (std::none_of(at.members.begin(), at.members.end(), sticky)) return;
    if (explore_sticky_ > 0 && in.random.chance(explore_sticky_)) return;
    narrow(at, sticky);
  }

  // True: those with headroom are left, false: those without.
  bool keep_tier(const Inputs& in, Scratch& at) const {
    const auto fits = [&](size_t i) { return at.headrooms[i].positive(); };
    const auto fit = std::count_if(at.members.begin(), at.members.end(), fits);
    if (fit == 0 || fit == std::ssize(at.members)) return fit > 0;
    const bool with = explore_without_ <= 0 || !in.random.chance(explore_without_);
    std::erase_if(at.members, [&](size_t i) { return fits(i) != with; });
    return with;
  }

  void weigh_headroom(const Inputs& in, Candidates candidates, Scratch& at) const {
    keep_sticky(in, candidates, at, gate_);
    if (strategy_.starts_with("composite")) {
      return weigh_composite(in, candidates, at, strategy_ == "composite-least");
    }
    Range first, pace;
    for (const size_t i : at.members) {
      first.add(at.headrooms[i].first_token);
      pace.add(at.headrooms[i].pace);
    }
    at.weights.clear();
    for (const size_t i : at.members) {
      const double place =
          with_headroom_.blend(first.place(at.headrooms[i].first_token), pace.place(at.headrooms[i].pace));
      const double wanted = strategy_ == "most" ? place : 1 - place;
      at.weights.push_back(std::floor(wanted * (weight_max - weight_min)) + weight_min + 1);
    }
  }

  // Idle ones first. What is missing is compared among those that miss the same.
  void weigh_deficits(const Inputs& in, Candidates candidates, Scratch& at) const {
    narrow(at, [&](size_t i) { return in_flight(candidates[i]) == 0; });
    keep_sticky(in, candidates, at, gate_);
    if (strategy_.starts_with("composite")) return weigh_composite(in, candidates, at, false);
    const auto kind = [&](size_t i) {
      return (at.headrooms[i].first_token < 0 ? 1 : 0) + (at.headrooms[i].pace < 0 ? 2 : 0);
    };
    const auto missing = [](double headroom) { return std::max(0.0, -headroom); };
    Range first[4], pace[4];
    for (const size_t i : at.members) {
      first[kind(i)].add(missing(at.headrooms[i].first_token));
      pace[kind(i)].add(missing(at.headrooms[i].pace));
    }
    at.weights.clear();
    for (const size_t i : at.members) {
      const double place = without_.blend(first[kind(i)].place(missing(at.headrooms[i].first_token)),
                                          pace[kind(i)].place(missing(at.headrooms[i].pace)));
      at.weights.push_back(std::floor((1 - place) * deficit_weight_max) + weight_min + 1);
    }
  }

  void weigh_composite(const Inputs& in, Candidates candidates, Scratch& at, bool least) const {
    at.scores.resize(candidates.size());
    composite_scores(in, candidates, composite_, at.scores);
    at.weights.clear();
    for (const size_t i : at.members) {
      const double weight = std::round(weight_min + (weight_max - weight_min) * at.scores[i]);
      at.weights.push_back(least ? weight_min + weight_max - weight : weight);
    }
  }

  // The first of the heaviest, or by chance in proportion to the weights, all above 0.
  size_t choose(const Inputs& in, const std::vector<double>& weights) const {
    if (greedy_) return static_cast<size_t>(std::max_element(weights.begin(), weights.end()) - weights.begin());
    return draw(in.random, weights.size(), [&](size_t i) { return weights[i]; });
  }

  PredictionSpec prediction_;
  std::string strategy_;
  bool greedy_;
  Weights with_headroom_, without_;
  CompositeWeights composite_;
  double explore_sticky_, explore_without_, gate_, gate_of_all_;
};

}  // namespace

PredictionSpec prediction_of(const PluginSpec& scorer) {
  return {.streaming = scorer.flag("streamingMode", true), .pace_factor = scorer.number("sloBufferFactor", 1)};
}

std::unique_ptr<Scorer> make_predicted_latency_scorer(const PluginSpec& spec) {
  return std::make_unique<PredictedLatencyScorer>(spec);
}

}  // namespace penstock::routing
