// The scorers, each with its options. Whoever makes a profile chooses among them; defaults of their parameters are
// those of the EndpointPickerConfig (src/epp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "penstock/base/time.h"
#include "penstock/routing/headroom.h"
#include "penstock/routing/labels.h"
#include "penstock/routing/router.h"

namespace penstock::routing {

// ---- load ----

std::unique_ptr<Scorer> make_queue_scorer();
std::unique_ptr<Scorer> make_running_requests_scorer();
std::unique_ptr<Scorer> make_kv_cache_scorer();
std::unique_ptr<Scorer> make_least_load_scorer();
// 0.5 without a queue, falling to 0 at the threshold.
std::unique_ptr<Scorer> make_load_aware_scorer(double queue_threshold);
// 1 without a token in flight, falling to 0 at the threshold.
std::unique_ptr<Scorer> make_token_load_scorer(double tokens_threshold);

struct ActiveRequestOptions {
  double idle_threshold = 0;  // so many requests in flight are none
  double max_busy_score = 1;
};
std::unique_ptr<Scorer> make_active_request_scorer(const ActiveRequestOptions& options);

// What decides while too little is learnt: the formula at an assumed pace, or llm-d's token rule, which needs no pace.
// `defaults`: the token rule if nobody's metrics are fresh either, else the formula.
enum class ColdStart : uint8_t { defaults, token_rule, assumed_pace };
std::unique_ptr<Scorer> make_expected_cost_scorer(ColdStart cold_start = ColdStart::defaults);

// ---- what is cached ----

std::unique_ptr<Scorer> make_prefix_cache_scorer();
std::unique_ptr<Scorer> make_precise_prefix_cache_scorer();
// prefix-cache-scorer, for which also the length of a match counts, beside its share of the prompt.
struct MatchLengthOptions {
  double weight = 0;
  double scale_tokens = 8192;  // a match of so many counts fully
};
std::unique_ptr<Scorer> make_match_length_scorer(const MatchLengthOptions& options);
std::unique_ptr<Scorer> make_lmetric_scorer();
std::unique_ptr<Scorer> make_no_hit_lru_scorer(size_t remembered);
// `items`: images, audio or video that each endpoint is believed to remember.
std::unique_ptr<Scorer> make_media_scorer(uint64_t items);

// prefix-cache-scorer of requests with the same prompt that come at once.
struct BurstOptions {
  static constexpr uint32_t per_replica_max = 4095;
  Duration window = milliseconds(100);  // requests that come so soon after the first belong together
  uint32_t per_replica = 0;             // so many with the same prompt for each endpoint; 0: any number
  uint32_t tokens_max = 0;              // prompts that are the same up to here are the same; 0: the whole counts
  uint32_t begin_tokens = 0;            // so long a beginning in common is worth something, too; 0: none is
};
std::unique_ptr<Scorer> make_burst_scorer(const BurstOptions& options);

// ---- what the request brings, and what the pod's labels say ----

std::unique_ptr<Scorer> make_lora_affinity_scorer();
std::unique_ptr<Scorer> make_session_affinity_scorer();

// Where the pod's label says what the request's header asks for.
struct HeaderLabelOptions {
  std::string header, label;
};
std::unique_ptr<Scorer> make_header_label_scorer(HeaderLabelOptions options);

struct LabelWeightOptions {
  std::string label;
  std::vector<std::pair<std::string, double>> weights;  // by value; at least one, all above 0
};
std::unique_ptr<Scorer> make_label_weight_scorer(LabelWeightOptions options);
std::unique_ptr<Scorer> make_context_length_scorer(std::string label);
std::unique_ptr<Scorer> make_topology_scorer(TopologyLabels labels);

// ---- a gauge of the model servers ----

struct AttributeScorerOptions {
  size_t metric = 0;  // its place in EngineMetrics::custom
  bool lower_is_better = false;
  std::optional<std::pair<double, double>> range;  // from, to; nothing: of the candidates
};
std::unique_ptr<Scorer> make_attribute_scorer(const AttributeScorerOptions& options);

// ---- predicted latency ----

struct LatencyScorerOptions {
  HeadroomOptions headroom;
  double first_token_weight = 0.8, pace_weight = 0.2;
  bool most = false;            // the most headroom is best, instead of the least
  bool composite_only = false;  // predictions are not looked at
  CompositeWeights composite;
};
std::unique_ptr<Scorer> make_latency_scorer(const LatencyScorerOptions& options);

struct PredictedLatencyOptions {
  enum class Strategy : uint8_t { least, most, composite_least, composite_most, composite_only };
  struct Weights {
    double first_token = 0.8, pace = 0.2;
  };
  HeadroomOptions headroom;
  Strategy strategy = Strategy::least;
  bool greedy = false;  // the heaviest, instead of one by chance in proportion to the weights
  Weights with_headroom, without_headroom;
  CompositeWeights composite;
  double explore_sticky = 0.01, explore_without_headroom = 0.01;
  double sticky_share = 0.8, sticky_share_of_all = 0.99;
};
std::unique_ptr<Scorer> make_predicted_latency_scorer(const PredictedLatencyOptions& options);

}  // namespace penstock::routing
