// How rows of plugins are written. Private to the files that hold rows, and to the table that joins them.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/epp/plugin.h"
#include "penstock/epp/scheduling.h"
#include "penstock/routing/filters.h"
#include "penstock/routing/scorers.h"

namespace penstock::epp {

// The rows, by file, in the order in which plugins are offered.
std::span<const PluginInfo> scorer_rows();        // scorers.cc
std::span<const PluginInfo> gauge_scorer_rows();  // gauge_scorers.cc
std::span<const PluginInfo> filter_rows();        // filters.cc
std::span<const PluginInfo> load_filter_rows();   // load_filters.cc
std::span<const PluginInfo> profile_rows();       // profile_plugins.cc
std::span<const PluginInfo> flow_rows();          // flow_policies.cc
std::span<const PluginInfo> producer_rows();      // producers.cc
std::span<const PluginInfo> gateway_part_rows();  // gateway_parts.cc
std::span<const PluginInfo> unsupported_rows();   // unsupported.cc

// In EngineMetrics::custom of each endpoint. Of an attribute that no gauge has: behind the last, where no value is.
size_t place_of_metric(const SchedulingSpec& whole, std::string_view attribute);

// Of a disaggregatedset-rollout-screener: the roles that a revision must have, in either spelling.
std::vector<std::string> rollout_roles(const PluginSpec& screener);

namespace rows {

constexpr double many = 1e9;
constexpr double hour = 3600;
using Words = std::span<const std::string_view>;

// ---- parameters: what may be said, what counts otherwise ("": nothing), and what it is ----

constexpr ParameterInfo boolean(std::string_view name, std::string_view fallback, std::string_view doc) {
  return {.name = name, .type = ParameterType::boolean, .fallback = fallback, .doc = doc};
}
constexpr ParameterInfo integer(std::string_view name, double least, double most, std::string_view fallback,
                                std::string_view doc) {
  return {.name = name, .type = ParameterType::integer, .least = least, .most = most, .fallback = fallback, .doc = doc};
}
constexpr ParameterInfo number(std::string_view name, double least, double most, std::string_view fallback,
                               std::string_view doc) {
  return {.name = name, .type = ParameterType::number, .least = least, .most = most, .fallback = fallback, .doc = doc};
}
constexpr ParameterInfo duration(std::string_view name, double least, double most, std::string_view fallback,
                                 std::string_view doc) {
  return {
      .name = name, .type = ParameterType::duration, .least = least, .most = most, .fallback = fallback, .doc = doc};
}
constexpr ParameterInfo text(std::string_view name, std::string_view fallback, std::string_view doc) {
  return {.name = name, .type = ParameterType::text, .fallback = fallback, .doc = doc};
}
constexpr ParameterInfo choice(std::string_view name, Words words, std::string_view fallback, std::string_view doc) {
  return {.name = name, .type = ParameterType::choice, .words = words, .fallback = fallback, .doc = doc};
}
constexpr ParameterInfo texts(std::string_view name, std::string_view doc) {
  return {.name = name, .type = ParameterType::texts, .doc = doc};
}
// One that the plugin's own reader reads.
constexpr ParameterInfo nested(std::string_view name, std::string_view doc) {
  return {.name = name, .type = ParameterType::any, .doc = doc};
}
constexpr ParameterInfo needed(ParameterInfo parameter) {
  parameter.required = true;
  return parameter;
}

// ---- and those without effect ----

// Whatever it says.
constexpr ParameterInfo ignored(std::string_view name, std::string_view why) {
  return {.name = name, .type = ParameterType::any, .note = why};
}
// If it is right.
constexpr ParameterInfo without_effect(ParameterInfo parameter, std::string_view why) {
  parameter.note = why;
  return parameter;
}
constexpr ParameterInfo always(std::string_view name, bool value, std::string_view why) {
  return {.name = name, .type = value ? ParameterType::on : ParameterType::off, .note = why};
}

// What plugins of the Endpoint Picker say about where their data comes from.
constexpr ParameterInfo match_source =
    without_effect(text("prefixMatchInfoProducerName", "", ""),
                   "there is one prefix index, and every plugin sees the matches of all it knows");
constexpr ParameterInfo load_source = without_effect(
    text("inFlightLoadProducerName", "", ""), "there is one account of what is in flight, and every plugin reads it");
constexpr ParameterInfo latency_source = without_effect(text("latencyPredictionInfoProducerName", "", ""),
                                                        "there is one model of latency, that of the expected cost");

constexpr std::string_view one_index = match_source.note;
constexpr std::string_view always_counted =
    "requests are counted until they end, however long they take, and none is counted twice";
constexpr std::string_view all_teach = "nothing is sampled: every answer teaches";
constexpr std::string_view in_characters = "it is in characters, and replaced by blockSizeTokens";

// ---- what a replay does not know ----

constexpr ReplayRule no_labels = {
    .note =
        "has no effect in a replay: labels of engines are not known there, and all are taken to be those that it wants",
    .of = ReplayRule::Of::left_out};
constexpr ReplayRule no_ranges = {
    .note = "has no effect in a replay: labels of engines are not known there, so all of them pass and score the same",
    .of = ReplayRule::Of::both};
constexpr std::string_view no_gauges =
    "has no effect in a replay: the gauge that it names is not known there, so all engines pass and score the same";
// What recorded decisions tell, and traces do not.
constexpr ReplayRule no_sessions = {.note = "has no effect in a replay: no request of a trace brings x-session-token"};
constexpr ReplayRule no_priorities = {
    .note = "has no effect in a replay: every request of a trace has priority 0, and only negative ones are refused"};
constexpr ReplayRule no_latency = {
    .note =
        "goes without x-slo-ttft-ms and x-slo-tpot-ms in a replay without --ask-slo: nobody has headroom, and the "
        "fastest is best",
    .unless_slo_asked = true};
constexpr ReplayRule no_token_ids = {
    .note =
        "hears no KV events in a replay: prompts are matched by what was sent, as the gateway matches those given "
        "as text"};

// What predictions are compared with, as a predicted-latency-producer says.
inline routing::HeadroomOptions headroom_of(const SchedulingSpec& whole) {
  const PredictionSpec said = whole.prediction.value_or(PredictionSpec());
  return {.streaming = said.streaming, .pace_factor = said.pace_factor, .role_label = said.role_label};
}

}  // namespace rows
}  // namespace penstock::epp
