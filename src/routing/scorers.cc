// The scorers without options. Names and formulas of the well-known ones are those of the Endpoint Picker, so that its
// configurations rank as they did there; where it takes an unknown endpoint for an idle one, we do not.
#include <algorithm>

#include "expected_cost.h"
#include "load_estimate.h"
#include "penstock/routing/scorers.h"

namespace penstock::routing {
namespace {

class QueueScorer final : public Scorer {
 public:
  std::string_view type() const override { return "queue-scorer"; }
  void score(const Inputs& in, std::span<const Candidate> candidates, std::span<double> scores) const override {
    for (size_t i = 0; i < candidates.size(); ++i) scores[i] = waiting(in, candidates[i]);
    fewest_first(scores);
  }
};

class RunningRequestsScorer final : public Scorer {
 public:
  std::string_view type() const override { return "running-requests-size-scorer"; }
  void score(const Inputs& in, std::span<const Candidate> candidates, std::span<double> scores) const override {
    for (size_t i = 0; i < candidates.size(); ++i) {
      const Candidate& candidate = candidates[i];
      scores[i] = known(in, candidate) ? candidate.endpoint->metrics.running : in_flight(candidate);
    }
    fewest_first(scores);
  }
};

class LeastLoadScorer final : public Scorer {
 public:
  std::string_view type() const override { return "least-load-scorer"; }
  void score(const Inputs& in, std::span<const Candidate> candidates, std::span<double> scores) const override {
    for (size_t i = 0; i < candidates.size(); ++i) scores[i] = in_engine(in, candidates[i]);
    fewest_first(scores);
  }
};

// An endpoint whose KV use is unknown gets the mean of the known ones, or 0.5 when there are none.
class KvCacheUtilizationScorer final : public Scorer {
 public:
  std::string_view type() const override { return "kv-cache-utilization-scorer"; }
  void score(const Inputs& in, std::span<const Candidate> candidates, std::span<double> scores) const override {
    double sum = 0;
    size_t count = 0;
    for (size_t i = 0; i < candidates.size(); ++i) {
      scores[i] = unknown;
      if (!known(in, candidates[i])) continue;
      scores[i] = 1.0 - std::clamp(candidates[i].endpoint->metrics.kv_usage, 0.0, 1.0);
      sum += scores[i];
      ++count;
    }
    if (count == candidates.size()) return;
    const double mean = count == 0 ? 0.5 : sum / static_cast<double>(count);
    for (double& score : scores) {
      if (score == unknown) score = mean;
    }
  }

 private:
  static constexpr double unknown = -1;
};

// One class for both names: where an endpoint told what it holds, all that look at matches see that (Candidate::told).
class PrefixCacheScorer : public Scorer {
 public:
  std::string_view type() const override { return "prefix-cache-scorer"; }
  void score(const Inputs& in, std::span<const Candidate> candidates, std::span<double> scores) const override {
    const size_t blocks = in.features.blocks.size();
    for (size_t i = 0; i < candidates.size(); ++i) {
      scores[i] = blocks == 0 ? 0.0 : static_cast<double>(candidates[i].matched_blocks) / static_cast<double>(blocks);
    }
  }
};

class PrecisePrefixCacheScorer final : public PrefixCacheScorer {
 public:
  std::string_view type() const override { return "precise-prefix-cache-scorer"; }
};

// The adapter runs there: 1; there is room for one more: 0.8; it waits there: 0.6; else 0.
class LoraAffinityScorer final : public Scorer {
 public:
  std::string_view type() const override { return "lora-affinity-scorer"; }
  void score(const Inputs& in, std::span<const Candidate> candidates, std::span<double> scores) const override {
    const auto has = [&in](const std::vector<std::string>& loras) {
      return std::find(loras.begin(), loras.end(), in.features.model) != loras.end();
    };
    for (size_t i = 0; i < candidates.size(); ++i) {
      const endpoints::EngineMetrics& metrics = candidates[i].endpoint->metrics;
      if (has(metrics.running_loras)) {
        scores[i] = 1.0;
      } else if (metrics.running_loras.size() + metrics.waiting_loras.size() < metrics.max_loras) {
        scores[i] = 0.8;
      } else {
        scores[i] = has(metrics.waiting_loras) ? 0.6 : 0.0;
      }
    }
  }
};

}  // namespace

std::unique_ptr<Scorer> make_queue_scorer() {
  return std::make_unique<QueueScorer>();
}
std::unique_ptr<Scorer> make_kv_cache_scorer() {
  return std::make_unique<KvCacheUtilizationScorer>();
}
std::unique_ptr<Scorer> make_prefix_cache_scorer() {
  return std::make_unique<PrefixCacheScorer>();
}
std::unique_ptr<Scorer> make_precise_prefix_cache_scorer() {
  return std::make_unique<PrecisePrefixCacheScorer>();
}
std::unique_ptr<Scorer> make_running_requests_scorer() {
  return std::make_unique<RunningRequestsScorer>();
}
std::unique_ptr<Scorer> make_lora_affinity_scorer() {
  return std::make_unique<LoraAffinityScorer>();
}
std::unique_ptr<Scorer> make_least_load_scorer() {
  return std::make_unique<LeastLoadScorer>();
}
std::unique_ptr<Scorer> make_expected_cost_scorer(ColdStart cold_start) {
  return std::make_unique<ExpectedCostScorer>(ExpectedCostOptions{.cold_start = cold_start});
}

}  // namespace penstock::routing
