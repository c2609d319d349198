// Rows of what the gateway does anyway: sources of metrics and labels, parsers, and the rest.
#include "rows.h"

namespace penstock::epp {
namespace {

using namespace rows;

constexpr std::string_view scraped = "endpoints are scraped as metrics.* of the GatewayConfig says";
constexpr std::string_view models_paths[] = {"/v1/models"};
constexpr std::string_view schemes[] = {"http", "https"};
constexpr ParameterInfo scheme = choice("scheme", schemes, "http", "Of model servers without TLS: `http`.");
constexpr ParameterInfo scrape_parameters[] = {
    scheme,
    text("path", "", "Where gauges are (`metrics.path`, which counts if it is not `/metrics`)."),
    ignored("insecureSkipVerify", scraped),
};
constexpr ParameterInfo models_parameters[] = {
    scheme,
    choice("path", models_paths, "/v1/models", "The only one."),
    ignored("insecureSkipVerify", scraped),
};

constexpr std::string_view gauge_doc = "An older spelling, of all endpoints.";
constexpr ParameterInfo extractor_parameters[] = {
    nested(
        "engineConfigs",
        "What engines call their gauges, for up to 16 of them beside the known ones: each `name`, "
        "`queuedRequestsSpec`, "
        "`runningRequestsSpec`, `kvUsageSpec`, `loraSpec`, `cacheInfoSpec` (`metric` or `metric{label=value}`; empty: "
        "there is none), and `customMetrics`: each `attributeKey` and `metricSpec`, up to 16 gauges that are looked "
        "for "
        "at every endpoint, several series of which are added up."),
    text("engineLabelKey", "",
         "The label of pods that names their engine (`llm-d.ai/engine-type`, "
         "`inference.networking.k8s.io/engine-type`)."),
    text("defaultEngine", "", "What the others run (`metrics.engine`, which counts if it is not `auto`)."),
    nested("queuedRequestsSpec", gauge_doc),
    nested("runningRequestsSpec", gauge_doc),
    nested("kvUsageSpec", gauge_doc),
    nested("loraSpec", gauge_doc),
    nested("cacheInfoSpec", gauge_doc),
};

constexpr std::string_view label_values[] = {"string"};
constexpr ParameterInfo label_producer_parameters[] = {
    text("label", "", "An older spelling: one label,"),
    text("attributeKey", "", "and its name."),
    choice("valueType", label_values, "string", "The only one."),
    nested("labels", "Each `label` and `attributeKey`."),
};

constexpr ParameterInfo place_parameters[] = {
    text("hostname", "kubernetes.io/hostname", "The label that says a pod's host."),
    text("rack", "topology.kubernetes.io/rack", "... its rack."),
    text("zone", "topology.kubernetes.io/zone", "... its zone."),
    text("region", "topology.kubernetes.io/region", "... its region."),
};

constexpr ParameterInfo discovery_parameters[] = {
    needed(text("path", "",
                "The file: `endpoints`, each `name`, `address` (a host name or an IP address), `port`, `namespace`, "
                "`labels`.")),
    boolean("watchFile", "false",
            "It is read within a second of a change, too, not only at the start and on `SIGHUP`."),
};

constexpr std::string_view labels_known = "labels of pods are always known";
constexpr std::string_view watched = "the gateway watches the cluster itself";
constexpr std::string_view parsed = "every path is read as what it is";
constexpr std::string_view generate_unread =
    "requests to paths of OpenAI's API are read as ever; those to /generate pass unread: they are routed by load "
    "alone, "
    "and never wait";
constexpr std::string_view own_ports =
    "each rank is an endpoint at a port of its own (targetPorts), and is called there";
constexpr std::string_view ports_announced =
    "has no effect: each rank is an endpoint at a port of its own (targetPorts), and is called there";
constexpr std::string_view evicts_so = "who is evicted is always chosen so";
constexpr std::string_view scrapes_doc = "Says what engines call their gauges, and which of them an endpoint runs.";
constexpr std::string_view watched_doc = "Without effect: the gateway watches the cluster itself.";
constexpr std::string_view parsed_doc = "Without effect: every path is read as what it is.";
constexpr std::string_view generate_doc =
    "Without effect: requests to paths of OpenAI's API are read as ever; those to /generate pass unread.";
constexpr std::string_view evicts_doc = "Without effect: evictable requests are always chosen so.";

constexpr PluginInfo all[] = {
    {.type = "metrics-data-source",
     .kind = PluginKind::built_in,
     .doc = "Says at which path of an endpoint its gauges are.",
     .parameters = scrape_parameters,
     .note = scraped},
    {.type = "core-metrics-extractor",
     .kind = PluginKind::built_in,
     .doc = scrapes_doc,
     .parameters = extractor_parameters,
     .note = scraped},
    {.type = "model-server-protocol-metrics",
     .kind = PluginKind::built_in,
     .doc = "Another name of `core-metrics-extractor`.",
     .parameters = extractor_parameters,
     .note = scraped},
    {.type = "models-data-source",
     .kind = PluginKind::built_in,
     .doc = "Without effect: every endpoint is asked for `/v1/models`.",
     .parameters = models_parameters,
     .note = "every endpoint is asked for /v1/models"},
    {.type = "model-server-protocol-models",
     .kind = PluginKind::built_in,
     .doc = "Likewise.",
     .note = "every endpoint is asked for /v1/models"},
    {.type = "label-producer",
     .kind = PluginKind::built_in,
     .doc = "Says which labels of a pod `endpoint-attribute-weight-scorer` reads, by a name for each.",
     .parameters = label_producer_parameters,
     .note = labels_known},
    {.type = "topology-extractor",
     .kind = PluginKind::built_in,
     .doc = "Says which labels of a pod the `topology-affinity-` plugins read.",
     .parameters = place_parameters,
     .note = labels_known},
    {.type = "k8s-notification-source", .kind = PluginKind::built_in, .doc = watched_doc, .note = watched},
    {.type = "endpoint-notification-source", .kind = PluginKind::built_in, .doc = watched_doc, .note = watched},
    {.type = "openai-parser", .kind = PluginKind::built_in, .doc = parsed_doc, .note = parsed},
    {.type = "anthropic-parser", .kind = PluginKind::built_in, .doc = parsed_doc, .note = parsed},
    {.type = "passthrough-parser", .kind = PluginKind::built_in, .doc = parsed_doc, .note = parsed},
    {.type = "vllmhttp-parser",
     .kind = PluginKind::built_in,
     .doc = generate_doc,
     .note = generate_unread,
     .announcement = generate_unread},
    {.type = "sglanghttp-parser",
     .kind = PluginKind::built_in,
     .doc = generate_doc,
     .note = generate_unread,
     .announcement = generate_unread},
    {.type = "models-responder",
     .kind = PluginKind::built_in,
     .doc = "Without effect: `/v1/models` is answered for the pool.",
     .note = "/v1/models is answered for the pool"},
    {.type = "dp-rank-header-handler",
     .kind = PluginKind::built_in,
     .doc = "Without effect: each rank is an endpoint at a port of its own.",
     .note = own_ports,
     .announcement = ports_announced},
    {.type = "outlen-bucket",
     .kind = PluginKind::built_in,
     .doc = "Without effect: the length of responses is learnt from them.",
     .note = "how long answers are is learnt from them",
     .announcement = "has no effect: how long answers are is learnt from them"},
    {.type = "eviction-sheddable-filter", .kind = PluginKind::built_in, .doc = evicts_doc, .note = evicts_so},
    {.type = "eviction-priority-then-time-ordering",
     .kind = PluginKind::built_in,
     .doc = evicts_doc,
     .note = evicts_so},
    {.type = "file-discovery",
     .kind = PluginKind::built_in,
     .doc = "Lists the endpoints, if `dataLayer.discovery.pluginRef` (or `.endpoints.pluginRef`) names it.",
     .parameters = discovery_parameters,
     .note = "it lists the endpoints: dataLayer.discovery names it"},
};

}  // namespace

std::span<const PluginInfo> gateway_part_rows() {
  return all;
}

}  // namespace penstock::epp
