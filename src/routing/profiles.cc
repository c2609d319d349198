// The pickers and the built-in profiles.
#include <algorithm>
#include <array>

#include "draw.h"
#include "penstock/routing/router.h"
#include "penstock/routing/scorers.h"

namespace penstock::routing {
namespace {

// One that makes up to `choices` of them, in order; each by choose(), which puts its choice at the front of what is
// left.
template <typename Rule>
class OrderedPicker final : public Picker {
 public:
  explicit OrderedPicker(size_t choices) : choices_(choices) {}
  std::string_view type() const override { return Rule::type; }
  size_t choices() const override { return choices_; }
  void pick(const Inputs& in, std::vector<Candidate>& candidates) const override {
    const size_t count = std::min(choices_, candidates.size());
    for (size_t i = 0; i < count; ++i) Rule::choose(in, std::span(candidates).subspan(i));
  }

 private:
  size_t choices_;
};

// The highest score; of equals the one that a filter put first, else each is as likely.
struct MaxScore {
  static constexpr std::string_view type = "max-score-picker";
  static void choose(const Inputs& in, std::span<Candidate> candidates) {
    Candidate* best = &candidates.front();
    uint64_t equals = 1;
    for (Candidate& candidate : candidates.subspan(1)) {
      if (candidate.score > best->score || (candidate.score == best->score && candidate.order < best->order)) {
        best = &candidate;
        equals = 1;
      } else if (candidate.score == best->score && candidate.order == best->order && in.random.below(++equals) == 0) {
        best = &candidate;
      }
    }
    std::swap(candidates.front(), *best);
  }
};

struct AnyOne {
  static constexpr std::string_view type = "random-picker";
  static void choose(const Inputs& in, std::span<Candidate> candidates) {
    std::swap(candidates.front(), candidates[in.random.below(candidates.size())]);
  }
};

// With a chance proportional to its score; when all are 0, any. Several draws without putting back give the order that
// the Endpoint Picker gets from keys U^(1/score) (A-Res, Efraimidis and Spirakis 2006).
struct WeightedRandom {
  static constexpr std::string_view type = "weighted-random-picker";
  static void choose(const Inputs& in, std::span<Candidate> candidates) {
    const size_t chosen = draw(in.random, candidates.size(), [&](size_t i) { return candidates[i].score; });
    if (chosen == candidates.size()) return AnyOne::choose(in, candidates);
    std::swap(candidates.front(), candidates[chosen]);
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

constexpr std::array<std::string_view, 5> names = {"epp-default", "random", "round-robin", "least-load",
                                                   "expected-cost"};

}  // namespace

const Profile* Profile::chosen(const Features& features) const {
  if (by_header.header.empty() || by_header.others.empty()) return this;
  const std::string_view wanted = header_of(features, by_header.header);
  if (wanted.empty() || wanted == name) return this;
  for (const auto& other : by_header.others) {
    if (other->name == wanted) return other.get();
  }
  return nullptr;
}

std::span<const std::string_view> policy_names() {
  return names;
}

bool parse_policy(std::string_view name, Policy* out) {
  const auto at = std::find(names.begin(), names.end(), name);
  if (at == names.end()) return false;
  *out = static_cast<Policy>(at - names.begin());
  return true;
}

std::unique_ptr<Picker> make_picker(Pick pick, size_t choices) {
  switch (pick) {
    case Pick::max_score:
      return std::make_unique<OrderedPicker<MaxScore>>(choices);
    case Pick::random:
      return std::make_unique<OrderedPicker<AnyOne>>(choices);
    case Pick::weighted_random:
      return std::make_unique<OrderedPicker<WeightedRandom>>(choices);
    case Pick::round_robin:
      break;
  }
  return std::make_unique<RoundRobinPicker>();
}

std::unique_ptr<Profile> make_profile(Policy policy) {
  auto profile = std::make_unique<Profile>();
  profile->name = names[static_cast<size_t>(policy)];
  switch (policy) {
    case Policy::epp_default:
      profile->scorers.push_back({make_queue_scorer(), 2});
      profile->scorers.push_back({make_kv_cache_scorer(), 2});
      profile->scorers.push_back({make_prefix_cache_scorer(), 3});
      profile->chain_hash = ChainHash::xxh64;
      profile->picker = make_picker(Pick::max_score);
      profile->uses_prefix = true;
      break;
    case Policy::random:
      profile->picker = make_picker(Pick::random);
      break;
    case Policy::round_robin:
      profile->picker = make_picker(Pick::round_robin);
      break;
    case Policy::least_load:
      profile->scorers.push_back({make_least_load_scorer(), 1});
      profile->picker = make_picker(Pick::max_score);
      break;
    case Policy::expected_cost:
      profile->scorers.push_back({make_expected_cost_scorer(), 1});
      profile->picker = make_picker(Pick::max_score);
      profile->uses_prefix = true;
      break;
  }
  return profile;
}

}  // namespace penstock::routing
