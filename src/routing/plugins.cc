// The table of plugins.
#include "plugins.h"

#include <algorithm>

namespace penstock::routing {
namespace {

using enum PluginKind;
using enum ParameterType;
using P = ParameterInfo;

constexpr double many = 1e9;
constexpr double hour = 3600;

constexpr std::string_view always_counted =
    "requests are counted until they end, however long they take, and none is counted twice";
constexpr std::string_view one_index = "there is one prefix index, and every plugin sees the matches of all it knows";
constexpr std::string_view one_account = "there is one account of what is in flight, and every plugin reads it";
constexpr std::string_view one_model = "there is one model of latency, that of the expected cost";
constexpr std::string_view all_teach = "nothing is sampled: every answer teaches";
constexpr std::string_view learnt_pace = "without peakPrefillThroughput the pace of each endpoint is learnt";
constexpr std::string_view in_characters = "it is in characters, and replaced by blockSizeTokens";

// What plugins of the Endpoint Picker say about where their data comes from.
constexpr P match_source = {"prefixMatchInfoProducerName", text, 1, 253, {}, false, one_index};
constexpr P load_source = {"inFlightLoadProducerName", text, 1, 253, {}, false, one_account};
constexpr P latency_source = {"latencyPredictionInfoProducerName", text, 1, 253, {}, false, one_model};

constexpr std::string_view cache_modes[] = {"estimate", "cache_tracking"};
constexpr P prefix_parameters[] = {
    {"autoTune", boolean},
    {"blockSizeTokens", integer, 1, 1024},
    {"maxPrefixBlocksToMatch", integer, 1, many},
    {"maxPrefixTokensToMatch", integer, 0, many},
    {"lruCapacityPerServer", integer, 1, many},
    {"blockSize", integer, 1, 65536, {}, false, in_characters},
    {"hashBlockSize", integer, 1, 65536, {}, false, in_characters},
    {"mode", choice, 0, 0, cache_modes},  // cache_tracking: precise-prefix-cache-scorer
    {"matchLengthWeight", number, 0, 1},  // of the scorer
    {"matchLengthScaleTokens", integer, 1, many},
    {"prefixHashSource", any, 0, 0, {}, false, "prompts are hashed here, by what the requests' bodies say"},
    match_source,
};
// Older guides of llm-d give these to a scorer that never read them.
constexpr std::string_view queues_only = "it looks at queues only";
constexpr P queue_parameters[] = {
    {"hashBlockSize", any, 0, 0, {}, false, queues_only},
    {"maxPrefixBlocksToMatch", any, 0, 0, {}, false, queues_only},
    {"lruCapacityPerServer", any, 0, 0, {}, false, queues_only},
};
constexpr std::string_view own_hashes = "blocks are hashed here, from the token ids that events carry";
constexpr std::string_view one_thread = "one thread reads them all";
constexpr std::string_view pool_selects = "the endpoints of the pool are listened to, whatever their labels";
constexpr std::string_view own_table =
    "the index is a table of routing.prefix_index_entries in this process, and there is no tokenizer: prompts given as "
    "text are matched as prefix-cache-scorer does";
constexpr std::string_view own_speculation =
    "prompts given as text are always matched by what was sent, those given as token ids by what the endpoints tell";
constexpr std::string_view no_central =
    "nobody connects to us: every endpoint is connected to, at podDiscoveryConfig.socketPort (5557). Model servers "
    "must "
    "publish there (\"endpoint\": \"tcp://*:5557\"); as long as they do not, prompts are matched by what was sent";
constexpr std::string_view all_publish_alike = "vLLM and SGLang publish in the same form";
constexpr std::string_view engine_types[] = {"vllm", "sglang"};
constexpr P precise_parameters[] = {
    {"tokenProcessorConfig.blockSize", integer, 1, 1024},
    {"tokenProcessorConfig.blockSizeTokens", integer, 1, 1024},
    {"tokenProcessorConfig.hashSeed", any, 0, 0, {}, false, own_hashes},
    {"tokenProcessorConfig.hashAlgorithm", any, 0, 0, {}, false, own_hashes},
    {"indexerConfig", any, 0, 0, {}, false, own_table},
    {"kvEventsConfig.zmqEndpoint", any, 0, 0, {}, false, no_central},
    {"kvEventsConfig.topicFilter", text, 1, 253},
    {"kvEventsConfig.concurrency", integer, 1, many, {}, false, one_thread},
    {"kvEventsConfig.engineType", choice, 0, 0, engine_types, false, all_publish_alike},
    {"kvEventsConfig.discoverPods", on, 0, 0, {}, false, "every endpoint is connected to"},
    {"kvEventsConfig.podDiscoveryConfig.socketPort", integer, 1, 65535},
    {"kvEventsConfig.podDiscoveryConfig.replaySocketPort", integer, 0, 65535},
    {"kvEventsConfig.podDiscoveryConfig.podLabelSelector", any, 0, 0, {}, false, pool_selects},
    {"kvEventsConfig.podDiscoveryConfig.podNamespace", any, 0, 0, {}, false, pool_selects},
    {"speculativeIndexing", off, 0, 0, {}, false, own_speculation},
    {"speculativeTTL", any, 0, 0, {}, false, own_speculation},
    // Of its older spelling, prefix-cache-scorer with mode: cache_tracking.
    {"mode", choice, 0, 0, cache_modes},
    {"kvCacheRedisAddr", any, 0, 0, {}, false, own_table},
};
constexpr P load_aware_parameters[] = {{"threshold", integer, 1, many}};
constexpr P token_load_parameters[] = {
    {"queueThresholdTokens", integer, 1, many},
    {"nonTextTokenWeight", any, 0, 0, {}, false, "tokens of media count like those of text"},
    load_source,
};
constexpr P active_request_parameters[] = {
    {"requestTimeout", duration, 0, 24 * hour, {}, false, always_counted},
    {"idleThreshold", integer, 0, many},
    {"maxBusyScore", number, 0, 1},
    load_source,
};
constexpr P no_hit_parameters[] = {
    {"lruSize", integer, 1, many},
    {"prefixPluginType", text, 1, 253, {}, false, one_index},
    {"prefixPluginName", text, 1, 253, {}, false, one_index},
    match_source,
};
constexpr P context_length_parameters[] = {{"label", text, 1, 317}, {"enableFiltering", boolean}};
constexpr P by_label_parameters[] = {
    {"label", text, 1, 317, {}, true}, {"validValues", texts}, {"allowsNoLabel", boolean}};
constexpr P selector_parameters[] = {{"matchLabels", selector}, {"matchExpressions", selector}};
constexpr std::string_view cold_starts[] = {"defaults", "token-rule", "assumed-pace"};
constexpr P expected_cost_parameters[] = {{"coldStart", choice, 0, 0, cold_starts}};
constexpr std::string_view ttft_sources[] = {"prefillThroughput", "latencyPredictor"};
constexpr P affinity_parameters[] = {
    {"affinityThreshold", number, 0, 1},
    {"explorationProbability", number, 0, 1},
    {"maxTTFTPenaltyMs", number, 0, many},
    {"maxTokensInFlightPenalty", integer, 0, many},
    {"peakPrefillThroughput", number, 1e-3, many},
    {"ttftSource", choice, 0, 0, ttft_sources},
    {"prefillCalibrationFile", any, 0, 0, {}, false, learnt_pace},
    {"prefillCalibrationFingerprint", any, 0, 0, {}, false, learnt_pace},
    {"prefillCalibrationRequired", any, 0, 0, {}, false, learnt_pace},
    match_source,
    load_source,
    latency_source,
};
// What the latency predictor is told.
constexpr P prediction_parameters[] = {
    {"streamingMode", boolean},
    {"sloBufferFactor", number, 1e-6, many},
    {"endpointRoleLabel", text, 1, 317},
    {"predictInProduce", boolean},
    {"predictInPrepareData", boolean},
    {"samplingMean", any, 0, 0, {}, false, all_teach},
    {"maxDecodeTokenSamplesForPrediction", any, 0, 0, {}, false, all_teach},
    {"contextTTL", any, 0, 0, {}, false, always_counted},
    match_source,
    load_source,
};
constexpr std::string_view headroom_strategies[] = {"least", "most", "composite-only"};
constexpr P latency_parameters[] = {
    {"ttftWeight", number, 0, many},
    {"tpotWeight", number, 0, many},
    {"headroomSelectionStrategy", choice, 0, 0, headroom_strategies},
    {"compositeKVWeight", number, 0, many},
    {"compositeQueueWeight", number, 0, many},
    {"compositePrefixWeight", number, 0, many},
    match_source,
    latency_source,
};
constexpr std::string_view older_strategies[] = {"least", "most", "composite-least", "composite-most",
                                                 "composite-only"};
constexpr std::string_view selection_modes[] = {"linear", "max"};
constexpr P predicted_latency_parameters[] = {
    {"streamingMode", boolean},
    {"sloBufferFactor", number, 1e-6, many},
    {"headroomTTFTWeight", number, 0, many},
    {"headroomTPOTWeight", number, 0, many},
    {"negHeadroomTTFTWeight", number, 0, many},
    {"negHeadroomTPOTWeight", number, 0, many},
    {"headroomSelectionStrategy", choice, 0, 0, older_strategies},
    {"selectionMode", choice, 0, 0, selection_modes},
    {"compositeKVWeight", number, 0, many},
    {"compositeQueueWeight", number, 0, many},
    {"compositePrefixWeight", number, 0, many},
    {"epsilonExploreSticky", number, 0, 1},
    {"epsilonExploreNeg", number, 0, 1},
    {"affinityGateTau", number, 0, 1},
    {"affinityGateTauGlobal", number, 0, 1},
    {"samplingMean", any, 0, 0, {}, false, all_teach},
    {"maxSampledTokens", any, 0, 0, {}, false, all_teach},
    {"contextTTL", any, 0, 0, {}, false, always_counted},
    match_source,
};
// Tokens are given and taken under one name.
constexpr std::string_view session_headers[] = {"x-session-token"};
constexpr std::string_view session_strategies[] = {"encoded_endpoint_header"};
constexpr P session_parameters[] = {{"algorithm", choice, 0, 0, session_strategies},
                                    {"headerName", choice, 0, 0, session_headers}};
constexpr P session_filter_parameters[] = {{"strategy", choice, 0, 0, session_strategies},
                                           {"encodedEndpointHeaderConfig.header", choice, 0, 0, session_headers}};
constexpr P lmetric_parameters[] = {match_source, load_source};
constexpr P probabilistic_parameters[] = {{"queueDepthThreshold", number, 1e-3, many},
                                          {"kvCacheUtilThreshold", number, 1e-6, 1},
                                          {"power", number, 1e-3, 100},
                                          {"k", number, 1e-9, many}};
constexpr P tier_parameters[] = {{"epsilonExploreNeg", number, 0, 1}, latency_source};
constexpr P latency_admitter_parameters[] = {latency_source};
constexpr std::string_view concurrency_modes[] = {"requests", "tokens", "hybrid"};
constexpr P concurrency_parameters[] = {
    {"maxConcurrency", integer, 1, many},
    {"headroom", number, 0, 100},
    {"concurrencyMode", choice, 0, 0, concurrency_modes},
    {"mode", choice, 0, 0, concurrency_modes},
    {"maxTokenConcurrency", integer, 1, many},
    load_source,
};
constexpr P utilization_parameters[] = {
    {"queueDepthThreshold", integer, 1, many},
    {"kvCacheUtilThreshold", number, 1e-6, 1},
    {"metricsStalenessThreshold", duration, 1e-3, hour},
    {"headroom", number, 0, 100},
};
constexpr std::string_view gauges[] = {"active-requests", "running-requests", "waiting-queue", "kv-cache-utilization"};
constexpr P cap_parameters[] = {{"conditions", caps, 0, many, gauges, true}, {"fallbackOnEmpty", boolean}, load_source};
constexpr std::string_view gating_modes[] = {"sum", "max-role", "disabled"};
constexpr std::string_view told_together =
    "the endpoints of all stages are chosen together, so nothing is handed on in headers: leave headerSelectors out";
constexpr P rollout_parameters[] = {
    {"scope.labelSelector", text, 1, 1024, {}, true},  {"revisionGating.mode", choice, 0, 0, gating_modes, true},
    {"revisionGating.requiredRoles", texts},           {"revisionGating.requireRoles.values", texts},
    {"revisionGating.revisionLabelKey", text, 1, 317}, {"revisionGating.roleLabelKey", text, 1, 317},
};
constexpr std::string_view one_topology = "there is one topology-extractor, and every plugin reads what it says";
constexpr std::string_view no_peer_header =
    "the endpoints of all stages are chosen together, so nothing is handed on in headers: leave peerTopologyHeader out";
constexpr P topology_source = {"topologyProducerName", text, 1, 253, {}, false, one_topology};
constexpr P place_parameters[] = {
    {"hostname", text, 1, 317}, {"rack", text, 1, 317}, {"zone", text, 1, 317}, {"region", text, 1, 317}};
constexpr std::string_view affinities[] = {"host", "rack", "zone", "region"};
constexpr P topology_filter_parameters[] = {{"minAffinity", choice, 0, 0, affinities}, topology_source};
constexpr P topology_scorer_parameters[] = {topology_source};
constexpr std::string_view own_ports =
    "each rank is an endpoint at a port of its own (targetPorts), and is called there";
constexpr P primary_port = {"primaryPort", any, 0, 0, {}, false, own_ports};
constexpr P ranks_parameters[] = {primary_port};
constexpr P picker_parameters[] = {{"maxNumOfEndpoints", integer, 1, 8}};
constexpr P disagg_parameters[] = {
    {"profiles.decode", text, 1, 253},
    {"profiles.prefill", text, 1, 253},
    {"profiles.encode", text, 1, 253},
    {"deciders.prefill", text, 1, 253},
    {"deciders.encode", text, 1, 253},
    {"decodeProfile", text, 1, 253},
    {"prefillProfile", text, 1, 253},
    {"encodeProfile", text, 1, 253},
    {"prefillDeciderPluginName", text, 1, 253},
    {"encodeDeciderPluginName", text, 1, 253},
    {"deciderPluginName", text, 1, 253},
    {"prefixPluginType", text, 1, 253, {}, false, one_index},
    {"prefixPluginName", text, 1, 253, {}, false, one_index},
    primary_port,
};
constexpr P pd_parameters[] = {
    {"decodeProfile", text, 1, 253},
    {"prefillProfile", text, 1, 253},
    {"deciderPluginName", text, 1, 253},
    {"threshold", integer, 0, many},
    {"hashBlockSize", integer, 1, 65536, {}, false, in_characters},
    {"prefixPluginType", text, 1, 253, {}, false, one_index},
    {"prefixPluginName", text, 1, 253, {}, false, one_index},
    primary_port,
};
constexpr P header_profile_parameters[] = {{"headerName", text, 1, 253}, {"defaultProfile", text, 1, 253}};
constexpr P header_label_parameters[] = {
    {"headerName", text, 1, 253, {}, true},
    {"labelKey", text, 1, 317, {}, true},
    {"stampResponseHeader", off, 0, 0, {}, false, "answers are not marked"},
};
constexpr P decider_parameters[] = {{"nonCachedTokens", integer, 0, many}, match_source};
constexpr std::string_view who_computes = "who computes the prompt is known";
constexpr P p2p_parameters[] = {{"minCachedTokenDelta", integer, 1, many},
                                {"prefillProfileName", text, 1, 253, {}, false, who_computes},
                                match_source};
constexpr P headers_parameters[] = {{"prefillProfile", text, 1, 253}, {"encodeProfile", text, 1, 253}};
constexpr P late_binding_parameters[] = {{"holdSeconds", number, 0, hour}, {"kvThreshold", number, 0, 1}};
constexpr P least_work_parameters[] = {{"agingSeconds", number, 1e-3, hour}};
constexpr P usage_limit_parameters[] = {{"threshold", number, 1e-6, 1}};
constexpr std::string_view shapes[] = {"linear"}, domains[] = {"rank", "value", "explicit"};
constexpr P holdback_parameters[] = {{"shape", choice, 0, 0, shapes},
                                     {"domain", choice, 0, 0, domains},
                                     {"minCeiling", number, 0, 1},
                                     {"maxCeiling", number, 0, 1},
                                     {"ceilings", numbers, 0, 1}};
constexpr std::string_view strategies[] = {"las", "turn-priority"};
constexpr std::string_view nobody_sweeps = "what is to be forgotten is when it is looked at; nobody sweeps";
constexpr P program_parameters[] = {
    {"strategy", choice, 0, 0, strategies},
    {"lasWeightService", number, 0, many},
    {"lasWeightHeadWait", number, 0, many},
    {"lasHalfLifeSeconds", number, 0, many},
    {"lasDecayFactor", number, 1e-9, 1},
    {"turnPriorityTimeWeight", number, 0, many},
    {"turnPriorityInactivitySeconds", number, 0, many},
    {"evictionTtlSeconds", number, 0, many},
    {"evictionSweepSeconds", any, 0, 0, {}, false, nobody_sweeps},
};
constexpr P identity_parameters[] = {{"additionalSessionHeaders", texts}};
constexpr std::string_view no_tokenizer =
    "there is no tokenizer: prompts given as text are counted and matched approximately, by their bytes";
constexpr P token_parameters[] = {
    {"modelName", any, 0, 0, {}, false, no_tokenizer},
    {"backend", any, 0, 0, {}, false, no_tokenizer},
    {"vllm", any, 0, 0, {}, false, no_tokenizer},
    {"sglang", any, 0, 0, {}, false, no_tokenizer},
    {"udsTokenizerConfig", any, 0, 0, {}, false, no_tokenizer},
    {"estimate", any, 0, 0, {}, false, "tokens are estimated from bytes, at a rate learnt from the answers"},
};
constexpr std::string_view scraped = "endpoints are scraped as metrics.* of the GatewayConfig says";
constexpr std::string_view models_paths[] = {"/v1/models"};
constexpr std::string_view schemes[] = {"http", "https"};
constexpr P scrape_parameters[] = {
    {"scheme", choice, 0, 0, schemes}, {"path", text, 1, 1024}, {"insecureSkipVerify", any, 0, 0, {}, false, scraped}};
constexpr P models_parameters[] = {{"scheme", choice, 0, 0, schemes},
                                   {"path", choice, 0, 0, models_paths},
                                   {"insecureSkipVerify", any, 0, 0, {}, false, scraped}};
constexpr std::string_view answers_count =
    "tokens in flight are those of the prompt and those that the answer may have";
constexpr P inflight_parameters[] = {{"addEstimatedOutputTokens", any, 0, 0, {}, false, answers_count},
                                     {"maxEstimatedOutputTokens", any, 0, 0, {}, false, answers_count},
                                     match_source};
constexpr std::string_view nobody_waits = "nobody waits for others: requests follow the first of their group";
constexpr P burst_parameters[] = {
    {"windowDurationMs", integer, 1, 10'000},
    {"maxPerReplica", integer, -1, BurstSpec::per_replica_max},
    {"blockSizeTokens", integer, 1, 1024},
    {"maxPrefixTokensToMatch", integer, 0, many},
    {"minColocateBlocks", integer, 0, 1'000'000},
    {"maxBatchSize", any, 0, 0, {}, false, nobody_waits},
    {"balanceBy", any, 0, 0, {}, false, nobody_waits},
};
constexpr P extractor_parameters[] = {{"engineConfigs", any},
                                      {"engineLabelKey", text, 1, 317},
                                      {"defaultEngine", text, 1, 253},
                                      // Older, of all endpoints:
                                      {"queuedRequestsSpec", any},
                                      {"runningRequestsSpec", any},
                                      {"kvUsageSpec", any},
                                      {"loraSpec", any},
                                      {"cacheInfoSpec", any}};
constexpr P discovery_parameters[] = {{"path", text, 1, 4096, {}, true}, {"watchFile", boolean}};
constexpr double any_number = 1e15;
constexpr std::string_view extractors[] = {"core-metrics-extractor"};
constexpr std::string_view attribute_sources[] = {"endpoint"};
constexpr std::string_view linear_algorithms[] = {"linear_lower_is_better", "linear_higher_is_better"};
constexpr P attribute_scorer_parameters[] = {
    {"attributeKey", text, 1, 253, {}, true},
    {"producer", choice, 0, 0, extractors},
    {"source", choice, 0, 0, attribute_sources},
    {"algorithm.type", choice, 0, 0, linear_algorithms, true},
    {"algorithm.normalization.adaptiveRange", any},
    {"algorithm.normalization.fixedRange.min", number, -any_number, any_number},
    {"algorithm.normalization.fixedRange.max", number, -any_number, any_number},
};
constexpr P weight_scorer_parameters[] = {
    {"attributeKey", text, 1, 253, {}, true}, {"producer", text, 1, 253}, {"weights", weights, 1e-6, 1e6, {}, true}};
constexpr std::string_view label_values[] = {"string"};
constexpr P label_producer_parameters[] = {{"label", text, 1, 317},
                                           {"attributeKey", text, 1, 253},
                                           {"valueType", choice, 0, 0, label_values},
                                           {"labels", any}};
constexpr std::string_view on_missing[] = {"Pass", "Fail"};
constexpr std::string_view attribute_algorithms[] = {"threshold", "range", "topK", "percentile"};
constexpr std::string_view operators[] = {"LessThan",           "LessThanOrEqual", "GreaterThan",
                                          "GreaterThanOrEqual", "Equal",           "NotEqual"};
constexpr P attribute_filter_parameters[] = {
    {"attribute", text, 1, 253, {}, true},
    {"producer", choice, 0, 0, extractors},
    {"onMissing", choice, 0, 0, on_missing},
    {"fallbackOnEmpty", boolean},
    {"algorithm.type", choice, 0, 0, attribute_algorithms, true},
    {"algorithm.threshold.operator", choice, 0, 0, operators},
    {"algorithm.threshold.value", number, -any_number, any_number},
    {"algorithm.range.min", number, -any_number, any_number},
    {"algorithm.range.max", number, -any_number, any_number},
    {"algorithm.topK.k", integer, 1, many},
    {"algorithm.topK.higherIsBetter", boolean},
    {"algorithm.percentile.percentile", number, 0, 100},
    {"algorithm.percentile.higherIsBetter", boolean},
};
constexpr std::string_view one_media_memory =
    "where mm-embeddings-cache-scorer runs, the media of every request are hashed, and it remembers who got them";
constexpr P media_scorer_parameters[] = {{"producerName", text, 1, 253, {}, false, one_media_memory}};
constexpr P media_parameters[] = {
    {"cacheSizeInMBPerServer", integer, 1, many},
    {"cacheSizeInEmbeddingsPerServer", integer, 1, many},
    {"cacheSize", integer, 1, many},
    {"encodeProfile", text, 1, 253, {}, false, "whoever encodes is remembered, whatever the profile's name"},
};

constexpr std::string_view predicts = "latency is predicted by the model of the expected cost, without a sidecar";
constexpr std::string_view own_gauges = "of model servers only the gauges are read that scorers here look at";
constexpr std::string_view one_cluster = "the endpoints of a pool are model servers of one cluster";
constexpr std::string_view no_grpc = "gRPC is not spoken here";
constexpr std::string_view evicts_so = "who is evicted is always chosen so";
constexpr std::string_view generate_unread =
    "requests to paths of OpenAI's API are read as ever; those to /generate pass unread: they are routed by load "
    "alone, "
    "and never wait";
constexpr std::string_view superseded = "it never was in a release; use latency-scorer or predicted-latency-scorer";
constexpr std::string_view watched = "the gateway watches the cluster itself";
constexpr std::string_view parsed = "every path is read as what it is";

// In the order in which they are offered.
constexpr PluginInfo types[] = {
    {"queue-scorer", scorer, queue_parameters},
    {"kv-cache-utilization-scorer", scorer},
    {"prefix-cache-scorer", scorer, prefix_parameters, {}, true},
    {"precise-prefix-cache-scorer", scorer, precise_parameters, {}, true},
    {"running-requests-size-scorer", scorer},
    {"active-request-scorer", scorer, active_request_parameters},
    {"load-aware-scorer", scorer, load_aware_parameters},
    {"token-load-scorer", scorer, token_load_parameters},
    {"lora-affinity-scorer", scorer},
    {"session-affinity-scorer", scorer, session_parameters},
    {"lmetric-scorer", scorer, lmetric_parameters, {}, true},
    {"no-hit-lru-scorer", scorer, no_hit_parameters, {}, true},
    {"mm-embeddings-cache-scorer", scorer, media_scorer_parameters},
    {"header-label-affinity-scorer", scorer, header_label_parameters},
    {"expected-cost-scorer", scorer, expected_cost_parameters, {}, true},
    {"least-load-scorer", scorer},
    {"latency-scorer", scorer, latency_parameters, {}, true},
    {"predicted-latency-scorer", scorer, predicted_latency_parameters, {}, true},
    {"endpoint-attribute-scorer", scorer, attribute_scorer_parameters},
    {"endpoint-attribute-weight-scorer", scorer, weight_scorer_parameters},
    {"context-length-aware", scorer_and_filter, context_length_parameters},
    {"by-label", filter, by_label_parameters},
    {"by-label-selector", filter, selector_parameters},
    {"session-affinity-filter", filter, session_filter_parameters},
    {"endpoint-attribute-filter", filter, attribute_filter_parameters},
    {"decode-filter", filter},
    {"prefill-filter", filter},
    {"encode-filter", filter},
    {"prefix-cache-affinity-filter", filter, affinity_parameters, {}, true},
    {"slo-headroom-tier-filter", filter, tier_parameters, {}, true},
    {"utilization-filter", filter, cap_parameters},
    {"topology-affinity-filter", filter, topology_filter_parameters, no_peer_header},
    {"topology-affinity-scorer", scorer, topology_scorer_parameters},
    {"header-based-testing-filter", filter},
    {"utilization-detector", detector, utilization_parameters},
    {"concurrency-detector", detector, concurrency_parameters},
    {"max-score-picker", picker, picker_parameters},
    {"random-picker", picker, picker_parameters},
    {"weighted-random-picker", picker, picker_parameters},
    {"round-robin-picker", picker},
    {"single-profile-handler", profile_handler},
    {"data-parallel-profile-handler", profile_handler, ranks_parameters, own_ports},
    {"disagg-profile-handler", profile_handler, disagg_parameters},
    {"pd-profile-handler", profile_handler, pd_parameters},
    {"header-profile-handler", profile_handler, header_profile_parameters},
    {"header-phase-profile-handler", profile_handler, header_profile_parameters},
    {"prefix-based-pd-decider", decider, decider_parameters, {}, true},
    {"always-disagg-pd-decider", decider},
    {"always-disagg-multimodal-decider", decider},
    {"latency-slo-admitter", admitter, latency_admitter_parameters, {}, true},
    {"probabilistic-admitter", admitter, probabilistic_parameters},
    {"disaggregatedset-rollout-screener", screener, rollout_parameters, told_together},
    {"late-binding-detector", saturation, late_binding_parameters},
    {"least-work-ordering-policy", flow, least_work_parameters},
    {"fcfs-ordering-policy", flow},
    {"edf-ordering-policy", flow},
    {"slo-deadline-ordering-policy", flow},
    {"global-strict-fairness-policy", flow},
    {"round-robin-fairness-policy", flow},
    {"program-aware-fairness", flow, program_parameters},
    {"static-usage-limit-policy", flow, usage_limit_parameters},
    {"priority-holdback-policy", flow, holdback_parameters},
    {"soft-reflective-ceiling-policy", flow},
    {"agent-identity", flow, identity_parameters},
    {"p2p-source-producer", built_in, p2p_parameters,
     "the endpoint that is told of another one is that which computes"},
    {"disagg-headers-handler", built_in, headers_parameters, "the profile handler sets the headers"},
    {"approx-prefix-cache-producer", built_in, prefix_parameters, "prompts are hashed once for all that ask"},
    {"precise-prefix-cache-producer", built_in, precise_parameters, "what endpoints tell counts for all that ask"},
    {"burst-prefix-cache-producer", built_in, burst_parameters, "prefix-cache-scorer that names it scores by it"},
    {"mm-embeddings-cache-producer", built_in, media_parameters, one_media_memory},
    {"token-producer", built_in, token_parameters, no_tokenizer},
    {"predicted-latency-producer", built_in, prediction_parameters, predicts},
    {"inflight-load-producer", built_in, inflight_parameters, "what is in flight is always counted"},
    {"metrics-data-source", built_in, scrape_parameters, scraped},
    {"core-metrics-extractor", built_in, extractor_parameters, scraped},
    {"model-server-protocol-metrics", built_in, extractor_parameters, scraped},
    {"models-data-source", built_in, models_parameters, "every endpoint is asked for /v1/models"},
    {"model-server-protocol-models", built_in, {}, "every endpoint is asked for /v1/models"},
    {"label-producer", built_in, label_producer_parameters, "labels of pods are always known"},
    {"topology-extractor", built_in, place_parameters, "labels of pods are always known"},
    {"k8s-notification-source", built_in, {}, watched},
    {"endpoint-notification-source", built_in, {}, watched},
    {"openai-parser", built_in, {}, parsed},
    {"anthropic-parser", built_in, {}, parsed},
    {"passthrough-parser", built_in, {}, parsed},
    {"vllmhttp-parser", built_in, {}, generate_unread},
    {"sglanghttp-parser", built_in, {}, generate_unread},
    {"models-responder", built_in, {}, "/v1/models is answered for the pool"},
    {"dp-rank-header-handler", built_in, {}, own_ports},
    {"outlen-bucket", built_in, {}, "how long answers are is learnt from them"},
    {"eviction-sheddable-filter", built_in, {}, evicts_so},
    {"eviction-priority-then-time-ordering", built_in, {}, evicts_so},
    {"slo-scorer", unsupported, {}, superseded},
    {"slo-request-tracker", unsupported, {}, superseded},
    {"slo-aware-profile-handler", unsupported, {}, superseded},
    {"dcgm-data-source", unsupported, {}, own_gauges},
    {"dcgm-extractor", unsupported, {}, own_gauges},
    {"file-discovery", built_in, discovery_parameters, "it lists the endpoints: dataLayer.discovery names it"},
    {"multicluster-file-discovery", unsupported, {}, one_cluster},
    {"latency-observer-producer-hub", unsupported, {}, one_cluster},
    {"latency-observation-scorer-hub", unsupported, {}, one_cluster},
    {"max-saturation-detector", unsupported, {}, "one detector decides: name it in saturationDetector"},
    {"session-id-producer", unsupported, {}, "no plugin here goes by session ids; use session-affinity-scorer"},
    {"thunder-agent", unsupported, {}, "use program-aware-fairness for programs, and prefix-cache-scorer to keep them"},
    {"vllmgrpc-parser", unsupported, {}, no_grpc},
    {"sglanggrpc-parser", unsupported, {}, no_grpc},
    {"vertexai-parser", unsupported, {}, no_grpc},
    {"request-attribute-reporter", unsupported, {}, "nobody stands behind the gateway to report to"},
};

struct Alias {
  std::string_view older, type;
};
constexpr Alias aliases[] = {
    {"kv-cache-scorer", "kv-cache-utilization-scorer"},
    {"prefill-header-handler", "disagg-headers-handler"},
    {"tokenizer", "token-producer"},
    {"always-disagg-encode-decider", "always-disagg-multimodal-decider"},
    {"latency-predictor", "predicted-latency-producer"},
    {"latency-admission", "latency-slo-admitter"},
    {"label-selector-filter", "by-label-selector"},
};

}  // namespace

std::string_view to_string(PluginKind kind) {
  switch (kind) {
    case scorer:
      return "scorer";
    case filter:
      return "filter";
    case scorer_and_filter:
      return "scorer and filter";
    case picker:
      return "picker";
    case profile_handler:
      return "profile handler";
    case decider:
      return "decider";
    case admitter:
      return "plugin of admission";
    case screener:
      return "screener of all profiles";
    case detector:
    case saturation:
      return "saturation detector";
    case flow:
      return "policy of flow control";
    case built_in:
      return "part of the gateway";
    case unsupported:
      return "not supported";
  }
  return "";
}

std::span<const PluginInfo> plugin_types() {
  return types;
}

const PluginInfo* find_plugin_type(std::string_view type) {
  for (const Alias& alias : aliases) {
    if (alias.older == type) type = alias.type;
  }
  if (type.starts_with("multicluster-")) type = "multicluster-file-discovery";  // none of them is here
  const auto found =
      std::find_if(std::begin(types), std::end(types), [&](const auto& info) { return info.type == type; });
  return found == std::end(types) ? nullptr : found;
}

bool runs_in_profile(PluginKind kind) {
  return kind == scorer || kind == filter || kind == scorer_and_filter || kind == picker || kind == detector;
}

}  // namespace penstock::routing
