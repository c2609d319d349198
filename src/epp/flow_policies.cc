// Rows of what flow control goes by. flow_control.cc and policies.cc carry out what they say.
#include "rows.h"

namespace penstock::epp {
namespace {

using namespace rows;

constexpr ParameterInfo late_binding_parameters[] = {
    number("holdSeconds", 0, hour, "1", "An endpoint takes no more with so much prefill before it; 0: it does."),
    number("kvThreshold", 0, 1, "0.95",
           "... or with more of its KV cache taken than this share, the request's included."),
};
void late_binding(const PluginSpec& said, admission::DetectorOptions* out) {
  out->detector = admission::Detector::late_binding;
  if (said.has("holdSeconds")) out->hold = from_seconds(said.number("holdSeconds"));
  if (said.has("kvThreshold")) out->kv_limit = said.number("kvThreshold");
}

constexpr ParameterInfo least_work_parameters[] = {
    number("agingSeconds", 1e-3, hour, "20", "So many seconds of waiting are worth one second of prefill.")};

constexpr std::string_view strategies[] = {"las", "turn-priority"};
constexpr ParameterInfo program_parameters[] = {
    choice("strategy", strategies, "las", "By what programs have had, or by how many requests they have sent."),
    number("lasWeightService", 0, many, "0.8", "`las`: the weight of what a program has had."),
    number("lasWeightHeadWait", 0, many, "0.2", "`las`: the weight of how long it has waited."),
    number("lasHalfLifeSeconds", 0, many, "60", "`las`: how fast what it has had fades; 0: never."),
    number("lasDecayFactor", 1e-9, 1, "", "An older spelling of it: what is left after a second."),
    number("turnPriorityTimeWeight", 0, many, "0.5", "`turn-priority`: requests that a second of waiting counts as."),
    number("turnPriorityInactivitySeconds", 0, many, "120",
           "`turn-priority`: after a longer pause the next request is a first turn; 0: never."),
    number("evictionTtlSeconds", 0, many, "3600", "When a program that sends nothing is forgotten; 0: never."),
    ignored("evictionSweepSeconds", "what is to be forgotten is when it is looked at; nobody sweeps"),
};

constexpr ParameterInfo usage_limit_parameters[] = {
    number("threshold", 1e-6, 1, "1", "The saturation at which the pool is full.")};

constexpr std::string_view shapes[] = {"linear"}, domains[] = {"rank", "value", "explicit"};
constexpr ParameterInfo holdback_parameters[] = {
    choice("shape", shapes, "linear", "The only one."),
    choice("domain", domains, "rank",
           "Ceilings fall in equal steps, in proportion to the priorities' numbers, or as listed."),
    number("minCeiling", 0, 1, "", "That of the lowest priority. It is needed but for `explicit`."),
    number("maxCeiling", 0, 1, "1", "That of the highest."),
    {.name = "ceilings",
     .type = ParameterType::numbers,
     .least = 0,
     .most = 1,
     .doc = "`explicit`: one for each priority; a priority that is not listed never goes."},
};

constexpr ParameterInfo identity_parameters[] = {
    texts("additionalSessionHeaders", "Fields that are looked at before the others.")};

constexpr PluginInfo all[] = {
    {.type = "late-binding-detector",
     .kind = PluginKind::saturation,
     .doc = "Penstock's own: the pool is saturated when no endpoint takes one more (docs/FLOW_CONTROL.md).",
     .parameters = late_binding_parameters,
     .make = {.detector = late_binding}},
    {.type = "least-work-ordering-policy",
     .kind = PluginKind::flow,
     .doc =
         "`orderingPolicyRef`. Penstock's own: the fewest seconds of prefill first, less what the request has waited.",
     .parameters = least_work_parameters},
    {.type = "fcfs-ordering-policy", .kind = PluginKind::flow, .doc = "`orderingPolicyRef`: first come, first served."},
    {.type = "edf-ordering-policy",
     .kind = PluginKind::flow,
     .doc = "`orderingPolicyRef`: the earliest end of its time to live first."},
    {.type = "slo-deadline-ordering-policy",
     .kind = PluginKind::flow,
     .doc = "`orderingPolicyRef`: the earliest arrival plus `x-slo-ttft-ms` first."},
    {.type = "global-strict-fairness-policy",
     .kind = PluginKind::flow,
     .doc = "`fairnessPolicyRef`: the first request of all fairness ids."},
    {.type = "round-robin-fairness-policy",
     .kind = PluginKind::flow,
     .doc = "`fairnessPolicyRef`: each fairness id in turn."},
    {.type = "program-aware-fairness",
     .kind = PluginKind::flow,
     .doc = "`fairnessPolicyRef`: which fairness id is next. `las`: 1 for the one that had the fewest tokens and 0 for "
            "the "
            "one that had the most, times a weight, and likewise for the one that has waited longest; an output token "
            "counts as two of the prompt. `turn-priority`: most requests sent before.",
     .parameters = program_parameters},
    {.type = "static-usage-limit-policy",
     .kind = PluginKind::flow,
     .doc = "`usageLimitPolicyPluginRef`: the pool is full at this saturation, for all priorities.",
     .parameters = usage_limit_parameters},
    {.type = "priority-holdback-policy",
     .kind = PluginKind::flow,
     .doc =
         "`usageLimitPolicyPluginRef`: for lower priorities it is full at less, from `maxCeiling` for the highest to "
         "`minCeiling` for the lowest, of the bands configured and those that wait.",
     .parameters = holdback_parameters},
    {.type = "soft-reflective-ceiling-policy",
     .kind = PluginKind::flow,
     .doc = "`usageLimitPolicyPluginRef`: of the n-th of N priorities, counted from 0, all go below the saturation (N "
            "− 1) "
            "/ (N − 1 + n), above it one for each s / (1 − s) looks at the queue, none at 1; the highest is not held "
            "back."},
    {.type = "agent-identity",
     .kind = PluginKind::flow,
     .doc = "Requests without a fairness id get that of their agent's session: the first of the fields "
            "`x-claude-code-session-id`, `x-session-affinity`, `session-id`, `session_id` that says anything.",
     .parameters = identity_parameters},
};

}  // namespace

std::span<const PluginInfo> flow_rows() {
  return all;
}

}  // namespace penstock::epp
