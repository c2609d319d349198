// topology-affinity-filter and -scorer: a prefill near the endpoint that decodes, by the labels of their pods.
#include <algorithm>
#include <array>

#include "plugins.h"

namespace penstock::routing {
namespace {

constexpr std::array<std::string_view, 4> levels = {"host", "rack", "zone", "region"};
constexpr size_t nothing = levels.size();
// By what a KV cache travels over: within a machine, a switch, several switches, between data centres.
constexpr double nearness[] = {1, 0.2, 0.05, 0.02, 0};

// Which labels say where a pod is.
class Places {
 public:
  explicit Places(const PluginSpec& spec)
      : labels_{spec.text("hostname", "kubernetes.io/hostname"), spec.text("rack", "topology.kubernetes.io/rack"),
                spec.text("zone", "topology.kubernetes.io/zone"),
                spec.text("region", "topology.kubernetes.io/region")} {}

  // The narrowest level that both have in common; `nothing`: none that is known.
  size_t common(const Candidate& a, const Candidate& b) const {
    for (size_t level = 0; level < levels.size(); ++level) {
      const std::string* const one = label_of(a, labels_[level]);
      const std::string* const other = label_of(b, labels_[level]);
      if (one != nullptr && other != nullptr && !one->empty() && *one == *other) return level;
    }
    return nothing;
  }

 private:
  std::array<std::string, levels.size()> labels_;
};

// Those that share at least this level with the peer; all when nobody does, or there is no peer.
class TopologyFilter final : public Filter {
 public:
  explicit TopologyFilter(const PluginSpec& spec)
      : places_(spec),
        level_(static_cast<size_t>(std::find(levels.begin(), levels.end(), spec.text("minAffinity", levels[0])) -
                                   levels.begin())) {}
  std::string_view type() const override { return "topology-affinity-filter"; }
  void filter(const Inputs& in, std::vector<Candidate>& candidates) const override {
    if (in.peer == nullptr) return;
    const auto near = [&](const Candidate& candidate) { return places_.common(candidate, {in.peer}) <= level_; };
    if (std::none_of(candidates.begin(), candidates.end(), near)) return;
    std::erase_if(candidates, [&](const Candidate& candidate) { return !near(candidate); });
  }

 private:
  Places places_;
  size_t level_;
};

class TopologyScorer final : public Scorer {
 public:
  explicit TopologyScorer(const PluginSpec& spec) : places_(spec) {}
  std::string_view type() const override { return "topology-affinity-scorer"; }
  void score(const Inputs& in, std::span<const Candidate> candidates, std::span<double> scores) const override {
    for (size_t i = 0; i < candidates.size(); ++i) {
      scores[i] = in.peer == nullptr ? 0 : nearness[places_.common(candidates[i], {in.peer})];
    }
  }

 private:
  Places places_;
};

}  // namespace

std::unique_ptr<Filter> make_topology_filter(const PluginSpec& spec) {
  return std::make_unique<TopologyFilter>(spec);
}

std::unique_ptr<Scorer> make_topology_scorer(const PluginSpec& spec) {
  return std::make_unique<TopologyScorer>(spec);
}

}  // namespace penstock::routing
