// What an EndpointPickerConfig says about the choice of an endpoint, as values; and from these to a Profile. Start-up
// only.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "penstock/epp/plugin.h"
#include "penstock/routing/prefix_spec.h"
#include "penstock/routing/router.h"
#include "penstock/routing/scorers.h"

namespace penstock::epp {

struct ProfileSpec {
  struct Use {
    PluginSpec plugin;
    double weight = 1;
  };
  std::string name = "default";
  std::vector<Use> plugins;  // filters and scorers in their order, at most one picker
};

// precise-prefix-cache-scorer or -producer: that model servers are to be listened to, and how. Nothing: as kv_events.*
// says.
struct KvEventsSpec {
  std::optional<std::string> topic;
  std::optional<uint32_t> port, replay_port;  // replay_port 0: nobody replays
};

// predicted-latency-producer: which predictions are compared with what requests ask for (x-slo-ttft-ms, x-slo-tpot-ms).
// But for `made`, fields are those of routing::HeadroomOptions.
struct PredictionSpec {
  bool made = true;  // false: what needs predictions does without
  bool streaming = false;
  double pace_factor = 1;
  std::string role_label;
  bool operator==(const PredictionSpec&) const = default;
};

// mm-embeddings-cache-producer: how much of each endpoint's encoder cache is believed in.
struct MediaSpec {
  uint64_t items = 2048;  // images, audio or video
  bool operator==(const MediaSpec&) const = default;
};

// burst-prefix-cache-producer. A prefix-cache-scorer looks at it if it names it.
struct BurstSpec {
  std::string producer;  // its name
  routing::BurstOptions options;
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
  routing::StageRule prefill_rule, encode_rule;
  // header-profile-handler: the request's header that names the profile, if not the primary one; "": none does.
  std::string profile_header;
  std::vector<ProfileSpec> by_header;
  routing::PrefixSpec prefix;
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
std::unique_ptr<routing::Profile> make_profile(const SchedulingSpec& spec);

// One plugin, as its row makes it. Each: null if it is nothing of that kind. `whole`: what else the configuration says.
std::unique_ptr<routing::Scorer> make_scorer(const PluginSpec& said, const SchedulingSpec& whole = {});
std::unique_ptr<routing::Filter> make_filter(const PluginSpec& said, const SchedulingSpec& whole = {});
std::unique_ptr<routing::Admitter> make_admitter(const PluginSpec& said, const SchedulingSpec& whole = {});
Needs needs_of(const PluginSpec& said, const SchedulingSpec& whole);

}  // namespace penstock::epp
