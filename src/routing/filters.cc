// The filters of the Endpoint Picker and of llm-d.
#include "penstock/routing/filters.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "latency.h"
#include "load_estimate.h"
#include "pace.h"
#include "penstock/base/text.h"
#include "penstock/routing/session_token.h"

namespace penstock::routing {
namespace {

// Base of those that judge each candidate by itself.
template <typename Keeps>
class EachFilter final : public Filter {
 public:
  EachFilter(std::string_view type, Keeps keeps) : type_(type), keeps_(std::move(keeps)) {}
  std::string_view type() const override { return type_; }
  void filter(const Inputs& in, std::vector<Candidate>& candidates) const override {
    std::erase_if(candidates, [&](const Candidate& candidate) { return !keeps_(in, candidate); });
  }

 private:
  std::string_view type_;  // a literal
  Keeps keeps_;
};

template <typename Keeps>
std::unique_ptr<Filter> each(std::string_view type, Keeps keeps) {
  return std::make_unique<EachFilter<Keeps>>(type, std::move(keeps));
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
    const std::string_view host = without_brackets(split_authority(address).host);
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
  explicit PrefixAffinityFilter(const PrefixAffinityOptions& options) : options_(options) {}
  std::string_view type() const override { return "prefix-cache-affinity-filter"; }
  void filter(const Inputs& in, std::vector<Candidate>& candidates) const override {
    const double blocks = static_cast<double>(in.features.blocks.size());
    const auto warm = [&](const Candidate& candidate) {
      return blocks > 0 && candidate.matched_blocks >= options_.threshold * blocks;
    };
    if (std::none_of(candidates.begin(), candidates.end(), warm)) return;
    if (options_.tokens_max > 0 && penalty(candidates, warm, waiting_tokens) > options_.tokens_max) return;
    const bool by_prediction =
        options_.by_prediction && predicted(candidates);  // else all would be 0, and no load too much
    const auto seconds = [&](const Candidate& candidate) {
      return by_prediction ? predicted_seconds(candidate) : waiting_seconds(candidate);
    };
    if (options_.seconds_max > 0 && penalty(candidates, warm, seconds) > options_.seconds_max) return;
    if (options_.exploration > 0 && in.random.chance(options_.exploration)) return;
    std::erase_if(candidates, [&](const Candidate& candidate) { return !warm(candidate); });
  }

 private:
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
    const double per_token = options_.tokens_per_second > 0
                                 ? 1 / options_.tokens_per_second
                                 : prefill_seconds_per_token(candidate.endpoint->state->pace);
    return waiting_tokens(candidate) * per_token;
  }

  double predicted_seconds(const Candidate& candidate) const {
    return options_.streaming ? candidate.predicted.first_token : candidate.predicted.whole;
  }

  PrefixAffinityOptions options_;
};

// Those whose queue and KV use are within bounds; all when nobody is. What is not known is out of bounds.
class UtilizationFilter final : public Filter {
 public:
  explicit UtilizationFilter(const UtilizationLimits& limits) : limits_(limits) {}
  std::string_view type() const override { return "utilization-detector"; }
  void filter(const Inputs& in, std::vector<Candidate>& candidates) const override {
    const auto within = [&](const Candidate& candidate) {
      const endpoints::EngineMetrics& metrics = candidate.endpoint->metrics;
      return endpoints::fresh(metrics, in.now, std::max(limits_.stale_after, in.metrics_stale_after)) &&
             candidate.endpoint->waiting_now() <= limits_.queue && metrics.kv_usage <= limits_.kv_usage;
    };
    if (std::none_of(candidates.begin(), candidates.end(), within)) return;
    std::erase_if(candidates, [&](const Candidate& candidate) { return !within(candidate); });
  }

 private:
  UtilizationLimits limits_;
};

double value_of(const Inputs& in, const Candidate& candidate, Gauge gauge) {
  const bool is_known = known(in, candidate);
  switch (gauge) {
    case Gauge::active_requests:
      return in_flight(candidate);
    case Gauge::waiting_queue:
      return waiting(in, candidate);
    case Gauge::running_requests:
      return is_known ? candidate.endpoint->metrics.running : in_flight(candidate);
    case Gauge::kv_cache_utilization:
      break;
  }
  return is_known ? candidate.endpoint->metrics.kv_usage : 0;
}

// Those within all caps. What is not known of a queue is what we have in flight there; KV use that is not is within.
class CapFilter final : public Filter {
 public:
  explicit CapFilter(CapFilterOptions options) : options_(std::move(options)) {}
  std::string_view type() const override { return options_.type; }
  void filter(const Inputs& in, std::vector<Candidate>& candidates) const override {
    const auto within = [&](const Candidate& candidate) {
      return std::all_of(options_.caps.begin(), options_.caps.end(),
                         [&](const auto& cap) { return value_of(in, candidate, cap.first) <= cap.second; });
    };
    if (options_.all_if_none && std::none_of(candidates.begin(), candidates.end(), within)) return;
    std::erase_if(candidates, [&](const Candidate& candidate) { return !within(candidate); });
  }

 private:
  CapFilterOptions options_;
};

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

std::unique_ptr<Filter> make_label_filter(LabelFilterOptions options) {
  return each(options.type, [options = std::move(options)](const Inputs&, const Candidate& candidate) {
    const std::string* const value = label_of(candidate, options.label);
    if (value == nullptr) return options.without_label;
    return std::find(options.values.begin(), options.values.end(), *value) != options.values.end();
  });
}

std::unique_ptr<Filter> make_selector_filter(objects::LabelSelector selector) {
  return each("by-label-selector",
              [selector = std::move(selector), none = objects::Labels()](const Inputs&, const Candidate& candidate) {
                const auto& labels = candidate.endpoint->labels;
                return selector.matches(labels == nullptr ? none : *labels);
              });
}

std::unique_ptr<Filter> make_context_length_filter(std::string label) {
  return each("context-length-aware", [label = std::move(label)](const Inputs& in, const Candidate& candidate) {
    const std::string* const value = label_of(candidate, label);
    double low = 0, high = 0;
    if (value == nullptr || !parse_range(*value, &low, &high)) return true;
    return in.features.prompt_tokens >= low && in.features.prompt_tokens <= high;
  });
}

std::unique_ptr<Filter> make_header_test_filter() {
  return std::make_unique<HeaderFilter>();
}

std::unique_ptr<Filter> make_session_filter() {
  return std::make_unique<SessionFilter>();
}

std::unique_ptr<Filter> make_prefix_affinity_filter(const PrefixAffinityOptions& options) {
  return std::make_unique<PrefixAffinityFilter>(options);
}

std::unique_ptr<Filter> make_concurrency_filter(const ConcurrencyLimits& limits) {
  return each("concurrency-detector", [limits](const Inputs&, const Candidate& candidate) {
    const endpoints::LoadCounters& load = candidate.endpoint->state->load;
    return static_cast<double>(load.requests.load(std::memory_order_relaxed)) < limits.requests &&
           static_cast<double>(load.kv_tokens.load(std::memory_order_relaxed)) < limits.tokens;
  });
}

std::unique_ptr<Filter> make_utilization_filter(const UtilizationLimits& limits) {
  return std::make_unique<UtilizationFilter>(limits);
}

std::unique_ptr<Filter> make_cap_filter(CapFilterOptions options) {
  return std::make_unique<CapFilter>(std::move(options));
}

}  // namespace penstock::routing
