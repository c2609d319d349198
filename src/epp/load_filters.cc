// Rows of the filters by load and by place, and of the detectors, which filter in a profile.
#include <algorithm>
#include <cmath>
#include <utility>

#include "rows.h"

namespace penstock::epp {
namespace {

using namespace rows;
using Made = std::unique_ptr<routing::Filter>;

// In the order of routing::Gauge.
constexpr std::string_view gauges[] = {"active-requests", "running-requests", "waiting-queue", "kv-cache-utilization"};
constexpr ParameterInfo cap_parameters[] = {
    needed({.name = "conditions",
            .type = ParameterType::caps,
            .most = many,
            .words = gauges,
            .doc = "Each a `metric` with its `maxValue`: `active-requests` (ours in flight), `running-requests`, "
                   "`waiting-queue`, `kv-cache-utilization` (the engine's)."}),
    boolean("fallbackOnEmpty", "false", "All pass where none would."),
    load_source,
};
Made caps(const PluginSpec& said, const SchedulingSpec&) {
  routing::CapFilterOptions out = {.all_if_none = said.flag("fallbackOnEmpty")};
  for (const auto& [metric, most] : said.caps("conditions")) {
    const auto at = std::ranges::find(gauges, metric) - std::begin(gauges);
    out.caps.emplace_back(static_cast<routing::Gauge>(at), most);
  }
  return routing::make_cap_filter(std::move(out));
}

constexpr ParameterInfo active_request_parameters[] = {
    needed(integer("maxRequests", 1, many, "", "So many of our own requests an endpoint may have in flight.")),
    boolean("fallbackOnEmpty", "false", "All pass where none would."),
    load_source,
};
Made active_requests(const PluginSpec& said, const SchedulingSpec&) {
  return routing::make_cap_filter({.type = said.info->type,
                                   .caps = {{routing::Gauge::active_requests, said.number("maxRequests")}},
                                   .all_if_none = said.flag("fallbackOnEmpty")});
}

// ---- places ----

// Which labels say where a pod is: what the topology-extractor says of them is added to what is said of these plugins.
routing::TopologyLabels places_of(const PluginSpec& said) {
  const PluginSpec places = {.info = find_plugin_type("topology-extractor"), .parameters = said.parameters};
  return {places.text("hostname"), places.text("rack"), places.text("zone"), places.text("region")};
}

constexpr ParameterInfo topology_source = without_effect(
    text("topologyProducerName", "", ""), "there is one topology-extractor, and every plugin reads what it says");
constexpr ParameterInfo topology_filter_parameters[] = {
    choice("minAffinity", routing::topology_levels, "host", "The widest level that counts as near."), topology_source};
Made topology_filter(const PluginSpec& said, const SchedulingSpec&) {
  const auto level = std::ranges::find(routing::topology_levels, said.text("minAffinity"));
  return routing::make_topology_filter(
      {.labels = places_of(said), .level = static_cast<size_t>(level - routing::topology_levels.begin())});
}
constexpr ParameterInfo topology_scorer_parameters[] = {topology_source};
std::unique_ptr<routing::Scorer> topology_scorer(const PluginSpec& said, const SchedulingSpec&) {
  return routing::make_topology_scorer(places_of(said));
}

Made header_test(const PluginSpec&, const SchedulingSpec&) {
  return routing::make_header_test_filter();
}

// ---- detectors ----

constexpr ParameterInfo utilization_parameters[] = {
    integer("queueDepthThreshold", 1, many, "5", "The queue of a full endpoint."),
    number("kvCacheUtilThreshold", 1e-6, 1, "0.8", "The KV cache use of a full endpoint."),
    duration("metricsStalenessThreshold", 1e-3, hour, "200ms", "Older metrics count as unknown."),
    number("headroom", 0, 100, "0", "As a filter: so much more, as a share, still passes."),
};
Made utilization_filter(const PluginSpec& said, const SchedulingSpec&) {
  const double room = 1 + said.number("headroom");
  return routing::make_utilization_filter({.queue = said.number("queueDepthThreshold") * room,
                                           .kv_usage = said.number("kvCacheUtilThreshold") * room,
                                           .stale_after = from_seconds(said.number("metricsStalenessThreshold"))});
}
// What is not said stays as the section itself has it (1.4).
void utilization_detector(const PluginSpec& said, admission::DetectorOptions* out) {
  out->detector = admission::Detector::utilization;
  if (said.has("queueDepthThreshold")) out->queue_depth = said.number("queueDepthThreshold");
  if (said.has("kvCacheUtilThreshold")) out->kv_usage_max = said.number("kvCacheUtilThreshold");
  if (!said.has("metricsStalenessThreshold")) return;
  out->metrics_stale_after = from_seconds(said.number("metricsStalenessThreshold"));
}

constexpr std::string_view concurrency_modes[] = {"requests", "tokens", "hybrid"};
constexpr ParameterInfo concurrency_parameters[] = {
    integer("maxConcurrency", 1, many, "100", "Requests in flight at a full endpoint."),
    number("headroom", 0, 100, "0", "As a filter: so much more, as a share, still passes."),
    choice("concurrencyMode", concurrency_modes, "requests", "What counts; `hybrid`: both, and the fuller decides."),
    choice("mode", concurrency_modes, "", "Another spelling of it."),
    integer("maxTokenConcurrency", 1, many, "1000000", "Tokens in flight at a full endpoint."),
    load_source,
};
std::string mode_of(const PluginSpec& said) {
  return said.has("mode") ? said.text("mode") : said.text("concurrencyMode");
}
Made concurrency_filter(const PluginSpec& said, const SchedulingSpec&) {
  const std::string mode = mode_of(said);
  const double room = 1 + said.number("headroom");
  return routing::make_concurrency_filter(
      {.requests = mode == "tokens" ? INFINITY : said.number("maxConcurrency") * room,
       .tokens = mode == "requests" ? INFINITY : said.number("maxTokenConcurrency") * room});
}
void concurrency_detector(const PluginSpec& said, admission::DetectorOptions* out) {
  out->detector = admission::Detector::concurrency;
  out->by_tokens = mode_of(said) != "requests";
  out->by_requests = mode_of(said) != "tokens";
  if (said.has("maxConcurrency")) out->concurrency = static_cast<uint32_t>(said.number("maxConcurrency"));
  if (said.has("maxTokenConcurrency")) out->tokens = said.number("maxTokenConcurrency");
}

constexpr PluginInfo all[] = {
    {.type = "active-request-filter",
     .kind = PluginKind::filter,
     .doc = "Those with at most `maxRequests` of our own requests in flight.",
     .parameters = active_request_parameters,
     .make = {.filter = active_requests}},
    {.type = "utilization-filter",
     .kind = PluginKind::filter,
     .doc = "Those within all `conditions`.",
     .parameters = cap_parameters,
     .make = {.filter = caps}},
    {.type = "topology-affinity-filter",
     .kind = PluginKind::filter,
     .doc = "In a profile that prefills or encodes: those that share `minAffinity`, or a narrower level, with the "
            "endpoint "
            "that decodes; all when none does.",
     .parameters = topology_filter_parameters,
     .note = "the endpoints of all stages are chosen together, so nothing is handed on in headers: leave "
             "peerTopologyHeader out",
     .make = {.filter = topology_filter},
     .replay = no_labels},
    {.type = "topology-affinity-scorer",
     .kind = PluginKind::scorer,
     .doc = "In a profile that prefills or encodes: 1 for the same host as the endpoint that decodes, 0.2 rack, 0.05 "
            "zone, "
            "0.02 region, else 0.",
     .parameters = topology_scorer_parameters,
     .make = {.scorer = topology_scorer},
     .replay = no_ranges},
    {.type = "header-based-testing-filter",
     .kind = PluginKind::filter,
     .doc = "Those that `test-epp-endpoint-selection` lists, by ip or ip:port, in that order among equals.",
     .make = {.filter = header_test},
     .replay = {.note = "has no effect in a replay: the header test-epp-endpoint-selection is not known there",
                .of = ReplayRule::Of::left_out}},
    {.type = "utilization-detector",
     .kind = PluginKind::detector,
     .doc =
         "The pool is saturated when the mean of max(queue / threshold, KV use / threshold) is 1. As a filter: those "
         "within both; all when none is.",
     .parameters = utilization_parameters,
     .make = {.filter = utilization_filter, .detector = utilization_detector}},
    {.type = "concurrency-detector",
     .kind = PluginKind::detector,
     .doc = "The pool is saturated when all its endpoints have as much in flight as they may. As a filter: those that "
            "have "
            "less.",
     .parameters = concurrency_parameters,
     .make = {.filter = concurrency_filter, .detector = concurrency_detector}},
};

}  // namespace

std::span<const PluginInfo> load_filter_rows() {
  return all;
}

}  // namespace penstock::epp
