// Who refuses requests of negative priority before anybody is chosen for them.
#include <algorithm>
#include <cmath>

#include "latency.h"
#include "load_estimate.h"
#include "penstock/routing/filters.h"

namespace penstock::routing {
namespace {

using Candidates = std::span<const Candidate>;

// latency-slo-admitter: refuses requests of negative priority that say how fast they want an answer, when nobody is
// expected to be that fast and nobody is idle, or as good as empty, which predictions know little of.
class LatencyAdmitter final : public Admitter {
 public:
  explicit LatencyAdmitter(const HeadroomOptions& options) : options_(options) {}
  std::string_view type() const override { return "latency-slo-admitter"; }
  NoEndpoint refusal(const Inputs& in, Candidates candidates) const override {
    const bool asks = in.features.slo_ttft_ms > 0 || in.features.slo_tpot_ms > 0;
    if (in.features.priority >= 0 || !asks || !predicted(candidates)) return NoEndpoint::none;
    const auto may = [&](const Candidate& candidate) {
      if (in_engine(in, candidate) == 0) return true;
      if (known(in, candidate) && candidate.endpoint->metrics.kv_usage < cold) return true;
      return headroom_of(in, candidate, options_).positive();
    };
    return std::any_of(candidates.begin(), candidates.end(), may) ? NoEndpoint::none : NoEndpoint::too_slow;
  }

 private:
  static constexpr double cold = 0.02;  // KV use
  HeadroomOptions options_;
};

// probabilistic-admitter: the busier the pool, the more of them are refused.
class ProbabilisticAdmitter final : public Admitter {
 public:
  explicit ProbabilisticAdmitter(const ProbabilisticOptions& options) : options_(options) {}
  std::string_view type() const override { return "probabilistic-admitter"; }
  NoEndpoint refusal(const Inputs& in, Candidates candidates) const override {
    if (in.features.priority >= 0 || candidates.empty()) return NoEndpoint::none;
    double sum = 0;
    for (const Candidate& candidate : candidates) {
      const double kv = known(in, candidate) ? candidate.endpoint->metrics.kv_usage / options_.kv_usage : 0;
      sum += std::max(waiting(in, candidate) / options_.queue, kv);
    }
    const double saturation = sum / static_cast<double>(candidates.size());
    const double probability = options_.factor * std::pow(saturation, options_.power);
    if (probability <= 0) return NoEndpoint::none;
    return probability >= 1 || in.random.chance(probability) ? NoEndpoint::shed : NoEndpoint::none;
  }

 private:
  ProbabilisticOptions options_;
};

}  // namespace

std::unique_ptr<Admitter> make_latency_admitter(const HeadroomOptions& headroom) {
  return std::make_unique<LatencyAdmitter>(headroom);
}

std::unique_ptr<Admitter> make_probabilistic_admitter(const ProbabilisticOptions& options) {
  return std::make_unique<ProbabilisticAdmitter>(options);
}

}  // namespace penstock::routing
