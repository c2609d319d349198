// predicted-latency-scorer, which makes the choice itself: one candidate gets 1, the others 0.
#include <algorithm>
#include <cmath>

#include "draw.h"
#include "latency.h"
#include "load_estimate.h"
#include "penstock/routing/scorers.h"

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
  explicit PredictedLatencyScorer(const PredictedLatencyOptions& options)
      : options_(options), with_headroom_(weights(options.with_headroom)), without_(weights(options.without_headroom)) {
    options_.composite = normalised(options.composite);
  }
  std::string_view type() const override { return "predicted-latency-scorer"; }

  void score(const Inputs& in, Candidates candidates, std::span<double> scores) const override {
    thread_local Scratch scratch;  // one for each shard, kept for its memory
    Scratch& at = scratch;
    at.headrooms = headrooms_of(in, candidates, options_.headroom);
    at.members.resize(candidates.size());
    for (size_t i = 0; i < candidates.size(); ++i) at.members[i] = i;
    if (!predicted(candidates)) {
      weigh_composite(in, candidates, at, false);
    } else {
      keep_sticky(in, candidates, at, options_.sticky_share_of_all);
      if (options_.strategy == Strategy::composite_only) weigh_composite(in, candidates, at, false);
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

  using Strategy = PredictedLatencyOptions::Strategy;

  Weights weights(const PredictedLatencyOptions::Weights& given) const {
    const double a = given.first_token, b = options_.headroom.streaming ? given.pace : 0;
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
    if (options_.explore_sticky > 0 && in.random.chance(options_.explore_sticky)) return;
    narrow(at, sticky);
  }

  // True: those with headroom are left, false: those without.
  bool keep_tier(const Inputs& in, Scratch& at) const {
    const auto fits = [&](size_t i) { return at.headrooms[i].positive(); };
    const auto fit = std::count_if(at.members.begin(), at.members.end(), fits);
    if (fit == 0 || fit == std::ssize(at.members)) return fit > 0;
    const double exploration = options_.explore_without_headroom;
    const bool with = exploration <= 0 || !in.random.chance(exploration);
    std::erase_if(at.members, [&](size_t i) { return fits(i) != with; });
    return with;
  }

  void weigh_headroom(const Inputs& in, Candidates candidates, Scratch& at) const {
    keep_sticky(in, candidates, at, options_.sticky_share);
    if (composite()) return weigh_composite(in, candidates, at, options_.strategy == Strategy::composite_least);
    Range first, pace;
    for (const size_t i : at.members) {
      first.add(at.headrooms[i].first_token);
      pace.add(at.headrooms[i].pace);
    }
    at.weights.clear();
    for (const size_t i : at.members) {
      const double place =
          with_headroom_.blend(first.place(at.headrooms[i].first_token), pace.place(at.headrooms[i].pace));
      const double wanted = options_.strategy == Strategy::most ? place : 1 - place;
      at.weights.push_back(std::floor(wanted * (weight_max - weight_min)) + weight_min + 1);
    }
  }

  // Idle ones first. What is missing is compared among those that miss the same.
  void weigh_deficits(const Inputs& in, Candidates candidates, Scratch& at) const {
    narrow(at, [&](size_t i) { return in_flight(candidates[i]) == 0; });
    keep_sticky(in, candidates, at, options_.sticky_share);
    if (composite()) return weigh_composite(in, candidates, at, false);
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
    composite_scores(in, candidates, options_.composite, at.scores);
    at.weights.clear();
    for (const size_t i : at.members) {
      const double weight = std::round(weight_min + (weight_max - weight_min) * at.scores[i]);
      at.weights.push_back(least ? weight_min + weight_max - weight : weight);
    }
  }

  // The first of the heaviest, or by chance in proportion to the weights, all above 0.
  size_t choose(const Inputs& in, const std::vector<double>& weights) const {
    if (options_.greedy) return static_cast<size_t>(std::max_element(weights.begin(), weights.end()) - weights.begin());
    return draw(in.random, weights.size(), [&](size_t i) { return weights[i]; });
  }

  bool composite() const { return options_.strategy >= Strategy::composite_least; }

  PredictedLatencyOptions options_;
  Weights with_headroom_, without_;
};

}  // namespace

std::unique_ptr<Scorer> make_predicted_latency_scorer(const PredictedLatencyOptions& options) {
  return std::make_unique<PredictedLatencyScorer>(options);
}

}  // namespace penstock::routing
