// The plugins that an EndpointPickerConfig makes and the built-in policies do not.
#pragma once

#include <memory>

#include "penstock/routing/plugin.h"

namespace penstock::routing {

// Null: not of that kind.
std::unique_ptr<Filter> make_filter(const PluginSpec& spec, const PredictionSpec& prediction = {},
                                    std::span<const CustomMetric> metrics = {});
std::unique_ptr<Scorer> make_attribute_scorer(const PluginSpec& spec, std::span<const CustomMetric> metrics);
std::unique_ptr<Filter> make_attribute_filter(const PluginSpec& spec, std::span<const CustomMetric> metrics);
std::unique_ptr<Scorer> make_scorer(const PluginSpec& spec, const PredictionSpec& prediction = {},
                                    const MediaSpec& media = {}, std::span<const CustomMetric> metrics = {});
// Whether the plugin scores by what came just before, instead of by what is cached; and the scorer that does.
bool scores_bursts(const PluginSpec& spec, const std::optional<BurstSpec>& burst);
std::unique_ptr<Scorer> make_burst_scorer(const PluginSpec& spec, const BurstSpec& burst);
std::unique_ptr<Scorer> make_media_scorer(const PluginSpec& spec, const MediaSpec& media);
std::unique_ptr<Filter> make_screener(const PluginSpec& spec);         // rollout.cc
std::unique_ptr<Filter> make_topology_filter(const PluginSpec& spec);  // topology.cc
std::unique_ptr<Scorer> make_topology_scorer(const PluginSpec& spec);
std::unique_ptr<Admitter> make_admitter(const PluginSpec& spec, const PredictionSpec& prediction = {});

constexpr std::string_view context_length_label = "llm-d.ai/context-length-range";
// "0-4096" as the label's value says; false when it does not.
bool parse_range(std::string_view text, double* low, double* high);
// The value of a label of the candidate's pod; null: it has none.
const std::string* label_of(const Candidate& candidate, std::string_view key);

}  // namespace penstock::routing
