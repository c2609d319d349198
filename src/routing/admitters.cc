// Who refuses requests of negative priority before anybody is chosen for them.
#include <algorithm>
#include <cmath>

#include "latency.h"
#include "load_estimate.h"
#include "plugins.h"

namespace penstock::routing {
namespace {

using Candidates = std::span<const Candidate>;

// latency-slo-admitter: refuses requests of negative priority that say how fast they want an answer, when nobody is
// expected to be that fast and nobody is idle, or as good as empty, which predictions know little of.
class LatencyAdmitter final : public Admitter {
 public:
  explicit LatencyAdmitter(const PredictionSpec& prediction) : prediction_(prediction) {}
  std::string_view type() const override { return "latency-slo-admitter"; }
  NoEndpoint refusal(const Inputs& in, Candidates candidates) const override {
    const bool asks = in.features.slo_ttft_ms > 0 || in.features.slo_tpot_ms > 0;
    if (in.features.priority >= 0 || !asks || !predicted(candidates)) return NoEndpoint::none;
    const auto may = [&](const Candidate& candidate) {
      if (in_engine(in, candidate) == 0) return true;
      if (known(in, candidate) && candidate.endpoint->metrics.kv_usage < cold) return true;
      return headroom_of(in, candidate, prediction_).positive();
    };
    return std::any_of(candidates.begin(), candidates.end(), may) ? NoEndpoint::none : NoEndpoint::too_slow;
  }

 private:
  static constexpr double cold = 0.02;  // KV use
  PredictionSpec prediction_;
};

// probabilistic-admitter: the busier the pool, the more of them are refused.
class ProbabilisticAdmitter final : public Admitter {
 public:
  explicit ProbabilisticAdmitter(const PluginSpec& spec)
      : queue_(spec.number("queueDepthThreshold", 5)),
        kv_(spec.number("kvCacheUtilThreshold", 0.8)),
        power_(spec.number("power", 5)),
        factor_(spec.number("k", 300)) {}
  std::string_view type() const override { return "probabilistic-admitter"; }
  NoEndpoint refusal(const Inputs& in, Candidates candidates) const override {
    if (in.features.priority >= 0 || candidates.empty()) return NoEndpoint::none;
    double sum = 0;
    for (const Candidate& candidate : candidates) {
      const double kv = known(in, candidate) ? candidate.endpoint->metrics.kv_usage / kv_ : 0;
      sum += std::max(waiting(in, candidate) / queue_, kv);
    }
    const double saturation = sum / static_cast<double>(candidates.size());
    const double probability = factor_ * std::pow(saturation, power_);
    if (probability <= 0) return NoEndpoint::none;
    return probability >= 1 || in.random.chance(probability) ? NoEndpoint::shed : NoEndpoint::none;
  }

 private:
  double queue_, kv_, power_, factor_;
};

}  // namespace

std::unique_ptr<Admitter> make_admitter(const PluginSpec& spec, const PredictionSpec& prediction) {
  const std::string_view type = spec.info->type;
  if (type == "latency-slo-admitter") return std::make_unique<LatencyAdmitter>(prediction);
  if (type == "predicted-latency-scorer") return std::make_unique<LatencyAdmitter>(prediction_of(spec));
  if (type == "probabilistic-admitter") return std::make_unique<ProbabilisticAdmitter>(spec);
  return nullptr;
}

}  // namespace penstock::routing
