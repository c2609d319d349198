// Parameters that a scorer by prefixes has in common with the producer of what it reads.
#pragma once

#include "rows.h"

namespace penstock::epp::rows {

inline constexpr std::string_view cache_modes[] = {"estimate", "cache_tracking"};
inline constexpr ParameterInfo prefix_parameters[] = {
    boolean("autoTune", "true", "Take the size of blocks and of caches from the engines' metrics, where they say it."),
    integer("blockSizeTokens", 1, 1024, "16", "Tokens in a block, where no engine says it."),
    integer("maxPrefixBlocksToMatch", 1, many, "8192", "How many blocks of a prompt are matched."),
    integer("maxPrefixTokensToMatch", 0, many, "0", "The same in tokens; 0: by blocks alone."),
    integer("lruCapacityPerServer", 1, many, "31250",
            "Blocks in an endpoint's cache, where its metrics do not say it."),
    without_effect(integer("blockSize", 1, 65536, "", ""), in_characters),
    without_effect(integer("hashBlockSize", 1, 65536, "", ""), in_characters),
    choice("mode", cache_modes, "estimate", "`cache_tracking`: an older name of `precise-prefix-cache-scorer`."),
    number("matchLengthWeight", 0, 1, "0", "Of the scorer: how much the length of a match counts, beside its share."),
    integer("matchLengthScaleTokens", 1, many, "8192", "Of the scorer: a match of so many tokens counts fully."),
    ignored("prefixHashSource", "prompts are hashed here, by what the requests' bodies say"),
    match_source,
};

inline constexpr std::string_view own_hashes = "blocks are hashed here, from the token ids that events carry";
inline constexpr std::string_view pool_selects = "the endpoints of the pool are listened to, whatever their labels";
inline constexpr std::string_view own_table =
    "the index is a table of routing.prefix_index_entries in this process, and there is no tokenizer: prompts given as "
    "text are matched as prefix-cache-scorer does";
inline constexpr std::string_view own_speculation =
    "prompts given as text are always matched by what was sent, those given as token ids by what the endpoints tell";
inline constexpr std::string_view no_central =
    "nobody connects to us: every endpoint is connected to, at podDiscoveryConfig.socketPort (5557). Model servers "
    "must "
    "publish there (\"endpoint\": \"tcp://*:5557\"); as long as they do not, prompts are matched by what was sent";
inline constexpr std::string_view engine_types[] = {"vllm", "sglang"};
inline constexpr ParameterInfo precise_parameters[] = {
    integer("tokenProcessorConfig.blockSize", 1, 1024, "", "Tokens in a block (16), where no engine says it."),
    integer("tokenProcessorConfig.blockSizeTokens", 1, 1024, "", "Another spelling of it."),
    ignored("tokenProcessorConfig.hashSeed", own_hashes),
    ignored("tokenProcessorConfig.hashAlgorithm", own_hashes),
    ignored("indexerConfig", own_table),
    ignored("kvEventsConfig.zmqEndpoint", no_central),
    text("kvEventsConfig.topicFilter", "", "Events whose topic begins so are read (`kv_events.topic`)."),
    without_effect(integer("kvEventsConfig.concurrency", 1, many, "", ""), "one thread reads them all"),
    without_effect(choice("kvEventsConfig.engineType", engine_types, "", ""),
                   "vLLM and SGLang publish in the same form"),
    always("kvEventsConfig.discoverPods", true, "every endpoint is connected to"),
    integer("kvEventsConfig.podDiscoveryConfig.socketPort", 1, 65535, "",
            "Where endpoints publish (`kv_events.port`)."),
    integer("kvEventsConfig.podDiscoveryConfig.replaySocketPort", 0, 65535, "",
            "Where they repeat events that were lost (`kv_events.replay_port`); 0: nowhere."),
    ignored("kvEventsConfig.podDiscoveryConfig.podLabelSelector", pool_selects),
    ignored("kvEventsConfig.podDiscoveryConfig.podNamespace", pool_selects),
    always("speculativeIndexing", false, own_speculation),
    ignored("speculativeTTL", own_speculation),
    // Of its older spelling, prefix-cache-scorer with mode: cache_tracking.
    choice("mode", cache_modes, "", "`cache_tracking`, where the type is the older `prefix-cache-scorer`."),
    ignored("kvCacheRedisAddr", own_table),
};

}  // namespace penstock::epp::rows
