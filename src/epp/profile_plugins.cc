// Rows of what stands around the filters and scorers of a profile: pickers, handlers, deciders, and who looks at a
// request before any profile does.
#include "rows.h"

namespace penstock::epp {
namespace {

using namespace rows;

// ---- pickers ----

constexpr ParameterInfo picker_parameters[] = {
    integer("maxNumOfEndpoints", 1, 8, "1", "So many in order: a request that fails goes on in that order.")};

template <routing::Pick pick>
std::unique_ptr<routing::Picker> picker(const PluginSpec& said) {
  return routing::make_picker(pick, static_cast<size_t>(said.number("maxNumOfEndpoints")));
}

// ---- handlers (scheduling.cc carries out what they say) and deciders ----

constexpr std::string_view own_ports =
    "each rank is an endpoint at a port of its own (targetPorts), and is called there";
constexpr std::string_view ports_announced =
    "has no effect: each rank is an endpoint at a port of its own (targetPorts), and is called there";
constexpr ParameterInfo primary_port = ignored("primaryPort", own_ports);
constexpr ParameterInfo prefix_type = without_effect(text("prefixPluginType", "", ""), one_index);
constexpr ParameterInfo prefix_name = without_effect(text("prefixPluginName", "", ""), one_index);

constexpr ParameterInfo ranks_parameters[] = {primary_port};
constexpr ParameterInfo disagg_parameters[] = {
    text("profiles.decode", "", "The profile that decides who decodes (`decode`)."),
    text("profiles.prefill", "", "... who prefills (`prefill`)."),
    text("profiles.encode", "", "... who encodes (`encode`)."),
    text("deciders.prefill", "", "The decider that says whether a prefill runs elsewhere; without one, never."),
    text("deciders.encode", "", "Likewise of an encode."),
    text("decodeProfile", "", "An older spelling of `profiles.decode`."),
    text("prefillProfile", "", "... of `profiles.prefill`."),
    text("encodeProfile", "", "... of `profiles.encode`."),
    text("prefillDeciderPluginName", "", "... of `deciders.prefill`."),
    text("encodeDeciderPluginName", "", "... of `deciders.encode`."),
    text("deciderPluginName", "", "... of `deciders.prefill`."),
    prefix_type,
    prefix_name,
    primary_port,
};
constexpr ParameterInfo pd_parameters[] = {
    text("decodeProfile", "", "The profile that decides who decodes (`decode`)."),
    text("prefillProfile", "", "... who prefills (`prefill`)."),
    text("deciderPluginName", "", "The decider that says whether a prefill runs elsewhere."),
    integer("threshold", 0, many, "0",
            "Without a decider: it does for so many characters that are not cached, four to a token; 0: always."),
    without_effect(integer("hashBlockSize", 1, 65536, "", ""), in_characters),
    prefix_type,
    prefix_name,
    primary_port,
};
constexpr std::string_view default_profile_doc =
    "The profile of requests without that header (`decode`); of a single profile always that.";
constexpr ParameterInfo header_profile_parameters[] = {
    text("headerName", "EPP-Profile", "The header that names the profile."),
    text("defaultProfile", "", default_profile_doc),
};
constexpr ParameterInfo header_phase_parameters[] = {
    text("headerName", "EPP-Phase", "The header that names the profile."),
    text("defaultProfile", "", default_profile_doc),
};

constexpr ParameterInfo decider_parameters[] = {
    integer("nonCachedTokens", 0, many, "0", "So many tokens of the prompt; 0: never."), match_source};

using When = routing::StageRule::When;
routing::StageRule by_prefix(const PluginSpec& said) {
  return {.when = When::uncached, .uncached_tokens = static_cast<uint32_t>(said.number("nonCachedTokens"))};
}
template <When when>
routing::StageRule whenever(const PluginSpec&) {
  return {.when = when};
}

// ---- before all profiles ----

constexpr ParameterInfo latency_admitter_parameters[] = {latency_source};
std::unique_ptr<routing::Admitter> latency_admitter(const PluginSpec&, const SchedulingSpec& whole) {
  return routing::make_latency_admitter(headroom_of(whole));
}

constexpr ParameterInfo probabilistic_parameters[] = {
    number("queueDepthThreshold", 1e-3, many, "5", "The queue of a full endpoint."),
    number("kvCacheUtilThreshold", 1e-6, 1, "0.8", "The KV cache use of a full endpoint."),
    number("power", 1e-3, 100, "5", "p of k × saturation^p."),
    number("k", 1e-9, many, "300", "k of it."),
};
std::unique_ptr<routing::Admitter> probabilistic_admitter(const PluginSpec& said, const SchedulingSpec&) {
  return routing::make_probabilistic_admitter({.queue = said.number("queueDepthThreshold"),
                                               .kv_usage = said.number("kvCacheUtilThreshold"),
                                               .power = said.number("power"),
                                               .factor = said.number("k")});
}

constexpr std::string_view gating_modes[] = {"sum", "max-role", "disabled"};
constexpr ParameterInfo rollout_parameters[] = {
    needed(text("scope.labelSelector", "", "Which pods are of the set, as `app=vllm,tier=gpu`.")),
    needed(
        choice("revisionGating.mode", gating_modes, "",
               "By what a revision is drawn: by its ready endpoints, or by those of the role that is largest over all "
               "revisions.")),
    texts("revisionGating.requiredRoles", "The roles that a revision must have. They are needed."),
    texts("revisionGating.requireRoles.values", "An older spelling of it."),
    text("revisionGating.revisionLabelKey", "disaggregatedset.x-k8s.io/revision", "The label that says the revision."),
    text("revisionGating.roleLabelKey", "disaggregatedset.x-k8s.io/role", "The label that says the role."),
};
std::unique_ptr<routing::Filter> rollout(const PluginSpec& said, const SchedulingSpec&) {
  return routing::make_rollout_filter({.scope = said.selector,
                                       .revision_label = said.text("revisionGating.revisionLabelKey"),
                                       .role_label = said.text("revisionGating.roleLabelKey"),
                                       .roles = rollout_roles(said),
                                       .by_largest_role = said.text("revisionGating.mode") == "max-role"});
}

// ---- the rows ----

constexpr std::string_view disagg_doc =
    "The endpoint that decodes, then by their deciders those that encode and prefill. The one that decodes is told of "
    "the "
    "others in `x-prefiller-host-port` and `x-encoder-hosts-ports`, as llm-d's sidecar expects.";
constexpr std::string_view by_header_doc =
    "The profile that a header of the request names, the default one without it; a name that no profile has: 400 "
    "`no_profile`.";

constexpr PluginInfo all[] = {
    {.type = "max-score-picker",
     .kind = PluginKind::picker,
     .doc = "The best; of equals any.",
     .parameters = picker_parameters,
     .make = {.picker = picker<routing::Pick::max_score>}},
    {.type = "random-picker",
     .kind = PluginKind::picker,
     .doc = "Any.",
     .parameters = picker_parameters,
     .make = {.picker = picker<routing::Pick::random>}},
    {.type = "weighted-random-picker",
     .kind = PluginKind::picker,
     .doc = "By chance, in proportion to the score.",
     .parameters = picker_parameters,
     .make = {.picker = picker<routing::Pick::weighted_random>}},
    {.type = "round-robin-picker",
     .kind = PluginKind::picker,
     .doc = "Each in turn.",
     .make = {.picker = picker<routing::Pick::round_robin>}},
    {.type = "single-profile-handler", .kind = PluginKind::profile_handler, .doc = "One profile for all requests."},
    {.type = "data-parallel-profile-handler",
     .kind = PluginKind::profile_handler,
     .doc = "As `single-profile-handler`.",
     .parameters = ranks_parameters,
     .note = own_ports,
     .announcement = ports_announced},
    {.type = "disagg-profile-handler",
     .kind = PluginKind::profile_handler,
     .doc = disagg_doc,
     .parameters = disagg_parameters,
     .handling = Handling::stages},
    {.type = "pd-profile-handler",
     .kind = PluginKind::profile_handler,
     .doc = "The same without an encode.",
     .parameters = pd_parameters,
     .handling = Handling::stages_by_threshold},
    {.type = "header-profile-handler",
     .kind = PluginKind::profile_handler,
     .doc = by_header_doc,
     .parameters = header_profile_parameters,
     .handling = Handling::by_header},
    {.type = "header-phase-profile-handler",
     .kind = PluginKind::profile_handler,
     .doc = by_header_doc,
     .parameters = header_phase_parameters,
     .handling = Handling::by_header},
    {.type = "prefix-based-pd-decider",
     .kind = PluginKind::decider,
     .doc = "When so much of the prompt is not cached where it decodes.",
     .parameters = decider_parameters,
     .needs = {.prefixes = true},
     .make = {.decider = by_prefix}},
    {.type = "always-disagg-pd-decider",
     .kind = PluginKind::decider,
     .doc = "Always.",
     .make = {.decider = whenever<When::always>}},
    {.type = "always-disagg-multimodal-decider",
     .kind = PluginKind::decider,
     .doc = "When there are images, audio or video.",
     .older = "always-disagg-encode-decider",
     .make = {.decider = whenever<When::multimodal>}},
    {.type = "latency-slo-admitter",
     .kind = PluginKind::admitter,
     .doc = "Refuses requests of negative priority that ask for a latency with 429 `too_slow`, when no endpoint has "
            "headroom, is idle or uses less than 2 % of its KV cache.",
     .parameters = latency_admitter_parameters,
     .older = "latency-admission",
     .needs = {.prefixes = true, .predictions = true},
     .make = {.admitter = latency_admitter},
     .replay = no_priorities},
    {.type = "probabilistic-admitter",
     .kind = PluginKind::admitter,
     .doc = "Refuses requests of negative priority with 429 `saturated`, with the probability k × saturation^p, at "
            "most 1. "
            "Saturation is the mean over the candidates of the larger of queue / threshold and KV use / threshold.",
     .parameters = probabilistic_parameters,
     .make = {.admitter = probabilistic_admitter},
     .replay = no_priorities},
    {.type = "disaggregatedset-rollout-screener",
     .kind = PluginKind::screener,
     .doc = "While a set is rolled out, one revision serves a request in all stages, drawn of those that have ready "
            "endpoints of all roles. Without such a revision 429 `no_endpoint_fits`.",
     .parameters = rollout_parameters,
     .note =
         "the endpoints of all stages are chosen together, so nothing is handed on in headers: leave headerSelectors "
         "out",
     .make = {.filter = rollout},
     .replay = no_labels},
};

}  // namespace

std::span<const PluginInfo> profile_rows() {
  return all;
}

std::vector<std::string> rollout_roles(const PluginSpec& screener) {
  const std::vector<std::string> older = screener.texts("revisionGating.requireRoles.values");
  return older.empty() ? screener.texts("revisionGating.requiredRoles") : older;
}

}  // namespace penstock::epp
