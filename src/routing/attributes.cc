// The scorer and the filter that look at a gauge of the model servers which the configuration names.
#include <algorithm>
#include <cmath>

#include "latency.h"
#include "load_estimate.h"
#include "penstock/base/assert.h"
#include "penstock/routing/filters.h"
#include "penstock/routing/scorers.h"

namespace penstock::routing {
namespace {

// What the endpoint's last scrape said; NaN: nothing, or too long ago.
double value_of(const Inputs& in, const Candidate& candidate, size_t metric) {
  const std::vector<double>& custom = candidate.endpoint->metrics.custom;
  return metric < custom.size() && known(in, candidate) ? custom[metric] : NAN;
}

// Linear between the ends of a range, or between the least and the most of the candidates; unknown: 0.
class AttributeScorer final : public Scorer {
 public:
  explicit AttributeScorer(const AttributeScorerOptions& options) : options_(options) {}
  std::string_view type() const override { return "endpoint-attribute-scorer"; }

  void score(const Inputs& in, std::span<const Candidate> candidates, std::span<double> scores) const override {
    Range range;
    if (options_.range) range = {options_.range->first, options_.range->second};
    for (size_t i = 0; i < candidates.size(); ++i) {
      scores[i] = value_of(in, candidates[i], options_.metric);
      if (!options_.range && !std::isnan(scores[i])) range.add(scores[i]);
    }
    for (double& score : scores) score = std::isnan(score) ? 0 : share(score, range);
  }

 private:
  double share(double value, const Range& range) const {
    if (range.empty()) return 1;
    const double part = std::clamp(range.place(value), 0.0, 1.0);
    return options_.lower_is_better ? 1 - part : part;
  }

  AttributeScorerOptions options_;
};

// Keeps those whose value compares well: with constants, or by its rank among the candidates.
class AttributeFilter final : public Filter {
 public:
  explicit AttributeFilter(const AttributeFilterOptions& options) : options_(options) {}
  std::string_view type() const override { return "endpoint-attribute-filter"; }

  void filter(const Inputs& in, std::vector<Candidate>& candidates) const override {
    const auto value = [&](const Candidate& candidate) { return value_of(in, candidate, options_.metric); };
    thread_local std::vector<double> ranked;  // one for each shard, kept for its memory
    ranked.clear();
    if (by_rank()) {
      for (const Candidate& candidate : candidates) {
        if (!std::isnan(value(candidate))) ranked.push_back(value(candidate));
      }
    }
    const double cut = cut_of(ranked);
    size_t room = options_.count == 0 ? candidates.size() : options_.count, better = 0;
    for (const double one : ranked) better += beyond(one, cut) ? 1 : 0;
    room -= std::min(room, better);  // for those that are just at the cut
    const auto keeps = [&](const Candidate& candidate) {
      const double own = value(candidate);
      if (std::isnan(own)) return options_.pass_unknown;
      if (!by_rank()) return compares(own);
      if (beyond(own, cut)) return true;
      if (own != cut || room == 0) return false;
      --room;
      return true;
    };
    thread_local std::vector<Candidate> kept;
    kept.clear();
    std::copy_if(candidates.begin(), candidates.end(), std::back_inserter(kept), keeps);
    if (kept.empty() && options_.all_if_none) return;
    candidates.swap(kept);
  }

 private:
  using Rule = AttributeFilterOptions::Rule;

  bool by_rank() const { return options_.rule == Rule::top || options_.rule == Rule::percentile; }
  bool beyond(double value, double cut) const { return options_.higher_is_better ? value > cut : value < cut; }

  bool compares(double value) const {
    switch (options_.rule) {
      case Rule::less:
        return value < options_.limit;
      case Rule::less_or_equal:
        return value <= options_.limit;
      case Rule::greater:
        return value > options_.limit;
      case Rule::greater_or_equal:
        return value >= options_.limit;
      case Rule::equal:
        return value == options_.limit;
      case Rule::not_equal:
        return value != options_.limit;
      default:
        PENSTOCK_ASSERT(options_.rule == Rule::range);
        return value >= options_.limit && value <= options_.limit_high;
    }
  }

  // The value of the last one that is kept, of those that have any.
  double cut_of(std::vector<double>& ranked) const {
    if (ranked.empty()) return 0;
    std::sort(ranked.begin(), ranked.end());
    const size_t count = ranked.size();
    if (options_.count > 0) {
      const size_t kept = std::min(options_.count, count);
      return options_.higher_is_better ? ranked[count - kept] : ranked[kept - 1];
    }
    const auto rank = static_cast<size_t>(std::ceil(options_.share * static_cast<double>(count)));
    return ranked[std::clamp<size_t>(rank, 1, count) - 1];
  }

  AttributeFilterOptions options_;
};

}  // namespace

std::unique_ptr<Scorer> make_attribute_scorer(const AttributeScorerOptions& options) {
  return std::make_unique<AttributeScorer>(options);
}

std::unique_ptr<Filter> make_attribute_filter(const AttributeFilterOptions& options) {
  return std::make_unique<AttributeFilter>(options);
}

}  // namespace penstock::routing
