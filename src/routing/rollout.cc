// disaggregatedset-rollout-screener: while a set of servers that work together is replaced, requests go to servers of
// one revision only.
#include <algorithm>

#include "plugins.h"

namespace penstock::routing {
namespace {

// How many servers of each role a revision has.
struct Revision {
  std::string_view name;
  std::vector<uint32_t> servers;  // by role
  bool complete() const {
    return std::all_of(servers.begin(), servers.end(), [](uint32_t count) { return count > 0; });
  }
};

class RolloutFilter final : public Filter {
 public:
  explicit RolloutFilter(const PluginSpec& spec)
      : scope_(spec.selector),
        revision_label_(spec.text("revisionGating.revisionLabelKey", "disaggregatedset.x-k8s.io/revision")),
        role_label_(spec.text("revisionGating.roleLabelKey", "disaggregatedset.x-k8s.io/role")),
        roles_(rollout_roles(spec)),
        by_largest_role_(spec.text("revisionGating.mode") == "max-role") {}
  std::string_view type() const override { return "disaggregatedset-rollout-screener"; }

  // Of a stage: those of the revision that the request itself goes to. Else one is drawn, by how many servers it has,
  // of those that have all roles.
  void filter(const Inputs& in, std::vector<Candidate>& candidates) const override {
    std::string chosen;
    if (in.peer != nullptr) {
      const std::string* const revision = label_of({in.peer}, revision_label_);
      if (revision != nullptr) chosen = *revision;
    } else {
      chosen = draw(in.random, revisions_of(candidates));
    }
    std::erase_if(candidates, [&](const Candidate& candidate) {
      const std::string* const revision = label_of(candidate, revision_label_);
      return chosen.empty() || revision == nullptr || *revision != chosen;
    });
  }

 private:
  // Those that have servers of all roles.
  std::vector<Revision> revisions_of(const std::vector<Candidate>& candidates) const {
    std::vector<Revision> out;
    for (const Candidate& candidate : candidates) {
      const std::string* const name = label_of(candidate, revision_label_);
      const std::string* const role = label_of(candidate, role_label_);
      if (name == nullptr || name->empty() || role == nullptr || !scope_.matches(*candidate.endpoint->labels)) continue;
      const auto place = std::find(roles_.begin(), roles_.end(), *role);
      if (place == roles_.end()) continue;
      auto revision = std::find_if(out.begin(), out.end(), [&](const Revision& one) { return one.name == *name; });
      if (revision == out.end()) revision = out.insert(out.end(), {*name, std::vector<uint32_t>(roles_.size())});
      ++revision->servers[static_cast<size_t>(place - roles_.begin())];
    }
    std::erase_if(out, [](const Revision& one) { return !one.complete(); });
    return out;
  }

  std::string draw(Random& random, const std::vector<Revision>& revisions) const {
    const size_t largest = by_largest_role_ ? largest_role(revisions) : 0;
    uint64_t sum = 0;
    for (const Revision& one : revisions) sum += weight(one, largest);
    if (sum == 0) return {};
    uint64_t left = random.below(sum);
    for (const Revision& one : revisions) {
      if (left < weight(one, largest)) return std::string(one.name);
      left -= weight(one, largest);
    }
    return {};
  }

  uint64_t weight(const Revision& revision, size_t largest) const {
    if (by_largest_role_) return revision.servers[largest];
    uint64_t sum = 0;
    for (const uint32_t count : revision.servers) sum += count;
    return sum;
  }

  // Over all revisions; of equals the one that is listed first.
  size_t largest_role(const std::vector<Revision>& revisions) const {
    std::vector<uint64_t> servers(roles_.size());
    for (const Revision& one : revisions) {
      for (size_t role = 0; role < roles_.size(); ++role) servers[role] += one.servers[role];
    }
    return static_cast<size_t>(std::max_element(servers.begin(), servers.end()) - servers.begin());
  }

  objects::LabelSelector scope_;
  std::string revision_label_, role_label_;
  std::vector<std::string> roles_;
  bool by_largest_role_;
};

}  // namespace

std::vector<std::string> rollout_roles(const PluginSpec& spec) {
  const std::vector<std::string> older = spec.texts("revisionGating.requireRoles.values");
  return older.empty() ? spec.texts("revisionGating.requiredRoles") : older;
}

std::unique_ptr<Filter> make_screener(const PluginSpec& spec) {
  return std::make_unique<RolloutFilter>(spec);
}

}  // namespace penstock::routing
