// The plugins of an EndpointPickerConfig, as data: what there is, by which names, with which parameters; and from what
// a configuration says of them to a Profile. Names, parameters and defaults are those of the Gateway API Inference
// Extension's Endpoint Picker (1.4, 1.5) and of llm-d's (0.8); docs/EPP_CONFIG.md lists where we differ. Start-up only.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "penstock/objects/types.h"
#include "penstock/routing/router.h"

namespace penstock::routing {

enum class PluginKind : uint8_t {
  scorer,
  filter,
  scorer_and_filter,  // filters when a parameter says so
  picker,
  profile_handler,
  decider,      // whether a stage runs
  admitter,     // of requests of negative priority
  screener,     // filters before the profiles do, for all of them alike
  detector,     // of saturation; in a profile it filters
  saturation,   // of saturation only
  flow,         // a policy of flow control
  built_in,     // what the gateway does anyway: accepted, without effect
  unsupported,  // known, but not here: `note` says why and what to use instead
};
std::string_view to_string(PluginKind kind);  // "scorer"

enum class ParameterType : uint8_t {
  boolean,
  integer,
  number,
  duration,
  text,
  choice,
  texts,
  numbers,  // a map of whole numbers to numbers
  caps,     // a list of `metric` (one of `words`) with its `maxValue`
  weights,  // a map of words to numbers above 0, at least one; read as Caps
  selector,
  on,   // boolean, and it is always true: false is accepted without effect, `note` says why
  off,  // likewise
  any,  // whatever it says is accepted without effect: `note` says why. Without a note: it is read by the plugin's own
        // reader
};

struct ParameterInfo {
  std::string_view name;
  ParameterType type;
  double least = 0, most = 0;                    // of integers and numbers; seconds
  std::span<const std::string_view> words = {};  // choice
  bool required = false;
  std::string_view note = {};  // it is accepted and has no effect, for this reason
};

struct PluginInfo {
  std::string_view type;
  PluginKind kind;
  std::span<const ParameterInfo> parameters = {};
  std::string_view note = {};
  bool reads_prefix = false;
};
std::span<const PluginInfo> plugin_types();
const PluginInfo* find_plugin_type(std::string_view type);  // also by an older name; null: there is none
bool runs_in_profile(PluginKind kind);

// Booleans, numbers (durations: seconds), text, lists of text, numbers by priority in the order of that, highest first.
using NumbersByPriority = std::vector<std::pair<int, double>>;
using Caps = std::vector<std::pair<std::string, double>>;
using ParameterValue = std::variant<bool, double, std::string, std::vector<std::string>, NumbersByPriority, Caps>;

struct PluginSpec {
  std::string name;
  const PluginInfo* info = nullptr;
  std::vector<std::pair<std::string, ParameterValue>> parameters;  // checked against `info`
  objects::LabelSelector selector;                                 // of by-label-selector

  bool has(std::string_view parameter) const;
  bool flag(std::string_view parameter, bool otherwise) const;
  double number(std::string_view parameter, double otherwise) const;
  std::string text(std::string_view parameter, std::string_view otherwise = {}) const;
  std::vector<std::string> texts(std::string_view parameter) const;
  NumbersByPriority numbers(std::string_view parameter) const;
  Caps caps(std::string_view parameter) const;
};

// Of a concurrency-detector: "requests" or "tokens", in either spelling.
std::string concurrency_mode(const PluginSpec& detector);

// Of a disaggregatedset-rollout-screener: the roles that a revision must have, in either spelling.
std::vector<std::string> rollout_roles(const PluginSpec& screener);

struct ProfileSpec {
  struct Use {
    PluginSpec plugin;
    double weight = 1;
  };
  std::string name = "default";
  std::vector<Use> plugins;  // filters and scorers in their order, at most one picker
};

// How the prompt is cut into blocks, and how much of each endpoint's cache is believed in.
struct PrefixSpec {
  bool auto_tune = true;       // block size and capacity as the engines say, where they do
  uint32_t block_tokens = 16;  // else these
  uint64_t capacity_blocks = 31'250;
  uint32_t blocks_max = 0;  // the reach; 0: PrefixHashOptions::blocks_max
  uint32_t tokens_max = 0;  // the reach in tokens; 0: not said
  bool operator==(const PrefixSpec&) const = default;
};

// precise-prefix-cache-scorer or -producer: that model servers are to be listened to, and how. Nothing: as kv_events.*
// says.
struct KvEventsSpec {
  std::optional<std::string> topic;
  std::optional<uint32_t> port, replay_port;  // replay_port 0: nobody replays
};

// predicted-latency-producer: which predictions are compared with what requests ask for (x-slo-ttft-ms, x-slo-tpot-ms).
struct PredictionSpec {
  bool made = true;        // false: what needs predictions does without
  bool streaming = false;  // first token and pace; else the end of the answer, against the former's SLO
  double pace_factor = 1;  // on the SLO of the pace
  std::string role_label;  // endpoints of whose label the value is "prefill" are not asked for their pace; "": none
  bool operator==(const PredictionSpec&) const = default;
};

// mm-embeddings-cache-producer: how much of each endpoint's encoder cache is believed in.
struct MediaSpec {
  uint64_t items = 2048;  // images, audio or video
  bool operator==(const MediaSpec&) const = default;
};

// burst-prefix-cache-producer, and which prefix-cache-scorer looks at it: one that names it.
struct BurstSpec {
  static constexpr uint32_t per_replica_max = 4095;
  std::string producer;                 // its name
  Duration window = milliseconds(100);  // requests that come so soon after the first belong together
  uint32_t per_replica = 0;             // so many with the same prompt for each endpoint; 0: any number
  uint32_t tokens_max = 0;              // prompts that are the same up to here are the same; 0: the whole counts
  uint32_t begin_tokens = 0;            // so long a beginning in common is worth something, too; 0: none is
};

// core-metrics-extractor: a gauge of the model servers that scorers and filters may look at, by a name for it.
struct CustomMetric {
  std::string attribute;                                    // that name
  std::string family;                                       // "custom_queue_depth"
  std::vector<std::pair<std::string, std::string>> labels;  // that a series of it must have
  bool operator==(const CustomMetric&) const = default;
};

// core-metrics-extractor: which gauges of an engine say what. Nothing: not said; an empty family: none of them does.
struct EngineSpec {
  using Gauge = std::optional<CustomMetric>;  // without `attribute`
  std::string name;
  Gauge queued, running, kv_usage, loras, cache_config;
  bool operator==(const EngineSpec&) const = default;
};

struct EnginesSpec {
  std::vector<EngineSpec> added;  // beside, or in place of, those that the gateway knows
  std::string otherwise;          // of endpoints that no label names one for; "": not said
  std::string label;              // of a pod, that names its engine; "": not said
  bool operator==(const EnginesSpec&) const = default;
};

struct SchedulingSpec {
  ProfileSpec primary;  // the only one, or that of the decode
  std::optional<ProfileSpec> prefill, encode;
  StageRule prefill_rule, encode_rule;
  // header-profile-handler: the request's header that names the profile, if not the primary one; "": none does.
  std::string profile_header;
  std::vector<ProfileSpec> by_header;
  PrefixSpec prefix;
  std::optional<KvEventsSpec> kv_events;
  std::optional<PredictionSpec> prediction;  // nothing: as PredictionSpec says, where a plugin needs any
  MediaSpec media;
  std::optional<BurstSpec> burst;
  std::vector<CustomMetric> custom_metrics;  // EngineMetrics::custom
  EnginesSpec engines;
  std::vector<PluginSpec> admitters;
  std::optional<PluginSpec> screener;
  uint32_t kv_source_tokens = 0;  // p2p-source-producer: minCachedTokenDelta; 0: there is none
};
std::unique_ptr<Profile> make_profile(const SchedulingSpec& spec);

}  // namespace penstock::routing
