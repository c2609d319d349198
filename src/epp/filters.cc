// Rows of the filters by labels, by what the request brings, and by what is cached.
#include <algorithm>

#include "rows.h"

namespace penstock::epp {
namespace {

using namespace rows;
using Made = std::unique_ptr<routing::Filter>;

// ---- labels of the pod ----

constexpr ParameterInfo by_label_parameters[] = {
    needed(text("label", "", "The label.")),
    texts("validValues", "Its values that pass."),
    boolean("allowsNoLabel", "false", "Pods without it pass, too. This or `validValues` is needed."),
};
Made by_label(const PluginSpec& said, const SchedulingSpec&) {
  return routing::make_label_filter({.type = said.info->type,
                                     .label = said.text("label"),
                                     .values = said.texts("validValues"),
                                     .without_label = said.flag("allowsNoLabel")});
}

constexpr ParameterInfo selector_parameters[] = {
    {.name = "matchLabels", .type = ParameterType::selector, .doc = "Labels with the values that they must have."},
    {.name = "matchExpressions",
     .type = ParameterType::selector,
     .doc = "Each `key`, `operator` (In, NotIn, Exists, DoesNotExist) and `values`."},
};
Made by_selector(const PluginSpec& said, const SchedulingSpec&) {
  return routing::make_selector_filter(said.selector);
}

Made by_role(const PluginSpec& said, std::initializer_list<const char*> roles, bool without_label = false) {
  return routing::make_label_filter({.type = said.info->type,
                                     .label = "llm-d.ai/role",
                                     .values = {roles.begin(), roles.end()},
                                     .without_label = without_label});
}
Made decodes(const PluginSpec& said, const SchedulingSpec&) {
  return by_role(said, {"decode", "prefill-decode", "both", "encode-prefill-decode"}, /*without_label=*/true);
}
Made prefills(const PluginSpec& said, const SchedulingSpec&) {
  return by_role(said, {"prefill", "encode-prefill", "prefill-decode", "both", "encode-prefill-decode"});
}
Made encodes(const PluginSpec& said, const SchedulingSpec&) {
  return by_role(said, {"encode", "encode-prefill", "encode-prefill-decode"});
}

// ---- what the request brings ----

constexpr std::string_view session_headers[] = {"x-session-token"};
constexpr std::string_view session_strategies[] = {"encoded_endpoint_header"};
constexpr ParameterInfo session_parameters[] = {
    choice("strategy", session_strategies, "encoded_endpoint_header", "The only one."),
    choice("encodedEndpointHeaderConfig.header", session_headers, "x-session-token", "The only one."),
};
Made session(const PluginSpec&, const SchedulingSpec&) {
  return routing::make_session_filter();
}

// ---- a gauge that the configuration names ----

constexpr double any_number = 1e15;
constexpr std::string_view extractors[] = {"core-metrics-extractor"};
constexpr std::string_view on_missing[] = {"Pass", "Fail"};
constexpr std::string_view algorithms[] = {"threshold", "range", "topK", "percentile"};
// In the order of the first members of AttributeFilterOptions::Rule.
constexpr std::string_view operators[] = {"LessThan",           "LessThanOrEqual", "GreaterThan",
                                          "GreaterThanOrEqual", "Equal",           "NotEqual"};
constexpr ParameterInfo attribute_parameters[] = {
    needed(text("attribute", "", "The gauge, as `core-metrics-extractor` names it.")),
    choice("producer", extractors, "core-metrics-extractor", "The only one."),
    choice("onMissing", on_missing, "Pass", "What becomes of an endpoint whose gauge is not known."),
    boolean("fallbackOnEmpty", "false", "All pass where none would."),
    needed(choice("algorithm.type", algorithms, "", "How the value is compared; it needs the parameters of its name.")),
    choice("algorithm.threshold.operator", operators, "", "The value passes that compares so"),
    number("algorithm.threshold.value", -any_number, any_number, "", "with this."),
    number("algorithm.range.min", -any_number, any_number, "", "From here"),
    number("algorithm.range.max", -any_number, any_number, "", "to here."),
    integer("algorithm.topK.k", 1, many, "", "So many pass, the best."),
    boolean("algorithm.topK.higherIsBetter", "true", "Which are the best."),
    number("algorithm.percentile.percentile", 0, 100, "", "Those beyond this percentile of the candidates pass"),
    boolean("algorithm.percentile.higherIsBetter", "true", "on this side."),
};
Made attribute(const PluginSpec& said, const SchedulingSpec& whole) {
  using Rule = routing::AttributeFilterOptions::Rule;
  routing::AttributeFilterOptions out = {.metric = place_of_metric(whole, said.text("attribute")),
                                         .pass_unknown = said.text("onMissing") == "Pass",
                                         .all_if_none = said.flag("fallbackOnEmpty")};
  const std::string algorithm = said.text("algorithm.type");
  if (algorithm == "topK") {
    out.rule = Rule::top;
    out.count = static_cast<size_t>(std::max(said.number("algorithm.topK.k"), 1.0));
    out.higher_is_better = said.flag("algorithm.topK.higherIsBetter");
  } else if (algorithm == "percentile") {
    out.rule = Rule::percentile;
    out.share = said.number("algorithm.percentile.percentile") / 100;
    out.higher_is_better = said.flag("algorithm.percentile.higherIsBetter");
  } else if (algorithm == "range") {
    out.rule = Rule::range;
    out.limit = said.number("algorithm.range.min");
    out.limit_high = said.number("algorithm.range.max");
  } else {
    const auto at = std::ranges::find(operators, said.text("algorithm.threshold.operator")) - std::begin(operators);
    out.rule = at == std::ssize(operators) ? Rule::not_equal : static_cast<Rule>(at);
    out.limit = said.number("algorithm.threshold.value");
  }
  return routing::make_attribute_filter(out);
}

// ---- what is cached, what is predicted ----

constexpr std::string_view learnt_pace = "without peakPrefillThroughput the pace of each endpoint is learnt";
constexpr std::string_view ttft_sources[] = {"prefillThroughput", "latencyPredictor"};
constexpr ParameterInfo affinity_parameters[] = {
    number("affinityThreshold", 0, 1, "0.8", "The share of the prompt that an endpoint is to hold."),
    number("explorationProbability", 0, 1, "", "How often all pass nonetheless (0.01; in the later version 0)."),
    number("maxTTFTPenaltyMs", 0, many, "",
           "So much longer the prefill queue before those that hold it may be (5,000; none beside "
           "`maxTokensInFlightPenalty`; in the later version 18,000); 0: no limit."),
    integer("maxTokensInFlightPenalty", 0, many, "0", "The same in tokens; 0: no limit."),
    number(
        "peakPrefillThroughput", 1e-3, many, "",
        "Tokens in a second by which milliseconds are reckoned; else as learnt. With it the later version's defaults "
        "count."),
    choice("ttftSource", ttft_sources, "prefillThroughput",
           "`latencyPredictor`: the queue is what is predicted. With it the later version's defaults count."),
    ignored("prefillCalibrationFile", learnt_pace),
    ignored("prefillCalibrationFingerprint", learnt_pace),
    ignored("prefillCalibrationRequired", learnt_pace),
    match_source,
    load_source,
    latency_source,
};
bool by_prediction(const PluginSpec& said) {
  return said.text("ttftSource") == "latencyPredictor";
}
// Whoever says where the pace comes from is used to the version that reads that, which had other defaults.
routing::PrefixAffinityOptions affinity_defaults(const PluginSpec& said) {
  if (said.has("peakPrefillThroughput") || said.has("ttftSource")) return {.exploration = 0, .seconds_max = 18};
  return {.exploration = 0.01, .seconds_max = said.has("maxTokensInFlightPenalty") ? 0.0 : 5.0};
}
Made prefix_affinity(const PluginSpec& said, const SchedulingSpec& whole) {
  routing::PrefixAffinityOptions out = affinity_defaults(said);
  out.threshold = said.number("affinityThreshold");
  if (said.has("explorationProbability")) out.exploration = said.number("explorationProbability");
  if (said.has("maxTTFTPenaltyMs")) out.seconds_max = said.number("maxTTFTPenaltyMs") / 1000;
  out.tokens_max = said.number("maxTokensInFlightPenalty");
  out.tokens_per_second = said.number("peakPrefillThroughput");
  out.by_prediction = by_prediction(said);
  out.streaming = headroom_of(whole).streaming;
  return routing::make_prefix_affinity_filter(out);
}
Needs prefix_affinity_needs(const PluginSpec& said, const SchedulingSpec&) {
  return {.prefixes = true, .predictions = by_prediction(said)};
}

constexpr ParameterInfo tier_parameters[] = {
    number("epsilonExploreNeg", 0, 1, "0.01", "How often those without headroom pass instead."), latency_source};
Made headroom_tier(const PluginSpec& said, const SchedulingSpec& whole) {
  return routing::make_headroom_tier_filter(
      {.headroom = headroom_of(whole), .exploration = said.number("epsilonExploreNeg")});
}

constexpr PluginInfo all[] = {
    {.type = "by-label",
     .kind = PluginKind::filter,
     .doc = "Those whose pod has one of these values of a label.",
     .parameters = by_label_parameters,
     .make = {.filter = by_label},
     .replay = no_labels},
    {.type = "by-label-selector",
     .kind = PluginKind::filter,
     .doc = "Those whose pod a selector matches.",
     .parameters = selector_parameters,
     .older = "label-selector-filter",
     .make = {.filter = by_selector},
     .replay = no_labels},
    {.type = "session-affinity-filter",
     .kind = PluginKind::filter,
     .doc = "The one that `x-session-token` says; all when it is not among them. Each response brings the token.",
     .parameters = session_parameters,
     .needs = {.session_tokens = true},
     .make = {.filter = session},
     .replay = no_sessions},
    {.type = "endpoint-attribute-filter",
     .kind = PluginKind::filter,
     .doc = "By a gauge of the model servers: a comparison, a range, the best few, or those beyond a percentile of the "
            "candidates.",
     .parameters = attribute_parameters,
     .make = {.filter = attribute},
     .replay = {.note = no_gauges, .of = ReplayRule::Of::left_out}},
    {.type = "decode-filter",
     .kind = PluginKind::filter,
     .doc = "Those that decode, by `llm-d.ai/role`; a pod without a role does.",
     .make = {.filter = decodes},
     .replay = {.note = no_labels.note, .of = ReplayRule::Of::both}},
    {.type = "prefill-filter",
     .kind = PluginKind::filter,
     .doc = "Those that prefill, by `llm-d.ai/role`.",
     .make = {.filter = prefills},
     .replay = no_labels},
    {.type = "encode-filter",
     .kind = PluginKind::filter,
     .doc = "Those that encode, by `llm-d.ai/role`.",
     .make = {.filter = encodes},
     .replay = no_labels},
    {.type = "prefix-cache-affinity-filter",
     .kind = PluginKind::filter,
     .doc =
         "Those that hold enough of the prompt, if any does, unless the prefill queues before them are longer by too "
         "much, by either limit.",
     .parameters = affinity_parameters,
     .needs_of = prefix_affinity_needs,
     .make = {.filter = prefix_affinity}},
    {.type = "slo-headroom-tier-filter",
     .kind = PluginKind::filter,
     .doc = "Those with headroom, or now and then those without; all when there is only one kind.",
     .parameters = tier_parameters,
     .needs = {.prefixes = true, .predictions = true},
     .make = {.filter = headroom_tier},
     .replay = no_latency},
};

}  // namespace

std::span<const PluginInfo> filter_rows() {
  return all;
}

}  // namespace penstock::epp
