// The filters, and who refuses requests before anybody is chosen, each with its options.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "penstock/base/time.h"
#include "penstock/objects/types.h"
#include "penstock/routing/headroom.h"
#include "penstock/routing/labels.h"
#include "penstock/routing/router.h"

namespace penstock::routing {

// ---- by labels of the pod ----

struct LabelFilterOptions {
  std::string_view type;  // Filter::type(): several plugins filter so. Lives for ever.
  std::string label;
  std::vector<std::string> values;  // that pass
  bool without_label = false;       // pods without the label pass, too
};
std::unique_ptr<Filter> make_label_filter(LabelFilterOptions options);
std::unique_ptr<Filter> make_selector_filter(objects::LabelSelector selector);
// Those whose range of context lengths the prompt is in, and those without such a label.
std::unique_ptr<Filter> make_context_length_filter(std::string label);

struct TopologyFilterOptions {
  TopologyLabels labels;
  size_t level = 0;  // of topology_levels: those that share it, or a narrower one, with the peer
};
std::unique_ptr<Filter> make_topology_filter(TopologyFilterOptions options);

// While a set of servers that work together is replaced, requests go to servers of one revision only.
struct RolloutOptions {
  objects::LabelSelector scope;
  std::string revision_label, role_label;
  std::vector<std::string> roles;  // that a revision must have
  bool by_largest_role = false;    // revisions are drawn by the servers of their largest role, else of all
};
std::unique_ptr<Filter> make_rollout_filter(RolloutOptions options);

// ---- by what the request brings ----

std::unique_ptr<Filter> make_header_test_filter();
std::unique_ptr<Filter> make_session_filter();

struct PrefixAffinityOptions {
  double threshold = 0.8;      // the share of the prompt that an endpoint must hold
  double exploration = 0.01;   // how often all pass nonetheless
  double seconds_max = 5;      // by which the queue of those that hold it may be longer; 0: no limit
  double tokens_max = 0;       // likewise in tokens
  double tokens_per_second{};  // the pace of a prefill; 0: as learnt
  bool by_prediction = false;  // the queue in seconds is what is predicted, where anything is
  bool streaming = false;      // HeadroomOptions::streaming
};
std::unique_ptr<Filter> make_prefix_affinity_filter(const PrefixAffinityOptions& options);

// ---- by load ----

struct ConcurrencyLimits {
  double requests, tokens;  // INFINITY: any number
};
std::unique_ptr<Filter> make_concurrency_filter(const ConcurrencyLimits& limits);

struct UtilizationLimits {
  double queue, kv_usage;
  Duration stale_after;  // metrics; never less than what is stale anywhere
};
std::unique_ptr<Filter> make_utilization_filter(const UtilizationLimits& limits);

enum class Gauge : uint8_t { active_requests, running_requests, waiting_queue, kv_cache_utilization };
struct CapFilterOptions {
  std::string_view type = "utilization-filter";  // as LabelFilterOptions::type
  std::vector<std::pair<Gauge, double>> caps;
  bool all_if_none = false;  // all pass when none is within the caps
};
std::unique_ptr<Filter> make_cap_filter(CapFilterOptions options);

struct AttributeFilterOptions {
  enum class Rule : uint8_t {
    less,
    less_or_equal,
    greater,
    greater_or_equal,
    equal,
    not_equal,
    range,
    top,
    percentile
  };
  size_t metric = 0;  // its place in EngineMetrics::custom
  bool pass_unknown = true;
  bool all_if_none = false;
  Rule rule = Rule::less;
  double limit = 0;              // of comparisons; the low end of a range
  double limit_high = 0;         // the high end of a range
  size_t count = 0;              // top: so many
  double share = 0;              // percentile, 0 to 1
  bool higher_is_better = true;  // top, percentile
};
std::unique_ptr<Filter> make_attribute_filter(const AttributeFilterOptions& options);

// ---- by predicted latency ----

struct HeadroomTierOptions {
  HeadroomOptions headroom;
  double exploration = 0.01;  // how often those without headroom are tried
};
std::unique_ptr<Filter> make_headroom_tier_filter(const HeadroomTierOptions& options);

// ---- refusals ----

std::unique_ptr<Admitter> make_latency_admitter(const HeadroomOptions& headroom);

struct ProbabilisticOptions {
  double queue = 5, kv_usage = 0.8;  // of a full endpoint
  double power = 5, factor = 300;    // the probability is factor * saturation^power
};
std::unique_ptr<Admitter> make_probabilistic_admitter(const ProbabilisticOptions& options);

}  // namespace penstock::routing
