// disaggregatedset-rollout-screener: while a set of servers that work together is replaced, requests go to servers of
// one revision only.
#include <algorithm>
#include <numeric>

#include "plugins.h"

namespace penstock::routing {
namespace {

// How many servers of each role each revision has. Views are into the candidates' labels.
class Revisions {
 public:
  void clear(size_t roles) {
    roles_ = roles;
    names_.clear();
    servers_.clear();
  }
  void add(std::string_view name, size_t role) {
    const auto known = std::find(names_.begin(), names_.end(), name);
    const auto at = static_cast<size_t>(known - names_.begin());
    if (known == names_.end()) {
      names_.push_back(name);
      servers_.resize(names_.size() * roles_);
    }
    ++servers_[at * roles_ + role];
  }
  size_t size() const { return names_.size(); }
  std::string_view name(size_t i) const { return names_[i]; }
  std::span<const uint32_t> servers(size_t i) const { return std::span(servers_).subspan(i * roles_, roles_); }
  bool complete(size_t i) const {
    const auto of_roles = servers(i);
    return std::all_of(of_roles.begin(), of_roles.end(), [](uint32_t count) { return count > 0; });
  }

 private:
  size_t roles_ = 0;
  std::vector<std::string_view> names_;
  std::vector<uint32_t> servers_;  // by revision, then by role
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
    std::string_view chosen;
    if (in.peer != nullptr) {
      const std::string* const revision = label_of({in.peer}, revision_label_);
      if (revision != nullptr) chosen = *revision;
    } else {
      thread_local Revisions revisions;  // one for each shard, kept for its memory
      count(candidates, revisions);
      chosen = draw(in.random, revisions);
    }
    std::erase_if(candidates, [&](const Candidate& candidate) {
      const std::string* const revision = label_of(candidate, revision_label_);
      return chosen.empty() || revision == nullptr || *revision != chosen;
    });
  }

 private:
  void count(const std::vector<Candidate>& candidates, Revisions& out) const {
    out.clear(roles_.size());
    for (const Candidate& candidate : candidates) {
      const std::string* const name = label_of(candidate, revision_label_);
      const std::string* const role = label_of(candidate, role_label_);
      if (name == nullptr || name->empty() || role == nullptr || !scope_.matches(*candidate.endpoint->labels)) continue;
      const auto place = std::find(roles_.begin(), roles_.end(), *role);
      if (place != roles_.end()) out.add(*name, static_cast<size_t>(place - roles_.begin()));
    }
  }

  std::string_view draw(Random& random, const Revisions& revisions) const {
    const size_t largest = by_largest_role_ ? largest_role(revisions) : 0;
    uint64_t sum = 0;
    for (size_t i = 0; i < revisions.size(); ++i) sum += weight(revisions, i, largest);
    if (sum == 0) return {};
    uint64_t left = random.below(sum);
    for (size_t i = 0; i < revisions.size(); ++i) {
      const uint64_t own = weight(revisions, i, largest);
      if (left < own) return revisions.name(i);
      left -= own;
    }
    return {};
  }

  // 0: it gets nothing, because it lacks a role.
  uint64_t weight(const Revisions& revisions, size_t i, size_t largest) const {
    if (!revisions.complete(i)) return 0;
    const auto servers = revisions.servers(i);
    return by_largest_role_ ? servers[largest] : std::accumulate(servers.begin(), servers.end(), uint64_t{0});
  }

  // Over all complete revisions; of equals the one that is listed first.
  size_t largest_role(const Revisions& revisions) const {
    size_t largest = 0;
    uint64_t most = 0;
    for (size_t role = 0; role < roles_.size(); ++role) {
      uint64_t servers = 0;
      for (size_t i = 0; i < revisions.size(); ++i) servers += revisions.complete(i) ? revisions.servers(i)[role] : 0;
      if (servers > most) {
        most = servers;
        largest = role;
      }
    }
    return largest;
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
