// Rows of the scorers by predicted latency, and by gauges and labels that a configuration names.
#include <algorithm>

#include "rows.h"

namespace penstock::epp {
namespace {

using namespace rows;
using Made = std::unique_ptr<routing::Scorer>;

routing::CompositeWeights composite_of(const PluginSpec& said) {
  return {.kv = said.number("compositeKVWeight"),
          .queue = said.number("compositeQueueWeight"),
          .prefix = said.number("compositePrefixWeight")};
}
constexpr ParameterInfo composite_kv =
    number("compositeKVWeight", 0, many, "1", "While nothing is predicted: the weight of the free KV cache.");
constexpr ParameterInfo composite_queue = number("compositeQueueWeight", 0, many, "1", "... of the queue.");
constexpr ParameterInfo composite_prefix =
    number("compositePrefixWeight", 0, many, "1", "... of the cached share of the prompt.");

constexpr std::string_view headroom_strategies[] = {"least", "most", "composite-only"};
constexpr ParameterInfo latency_parameters[] = {
    number("ttftWeight", 0, many, "0.8", "The weight of the time to the first token."),
    number("tpotWeight", 0, many, "0.2", "The weight of the pace."),
    choice("headroomSelectionStrategy", headroom_strategies, "least",
           "Which headroom is best; `composite-only`: predictions are not looked at."),
    composite_kv,
    composite_queue,
    composite_prefix,
    match_source,
    latency_source,
};
Made latency(const PluginSpec& said, const SchedulingSpec& whole) {
  const std::string strategy = said.text("headroomSelectionStrategy");
  return routing::make_latency_scorer({.headroom = headroom_of(whole),
                                       .first_token_weight = said.number("ttftWeight"),
                                       .pace_weight = said.number("tpotWeight"),
                                       .most = strategy == "most",
                                       .composite_only = strategy == "composite-only",
                                       .composite = composite_of(said)});
}

// In the order of PredictedLatencyOptions::Strategy.
constexpr std::string_view older_strategies[] = {"least", "most", "composite-least", "composite-most",
                                                 "composite-only"};
constexpr std::string_view selection_modes[] = {"linear", "max"};
constexpr ParameterInfo predicted_latency_parameters[] = {
    boolean("streamingMode", "true", "Predict the first token and the pace; else the end of the response."),
    number("sloBufferFactor", 1e-6, many, "1", "Times the pace that the request asks for."),
    number("headroomTTFTWeight", 0, many, "0.8", "Of those with headroom: the weight of the first token."),
    number("headroomTPOTWeight", 0, many, "0.2", "... of the pace."),
    number("negHeadroomTTFTWeight", 0, many, "0.8", "Of those without headroom: the weight of the first token."),
    number("negHeadroomTPOTWeight", 0, many, "0.2", "... of the pace."),
    choice("headroomSelectionStrategy", older_strategies, "least", "Which headroom is best."),
    choice("selectionMode", selection_modes, "linear", "By chance in proportion to the weights, or the heaviest."),
    composite_kv,
    composite_queue,
    composite_prefix,
    number("epsilonExploreSticky", 0, 1, "0.01", "How often those that do not hold the prompt are tried."),
    number("epsilonExploreNeg", 0, 1, "0.01", "How often those without headroom are tried."),
    number("affinityGateTau", 0, 1, "0.8", "The share of the prompt that those of the chosen kind are to hold."),
    number("affinityGateTauGlobal", 0, 1, "0.99", "... that all are to hold, before anything else is looked at."),
    ignored("samplingMean", all_teach),
    ignored("maxSampledTokens", all_teach),
    ignored("contextTTL", always_counted),
    match_source,
};
// It says for itself what a predicted-latency-producer says for all others.
routing::HeadroomOptions own_headroom(const PluginSpec& said) {
  return {.streaming = said.flag("streamingMode"), .pace_factor = said.number("sloBufferFactor")};
}
Made predicted_latency(const PluginSpec& said, const SchedulingSpec&) {
  const std::string strategy = said.text("headroomSelectionStrategy");
  const auto at = std::ranges::find(older_strategies, strategy) - std::begin(older_strategies);
  return routing::make_predicted_latency_scorer(
      {.headroom = own_headroom(said),
       .strategy = static_cast<routing::PredictedLatencyOptions::Strategy>(at),
       .greedy = said.text("selectionMode") == "max",
       .with_headroom = {said.number("headroomTTFTWeight"), said.number("headroomTPOTWeight")},
       .without_headroom = {said.number("negHeadroomTTFTWeight"), said.number("negHeadroomTPOTWeight")},
       .composite = composite_of(said),
       .explore_sticky = said.number("epsilonExploreSticky"),
       .explore_without_headroom = said.number("epsilonExploreNeg"),
       .sticky_share = said.number("affinityGateTau"),
       .sticky_share_of_all = said.number("affinityGateTauGlobal")});
}
std::unique_ptr<routing::Admitter> predicted_latency_admitter(const PluginSpec& said, const SchedulingSpec&) {
  return routing::make_latency_admitter(own_headroom(said));
}

constexpr double any_number = 1e15;
constexpr std::string_view extractors[] = {"core-metrics-extractor"};
constexpr std::string_view attribute_sources[] = {"endpoint"};
constexpr std::string_view linear_algorithms[] = {"linear_lower_is_better", "linear_higher_is_better"};
constexpr ParameterInfo attribute_parameters[] = {
    needed(text("attributeKey", "", "The gauge, as `core-metrics-extractor` names it.")),
    choice("producer", extractors, "core-metrics-extractor", "The only one."),
    choice("source", attribute_sources, "endpoint", "The only one."),
    needed(choice("algorithm.type", linear_algorithms, "", "Which end of the range is best.")),
    nested("algorithm.normalization.adaptiveRange",
           "From the least to the most of the candidates; so it is where there is no `fixedRange`."),
    number("algorithm.normalization.fixedRange.min", -any_number, any_number, "", "From here"),
    number("algorithm.normalization.fixedRange.max", -any_number, any_number, "", "to here."),
};
Made attribute(const PluginSpec& said, const SchedulingSpec& whole) {
  constexpr std::string_view from = "algorithm.normalization.fixedRange.min";
  constexpr std::string_view to = "algorithm.normalization.fixedRange.max";
  routing::AttributeScorerOptions out = {.metric = place_of_metric(whole, said.text("attributeKey")),
                                         .lower_is_better = said.text("algorithm.type") == linear_algorithms[0]};
  if (said.has(from)) out.range.emplace(said.number(from), said.number(to));
  return routing::make_attribute_scorer(out);
}

constexpr ParameterInfo weight_parameters[] = {
    needed(text("attributeKey", "", "The label, as `label-producer` names it.")),
    text("producer", "", "The name of that `label-producer`, where several give that name."),
    needed({.name = "weights",
            .type = ParameterType::weights,
            .least = 1e-6,
            .most = 1e6,
            .doc = "A weight for each value of the label."}),
};
// Which label it is, read_label_attributes() adds to what is said.
Made label_weight(const PluginSpec& said, const SchedulingSpec&) {
  return routing::make_label_weight_scorer({.label = said.text("label"), .weights = said.caps("weights")});
}

constexpr ParameterInfo context_length_parameters[] = {
    text("label", "llm-d.ai/context-length-range", "The label that says the range, as `0-4096`."),
    boolean("enableFiltering", "false", "Endpoints whose range the prompt is not in are filtered out as well."),
};
Made context_length(const PluginSpec& said, const SchedulingSpec&) {
  return routing::make_context_length_scorer(said.text("label"));
}
std::unique_ptr<routing::Filter> context_length_filter(const PluginSpec& said, const SchedulingSpec&) {
  return said.flag("enableFiltering") ? routing::make_context_length_filter(said.text("label")) : nullptr;
}

constexpr PluginInfo all[] = {
    {.type = "latency-scorer",
     .kind = PluginKind::scorer,
     .doc =
         "By headroom (docs/PREDICTED_LATENCY.md): of those that have any the least of it, from 1 down; of those that "
         "have none, idle ones, then those that miss the pace alone, the first token alone, both, the least missing 1; "
         "the others 0.",
     .parameters = latency_parameters,
     .needs = {.prefixes = true, .predictions = true},
     .make = {.scorer = latency},
     .replay = no_latency},
    {.type = "predicted-latency-scorer",
     .kind = PluginKind::scorer,
     .doc =
         "All in one, as in 1.4: the one that it draws has 1, the others 0. It draws among those that hold most of the "
         "prompt, of these among those with headroom, in proportion to it. In a profile it also refuses requests as "
         "`latency-slo-admitter` does.",
     .parameters = predicted_latency_parameters,
     .needs = {.prefixes = true, .predictions = true},
     .make = {.scorer = predicted_latency, .admitter = predicted_latency_admitter},
     .replay = no_latency},
    {.type = "endpoint-attribute-scorer",
     .kind = PluginKind::scorer,
     .doc = "By a gauge of the model servers, linear between the ends of a range, or between the least and the most of "
            "the "
            "candidates; unknown: 0.",
     .parameters = attribute_parameters,
     .make = {.scorer = attribute},
     .replay = {.note = no_gauges, .of = ReplayRule::Of::both}},
    {.type = "endpoint-attribute-weight-scorer",
     .kind = PluginKind::scorer,
     .doc = "By what a label of the pod says: the weight of that value / the greatest weight; where the value has no "
            "weight, or the pod no such label, the least of these.",
     .parameters = weight_parameters,
     .make = {.scorer = label_weight},
     .replay = no_ranges},
    {.type = "context-length-aware",
     .kind = PluginKind::scorer_and_filter,
     .doc = "By the range of context lengths that the pod's label gives. The prompt is in it: 0.3 + 0.7 × (0.7 / (1 + "
            "width "
            "/ 10,000) + 0.3 × room / width); it is not: 0.3 / (1 + distance / 1,000); no label: 0.5.",
     .parameters = context_length_parameters,
     .make = {.scorer = context_length, .filter = context_length_filter},
     .replay = no_ranges},
};

}  // namespace

std::span<const PluginInfo> gauge_scorer_rows() {
  return all;
}

size_t place_of_metric(const SchedulingSpec& whole, std::string_view attribute) {
  const auto found = std::ranges::find(whole.custom_metrics, attribute, &CustomMetric::attribute);
  return static_cast<size_t>(found - whole.custom_metrics.begin());
}

}  // namespace penstock::epp
