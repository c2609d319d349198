// disaggregatedset-rollout-screener: while a set of servers that work together is replaced, requests go to servers of
// one revision only.
#include <algorithm>
#include <numeric>

#include "penstock/routing/filters.h"

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
  explicit RolloutFilter(RolloutOptions options) : options_(std::move(options)) {}
  std::string_view type() const override { return "disaggregatedset-rollout-screener"; }

  // Of a stage: those of the revision that the request itself goes to. Else one is drawn, by how many servers it has,
  // of those that have all roles.
  void filter(const Inputs& in, std::vector<Candidate>& candidates) const override {
    std::string_view chosen;
    if (in.peer != nullptr) {
      const std::string* const revision = label_of({in.peer}, options_.revision_label);
      if (revision != nullptr) chosen = *revision;
    } else {
      thread_local Revisions revisions;  // one for each shard, kept for its memory
      count(candidates, revisions);
      chosen = draw(in.random, revisions);
    }
    std::erase_if(candidates, [&](const Candidate& candidate) {
      const std::string* const revision = label_of(candidate, options_.revision_label);
      return chosen.empty() || revision == nullptr || *revision != chosen;
    });
  }

 private:
  void count(const std::vector<Candidate>& candidates, Revisions& out) const {
    out.clear(options_.roles.size());
    for (const Candidate& candidate : candidates) {
      const std::string* const name = label_of(candidate, options_.revision_label);
      const std::string* const role = label_of(candidate, options_.role_label);
      if (name == nullptr || name->empty() || role == nullptr || !options_.scope.matches(*candidate.endpoint->labels))
        continue;
      const auto place = std::find(options_.roles.begin(), options_.roles.end(), *role);
      if (place != options_.roles.end()) out.add(*name, static_cast<size_t>(place - options_.roles.begin()));
    }
  }

  std::string_view draw(Random& random, const Revisions& revisions) const {
    const size_t largest = options_.by_largest_role ? largest_role(revisions) : 0;
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
    return options_.by_largest_role ? servers[largest] : std::accumulate(servers.begin(), servers.end(), uint64_t{0});
  }

  // Over all complete revisions; of equals the one that is listed first.
  size_t largest_role(const Revisions& revisions) const {
    size_t largest = 0;
    uint64_t most = 0;
    for (size_t role = 0; role < options_.roles.size(); ++role) {
      uint64_t servers = 0;
      for (size_t i = 0; i < revisions.size(); ++i) servers += revisions.complete(i) ? revisions.servers(i)[role] : 0;
      if (servers > most) {
        most = servers;
        largest = role;
      }
    }
    return largest;
  }

  RolloutOptions options_;
};

}  // namespace

std::unique_ptr<Filter> make_rollout_filter(RolloutOptions options) {
  return std::make_unique<RolloutFilter>(std::move(options));
}

}  // namespace penstock::routing
