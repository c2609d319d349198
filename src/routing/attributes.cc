// The scorer and the filter that look at a gauge of the model servers which the configuration names.
#include <algorithm>
#include <cmath>
#include <functional>

#include "latency.h"
#include "load_estimate.h"
#include "plugins.h"

namespace penstock::routing {
namespace {

// What the endpoint's last scrape said; NaN: nothing, or too long ago.
double value_of(const Inputs& in, const Candidate& candidate, size_t metric) {
  const std::vector<double>& custom = candidate.endpoint->metrics.custom;
  return metric < custom.size() && known(in, candidate) ? custom[metric] : NAN;
}

size_t index_of(std::span<const CustomMetric> metrics, std::string_view attribute) {
  const auto found = std::find_if(metrics.begin(), metrics.end(),
                                  [&](const CustomMetric& metric) { return metric.attribute == attribute; });
  return static_cast<size_t>(found - metrics.begin());  // of none: nobody has it
}

// Linear between the ends of a range, or between the least and the most of the candidates; unknown: 0.
class AttributeScorer final : public Scorer {
 public:
  AttributeScorer(const PluginSpec& spec, std::span<const CustomMetric> metrics)
      : metric_(index_of(metrics, spec.text("attributeKey"))),
        lower_is_better_(spec.text("algorithm.type") == "linear_lower_is_better"),
        fixed_(spec.has("algorithm.normalization.fixedRange.min")),
        least_(spec.number("algorithm.normalization.fixedRange.min", 0)),
        most_(spec.number("algorithm.normalization.fixedRange.max", 0)) {}
  std::string_view type() const override { return "endpoint-attribute-scorer"; }

  void score(const Inputs& in, std::span<const Candidate> candidates, std::span<double> scores) const override {
    Range range;
    if (fixed_) range = {least_, most_};
    for (size_t i = 0; i < candidates.size(); ++i) {
      scores[i] = value_of(in, candidates[i], metric_);
      if (!fixed_ && !std::isnan(scores[i])) range.add(scores[i]);
    }
    for (double& score : scores) score = std::isnan(score) ? 0 : share(score, range);
  }

 private:
  double share(double value, const Range& range) const {
    if (range.empty()) return 1;
    const double part = std::clamp(range.place(value), 0.0, 1.0);
    return lower_is_better_ ? 1 - part : part;
  }

  size_t metric_;
  bool lower_is_better_, fixed_;
  double least_, most_;
};

using Compare = std::function<bool(double)>;

Compare threshold(const PluginSpec& spec) {
  const std::string op = spec.text("algorithm.threshold.operator");
  const double limit = spec.number("algorithm.threshold.value", 0);
  if (op == "LessThan") return [limit](double value) { return value < limit; };
  if (op == "LessThanOrEqual") return [limit](double value) { return value <= limit; };
  if (op == "GreaterThan") return [limit](double value) { return value > limit; };
  if (op == "GreaterThanOrEqual") return [limit](double value) { return value >= limit; };
  if (op == "Equal") return [limit](double value) { return value == limit; };
  return [limit](double value) { return value != limit; };
}

// Keeps those whose value compares well: with constants, or by its rank among the candidates.
class AttributeFilter final : public Filter {
 public:
  AttributeFilter(const PluginSpec& spec, std::span<const CustomMetric> metrics)
      : metric_(index_of(metrics, spec.text("attribute"))),
        pass_unknown_(spec.text("onMissing", "Pass") == "Pass"),
        all_if_none_(spec.flag("fallbackOnEmpty", false)) {
    const std::string algorithm = spec.text("algorithm.type");
    if (algorithm == "topK" || algorithm == "percentile") {
      most_ = algorithm == "topK" ? static_cast<size_t>(spec.number("algorithm.topK.k", 1)) : 0;
      share_ = spec.number("algorithm.percentile.percentile", 0) / 100;
      higher_is_better_ = spec.flag("algorithm." + algorithm + ".higherIsBetter", true);
    } else if (algorithm == "range") {
      const double least = spec.number("algorithm.range.min", 0), most = spec.number("algorithm.range.max", 0);
      keeps_ = [least, most](double value) { return value >= least && value <= most; };
    } else {
      keeps_ = threshold(spec);
    }
  }
  std::string_view type() const override { return "endpoint-attribute-filter"; }

  void filter(const Inputs& in, std::vector<Candidate>& candidates) const override {
    const auto value = [&](const Candidate& candidate) { return value_of(in, candidate, metric_); };
    thread_local std::vector<double> ranked;  // one for each shard, kept for its memory
    ranked.clear();
    if (!keeps_) {
      for (const Candidate& candidate : candidates) {
        if (!std::isnan(value(candidate))) ranked.push_back(value(candidate));
      }
    }
    const double cut = cut_of(ranked);
    size_t room = most_ == 0 ? candidates.size() : most_, better = 0;
    for (const double one : ranked) better += beyond(one, cut) ? 1 : 0;
    room -= std::min(room, better);  // for those that are just at the cut
    const auto keeps = [&](const Candidate& candidate) {
      const double own = value(candidate);
      if (std::isnan(own)) return pass_unknown_;
      if (keeps_) return keeps_(own);
      if (beyond(own, cut)) return true;
      if (own != cut || room == 0) return false;
      --room;
      return true;
    };
    thread_local std::vector<Candidate> kept;
    kept.clear();
    std::copy_if(candidates.begin(), candidates.end(), std::back_inserter(kept), keeps);
    if (kept.empty() && all_if_none_) return;
    candidates.swap(kept);
  }

 private:
  bool beyond(double value, double cut) const { return higher_is_better_ ? value > cut : value < cut; }

  // The value of the last one that is kept, of those that have any.
  double cut_of(std::vector<double>& ranked) const {
    if (ranked.empty()) return 0;
    std::sort(ranked.begin(), ranked.end());
    const size_t count = ranked.size();
    if (most_ > 0) {
      const size_t kept = std::min(most_, count);
      return higher_is_better_ ? ranked[count - kept] : ranked[kept - 1];
    }
    const auto rank = static_cast<size_t>(std::ceil(share_ * static_cast<double>(count)));
    return ranked[std::clamp<size_t>(rank, 1, count) - 1];
  }

  size_t metric_;
  bool pass_unknown_, all_if_none_;
  Compare keeps_;                 // null: by rank
  size_t most_ = 0;               // topK; 0: percentile
  double share_ = 0;              // percentile
  bool higher_is_better_ = true;  // of either
};

}  // namespace

std::unique_ptr<Scorer> make_attribute_scorer(const PluginSpec& spec, std::span<const CustomMetric> metrics) {
  if (spec.info->type != "endpoint-attribute-scorer") return nullptr;
  return std::make_unique<AttributeScorer>(spec, metrics);
}

std::unique_ptr<Filter> make_attribute_filter(const PluginSpec& spec, std::span<const CustomMetric> metrics) {
  if (spec.info->type != "endpoint-attribute-filter") return nullptr;
  return std::make_unique<AttributeFilter>(spec, metrics);
}

}  // namespace penstock::routing
