// The filters of the Endpoint Picker and of llm-d.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "latency.h"
#include "load_estimate.h"
#include "pace.h"
#include "penstock/routing/session_token.h"
#include "plugins.h"

namespace penstock::routing {
namespace {

// Base of those that judge each candidate by itself.
template <typename Keeps>
class EachFilter final : public Filter {
 public:
  EachFilter(const PluginInfo& info, Keeps keeps) : type_(info.type), keeps_(std::move(keeps)) {}
  std::string_view type() const override { return type_; }
  void filter(const Inputs& in, std::vector<Candidate>& candidates) const override {
    std::erase_if(candidates, [&](const Candidate& candidate) { return !keeps_(in, candidate); });
  }

 private:
  std::string_view type_;
  Keeps keeps_;
};

template <typename Keeps>
std::unique_ptr<Filter> each(const PluginSpec& spec, Keeps keeps) {
  return std::make_unique<EachFilter<Keeps>>(*spec.info, std::move(keeps));
}

std::unique_ptr<Filter> by_label(const PluginSpec& spec, std::string label, std::vector<std::string> values,
                                 bool unlabelled) {
  return each(spec, [label = std::move(label), values = std::move(values), unlabelled](const Inputs&,
                                                                                       const Candidate& candidate) {
    const std::string* const value = label_of(candidate, label);
    return value == nullptr ? unlabelled : std::find(values.begin(), values.end(), *value) != values.end();
  });
}

std::unique_ptr<Filter> by_selector(const PluginSpec& spec) {
  return each(spec, [selector = spec.selector, none = objects::Labels()](const Inputs&, const Candidate& candidate) {
    const auto& labels = candidate.endpoint->labels;
    return selector.matches(labels == nullptr ? none : *labels);
  });
}

std::string_view without_brackets(std::string_view host) {
  return host.size() > 2 && host.front() == '[' && host.back() == ']' ? host.substr(1, host.size() - 2) : host;
}

// Those that the request's header names, by ip or ip:port, in its order. For tests of a whole installation.
class HeaderFilter final : public Filter {
 public:
  std::string_view type() const override { return "header-based-testing-filter"; }
  void filter(const Inputs& in, std::vector<Candidate>& candidates) const override {
    std::erase_if(candidates, [&in](Candidate& candidate) {
      return !find(in.features.test_endpoints, candidate.endpoint->state->address, &candidate.order);
    });
  }

 private:
  static bool find(std::string_view wanted, std::string_view address, uint32_t* place) {
    const std::string_view host = without_brackets(address.substr(0, address.rfind(':')));
    for (*place = 0; !wanted.empty(); ++*place) {
      const size_t comma = std::min(wanted.find(','), wanted.size());
      std::string_view entry = wanted.substr(0, comma);
      wanted.remove_prefix(std::min(comma + 1, wanted.size()));
      while (entry.starts_with(' ')) entry.remove_prefix(1);
      while (entry.ends_with(' ')) entry.remove_suffix(1);
      if (!entry.empty() && (entry == address || without_brackets(entry) == host)) return true;
    }
    return false;
  }
};

// The one whose token the request brings; all when it is not among them.
class SessionFilter final : public Filter {
 public:
  std::string_view type() const override { return "session-affinity-filter"; }
  void filter(const Inputs& in, std::vector<Candidate>& candidates) const override {
    const auto is_it = [&](const Candidate& candidate) {
      return is_session_token(in.features.session, candidate.endpoint->state->name);
    };
    if (std::none_of(candidates.begin(), candidates.end(), is_it)) return;
    std::erase_if(candidates, [&](const Candidate& candidate) { return !is_it(candidate); });
  }
};

// Those that hold most of the prompt, if any; but now and then all of them, so that a prompt can spread, and all when
// the queues before those that hold it are longer by too much.
class PrefixAffinityFilter final : public Filter {
 public:
  PrefixAffinityFilter(const PluginSpec& spec, const PredictionSpec& prediction)
      : predicted_(reads_predictions(spec)),
        streaming_(prediction.streaming),
        threshold_(spec.number("affinityThreshold", 0.8)),
        peak_tokens_per_second_(spec.number("peakPrefillThroughput", 0)),
        exploration_(spec.number("explorationProbability", later_version(spec) ? 0 : 0.01)),
        tokens_max_(spec.number("maxTokensInFlightPenalty", 0)),
        seconds_max_(spec.number("maxTTFTPenaltyMs", default_seconds(spec) * 1000) / 1000) {}
  std::string_view type() const override { return "prefix-cache-affinity-filter"; }
  void filter(const Inputs& in, std::vector<Candidate>& candidates) const override {
    const double blocks = static_cast<double>(in.features.blocks.size());
    const auto warm = [&](const Candidate& candidate) {
      return blocks > 0 && candidate.matched_blocks >= threshold_ * blocks;
    };
    if (std::none_of(candidates.begin(), candidates.end(), warm)) return;
    if (tokens_max_ > 0 && penalty(candidates, warm, waiting_tokens) > tokens_max_) return;
    const bool by_prediction = predicted_ && predicted(candidates);  // else all would be 0, and no load too much
    const auto seconds = [&](const Candidate& candidate) {
      return by_prediction ? predicted_seconds(candidate) : waiting_seconds(candidate);
    };
    if (seconds_max_ > 0 && penalty(candidates, warm, seconds) > seconds_max_) return;
    if (exploration_ > 0 && in.random.chance(exploration_)) return;
    std::erase_if(candidates, [&](const Candidate& candidate) { return !warm(candidate); });
  }

 private:
  // Whoever says where the pace comes from is used to the version that reads that, which had other defaults.
  static bool later_version(const PluginSpec& spec) {
    return spec.has("peakPrefillThroughput") || spec.has("ttftSource");
  }
  static double default_seconds(const PluginSpec& spec) {
    if (later_version(spec)) return 18;
    return spec.has("maxTokensInFlightPenalty") ? 0 : 5;
  }
  // By how much more waits before the least busy of the warm ones than before the least busy of all.
  template <typename Warm, typename Work>
  static double penalty(const std::vector<Candidate>& candidates, const Warm& warm, const Work& work) {
    double warm_queue = INFINITY, queue = INFINITY;
    for (const Candidate& candidate : candidates) {
      const double own = work(candidate);
      queue = std::min(queue, own);
      if (warm(candidate)) warm_queue = std::min(warm_queue, own);
    }
    return warm_queue - queue;
  }
  // Prompt tokens without a first token yet.
  static double waiting_tokens(const Candidate& candidate) {
    const endpoints::LoadCounters& load = candidate.endpoint->state->load;
    return static_cast<double>(std::max<int64_t>(load.prefill_tokens.load(std::memory_order_relaxed), 0));
  }
  double waiting_seconds(const Candidate& candidate) const {
    const double per_token = peak_tokens_per_second_ > 0 ? 1 / peak_tokens_per_second_
                                                         : prefill_seconds_per_token(candidate.endpoint->state->pace);
    return waiting_tokens(candidate) * per_token;
  }

  double predicted_seconds(const Candidate& candidate) const {
    return streaming_ ? candidate.predicted.first_token : candidate.predicted.whole;
  }

  bool predicted_, streaming_;
  double threshold_, peak_tokens_per_second_, exploration_;
  double tokens_max_, seconds_max_;  // 0: no limit, always stick
};

std::unique_ptr<Filter> concurrency(const PluginSpec& spec) {
  const std::string mode = concurrency_mode(spec);
  const double room = 1 + spec.number("headroom", 0);
  const double requests = mode == "tokens" ? INFINITY : spec.number("maxConcurrency", 100) * room;
  const double tokens = mode == "requests" ? INFINITY : spec.number("maxTokenConcurrency", 1'000'000) * room;
  return each(spec, [requests, tokens](const Inputs&, const Candidate& candidate) {
    const endpoints::LoadCounters& load = candidate.endpoint->state->load;
    return static_cast<double>(load.requests.load(std::memory_order_relaxed)) < requests &&
           static_cast<double>(load.kv_tokens.load(std::memory_order_relaxed)) < tokens;
  });
}

// Those whose queue and KV use are within bounds; all when nobody is. What is not known is out of bounds.
class UtilizationFilter final : public Filter {
 public:
  explicit UtilizationFilter(const PluginSpec& spec)
      : queue_(spec.number("queueDepthThreshold", 5) * (1 + spec.number("headroom", 0))),
        kv_(spec.number("kvCacheUtilThreshold", 0.8) * (1 + spec.number("headroom", 0))),
        stale_after_(from_seconds(spec.number("metricsStalenessThreshold", 0.2))) {}
  std::string_view type() const override { return "utilization-detector"; }
  void filter(const Inputs& in, std::vector<Candidate>& candidates) const override {
    const auto within = [&](const Candidate& candidate) {
      const endpoints::EngineMetrics& metrics = candidate.endpoint->metrics;
      return endpoints::fresh(metrics, in.now, std::max(stale_after_, in.metrics_stale_after)) &&
             candidate.endpoint->waiting_now() <= queue_ && metrics.kv_usage <= kv_;
    };
    if (std::none_of(candidates.begin(), candidates.end(), within)) return;
    std::erase_if(candidates, [&](const Candidate& candidate) { return !within(candidate); });
  }

 private:
  double queue_, kv_;
  Duration stale_after_;
};

double gauge(const Inputs& in, const Candidate& candidate, std::string_view name) {
  if (name == "active-requests") return in_flight(candidate);
  if (name == "waiting-queue") return waiting(in, candidate);
  const bool is_known = known(in, candidate);
  if (name == "running-requests") return is_known ? candidate.endpoint->metrics.running : in_flight(candidate);
  return is_known ? candidate.endpoint->metrics.kv_usage : 0;
}

// Those within all caps. What is not known of a queue is what we have in flight there; KV use that is not is within.
class CapFilter final : public Filter {
 public:
  explicit CapFilter(const PluginSpec& spec)
      : caps_(spec.caps("conditions")), all_if_nobody_(spec.flag("fallbackOnEmpty", false)) {}
  std::string_view type() const override { return "utilization-filter"; }
  void filter(const Inputs& in, std::vector<Candidate>& candidates) const override {
    const auto within = [&](const Candidate& candidate) {
      return std::all_of(caps_.begin(), caps_.end(),
                         [&](const auto& cap) { return gauge(in, candidate, cap.first) <= cap.second; });
    };
    if (all_if_nobody_ && std::none_of(candidates.begin(), candidates.end(), within)) return;
    std::erase_if(candidates, [&](const Candidate& candidate) { return !within(candidate); });
  }

 private:
  Caps caps_;
  bool all_if_nobody_;
};

std::unique_ptr<Filter> context_length(const PluginSpec& spec) {
  return each(spec, [label = spec.text("label", context_length_label)](const Inputs& in, const Candidate& candidate) {
    const std::string* const value = label_of(candidate, label);
    double low = 0, high = 0;
    if (value == nullptr || !parse_range(*value, &low, &high)) return true;
    return in.features.prompt_tokens >= low && in.features.prompt_tokens <= high;
  });
}

std::vector<std::string> roles(std::initializer_list<const char*> names) {
  return {names.begin(), names.end()};
}

}  // namespace

bool parse_range(std::string_view text, double* low, double* high) {
  const char* const end = text.data() + text.size();
  const auto first = std::from_chars(text.data(), end, *low);
  if (first.ec != std::errc{} || first.ptr == end || *first.ptr != '-') return false;
  const auto second = std::from_chars(first.ptr + 1, end, *high);
  return second.ec == std::errc{} && second.ptr == end && *low >= 0 && *high >= *low;
}

const std::string* label_of(const Candidate& candidate, std::string_view key) {
  const auto& labels = candidate.endpoint->labels;
  return labels == nullptr ? nullptr : objects::find_label(*labels, key);
}

std::unique_ptr<Filter> make_filter(const PluginSpec& spec, const PredictionSpec& prediction,
                                    std::span<const CustomMetric> metrics) {
  constexpr std::string_view role = "llm-d.ai/role";
  const std::string_view type = spec.info->type;
  if (auto filter = make_latency_filter(spec, prediction)) return filter;
  if (auto filter = make_attribute_filter(spec, metrics)) return filter;
  if (type == "header-based-testing-filter") return std::make_unique<HeaderFilter>();
  if (type == "session-affinity-filter") return std::make_unique<SessionFilter>();
  if (type == "by-label") {
    return by_label(spec, spec.text("label"), spec.texts("validValues"), spec.flag("allowsNoLabel", false));
  }
  if (type == "by-label-selector") return by_selector(spec);
  if (type == "decode-filter") {
    return by_label(spec, std::string(role), roles({"decode", "prefill-decode", "both", "encode-prefill-decode"}),
                    true);
  }
  if (type == "prefill-filter") {
    return by_label(spec, std::string(role),
                    roles({"prefill", "encode-prefill", "prefill-decode", "both", "encode-prefill-decode"}), false);
  }
  if (type == "encode-filter") {
    return by_label(spec, std::string(role), roles({"encode", "encode-prefill", "encode-prefill-decode"}), false);
  }
  if (type == "prefix-cache-affinity-filter") return std::make_unique<PrefixAffinityFilter>(spec, prediction);
  if (type == "concurrency-detector") return concurrency(spec);
  if (type == "utilization-filter") return std::make_unique<CapFilter>(spec);
  if (type == "topology-affinity-filter") return make_topology_filter(spec);
  if (type == "utilization-detector") return std::make_unique<UtilizationFilter>(spec);
  if (type == "context-length-aware" && spec.flag("enableFiltering", false)) return context_length(spec);
  return nullptr;
}

}  // namespace penstock::routing
