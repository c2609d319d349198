// The scorers with parameters or a memory of their own, of the Endpoint Picker and of llm-d.
#include <algorithm>
#include <atomic>
#include <limits>

#include "expected_cost.h"
#include "latency.h"
#include "load_estimate.h"
#include "penstock/routing/session_token.h"
#include "plugins.h"

namespace penstock::routing {
namespace {

using Scores = std::span<double>;
using Candidates = std::span<const Candidate>;

// Base of those that judge each candidate by itself.
template <typename Judge>
class EachScorer final : public Scorer {
 public:
  EachScorer(const PluginInfo& info, Judge judge) : type_(info.type), judge_(std::move(judge)) {}
  std::string_view type() const override { return type_; }
  void score(const Inputs& in, Candidates candidates, Scores scores) const override {
    for (size_t i = 0; i < candidates.size(); ++i) scores[i] = judge_(in, candidates[i]);
  }

 private:
  std::string_view type_;
  Judge judge_;
};

template <typename Judge>
std::unique_ptr<Scorer> each(const PluginSpec& spec, Judge judge) {
  return std::make_unique<EachScorer<Judge>>(*spec.info, std::move(judge));
}

std::unique_ptr<Scorer> expected_cost(const PluginSpec& spec) {
  const std::string said = spec.text("coldStart");
  ExpectedCostOptions options;
  if (said == "token-rule") options.cold_start = ColdStart::token_rule;
  if (said == "assumed-pace") options.cold_start = ColdStart::assumed_pace;
  return std::make_unique<ExpectedCostScorer>(options);
}

// 0.5 without a queue, falling to 0 at the threshold.
std::unique_ptr<Scorer> load_aware(const PluginSpec& spec) {
  return each(spec, [threshold = spec.number("threshold", 128)](const Inputs& in, const Candidate& candidate) {
    return 0.5 * (1 - std::min(waiting(in, candidate), threshold) / threshold);
  });
}

// 1 without a token in flight, falling to 0 at the threshold.
std::unique_ptr<Scorer> token_load(const PluginSpec& spec) {
  return each(spec,
              [threshold = spec.number("queueThresholdTokens", 4'194'304)](const Inputs&, const Candidate& candidate) {
                const int64_t held = candidate.endpoint->state->load.kv_tokens.load(std::memory_order_relaxed);
                return 1 - std::clamp(static_cast<double>(held), 0.0, threshold) / threshold;
              });
}

std::unique_ptr<Scorer> session_affinity(const PluginSpec& spec) {
  return each(spec, [](const Inputs& in, const Candidate& candidate) {
    return is_session_token(in.features.session, candidate.endpoint->state->name) ? 1.0 : 0.0;
  });
}

// Where the pod's label says what the request's header asks for.
std::unique_ptr<Scorer> header_label(const PluginSpec& spec) {
  return each(spec, [header = spec.text("headerName"), label = spec.text("labelKey")](const Inputs& in,
                                                                                      const Candidate& candidate) {
    const std::string_view wanted = header_of(in.features, header);
    const std::string* const value = wanted.empty() ? nullptr : label_of(candidate, label);
    return value != nullptr && *value == wanted ? 1.0 : 0.0;
  });
}

// What the pod's label says, by the weights of its values, the greatest of which is worth 1; any other value, or none,
// is worth as much as the least.
std::unique_ptr<Scorer> label_weight(const PluginSpec& spec) {
  Caps weights = spec.caps("weights");
  double most = 0, least = 1;
  for (const auto& [value, weight] : weights) most = std::max(most, weight);
  for (auto& [value, weight] : weights) least = std::min(least, weight /= most);
  return each(spec, [label = spec.text("label"), weights = std::move(weights), least](const Inputs&,
                                                                                      const Candidate& candidate) {
    const std::string* const value = label_of(candidate, label);
    if (value == nullptr) return least;
    const auto found =
        std::find_if(weights.begin(), weights.end(), [&](const auto& one) { return one.first == *value; });
    return found == weights.end() ? least : found->second;
  });
}

// The shorter the range that the prompt fits and the more room it leaves, the better; out of range, the nearer.
std::unique_ptr<Scorer> context_length(const PluginSpec& spec) {
  return each(spec, [label = spec.text("label", context_length_label)](const Inputs& in, const Candidate& candidate) {
    const std::string* const value = label_of(candidate, label);
    double low = 0, high = 0;
    if (value == nullptr || !parse_range(*value, &low, &high)) return 0.5;
    const double tokens = in.features.prompt_tokens, width = high - low;
    if (tokens < low || tokens > high) return 0.3 / (1 + std::max(low - tokens, tokens - high) / 1000);
    const double room = width > 0 ? (high - tokens) / width : 0;
    return 0.3 + 0.7 * (0.7 / (1 + width / 10000) + 0.3 * room);
  });
}

// Idle 1; busy by our own requests in flight, the busiest 0.
class ActiveRequestScorer final : public Scorer {
 public:
  explicit ActiveRequestScorer(const PluginSpec& spec)
      : idle_(spec.number("idleThreshold", 0)), most_(spec.number("maxBusyScore", 1)) {}
  std::string_view type() const override { return "active-request-scorer"; }
  void score(const Inputs&, Candidates candidates, Scores scores) const override {
    double busiest = 0;
    for (size_t i = 0; i < candidates.size(); ++i) {
      scores[i] = in_flight(candidates[i]);
      busiest = std::max(busiest, scores[i]);
    }
    for (double& score : scores) score = score <= idle_ ? 1 : (busiest - score) / busiest * most_;
  }

 private:
  double idle_, most_;
};

// Spreads prompts that nobody has cached: those that never got one first, then those that got theirs longest ago.
class NoHitLruScorer final : public Scorer {
 public:
  explicit NoHitLruScorer(const PluginSpec& spec)
      : remembered_(static_cast<size_t>(spec.number("lruSize", 1024))),
        slots_(std::make_unique<Slot[]>(PrefixIndex::endpoint_slots_max)) {}
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
  // Of those that were used only the last lruSize are remembered; the others count as never used, in the order of the
  // candidates.
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
  explicit MatchLengthScorer(const PluginSpec& spec)
      : weight_(spec.number("matchLengthWeight", 0)), scale_(spec.number("matchLengthScaleTokens", 8192)) {}
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

std::unique_ptr<Scorer> make_scorer(const PluginSpec& spec, const PredictionSpec& prediction, const MediaSpec& media,
                                    std::span<const CustomMetric> metrics) {
  const std::string_view type = spec.info->type;
  if (auto scorer = make_media_scorer(spec, media)) return scorer;
  if (auto scorer = make_attribute_scorer(spec, metrics)) return scorer;
  if (auto scorer = make_latency_scorer(spec, prediction)) return scorer;
  if (type == "expected-cost-scorer") return expected_cost(spec);
  if (type == "lmetric-scorer") return std::make_unique<LMetricScorer>();
  if (type == "load-aware-scorer") return load_aware(spec);
  if (type == "token-load-scorer") return token_load(spec);
  if (type == "session-affinity-scorer") return session_affinity(spec);
  if (type == "header-label-affinity-scorer") return header_label(spec);
  if (type == "endpoint-attribute-weight-scorer") return label_weight(spec);
  if (type == "context-length-aware") return context_length(spec);
  if (type == "active-request-scorer") return std::make_unique<ActiveRequestScorer>(spec);
  if (type == "topology-affinity-scorer") return make_topology_scorer(spec);
  if (type == "prefix-cache-scorer" && spec.number("matchLengthWeight", 0) > 0) {
    return std::make_unique<MatchLengthScorer>(spec);
  }
  if (type == "no-hit-lru-scorer") return std::make_unique<NoHitLruScorer>(spec);
  return make_scorer(type);
}

}  // namespace penstock::routing
