// Rows of the scorers by load, by what is cached, and by what the request brings.
#include "prefix_parameters.h"
#include "rows.h"

namespace penstock::epp {
namespace {

using namespace rows;
using Made = std::unique_ptr<routing::Scorer>;

// Of a scorer without parameters.
template <Made (*make)()>
Made plain(const PluginSpec&, const SchedulingSpec&) {
  return make();
}

// ---- what is cached ----

// It scores what came just before, instead of what is cached, if it names the producer of that.
bool scores_bursts(const PluginSpec& said, const SchedulingSpec& whole) {
  return whole.burst && said.text(match_source.name) == whole.burst->producer;
}

Made prefix_cache(const PluginSpec& said, const SchedulingSpec& whole) {
  if (scores_bursts(said, whole)) return routing::make_burst_scorer(whole.burst->options);
  const routing::MatchLengthOptions length = {.weight = said.number("matchLengthWeight"),
                                              .scale_tokens = said.number("matchLengthScaleTokens")};
  return length.weight > 0 ? routing::make_match_length_scorer(length) : routing::make_prefix_cache_scorer();
}

Needs prefix_cache_needs(const PluginSpec& said, const SchedulingSpec& whole) {
  return {.prefixes = true, .epp_hashes = true, .picks = scores_bursts(said, whole)};
}

constexpr ParameterInfo no_hit_parameters[] = {
    integer("lruSize", 1, many, "1024", "So many endpoints are remembered, the last that got an unknown prompt."),
    without_effect(text("prefixPluginType", "", ""), one_index),
    without_effect(text("prefixPluginName", "", ""), one_index),
    match_source,
};
Made no_hit_lru(const PluginSpec& said, const SchedulingSpec&) {
  return routing::make_no_hit_lru_scorer(static_cast<size_t>(said.number("lruSize")));
}

constexpr ParameterInfo lmetric_parameters[] = {match_source, load_source};

constexpr ParameterInfo media_parameters[] = {
    without_effect(text("producerName", "", ""),
                   "where mm-embeddings-cache-scorer runs, the media of every request are hashed, and it remembers who "
                   "got them")};
Made media(const PluginSpec&, const SchedulingSpec& whole) {
  return routing::make_media_scorer(whole.media.items);
}

// ---- load ----

// Older guides of llm-d give these to a scorer that never read them.
constexpr std::string_view queues_only = "it looks at queues only";
constexpr ParameterInfo queue_parameters[] = {
    ignored("hashBlockSize", queues_only),
    ignored("maxPrefixBlocksToMatch", queues_only),
    ignored("lruCapacityPerServer", queues_only),
};

constexpr ParameterInfo active_request_parameters[] = {
    without_effect(duration("requestTimeout", 0, 24 * hour, "", ""), always_counted),
    integer("idleThreshold", 0, many, "0", "Up to so many requests in flight an endpoint is idle."),
    number("maxBusyScore", 0, 1, "1", "What the least busy of those that are not idle may get."),
    load_source,
};
Made active_request(const PluginSpec& said, const SchedulingSpec&) {
  return routing::make_active_request_scorer(
      {.idle_threshold = said.number("idleThreshold"), .max_busy_score = said.number("maxBusyScore")});
}

constexpr ParameterInfo load_aware_parameters[] = {
    integer("threshold", 1, many, "128", "The queue t at which the score is 0.")};
Made load_aware(const PluginSpec& said, const SchedulingSpec&) {
  return routing::make_load_aware_scorer(said.number("threshold"));
}

constexpr ParameterInfo token_load_parameters[] = {
    integer("queueThresholdTokens", 1, many, "4194304", "The tokens in flight t at which the score is 0."),
    ignored("nonTextTokenWeight", "tokens of media count like those of text"),
    load_source,
};
Made token_load(const PluginSpec& said, const SchedulingSpec&) {
  return routing::make_token_load_scorer(said.number("queueThresholdTokens"));
}

constexpr std::string_view cold_starts[] = {"defaults", "token-rule", "assumed-pace"};
constexpr ParameterInfo expected_cost_parameters[] = {
    choice("coldStart", cold_starts, "defaults", "What decides until something is learnt (docs/ROUTING.md).")};
Made expected_cost(const PluginSpec& said, const SchedulingSpec&) {
  const std::string cold_start = said.text("coldStart");
  if (cold_start == "token-rule") return routing::make_expected_cost_scorer(routing::ColdStart::token_rule);
  if (cold_start == "assumed-pace") return routing::make_expected_cost_scorer(routing::ColdStart::assumed_pace);
  return routing::make_expected_cost_scorer();
}

// ---- what the request brings ----

// Tokens are given and taken under one name.
constexpr std::string_view session_headers[] = {"x-session-token"};
constexpr std::string_view session_strategies[] = {"encoded_endpoint_header"};
constexpr ParameterInfo session_parameters[] = {
    choice("algorithm", session_strategies, "encoded_endpoint_header", "The only one."),
    choice("headerName", session_headers, "x-session-token", "The only one."),
};

constexpr ParameterInfo header_label_parameters[] = {
    needed(text("headerName", "", "The request's header.")),
    needed(text("labelKey", "", "The pod's label.")),
    always("stampResponseHeader", false, "answers are not marked"),
};
Made header_label(const PluginSpec& said, const SchedulingSpec&) {
  return routing::make_header_label_scorer({.header = said.text("headerName"), .label = said.text("labelKey")});
}

// ---- the rows ----

constexpr ReplayRule no_header = {
    .note = "has no effect in a replay: headers of requests are not known there, so all engines score the same",
    .of = ReplayRule::Of::both};
constexpr ReplayRule no_media_known = {
    .note = "has no effect in a replay: images, audio and video are not known there, so all engines score the same",
    .of = ReplayRule::Of::both};

constexpr PluginInfo all[] = {
    {.type = "queue-scorer",
     .kind = PluginKind::scorer,
     .doc = "(most − n) / (most − least) by the length n of the queue; all equal: 1.",
     .parameters = queue_parameters,
     .make = {.scorer = plain<routing::make_queue_scorer>}},
    {.type = "kv-cache-utilization-scorer",
     .kind = PluginKind::scorer,
     .doc = "1 − the used share of the KV cache; unknown: the mean of the others.",
     .older = "kv-cache-scorer",
     .make = {.scorer = plain<routing::make_kv_cache_scorer>}},
    {.type = "prefix-cache-scorer",
     .kind = PluginKind::scorer,
     .doc =
         "Matched blocks / blocks of the prompt; with `matchLengthWeight` w: w × (matched tokens / scale, at most 1)² "
         "+ "
         "(1 − w) × that. One whose `prefixMatchInfoProducerName` is a `burst-prefix-cache-producer`: where the same "
         "prompt went within the window 1, up to so many for each endpoint, and then the others 1; else the one that "
         "got the same beginning, as long as it has no more in flight than the mean; else 0.",
     .parameters = prefix_parameters,
     .needs_of = prefix_cache_needs,
     .make = {.scorer = prefix_cache}},
    {.type = "precise-prefix-cache-scorer",
     .kind = PluginKind::scorer,
     .doc = "The same by what endpoints publish of their caches (docs/PREFIX_CACHE.md).",
     .parameters = precise_parameters,
     .needs = {.prefixes = true},
     .make = {.scorer = plain<routing::make_precise_prefix_cache_scorer>},
     .replay = no_token_ids},
    {.type = "running-requests-size-scorer",
     .kind = PluginKind::scorer,
     .doc = "(most − n) / (most − least) by the number n of running requests; all equal: 1.",
     .make = {.scorer = plain<routing::make_running_requests_scorer>}},
    {.type = "active-request-scorer",
     .kind = PluginKind::scorer,
     .doc = "By our own n requests in flight: idle 1; else (most − n) / most × busy score.",
     .parameters = active_request_parameters,
     .make = {.scorer = active_request}},
    {.type = "load-aware-scorer",
     .kind = PluginKind::scorer,
     .doc = "0.5 × (1 − min(queue, t) / t).",
     .parameters = load_aware_parameters,
     .make = {.scorer = load_aware}},
    {.type = "token-load-scorer",
     .kind = PluginKind::scorer,
     .doc = "1 − min(tokens in flight, t) / t.",
     .parameters = token_load_parameters,
     .make = {.scorer = token_load}},
    {.type = "lora-affinity-scorer",
     .kind = PluginKind::scorer,
     .doc = "The adapter runs there 1, there is a free slot 0.8, the adapter waits there 0.6, else 0.",
     .make = {.scorer = plain<routing::make_lora_affinity_scorer>},
     .replay = {.note = "has no effect in a replay: a trace names no adapters, so all engines score the same"}},
    {.type = "session-affinity-scorer",
     .kind = PluginKind::scorer,
     .doc = "1 where the request's `x-session-token` says. Each response brings the token.",
     .parameters = session_parameters,
     .needs = {.session_tokens = true},
     .make = {.scorer = plain<routing::make_session_affinity_scorer>},
     .replay = no_sessions},
    {.type = "lmetric-scorer",
     .kind = PluginKind::scorer,
     .doc = "Blocks of the prompt to compute × (our requests in flight + 1), the least 1, the most 0.",
     .parameters = lmetric_parameters,
     .needs = {.prefixes = true},
     .make = {.scorer = plain<routing::make_lmetric_scorer>}},
    {.type = "no-hit-lru-scorer",
     .kind = PluginKind::scorer,
     .doc = "When no endpoint holds any of the prompt: those that never got such a prompt first, then those that got "
            "theirs longest ago; else 0.5.",
     .parameters = no_hit_parameters,
     .needs = {.prefixes = true, .picks = true},
     .make = {.scorer = no_hit_lru}},
    {.type = "mm-embeddings-cache-scorer",
     .kind = PluginKind::scorer,
     .doc =
         "The share of the request's images, audio and video that the endpoint encoded before. They are known by a "
         "hash "
         "of their URL or inline data, as these stand in the body; of a request the first 64 count, each once. "
         "Remembered is the endpoint that encodes: that of the encode stage, where it runs, else the one that computes "
         "the prompt.",
     .parameters = media_parameters,
     .needs = {.media = true, .picks = true},
     .make = {.scorer = media},
     .replay = no_media_known},
    {.type = "header-label-affinity-scorer",
     .kind = PluginKind::scorer,
     .doc = "1 where the pod's label has the value of the request's header, else 0.",
     .parameters = header_label_parameters,
     .make = {.scorer = header_label},
     .replay = no_header},
    {.type = "expected-cost-scorer",
     .kind = PluginKind::scorer,
     .doc = "Penstock's own: the seconds that the request would cost there, the cheapest 1 (docs/ROUTING.md).",
     .parameters = expected_cost_parameters,
     .needs = {.prefixes = true},
     .make = {.scorer = expected_cost}},
    {.type = "least-load-scorer",
     .kind = PluginKind::scorer,
     .doc = "Penstock's own: the fewest requests in the engine 1, the most 0.",
     .make = {.scorer = plain<routing::make_least_load_scorer>}},
};

}  // namespace

std::span<const PluginInfo> scorer_rows() {
  return all;
}

}  // namespace penstock::epp
