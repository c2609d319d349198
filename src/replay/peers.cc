#include "peers.h"

#include <algorithm>
#include <cmath>

#include "penstock/engine/text.h"

namespace penstock::replay {
namespace {

using routing::Candidate;
using routing::Inputs;
using routing::Scorer;

double in_flight(const Candidate& candidate) {
  return static_cast<double>(candidate.endpoint->state->load.requests.load(std::memory_order_relaxed));
}
double waiting_tokens(const Candidate& candidate) {
  return static_cast<double>(candidate.endpoint->state->load.prefill_tokens.load(std::memory_order_relaxed));
}
double held_tokens(const Candidate& candidate) {
  return static_cast<double>(candidate.endpoint->state->load.kv_tokens.load(std::memory_order_relaxed));
}
double matched_tokens(const Inputs& in, const Candidate& candidate) {
  return std::min<double>(double(candidate.matched_blocks) * in.features.block_tokens, in.features.prompt_tokens);
}
double uncached_tokens(const Inputs& in, const Candidate& candidate) {
  return in.features.prompt_tokens - matched_tokens(in, candidate);
}

// The cheapest gets 1, the others less, in the order of their costs.
void cheapest_first(std::span<double> costs) {
  const auto [low, high] = std::minmax_element(costs.begin(), costs.end());
  const double least = *low, range = *high - *low;
  for (double& cost : costs) cost = range > 0 ? 1 - (cost - least) / range : 1;
}

class CostScorer final : public Scorer {
 public:
  using Cost = double (*)(const Inputs& in, const Candidate& candidate);
  CostScorer(std::string_view type, Cost cost) : type_(type), cost_(cost) {}
  std::string_view type() const override { return type_; }
  void score(const Inputs& in, std::span<const Candidate> candidates, std::span<double> scores) const override {
    for (size_t i = 0; i < candidates.size(); ++i) scores[i] = cost_(in, candidates[i]);
    cheapest_first(scores);
  }

 private:
  std::string_view type_;
  Cost cost_;
};

// Marks those that have the most (or least) of `value` among those that `allowed` lets through; ties are the picker's.
template <typename Allowed, typename Value>
void mark_best(std::span<const Candidate> candidates, std::span<double> scores, const Allowed& allowed,
               const Value& value) {
  double best = -INFINITY;
  for (const Candidate& candidate : candidates) {
    if (allowed(candidate)) best = std::max(best, value(candidate));
  }
  for (size_t i = 0; i < candidates.size(); ++i) {
    scores[i] = allowed(candidates[i]) && value(candidates[i]) == best ? 1 : 0;
  }
}

bool anybody(const Candidate&) {
  return true;
}
double least_requests(const Candidate& candidate) {
  return -in_flight(candidate);
}

struct Spread {
  double low = INFINITY, high = 0, mean = 0, sigma = 0;
};
Spread spread_of(std::span<const Candidate> candidates) {
  Spread spread;
  double sum = 0, squares = 0;
  for (const Candidate& candidate : candidates) {
    const double load = in_flight(candidate);
    spread.low = std::min(spread.low, load);
    spread.high = std::max(spread.high, load);
    sum += load;
    squares += load * load;
  }
  const double n = static_cast<double>(candidates.size());
  spread.mean = sum / n;
  spread.sigma = std::sqrt(std::max(0.0, squares / n - spread.mean * spread.mean));
  return spread;
}

// Out of balance (by more than 64 and half as much again): fewest requests. Else the longest match, if it is more than
// 0.3 of the prompt; else fewest requests.
class SglangCacheAware final : public Scorer {
 public:
  std::string_view type() const override { return "sglang-cache-aware"; }
  void score(const Inputs& in, std::span<const Candidate> candidates, std::span<double> scores) const override {
    const Spread spread = spread_of(candidates);
    const bool balanced = spread.high - spread.low <= 64 || spread.high <= 1.5 * spread.low;
    const auto matched = [&in](const Candidate& candidate) { return matched_tokens(in, candidate); };
    if (balanced) {
      mark_best(candidates, scores, anybody, matched);
      const auto best = std::find(scores.begin(), scores.end(), 1.0);
      const Candidate& longest = candidates[static_cast<size_t>(best - scores.begin())];
      if (matched(longest) > 0.3 * in.features.prompt_tokens) return;
    }
    mark_best(candidates, scores, anybody, least_requests);
  }
};

// Loads that differ by more than 8: the least loaded. Else the longest match among those not above mean plus sigma.
class AibrixPrefixCache final : public Scorer {
 public:
  std::string_view type() const override { return "aibrix-prefix-cache"; }
  void score(const Inputs& in, std::span<const Candidate> candidates, std::span<double> scores) const override {
    const Spread spread = spread_of(candidates);
    const auto fair = [&](const Candidate& candidate) {
      return candidate.matched_blocks > 0 && in_flight(candidate) <= spread.mean + spread.sigma;
    };
    const bool warm = std::any_of(candidates.begin(), candidates.end(), fair);
    if (spread.high - spread.low > 8 || !warm) return mark_best(candidates, scores, anybody, least_requests);
    // Among equal matches the less loaded.
    mark_best(candidates, scores, fair, [&in](const Candidate& candidate) {
      return matched_tokens(in, candidate) - in_flight(candidate) * 1e-6;
    });
  }
};

// Consistent hashing with bounded loads: the first endpoint on the ring after the hash of the prompt's beginning that
// has not more than 1.25 times its share of the requests.
class BoundedHashing final : public Scorer {
 public:
  std::string_view type() const override { return "bounded-hashing"; }
  void score(const Inputs& in, std::span<const Candidate> candidates, std::span<double> scores) const override {
    double total = 1;
    for (const Candidate& candidate : candidates) total += in_flight(candidate);
    const double most = std::ceil(load_factor * total / static_cast<double>(candidates.size()));
    const auto& blocks = in.features.blocks;
    const size_t key_blocks = std::min<size_t>(blocks.size(), key_tokens / in.features.block_tokens);
    const uint64_t key = key_blocks == 0 ? in.random.next() : blocks[key_blocks - 1];

    uint64_t nearest = UINT64_MAX;
    size_t chosen = 0;
    for (size_t i = 0; i < candidates.size(); ++i) {
      scores[i] = 0;
      if (in_flight(candidates[i]) + 1 > most) continue;
      for (uint64_t place = 0; place < places; ++place) {
        const uint64_t distance = engine::mix(candidates[i].endpoint->state->slot, place) - key;
        if (distance >= nearest) continue;
        nearest = distance;
        chosen = i;
      }
    }
    scores[chosen] = 1;
  }

 private:
  static constexpr double load_factor = 1.25;
  static constexpr size_t key_tokens = 4096;
  static constexpr uint64_t places = 100;  // of each endpoint on the ring
};

// Queues this much longer, in tokens, break the affinity: 15,928 tokens/s for 18 s.
constexpr double affinity = 0.8, affinity_tokens_max = 286'720;

}  // namespace

void NoHitLruScorer::score(const Inputs&, std::span<const Candidate> candidates, std::span<double> scores) const {
  const bool hit =
      std::any_of(candidates.begin(), candidates.end(), [](const Candidate& c) { return c.matched_blocks > 0; });
  const auto last = [this](const Candidate& candidate) {
    const uint32_t slot = candidate.endpoint->state->slot;
    return slot < last_cold_.size() ? last_cold_[slot] : 0;
  };
  const double others = std::max(1.0, static_cast<double>(candidates.size()) - 1);
  for (size_t i = 0; i < candidates.size(); ++i) {
    const auto newer = [&](const Candidate& other) { return last(other) > last(candidates[i]); };
    const auto count = std::count_if(candidates.begin(), candidates.end(), newer);
    scores[i] = hit ? 0.5 : static_cast<double>(count) / others;
  }
}

void NoHitLruScorer::picked(const routing::Features&, const routing::Decision& decision, Instant) const {
  if (decision.matched_blocks > 0) return;
  const uint32_t slot = decision.endpoint->slot;
  if (last_cold_.size() <= slot) last_cold_.resize(slot + 1);
  last_cold_[slot] = ++picks_;
}

void PrefixAffinityFilter::filter(const Inputs& in, std::vector<Candidate>& candidates) const {
  const auto warm = [&in](const Candidate& candidate) {
    return in.features.prompt_tokens > 0 && matched_tokens(in, candidate) >= affinity * in.features.prompt_tokens;
  };
  double warm_queue = INFINITY, cold_queue = INFINITY;
  for (const Candidate& candidate : candidates) {
    double& queue = warm(candidate) ? warm_queue : cold_queue;
    queue = std::min(queue, waiting_tokens(candidate));
  }
  if (std::isinf(warm_queue) || warm_queue - cold_queue > affinity_tokens_max) return;
  std::erase_if(candidates, [&](const Candidate& candidate) { return !warm(candidate); });
}

std::unique_ptr<Scorer> token_load() {
  return std::make_unique<CostScorer>("token-load-scorer", [](const Inputs& in, const Candidate& candidate) {
    return waiting_tokens(candidate) + uncached_tokens(in, candidate);
  });
}

std::unique_ptr<Scorer> lmetric() {
  return std::make_unique<CostScorer>("lmetric", [](const Inputs& in, const Candidate& candidate) {
    return (waiting_tokens(candidate) + uncached_tokens(in, candidate)) * (in_flight(candidate) + 1);
  });
}

std::unique_ptr<Scorer> sglang_lmetric() {
  return std::make_unique<CostScorer>("sglang-lmetric", [](const Inputs& in, const Candidate& candidate) {
    return uncached_tokens(in, candidate) * (in_flight(candidate) + 1);
  });
}

std::unique_ptr<Scorer> dynamo() {
  return std::make_unique<CostScorer>("dynamo-kv", [](const Inputs& in, const Candidate& candidate) {
    const double prefill = waiting_tokens(candidate) + uncached_tokens(in, candidate);
    return prefill + held_tokens(candidate) + in.features.prompt_tokens;  // blocks, times their size
  });
}

std::unique_ptr<Scorer> sglang_cache_aware() {
  return std::make_unique<SglangCacheAware>();
}
std::unique_ptr<Scorer> aibrix_prefix_cache() {
  return std::make_unique<AibrixPrefixCache>();
}
std::unique_ptr<Scorer> bounded_hashing() {
  return std::make_unique<BoundedHashing>();
}

}  // namespace penstock::replay
