// topology-affinity-filter and -scorer: a prefill near the endpoint that decodes, by the labels of their pods.
#include <algorithm>
#include <utility>

#include "penstock/routing/filters.h"
#include "penstock/routing/scorers.h"

namespace penstock::routing {
namespace {

constexpr size_t nothing = topology_levels.size();
// By what a KV cache travels over: within a machine, a switch, several switches, between data centres.
constexpr double nearness[] = {1, 0.2, 0.05, 0.02, 0};

// The narrowest level that both have in common; `nothing`: none that is known.
size_t common(const TopologyLabels& labels, const Candidate& a, const Candidate& b) {
  for (size_t level = 0; level < labels.size(); ++level) {
    const std::string* const one = label_of(a, labels[level]);
    const std::string* const other = label_of(b, labels[level]);
    if (one != nullptr && other != nullptr && !one->empty() && *one == *other) return level;
  }
  return nothing;
}

// Those that share at least this level with the peer; all when nobody does, or there is no peer.
class TopologyFilter final : public Filter {
 public:
  explicit TopologyFilter(TopologyFilterOptions options) : options_(std::move(options)) {}
  std::string_view type() const override { return "topology-affinity-filter"; }
  void filter(const Inputs& in, std::vector<Candidate>& candidates) const override {
    if (in.peer == nullptr) return;
    const auto near = [&](const Candidate& candidate) {
      return common(options_.labels, candidate, {in.peer}) <= options_.level;
    };
    if (std::none_of(candidates.begin(), candidates.end(), near)) return;
    std::erase_if(candidates, [&](const Candidate& candidate) { return !near(candidate); });
  }

 private:
  TopologyFilterOptions options_;
};

class TopologyScorer final : public Scorer {
 public:
  explicit TopologyScorer(TopologyLabels labels) : labels_(std::move(labels)) {}
  std::string_view type() const override { return "topology-affinity-scorer"; }
  void score(const Inputs& in, std::span<const Candidate> candidates, std::span<double> scores) const override {
    for (size_t i = 0; i < candidates.size(); ++i) {
      scores[i] = in.peer == nullptr ? 0 : nearness[common(labels_, candidates[i], {in.peer})];
    }
  }

 private:
  TopologyLabels labels_;
};

}  // namespace

std::unique_ptr<Filter> make_topology_filter(TopologyFilterOptions options) {
  return std::make_unique<TopologyFilter>(std::move(options));
}

std::unique_ptr<Scorer> make_topology_scorer(TopologyLabels labels) {
  return std::make_unique<TopologyScorer>(std::move(labels));
}

}  // namespace penstock::routing
