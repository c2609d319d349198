// The whole configuration as values: what flags, file and defaults add up to. Each layer's part is that layer's own
// options, with their defaults.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "penstock/admission/retry_budget.h"
#include "penstock/base/log.h"
#include "penstock/base/time.h"
#include "penstock/discovery/directory.h"
#include "penstock/discovery/names.h"
#include "penstock/downstream/server_options.h"
#include "penstock/net/resolver.h"
#include "penstock/net/ring.h"
#include "penstock/net/tls.h"
#include "penstock/observability/access_log.h"
#include "penstock/observability/options.h"
#include "penstock/proxy/options.h"
#include "penstock/upstream/client.h"

namespace penstock::epp {
struct Config;  // epp/config.h
}

namespace penstock::config {

struct Limits {
  size_t connections = 0;                // clients, whole process; 0: from RLIMIT_NOFILE
  size_t metrics_page = 1536 * 1024;     // bytes of our page of metrics that names from clients may cause
  size_t memory_bytes = 0;               // budget; 0: 60 % of the cgroup limit, else of the machine's memory
  double incomplete_heads_percent = 10;  // of memory_bytes, for heads that have not arrived completely; 503
};

// Who is told about the inside, if it is not told to everyone.
struct Identity {
  // Loopback, private and link-local addresses, and those of carriers' inner networks.
  std::vector<std::string> trusted = {"127.0.0.0/8",    "::1",           "10.0.0.0/8", "172.16.0.0/12",
                                      "192.168.0.0/16", "100.64.0.0/10", "fc00::/7",   "fe80::/10"};
};

struct Responses {
  size_t remembered = 65536;  // stored responses whose endpoint is known; 0: none
  Duration ttl = seconds(86400);
};

struct Metrics {
  std::string engine = "auto";  // or vllm, sglang, trtllm-serve, triton-tensorrt-llm
  std::string api_key_file;     // of endpoints that name none themselves; "": they want none
  // Of our own page of metrics.
  observability::EppNames epp_names = observability::EppNames::v1;
  Duration series_idle = seconds(600);  // series named by clients go when they were not used for so long
};

struct EndpointEntry {
  std::string url;                                  // http://host:port or https://host:port
  std::string name;                                 // default host:port
  std::string engine;                               // "" = metrics.engine
  uint16_t kv_events_port = 0, kv_replay_port = 0;  // 0 = kv_events.port, kv_events.replay_port
  std::map<std::string, std::string> labels;        // as those of a pod
  std::string ns;                                   // of its name; ""
  std::optional<bool> all_addresses;                // of its host name; nothing: dns.addresses
  std::string api_key_file;                         // "" = metrics.api_key_file
  std::string tls_server_name;                      // "" = endpoint_tls.server_name, else its host
  bool operator==(const EndpointEntry&) const = default;
};

// Two files in PEM form: a certificate with its intermediates, and its key without a password.
struct CertificateFiles {
  std::string cert, key;
  bool operator==(const CertificateFiles&) const = default;
};

struct ListenerTls {
  std::vector<CertificateFiles> certificates;  // chosen by the name that the client asks for; the first is the default
  bool strict_sni = false;
  net::TlsVersion min_version = net::TlsVersion::tls1_2;
  net::ClientCertificates client_certificates = net::ClientCertificates::none;
  std::string client_ca;  // file; "": none
  std::vector<std::string> client_names;
  Duration handshake_timeout = seconds(10);
  bool operator==(const ListenerTls&) const = default;
};

// Where clients connect beside `listen`.
struct ListenerEntry {
  std::string name;  // unique; default: the address
  std::string address;
  std::optional<ListenerTls> tls;  // nothing: plain HTTP
  uint16_t gateway_port = 0;       // what listeners of Gateways call its port; 0: as in the address
  bool operator==(const ListenerEntry&) const = default;
};

// TLS with endpoints whose URL begins with https.
struct EndpointTls {
  std::string ca;                // file; "": the system's
  std::string server_name;       // SNI and the name that certificates must have; "": that of the endpoint
  CertificateFiles certificate;  // for endpoints that ask for one; both "": none
  bool insecure_skip_verify = false;
};

// Whether /readyz says yes while no endpoint can be used.
enum class NoEndpoint : uint8_t { unready, ready };

// What model servers publish of their KV caches. precise-prefix-cache-scorer implies `enabled`, and may say port and
// topic.
struct KvEvents {
  bool enabled = false;
  uint32_t port = 5557;
  uint32_t replay_port = 0;  // 0: none
  uint32_t ranks = 1;        // of each endpoint, at this port and those that follow
  std::string topic;         // "": all
};

// Where endpoints come from on a cluster. What says which objects count is also obeyed with `manifests`.
struct Kubernetes {
  bool enabled = false;                  // kubernetes.enabled, --kubernetes; implied by `api`
  std::vector<std::string> pools;        // InferencePools, "[NAMESPACE/]NAME"; the pool's name with a selector
  std::vector<std::string> namespaces;   // the first is home; "*" alone: all; empty: the credentials' own
  std::string endpoint_selector;         // "app=vllm,tier=gpu": a pool without an InferencePool
  std::vector<uint16_t> endpoint_ports;  // of that pool, 1 to 8
  std::vector<std::string> services;     // "[NAMESPACE/]NAME[:PORT]": pools from EndpointSlices
  std::string api;                       // URL, without credentials (kubectl proxy)
  std::string kubeconfig, context;       // "": $KUBECONFIG, the service account, ~/.kube/config
  bool write = true;                     // status and Events
  bool gateway_api = true;               // read Gateways and HTTPRoutes
  std::string gateway_address;           // for the status of Gateways; "": NAME.NAMESPACE.svc of own_service
  std::string controller = "penstock.dev/gateway";
  std::string own_service = "penstock";  // parent in the status of pools without a route; "": none is written
};

// Whether requests may wait for room. Automatic: with the policy expected-cost, which is made for it.
enum class FlowControl : uint8_t { automatic, on, off };

// Where the fairness id of a request comes from.
enum class FlowNames : uint8_t { header, certificate };

struct Options {
  std::string listen = "0.0.0.0:8080";   // "none": only `listeners`
  std::vector<ListenerEntry> listeners;  // --listen-tls adds one
  EndpointTls endpoint_tls;
  std::string admin = "0.0.0.0:9090";
  std::optional<ListenerTls> admin_tls;  // admin.tls; nothing: plain HTTP
  bool admin_debug = false;  // admin.debug: debug pages and the full status for everybody who reaches the admin port
  std::string pool_name = "default";
  std::vector<EndpointEntry> endpoints;
  Kubernetes kubernetes;
  net::DnsOptions dns;
  discovery::NameOptions names;
  bool all_addresses = false;                    // dns.addresses: all, not first
  NoEndpoint no_endpoint = NoEndpoint::unready;  // readiness.no_endpoint
  std::string manifests;                         // folder or file with Kubernetes objects; "": none
  uint32_t shards = 0;                           // 0: CPUs it may use
  bool pin = true;                               // pin shards to CPUs
  net::RingOptions ring;
  log::Level log_level = log::Level::info;
  log::Format log_format = log::Format::text;
  observability::AccessLogOptions access_log;
  // Clients are strangers: they have to keep a pace, and may speak HTTP/2. 0 is none for each of the timeouts.
  downstream::ServerOptions server = {.min_rate = 256, .http2 = {.enabled = true}};
  upstream::ClientOptions client;
  // Strangers are not told about the inside. What depends on more than one key is filled in by app.
  proxy::Options proxy = {.clients = {.endpoint_header = proxy::ShownTo::trusted, .explain = proxy::ShownTo::trusted}};
  admission::RetryBudgetOptions retry_budget;
  discovery::PollOptions poll;
  Limits limits;
  Responses responses;
  std::vector<std::string> trusted_proxies;  // ranges of addresses whose X-Forwarded-For is believed
  Identity identity;
  Metrics metrics;
  KvEvents kv_events;
  FlowControl flow_control = FlowControl::automatic;
  FlowNames flow_names = FlowNames::header;
  std::string policy = "expected-cost";
  std::string shadow_policy = "none";
  std::string epp_config;                              // file of an EndpointPickerConfig; "": none
  std::shared_ptr<const epp::Config> endpoint_picker;  // what that file says, or the configuration itself; instead
                                                       // of `policy`. Null: none
  std::string shadow_epp_config;                       // the same for the shadow, instead of `shadow_policy`
  std::shared_ptr<const epp::Config> shadow_picker;    // likewise
  size_t prefix_index_entries = 0;                     // 8 bytes each; 0: as many as the caches hold, within limits
  size_t prefix_index_max = 0;                         // that it may grow to; resolve_defaults() says
  Duration drain_delay = seconds(5);                   // lifecycle.drain_delay: readiness false until accepting stops
  Duration drain_limit = seconds(600);                 // lifecycle.drain_limit: streams still running then are cut
};

}  // namespace penstock::config
