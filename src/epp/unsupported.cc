// Rows of plugins that exist elsewhere: a configuration that declares one is refused, and told what to use instead.
#include "rows.h"

namespace penstock::epp {
namespace {

constexpr PluginInfo unsupported(std::string_view type, std::string_view why) {
  return {.type = type, .kind = PluginKind::unsupported, .doc = {}, .note = why};
}

constexpr std::string_view superseded = "it never was in a release; use latency-scorer or predicted-latency-scorer";
constexpr std::string_view own_gauges = "of model servers only the gauges are read that scorers here look at";
constexpr std::string_view one_cluster = "the endpoints of a pool are model servers of one cluster";
constexpr std::string_view no_grpc = "gRPC is not spoken here";

constexpr PluginInfo all[] = {
    unsupported("slo-scorer", superseded),
    unsupported("slo-request-tracker", superseded),
    unsupported("slo-aware-profile-handler", superseded),
    unsupported("dcgm-data-source", own_gauges),
    unsupported("dcgm-extractor", own_gauges),
    unsupported("multicluster-file-discovery", one_cluster),
    unsupported("latency-observer-producer-hub", one_cluster),
    unsupported("latency-observation-scorer-hub", one_cluster),
    unsupported("max-saturation-detector", "one detector decides: name it in saturationDetector"),
    unsupported("session-id-producer", "no plugin here goes by session ids; use session-affinity-scorer"),
    unsupported("thunder-agent", "use program-aware-fairness for programs, and prefix-cache-scorer to keep them"),
    unsupported("vllmgrpc-parser", no_grpc),
    unsupported("sglanggrpc-parser", no_grpc),
    unsupported("vertexai-parser", no_grpc),
    unsupported("request-attribute-reporter", "nobody stands behind the gateway to report to"),
};

}  // namespace

std::span<const PluginInfo> unsupported_rows() {
  return all;
}

}  // namespace penstock::epp
