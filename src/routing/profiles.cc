// The pickers and the built-in profiles.
#include <algorithm>
#include <array>

#include "penstock/base/assert.h"
#include "penstock/routing/router.h"

namespace penstock::routing {
namespace {

// The highest score; among equals each is as likely.
class MaxScorePicker final : public Picker {
 public:
  std::string_view type() const override { return "max-score-picker"; }
  void pick(const Inputs& in, std::vector<Candidate>& candidates) const override {
    size_t best = 0;
    uint64_t equals = 1;
    for (size_t i = 1; i < candidates.size(); ++i) {
      if (candidates[i].score > candidates[best].score) {
        best = i;
        equals = 1;
      } else if (candidates[i].score == candidates[best].score && in.random.below(++equals) == 0) {
        best = i;
      }
    }
    std::swap(candidates.front(), candidates[best]);
  }
};

class RandomPicker final : public Picker {
 public:
  std::string_view type() const override { return "random-picker"; }
  void pick(const Inputs& in, std::vector<Candidate>& candidates) const override {
    std::swap(candidates.front(), candidates[in.random.below(candidates.size())]);
  }
};

// Each in turn, by slot, whatever the order of the candidates and however many there are this time: the next is the
// first slot after the last choice. One turn for all shards, as they share the profile.
class RoundRobinPicker final : public Picker {
 public:
  std::string_view type() const override { return "round-robin-picker"; }
  void pick(const Inputs&, std::vector<Candidate>& candidates) const override {
    uint32_t last = last_slot_.load(std::memory_order_relaxed);
    size_t chosen = 0;
    do {
      chosen = 0;
      for (size_t i = 1; i < candidates.size(); ++i) {
        if (distance(last, candidates[i]) < distance(last, candidates[chosen])) chosen = i;
      }
    } while (
        !last_slot_.compare_exchange_weak(last, candidates[chosen].endpoint->state->slot, std::memory_order_relaxed));
    std::swap(candidates.front(), candidates[chosen]);
  }

 private:
  static uint32_t distance(uint32_t last, const Candidate& candidate) {
    return candidate.endpoint->state->slot - last - 1;  // wraps: the last choice itself is farthest
  }
  mutable std::atomic<uint32_t> last_slot_{UINT32_MAX};
};

constexpr std::array<std::string_view, 4> names = {"epp-default", "random", "round-robin", "least-load"};

void add_scorer(Profile& profile, std::string_view type, double weight) {
  profile.scorers.push_back({make_scorer(type), weight});
  PENSTOCK_ASSERT(profile.scorers.back().scorer != nullptr);
}

}  // namespace

std::span<const std::string_view> policy_names() {
  return names;
}

bool parse_policy(std::string_view name, Policy* out) {
  const auto at = std::find(names.begin(), names.end(), name);
  if (at == names.end()) return false;
  *out = static_cast<Policy>(at - names.begin());
  return true;
}

std::unique_ptr<Picker> make_picker(std::string_view type) {
  if (type == "max-score-picker") return std::make_unique<MaxScorePicker>();
  if (type == "random-picker") return std::make_unique<RandomPicker>();
  if (type == "round-robin-picker") return std::make_unique<RoundRobinPicker>();
  return nullptr;
}

std::unique_ptr<Profile> make_profile(Policy policy) {
  auto profile = std::make_unique<Profile>();
  switch (policy) {
    case Policy::epp_default:
      add_scorer(*profile, "queue-scorer", 2);
      add_scorer(*profile, "kv-cache-utilization-scorer", 2);
      add_scorer(*profile, "prefix-cache-scorer", 3);
      profile->picker = make_picker("max-score-picker");
      profile->uses_prefix = true;
      break;
    case Policy::random:
      profile->picker = make_picker("random-picker");
      break;
    case Policy::round_robin:
      profile->picker = make_picker("round-robin-picker");
      break;
    case Policy::least_load:
      add_scorer(*profile, "least-load-scorer", 1);
      profile->picker = make_picker("max-score-picker");
      break;
  }
  return profile;
}

}  // namespace penstock::routing
