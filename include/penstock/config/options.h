// The whole configuration as values: what flags, file and defaults add up to. Defaults stand beside their fields.
// Each layer's part is copied into that layer's own options by app.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "penstock/admission/options.h"
#include "penstock/base/log.h"
#include "penstock/base/time.h"
#include "penstock/net/ring.h"
#include "penstock/net/tls.h"
#include "penstock/observability/options.h"
#include "penstock/proxy/client_identity.h"
#include "penstock/proxy/path_policy.h"

namespace penstock::epp {
struct Config;  // epp/config.h
}

namespace penstock::config {

struct Timeouts {                            // 0 = none
  Duration client_header = seconds(30);      // timeouts.client_header: first byte of a head to its end
  Duration client_body = seconds(60);        // timeouts.client_body: between two reads of a body
  Duration client_idle = seconds(600);       // timeouts.client_idle: keep-alive without a request
  Duration client_write = seconds(60);       // timeouts.client_write: a client that takes no byte of what waits for it
  Duration client_rate_grace = seconds(60);  // timeouts.client_rate_grace: below limits.client_min_rate
  Duration connect = seconds(1);             // timeouts.connect
  Duration first_byte = seconds(600);        // timeouts.first_byte: request sent to head of the answer
  Duration chunk_idle = seconds(300);        // timeouts.chunk_idle: between two reads of an answer
  Duration unresponsive = seconds(5);        // timeouts.unresponsive: a silent answer whose endpoint answers no probe
  Duration tunnel_idle = seconds(300);       // timeouts.tunnel_idle: a WebSocket session in which no byte passes
  Duration total{0};                         // timeouts.total
  Duration upstream_idle = seconds(4);       // timeouts.upstream_idle: below uvicorn's 5 s
};

struct Limits {
  size_t header_bytes = 64 * 1024;       // 431
  size_t body_bytes = 64 * 1024 * 1024;  // 413
  size_t connections = 0;                // clients, whole process; 0: from RLIMIT_NOFILE
  size_t requests_per_shard = 20000;     // in flight; 503
  size_t tunnels_per_shard = 1000;       // WebSocket sessions; 503
  size_t metrics_page = 1536 * 1024;     // bytes of our page of metrics that names from clients may cause
  size_t memory_bytes = 0;               // budget; 0: 60 % of the cgroup limit, else of the machine's memory
  size_t client_min_rate = 256;          // bytes/s of bodies and of answers that wait for the client; 0: any
  double incomplete_heads_percent = 10;  // of memory_bytes, for heads that have not arrived completely; 503
  uint32_t connections_per_client = 0;   // 429; 0: no limit
};

// HTTP/2 of clients; the limits of one connection. downstream::Http2Options says what they are.
struct Http2 {
  bool enabled = true;
  uint32_t streams = 128;
  size_t stream_window = 1024 * 1024, connection_window = 4 * 1024 * 1024;
  uint32_t resets = 200, idle_frames = 2000;
};

// What answers tell about the inside, and to whom.
struct Identity {
  proxy::ShownTo endpoint_header = proxy::ShownTo::trusted;  // x-penstock-endpoint
  proxy::ShownTo explain = proxy::ShownTo::trusted;          // x-penstock-explain
  // Loopback, private and link-local addresses, and those of carriers' inner networks.
  std::vector<std::string> trusted = {"127.0.0.0/8",    "::1",           "10.0.0.0/8", "172.16.0.0/12",
                                      "192.168.0.0/16", "100.64.0.0/10", "fc00::/7",   "fe80::/10"};
};

struct Responses {
  size_t remembered = 65536;  // stored responses whose endpoint is known; 0: none
  Duration ttl = seconds(86400);
};

struct Retry {
  uint32_t attempts = 3;       // in all, the first included
  double budget_percent = 20;  // recent retries, in percent of recent requests
  uint32_t budget_min = 10;    // retries always allowed per 10 s
  uint32_t second_opinions = 50;
};

// Streams that go on at another endpoint when theirs fails: proxy::ResumeOptions says what these are.
struct Resume {
  bool enabled = true;
  uint32_t per_stream = 3, at_once = 2;
  Duration wait = seconds(60), stall = seconds(10);
  size_t text_bytes = 128 * 1024, request_bytes = 1024 * 1024;
  std::vector<std::string> token_ids;
};

struct Ejection {
  uint32_t consecutive_failures = 3;
  Duration base_penalty = seconds(1), max_penalty = seconds(60), slow_start = seconds(10);
  Duration wedged = seconds(5);
  double slow_factor = 10;
};

struct Metrics {
  Duration interval = milliseconds(50);  // while traffic flows
  Duration idle_interval = seconds(1);   // else
  Duration timeout = seconds(1);
  std::string path = "/metrics";
  std::string health_path;  // "": that of the engine
  Duration health_interval = seconds(1);
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

// How the host names of endpoints become addresses.
struct Dns {
  std::vector<std::string> servers;  // dns.servers, "IP" or "IP:PORT"; none: those of /etc/resolv.conf
  bool all_addresses = false;        // dns.addresses: all, not first
  Duration min_ttl = seconds(5);     // an answer counts at least so long
  Duration max_ttl = seconds(30);    // and at most
  Duration timeout = seconds(5);     // of one lookup
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

struct AccessLog {
  bool enabled = true;
  log::Format format = log::Format::text;
  std::string path = "-";  // "-": stdout
  bool query = false;      // paths with their query
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
  Dns dns;
  NoEndpoint no_endpoint = NoEndpoint::unready;  // readiness.no_endpoint
  std::string manifests;                         // folder or file with Kubernetes objects; "": none
  uint32_t shards = 0;                           // 0: CPUs it may use
  bool pin = true;                               // pin shards to CPUs
  net::RingOptions ring;
  log::Level log_level = log::Level::info;
  log::Format log_format = log::Format::text;
  AccessLog access_log;
  Timeouts timeouts;
  Limits limits;
  Http2 http2;
  proxy::PathOptions paths;
  Responses responses;
  std::vector<std::string> trusted_proxies;  // ranges of addresses whose X-Forwarded-For is believed
  Identity identity;
  Retry retry;
  Resume resume;
  Ejection ejection;
  Metrics metrics;
  KvEvents kv_events;
  FlowControl flow_control = FlowControl::automatic;
  FlowNames flow_names = FlowNames::header;
  admission::FlowOptions flow;  // flow_control; `enabled` and metrics_stale_after are app's to fill in
  std::string policy = "expected-cost";
  std::string shadow_policy = "none";
  std::string epp_config;                              // file of an EndpointPickerConfig; "": none
  std::shared_ptr<const epp::Config> endpoint_picker;  // what that file says, or the configuration itself; instead
                                                       // of `policy`. Null: none
  std::string shadow_epp_config;                       // the same for the shadow, instead of `shadow_policy`
  std::shared_ptr<const epp::Config> shadow_picker;    // likewise
  size_t prefix_index_entries = 0;                     // 8 bytes each; 0: as many as the caches hold, within limits
  size_t prefix_index_most = 0;                        // that it may grow to; resolve_defaults() says
  Duration drain_delay = seconds(5);                   // lifecycle.drain_delay: readiness false until accepting stops
  Duration drain_limit = seconds(600);                 // lifecycle.drain_limit: streams still running then are cut
};

}  // namespace penstock::config
