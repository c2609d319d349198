// The scorers with options or a memory of their own, of the Endpoint Picker and of llm-d.
#include <algorithm>
#include <atomic>
#include <limits>

#include "load_estimate.h"
#include "penstock/routing/scorers.h"
#include "penstock/routing/session_token.h"

namespace penstock::routing {
namespace {

using Scores = std::span<double>;
using Candidates = std::span<const Candidate>;

// Base of those that judge each candidate by itself.
template <typename Judge>
class EachScorer final : public Scorer {
 public:
  EachScorer(std::string_view type, Judge judge) : type_(type), judge_(std::move(judge)) {}
  std::string_view type() const override { return type_; }
  void score(const Inputs& in, Candidates candidates, Scores scores) const override {
    for (size_t i = 0; i < candidates.size(); ++i) scores[i] = judge_(in, candidates[i]);
  }

 private:
  std::string_view type_;  // a literal
  Judge judge_;
};

template <typename Judge>
std::unique_ptr<Scorer> each(std::string_view type, Judge judge) {
  return std::make_unique<EachScorer<Judge>>(type, std::move(judge));
}

// Idle 1; busy by our own requests in flight, the busiest 0.
class ActiveRequestScorer final : public Scorer {
 public:
  explicit ActiveRequestScorer(const ActiveRequestOptions& options) : options_(options) {}
  std::string_view type() const override { return "active-request-scorer"; }
  void score(const Inputs&, Candidates candidates, Scores scores) const override {
    double busiest = 0;
    for (size_t i = 0; i < candidates.size(); ++i) {
      scores[i] = in_flight(candidates[i]);
      busiest = std::max(busiest, scores[i]);
    }
    for (double& score : scores)
      score = score <= options_.idle_threshold ? 1 : (busiest - score) / busiest * options_.max_busy_score;
  }

 private:
  ActiveRequestOptions options_;
};

// Spreads prompts that nobody has cached: those that never got one first, then those that got theirs longest ago.
class NoHitLruScorer final : public Scorer {
 public:
  explicit NoHitLruScorer(size_t remembered)
      : remembered_(remembered), slots_(std::make_unique<Slot[]>(PrefixIndex::endpoint_slots_max)) {}
  std::string_view type() const override { return "no-hit-lru-scorer"; }

  void score(const Inputs&, Candidates candidates, Scores scores) const override {
    const size_t count = candidates.size();
    const auto warm = [](const Candidate& candidate) { return candidate.matched_blocks > 0; };
    if (std::any_of(candidates.begin(), candidates.end(), warm)) return std::fill(scores.begin(), scores.end(), 0.5);
    if (count == 1) scores[0] = 1;
    if (count <= 1) return;
    thread_local std::vector<Entry> order;  // one for each shard, kept for its memory
    order.clear();
    for (size_t i = 0; i < count; ++i) order.push_back({last_cold(*candidates[i].endpoint->state), i});
    std::sort(order.begin(), order.end());
    forget_oldest(order);
    const double others = static_cast<double>(count - 1);
    for (size_t rank = 0; rank < count; ++rank) {
      scores[order[rank].index] = std::max(0.0, 1 - static_cast<double>(rank) / others);
    }
  }

  void picked(const Features&, const Decision& decision, Instant) const override {
    if (!decision.cold) return;
    remember(*decision.endpoint);
    if (decision.prefill != nullptr) remember(*decision.prefill);
  }

 private:
  void remember(const endpoints::EndpointState& endpoint) const {
    if (endpoint.slot >= PrefixIndex::endpoint_slots_max) return;
    Slot& slot = slots_[endpoint.slot];
    slot.incarnation.store(endpoint.incarnation, std::memory_order_relaxed);
    slot.last.store(clock_.fetch_add(1, std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }

  struct Entry {
    uint64_t last;  // 0: never
    size_t index;
    bool operator<(const Entry& other) const { return last != other.last ? last < other.last : index < other.index; }
  };
  struct Slot {
    std::atomic<uint64_t> last{0};
    std::atomic<uint32_t> incarnation{0};
  };

  uint64_t last_cold(const endpoints::EndpointState& endpoint) const {
    if (endpoint.slot >= PrefixIndex::endpoint_slots_max) return 0;
    const Slot& slot = slots_[endpoint.slot];
    if (slot.incarnation.load(std::memory_order_relaxed) != endpoint.incarnation) return 0;
    return slot.last.load(std::memory_order_relaxed);
  }
  // Of those that were used only so many are remembered, the last ones; the others count as never used, in the order of
  // the candidates.
  void forget_oldest(std::vector<Entry>& order) const {
    if (order.size() <= remembered_) return;
    for (Entry& entry : std::span(order).first(order.size() - remembered_)) entry.last = 0;
    std::sort(order.begin(), order.end());
  }

  size_t remembered_;
  std::unique_ptr<Slot[]> slots_;  // by endpoint slot
  mutable std::atomic<uint64_t> clock_{0};
};

// Tokens to compute times requests in flight, this one included.
class LMetricScorer final : public Scorer {
 public:
  std::string_view type() const override { return "lmetric-scorer"; }
  void score(const Inputs& in, Candidates candidates, Scores scores) const override {
    const auto blocks = static_cast<double>(in.features.blocks.size());
    for (size_t i = 0; i < candidates.size(); ++i) {
      scores[i] = (blocks - candidates[i].matched_blocks) * (in_flight(candidates[i]) + 1);
    }
    fewest_first(scores);
  }
};

// The matched share of the prompt, and with its weight the square of the matched length: to compute a prompt of twice
// the length takes more than twice as long.
class MatchLengthScorer final : public Scorer {
 public:
  explicit MatchLengthScorer(const MatchLengthOptions& options)
      : weight_(options.weight), scale_(options.scale_tokens) {}
  std::string_view type() const override { return "prefix-cache-scorer"; }
  void score(const Inputs& in, std::span<const Candidate> candidates, std::span<double> scores) const override {
    const auto blocks = static_cast<double>(in.features.blocks.size());
    for (size_t i = 0; i < candidates.size(); ++i) {
      const auto matched = static_cast<double>(candidates[i].matched_blocks);
      const double length = std::min(1.0, matched * in.features.block_tokens / scale_);
      scores[i] = blocks == 0 ? 0 : weight_ * length * length + (1 - weight_) * matched / blocks;
    }
  }

 private:
  double weight_, scale_;
};

}  // namespace

std::unique_ptr<Scorer> make_load_aware_scorer(double queue_threshold) {
  return each("load-aware-scorer", [queue_threshold](const Inputs& in, const Candidate& candidate) {
    return 0.5 * (1 - std::min(waiting(in, candidate), queue_threshold) / queue_threshold);
  });
}

std::unique_ptr<Scorer> make_token_load_scorer(double tokens_threshold) {
  return each("token-load-scorer", [tokens_threshold](const Inputs&, const Candidate& candidate) {
    const int64_t held = candidate.endpoint->state->load.kv_tokens.load(std::memory_order_relaxed);
    return 1 - std::clamp(static_cast<double>(held), 0.0, tokens_threshold) / tokens_threshold;
  });
}

std::unique_ptr<Scorer> make_session_affinity_scorer() {
  return each("session-affinity-scorer", [](const Inputs& in, const Candidate& candidate) {
    return is_session_token(in.features.session, candidate.endpoint->state->name) ? 1.0 : 0.0;
  });
}

std::unique_ptr<Scorer> make_header_label_scorer(HeaderLabelOptions options) {
  return each("header-label-affinity-scorer",
              [options = std::move(options)](const Inputs& in, const Candidate& candidate) {
                const std::string_view wanted = header_of(in.features, options.header);
                const std::string* const value = wanted.empty() ? nullptr : label_of(candidate, options.label);
                return value != nullptr && *value == wanted ? 1.0 : 0.0;
              });
}

// What the pod's label says, by the weights of its values, the greatest of which is worth 1; any other value, or none,
// is worth as much as the least.
std::unique_ptr<Scorer> make_label_weight_scorer(LabelWeightOptions options) {
  double most = 0, least = 1;
  for (const auto& [value, weight] : options.weights) most = std::max(most, weight);
  for (auto& [value, weight] : options.weights) least = std::min(least, weight /= most);
  return each("endpoint-attribute-weight-scorer",
              [options = std::move(options), least](const Inputs&, const Candidate& candidate) {
                const std::string* const value = label_of(candidate, options.label);
                if (value == nullptr) return least;
                const auto found = std::find_if(options.weights.begin(), options.weights.end(),
                                                [&](const auto& one) { return one.first == *value; });
                return found == options.weights.end() ? least : found->second;
              });
}

// The shorter the range that the prompt fits and the more room it leaves, the better; out of range, the nearer.
std::unique_ptr<Scorer> make_context_length_scorer(std::string label) {
  return each("context-length-aware", [label = std::move(label)](const Inputs& in, const Candidate& candidate) {
    const std::string* const value = label_of(candidate, label);
    double low = 0, high = 0;
    if (value == nullptr || !parse_range(*value, &low, &high)) return 0.5;
    const double tokens = in.features.prompt_tokens, width = high - low;
    if (tokens < low || tokens > high) return 0.3 / (1 + std::max(low - tokens, tokens - high) / 1000);
    const double room = width > 0 ? (high - tokens) / width : 0;
    return 0.3 + 0.7 * (0.7 / (1 + width / 10000) + 0.3 * room);
  });
}

std::unique_ptr<Scorer> make_active_request_scorer(const ActiveRequestOptions& options) {
  return std::make_unique<ActiveRequestScorer>(options);
}

std::unique_ptr<Scorer> make_no_hit_lru_scorer(size_t remembered) {
  return std::make_unique<NoHitLruScorer>(remembered);
}

std::unique_ptr<Scorer> make_lmetric_scorer() {
  return std::make_unique<LMetricScorer>();
}

std::unique_ptr<Scorer> make_match_length_scorer(const MatchLengthOptions& options) {
  return std::make_unique<MatchLengthScorer>(options);
}

}  // namespace penstock::routing
