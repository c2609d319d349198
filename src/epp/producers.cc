// Rows of the producers: what they would compute is always known here, and some of them say how.
#include "prefix_parameters.h"
#include "rows.h"

namespace penstock::epp {
namespace {

using namespace rows;

constexpr std::string_view who_computes = "who computes the prompt is known";
constexpr ParameterInfo p2p_parameters[] = {
    integer("minCachedTokenDelta", 1, many, "1", "So many tokens more than the one that computes must it hold."),
    without_effect(text("prefillProfileName", "", ""), who_computes), match_source};

constexpr ParameterInfo headers_parameters[] = {text("prefillProfile", "", "Without effect."),
                                                text("encodeProfile", "", "Without effect.")};

constexpr std::string_view nobody_waits = "nobody waits for others: requests follow the first of their group";
constexpr ParameterInfo burst_parameters[] = {
    integer("windowDurationMs", 1, 10'000, "100", "Requests that come so soon after the first belong together."),
    integer("maxPerReplica", -1, routing::BurstOptions::per_replica_max, "-1",
            "So many of them for each endpoint; -1: any number."),
    integer("blockSizeTokens", 1, 1024, "64", "The unit of `minColocateBlocks`."),
    integer("maxPrefixTokensToMatch", 0, many, "0",
            "Prompts that are the same up to here are the same; 0: the whole counts."),
    integer("minColocateBlocks", 0, 1'000'000, "0",
            "So long a beginning in common is worth something, too; 0: none is."),
    ignored("maxBatchSize", nobody_waits),
    ignored("balanceBy", nobody_waits),
};

constexpr ParameterInfo media_parameters[] = {
    integer("cacheSizeInMBPerServer", 1, many, "", "The encoder cache of an endpoint (4,096): an item is taken for 2."),
    integer("cacheSizeInEmbeddingsPerServer", 1, many, "", "The same; an item is taken for 1,024."),
    integer("cacheSize", 1, many, "", "The same in items."),
    without_effect(text("encodeProfile", "", ""), "whoever encodes is remembered, whatever the profile's name"),
};

constexpr std::string_view no_tokenizer =
    "there is no tokenizer: prompts given as text are counted and matched approximately, by their bytes";
constexpr ParameterInfo token_parameters[] = {
    ignored("modelName", no_tokenizer),
    ignored("backend", no_tokenizer),
    ignored("vllm", no_tokenizer),
    ignored("sglang", no_tokenizer),
    ignored("udsTokenizerConfig", no_tokenizer),
    ignored("estimate", "tokens are estimated from bytes, at a rate learnt from the answers"),
};

constexpr std::string_view predicts = "latency is predicted by the model of the expected cost, without a sidecar";
constexpr ParameterInfo prediction_parameters[] = {
    boolean("streamingMode", "false", "Predict the first token and the pace; else the end of the response."),
    number("sloBufferFactor", 1e-6, many, "1", "Times the pace that the request asks for."),
    text("endpointRoleLabel", "", "Pods of whose label the value is `prefill` are not asked for their pace."),
    boolean("predictInProduce", "true", "False: what needs predictions does without."),
    boolean("predictInPrepareData", "true", "An older spelling of it."),
    ignored("samplingMean", all_teach),
    ignored("maxDecodeTokenSamplesForPrediction", all_teach),
    ignored("contextTTL", always_counted),
    match_source,
    load_source,
};

constexpr std::string_view answers_count =
    "tokens in flight are those of the prompt and those that the answer may have";
constexpr ParameterInfo inflight_parameters[] = {ignored("addEstimatedOutputTokens", answers_count),
                                                 ignored("maxEstimatedOutputTokens", answers_count), match_source};

constexpr PluginInfo all[] = {
    {.type = "p2p-source-producer",
     .kind = PluginKind::built_in,
     .doc = "The endpoint that computes the prompt is told in `x-kv-cache-source-host-port` which one holds most of "
            "it, as "
            "llm-d's sidecar expects; of equals by chance, in proportion to 1 / (1 + queue).",
     .parameters = p2p_parameters,
     .note = "the endpoint that is told of another one is that which computes",
     .needs = {.prefixes = true},
     .replay = {.note = "has no effect in a replay: simulated engines do not fetch KV blocks from each other",
                .of = ReplayRule::Of::both}},
    {.type = "disagg-headers-handler",
     .kind = PluginKind::built_in,
     .doc = "Without effect: the profile handler sets the headers.",
     .parameters = headers_parameters,
     .note = "the profile handler sets the headers",
     .older = "prefill-header-handler"},
    {.type = "approx-prefix-cache-producer",
     .kind = PluginKind::built_in,
     .doc = "Says how prompts are cut and matched.",
     .parameters = prefix_parameters,
     .note = "prompts are hashed once for all that ask"},
    {.type = "precise-prefix-cache-producer",
     .kind = PluginKind::built_in,
     .doc = "Has every plugin that reads matches go by what endpoints publish of their caches.",
     .parameters = precise_parameters,
     .note = "what endpoints tell counts for all that ask",
     .replay = no_token_ids},
    {.type = "burst-prefix-cache-producer",
     .kind = PluginKind::built_in,
     .doc = "Says which requests a `prefix-cache-scorer` that names it sends together.",
     .parameters = burst_parameters,
     .note = "prefix-cache-scorer that names it scores by it"},
    {.type = "mm-embeddings-cache-producer",
     .kind = PluginKind::built_in,
     .doc = "Says how much of each endpoint's encoder cache `mm-embeddings-cache-scorer` believes in.",
     .parameters = media_parameters,
     .note =
         "where mm-embeddings-cache-scorer runs, the media of every request are hashed, and it remembers who got them"},
    {.type = "token-producer",
     .kind = PluginKind::built_in,
     .doc = "Without effect: there is no tokenizer.",
     .parameters = token_parameters,
     .note = no_tokenizer,
     .older = "tokenizer"},
    {.type = "predicted-latency-producer",
     .kind = PluginKind::built_in,
     .doc = "Says what is predicted (docs/PREDICTED_LATENCY.md).",
     .parameters = prediction_parameters,
     .note = predicts,
     .older = "latency-predictor"},
    {.type = "inflight-load-producer",
     .kind = PluginKind::built_in,
     .doc = "Without effect: what is in flight is always counted.",
     .parameters = inflight_parameters,
     .note = "what is in flight is always counted"},
};

}  // namespace

std::span<const PluginInfo> producer_rows() {
  return all;
}

}  // namespace penstock::epp
