#include "table.h"

#include <algorithm>

#include "penstock/base/text.h"
#include "penstock/base/url_path.h"
#include "values.h"

namespace penstock::config {
namespace {

using Words = std::string_view;
constexpr Words ring_words[] = {"auto", "io_uring", "epoll"};
constexpr Words level_words[] = {"debug", "info", "warn", "error"};
constexpr Words format_words[] = {"text", "json"};
constexpr Words engine_words[] = {"auto", "vllm", "sglang", "trtllm-serve", "triton-tensorrt-llm"};
constexpr Words epp_names_words[] = {"v1", "llm_d", "both"};
constexpr Words policy_words[] = {"epp-default", "random", "round-robin", "least-load", "expected-cost"};
constexpr Words shadow_words[] = {"none", "epp-default", "random", "round-robin", "least-load", "expected-cost"};

constexpr Words addresses_words[] = {"first", "all"};
constexpr Words no_endpoint_words[] = {"unready", "ready"};
constexpr Words shown_words[] = {"always", "trusted", "never"};
constexpr Words flow_control_words[] = {"auto", "true", "false"};
constexpr Words detector_words[] = {"late-binding", "utilization", "concurrency"};
constexpr Words ordering_words[] = {"least-work", "fcfs", "edf", "slo-deadline"};
constexpr Words fairness_words[] = {"round-robin", "global-strict"};
constexpr Words flow_names_words[] = {"header", "client_certificate"};

std::string check_path_pattern_text(std::string_view text) {
  const std::string problem = check_path_pattern(text);
  return problem.empty() ? "" : in_quotes(text) + " " + problem;
}

constexpr double minute = 60, hour = 3600, day = 86400;
constexpr double KiB = 1024, MiB = 1024 * KiB, GiB = 1024 * MiB;

#define PENSTOCK_FIELD(member) +[](Options& o) -> decltype((o.member)) { return o.member; }
#define PENSTOCK_ENUM(member)                                                     \
  EnumField {                                                                     \
    +[](const Options& o) { return static_cast<int>(o.member); },                 \
        +[](Options& o, int i) { o.member = static_cast<decltype(o.member)>(i); } \
  }

// clang-format off
const Key keys_in_order[] = {
    {.name = "listen", .type = Type::address, .field = PENSTOCK_FIELD(listen), .zero = "none", .needs_restart = true,
     .doc = "Where clients connect in plain HTTP. `none`: only at `listeners`."},
    {.name = "admin", .type = Type::address, .field = PENSTOCK_FIELD(admin), .needs_restart = true,
     .doc = "Where metrics, health, status and debug pages are served. Beside `debug` and `tls`, the address is `admin.listen`."},
    {.name = "pool", .type = Type::text, .field = PENSTOCK_FIELD(pool_name), .min = 1, .max = 253, .needs_restart = true,
     .doc = "Name of the pool of endpoints: the label `name` of the `inference_pool_*` metrics."},
    {.name = "shards", .type = Type::integer, .field = PENSTOCK_FIELD(shards), .max = 1024, .zero = "one per CPU it may use",
     .needs_restart = true, .doc = "Worker threads. CPU affinity, cpuset and the control group's quota are respected."},
    {.name = "pin", .type = Type::boolean, .field = PENSTOCK_FIELD(pin), .needs_restart = true,
     .doc = "Pin each shard to a CPU of its own. Without effect when there are more shards than CPUs."},
    {.name = "manifests", .type = Type::path, .field = PENSTOCK_FIELD(manifests), .max = 4096, .accepted = "a path", .needs_restart = true,
     .doc = "Folder (or file) of Kubernetes objects to obey instead of a cluster's (`--manifests`): pods, EndpointSlices, pools, rewrites, objectives, routes. What they say is read again on SIGHUP."},
    {.name = "trusted_proxies", .type = Type::list, .field = PENSTOCK_FIELD(trusted_proxies), .max = 256, .check = check_ip_range,
     .accepted = "IP addresses and ranges, such as 10.0.0.0/8 or 2001:db8::/32",
     .doc = "Proxies and load balancers in front of the gateway. From their addresses `X-Forwarded-For` is believed: its rightmost address that is not in this list is the client, for the access log, `limits.connections_per_client` and `identity`. From all others it is forwarded, and not believed."},
    {.name = "admin.debug", .type = Type::boolean, .field = PENSTOCK_FIELD(admin_debug),
     .doc = "Show debug pages (`/debug/...`) and the full status to everybody who reaches the admin port. `false`: to requests from the same host (loopback) only; others get 403 and a status without addresses, errors and objects of the cluster."},
    {.name = "ring.engine", .type = Type::choice, .field = PENSTOCK_ENUM(ring.kind), .words = ring_words,
     .needs_restart = true, .doc = "How shards wait for the kernel. `auto` takes io_uring where a live probe succeeds, else epoll."},
    {.name = "ring.spin_us", .type = Type::microseconds, .field = PENSTOCK_FIELD(ring.spin), .max = 1e6, .zero = "off",
     .needs_restart = true, .doc = "Microseconds for which a shard polls after its last event before it sleeps: trades CPU for wake-up latency."},
    {.name = "log.level", .type = Type::choice, .field = PENSTOCK_ENUM(log_level), .words = level_words,
     .doc = "Lowest level that the operator's log (standard error) shows."},
    {.name = "log.format", .type = Type::choice, .field = PENSTOCK_ENUM(log_format), .words = format_words,
     .doc = "Form of the operator's log."},
    {.name = "access_log.enabled", .type = Type::boolean, .field = PENSTOCK_FIELD(access_log.enabled),
     .doc = "Write one line for each request."},
    {.name = "access_log.format", .type = Type::choice, .field = PENSTOCK_ENUM(access_log.format), .words = format_words,
     .doc = "Form of the access log."},
    {.name = "access_log.path", .type = Type::path, .field = PENSTOCK_FIELD(access_log.path),
     .doc = "File to append to; `-` is standard output (in YAML with quotes, `\"-\"`: a bare one begins a list). Opened again on SIGHUP, so that it can be rotated."},
    {.name = "access_log.query", .type = Type::boolean, .field = PENSTOCK_FIELD(access_log.query),
     .doc = "Write paths with their query. `false`: a path ends before its `?`, because queries may contain secrets."},

    {.name = "identity.endpoint_header", .type = Type::choice, .field = PENSTOCK_ENUM(proxy.clients.endpoint_header), .words = shown_words,
     .doc = "Which clients get `x-penstock-endpoint`, the name of the endpoint that answered. `trusted`: those in `identity.trusted`."},
    {.name = "identity.explain", .type = Type::choice, .field = PENSTOCK_ENUM(proxy.clients.explain), .words = shown_words,
     .doc = "Which clients may ask why an endpoint was chosen (`x-penstock-explain: 1`). The field is ignored in the requests of others."},
    {.name = "identity.trusted", .type = Type::list, .field = PENSTOCK_FIELD(identity.trusted), .max = 256, .check = check_ip_range,
     .accepted = "IP addresses and ranges, such as 10.0.0.0/8 or 2001:db8::/32",
     .doc = "Clients that are told about the inside. A client behind a proxy that is not in `trusted_proxies` is not known, and so not one of them."},

    {.name = "kubernetes.enabled", .type = Type::boolean, .field = PENSTOCK_FIELD(kubernetes.enabled), .needs_restart = true,
     .doc = "Take endpoints, rewrites, objectives and routes from a cluster (`--kubernetes`). `kubernetes.api` implies it; `false` turns the whole section off."},
    {.name = "kubernetes.pools", .type = Type::list, .field = PENSTOCK_FIELD(kubernetes.pools), .max = 64, .check = check_object_name,
     .accepted = "NAME or NAMESPACE/NAME", .needs_restart = true,
     .doc = "InferencePools to serve (`--pool`, repeatable); none: all in the namespaces. NAME alone is in the first namespace. With `endpoint_selector`, what that pool is called."},
    {.name = "kubernetes.namespaces", .type = Type::list, .field = PENSTOCK_FIELD(kubernetes.namespaces), .max = 64, .check = check_namespace,
     .accepted = "names of namespaces, or * alone for all", .needs_restart = true,
     .doc = "Whose objects count (`--namespace`, repeatable). None: the namespace of the kubeconfig or service account."},
    {.name = "kubernetes.endpoint_selector", .type = Type::text, .field = PENSTOCK_FIELD(kubernetes.endpoint_selector), .max = 4096,
     .check = check_selector, .accepted = "KEY=VALUE,...", .needs_restart = true,
     .doc = "A pool of the pods that have all of these labels, without any CRD (`--endpoint-selector`). Needs `endpoint_ports`."},
    {.name = "kubernetes.endpoint_ports", .type = Type::list, .field = PENSTOCK_FIELD(kubernetes.endpoint_ports), .max = 8, .check = check_port,
     .accepted = "ports, 1 to 65535", .needs_restart = true,
     .doc = "Ports of the model servers in those pods (`--endpoint-ports N,...`): each is an endpoint, its place in the list the rank."},
    {.name = "kubernetes.services", .type = Type::list, .field = PENSTOCK_FIELD(kubernetes.services), .max = 64, .check = check_service,
     .accepted = "NAME[:PORT] or NAMESPACE/NAME[:PORT], PORT a number or name", .needs_restart = true,
     .doc = "A pool for each of these Services, from its EndpointSlices (`--service`, repeatable). PORT may be left out when there is one, or one called http."},
    {.name = "kubernetes.api", .type = Type::text, .field = PENSTOCK_FIELD(kubernetes.api), .max = 2048, .check = check_api_url,
     .accepted = "http(s)://HOST[:PORT][/PREFIX]", .needs_restart = true,
     .doc = "API server to use without credentials, such as that of `kubectl proxy` (`--kube-api`)."},
    {.name = "kubernetes.kubeconfig", .type = Type::path, .field = PENSTOCK_FIELD(kubernetes.kubeconfig), .max = 4096, .accepted = "a path",
     .needs_restart = true, .doc = "Where the API server is and who we are (`--kubeconfig`). Default: `$KUBECONFIG`, the pod's service account, `~/.kube/config`."},
    {.name = "kubernetes.context", .type = Type::text, .field = PENSTOCK_FIELD(kubernetes.context), .max = 253, .needs_restart = true,
     .doc = "Context of the kubeconfig (`--kube-context`). Default: its current one."},
    {.name = "kubernetes.write", .type = Type::boolean, .field = PENSTOCK_FIELD(kubernetes.write), .needs_restart = true,
     .doc = "Write status and Events back (`--kube-write`). Without the permission it works the same and tells less."},
    {.name = "kubernetes.gateway_api", .type = Type::boolean, .field = PENSTOCK_FIELD(kubernetes.gateway_api), .needs_restart = true,
     .doc = "Obey Gateways and HTTPRoutes where they exist (`--gateway-api`). `false`: they are not even read."},
    {.name = "kubernetes.gateway_address", .type = Type::text, .field = PENSTOCK_FIELD(kubernetes.gateway_address), .max = 253,
     .check = check_host, .accepted = "an IP address or a host name", .needs_restart = true, .doc = "Written to the status of our Gateways: where clients reach them. Default: our own Service (`own_service`) by its name in the cluster, `NAME.NAMESPACE.svc`, where its namespace is known."},
    {.name = "kubernetes.controller", .type = Type::text, .field = PENSTOCK_FIELD(kubernetes.controller), .min = 1, .max = 253,
     .check = check_controller, .accepted = "DOMAIN/PATH", .needs_restart = true,
     .doc = "`controllerName` of the GatewayClasses that are ours, and the name under which statuses are written."},
    {.name = "kubernetes.own_service", .type = Type::text, .field = PENSTOCK_FIELD(kubernetes.own_service), .max = 253, .check = check_object_name,
     .accepted = "NAME or NAMESPACE/NAME", .needs_restart = true,
     .doc = "Our own Service: the parent in the status of InferencePools that no route leads to. Empty: none is written for them."},

    {.name = "dns.servers", .type = Type::list, .field = PENSTOCK_FIELD(dns.servers), .max = 8, .check = check_name_server,
     .accepted = "IP or IP:PORT",
     .doc = "Name servers that know the host names of endpoints. None: those of `/etc/resolv.conf`. `/etc/hosts` is looked at first in any case."},
    {.name = "dns.addresses", .type = Type::choice, .field = PENSTOCK_ENUM(all_addresses), .words = addresses_words,
     .doc = "Of a name with several addresses: `first`, one of them is the endpoint, and the next one when it cannot be reached; `all`, each is an endpoint of its own, called NAME-ADDRESS, such as the pods behind a headless Service. An entry of `endpoints` may say it for itself (`dns`)."},
    {.name = "dns.min_ttl", .type = Type::duration, .field = PENSTOCK_FIELD(names.min_ttl), .min = 0.1, .max = day,
     .doc = "An answer counts for its time to live, but at least so long. What `/etc/hosts` says, too, is looked at again after this time."},
    {.name = "dns.max_ttl", .type = Type::duration, .field = PENSTOCK_FIELD(names.max_ttl), .min = 0.1, .max = day,
     .doc = "An answer counts at most so long. A name whose endpoint does not answer probes is looked up again before that."},
    {.name = "dns.timeout", .type = Type::duration, .field = PENSTOCK_FIELD(dns.timeout), .min = 0.1, .max = minute,
     .doc = "Longest time for one lookup, with all name servers and search domains together. Addresses that were known stay when it fails; it is repeated after 0.5 s, then twice as long each time, up to 10 s."},

    {.name = "endpoint_tls.ca", .type = Type::path, .field = PENSTOCK_FIELD(endpoint_tls.ca), .max = 4096, .accepted = "a path",
     .doc = "Authorities (PEM) that the certificates of `https` endpoints must lead to. Empty: the system's. Read again when it changes, as all files of this section."},
    {.name = "endpoint_tls.server_name", .type = Type::text, .field = PENSTOCK_FIELD(endpoint_tls.server_name), .max = 253,
     .check = check_host, .accepted = "a host name or an IP address",
     .doc = "The name that is asked for (SNI) and that the certificates must have, for all `https` endpoints. Empty: an endpoint's own `tls_server_name`, or else the host of its URL; an address must be in the certificate as one."},
    {.name = "endpoint_tls.cert", .type = Type::path, .field = PENSTOCK_FIELD(endpoint_tls.certificate.cert), .max = 4096, .accepted = "a path",
     .doc = "Our own certificate (PEM, with intermediates), for endpoints that ask for one. Needs `endpoint_tls.key`."},
    {.name = "endpoint_tls.key", .type = Type::path, .field = PENSTOCK_FIELD(endpoint_tls.certificate.key), .max = 4096, .accepted = "a path",
     .doc = "Its private key (PEM, without a password)."},
    {.name = "endpoint_tls.insecure_skip_verify", .type = Type::boolean, .field = PENSTOCK_FIELD(endpoint_tls.insecure_skip_verify),
     .doc = "Accept any certificate of an endpoint. Whoever is between can then read and change everything: for tests only."},

    {.name = "readiness.no_endpoint", .type = Type::choice, .field = PENSTOCK_ENUM(no_endpoint), .words = no_endpoint_words,
     .doc = "What `/readyz` says while no endpoint of any pool can be used. `unready`: 503 with the reason, so that traffic goes to a replica that reaches endpoints and a rollout that reaches none stops; but 200 while requests wait for the last one to come back (`flow_control.no_endpoint_ttl`). `ready`: 200, for clients that should get our 503 with Retry-After, and for autoscalers that count requests to a pool scaled to zero."},

    {.name = "timeouts.client_header", .type = Type::duration, .field = PENSTOCK_FIELD(server.header_timeout), .min = 1e-3, .max = day,
     .zero = "none", .doc = "Longest time from the first byte of a request head to its end (408)."},
    {.name = "timeouts.client_body", .type = Type::duration, .field = PENSTOCK_FIELD(server.body_timeout), .min = 1e-3, .max = day,
     .zero = "none", .doc = "Longest pause between two reads of a request body (408)."},
    {.name = "timeouts.client_idle", .type = Type::duration, .field = PENSTOCK_FIELD(server.idle_timeout), .min = 1e-3, .max = day,
     .zero = "none", .doc = "How long a client's connection may wait for its next request once its last answer has been sent. Then it closes."},
    {.name = "timeouts.client_write", .type = Type::duration, .field = PENSTOCK_FIELD(server.write_timeout), .min = 1e-3, .max = day,
     .zero = "none", .doc = "How long a client may go without taking a byte of the answer that waits for it. Then its connection closes and the endpoint's work is cancelled."},
    {.name = "timeouts.client_rate_grace", .type = Type::duration, .field = PENSTOCK_FIELD(server.rate_grace), .min = 1e-3, .max = day,
     .doc = "How long a client may fall short of `limits.client_min_rate`: a pause of this length is always allowed, and each byte buys back the time that it takes at that rate."},
    {.name = "timeouts.connect", .type = Type::duration, .field = PENSTOCK_FIELD(proxy.connect_timeout), .min = 1e-3, .max = hour,
     .zero = "none", .doc = "Longest time to connect to an endpoint. Then the next one is tried."},
    {.name = "timeouts.first_byte", .type = Type::duration, .field = PENSTOCK_FIELD(proxy.first_byte_timeout), .min = 1e-3, .max = day,
     .zero = "none", .doc = "Longest time from the request sent to the head of the answer, which covers queueing and prefill in the model server. Then the next endpoint is tried."},
    {.name = "timeouts.chunk_idle", .type = Type::duration, .field = PENSTOCK_FIELD(proxy.chunk_idle_timeout), .min = 1e-3, .max = day,
     .zero = "none", .doc = "Longest pause between two reads of an answer. Before its first body byte the next endpoint is tried; after it the stream is broken off."},
    {.name = "timeouts.unresponsive", .type = Type::duration, .field = PENSTOCK_FIELD(proxy.unresponsive_timeout), .min = 1e-3, .max = day,
     .zero = "none", .doc = "How long an answer must have been silent before it is broken off because its endpoint does not answer health probes either (stopped, hung, its link down). An answer that brings anything, or whose client is slow, goes on. Does not count for probes that the endpoint's host refuses: then its connections tell themselves whether they are alive."},
    {.name = "timeouts.tunnel_idle", .type = Type::duration, .field = PENSTOCK_FIELD(proxy.tunnel_idle_timeout), .min = 1e-3, .max = day,
     .zero = "none", .doc = "How long a WebSocket session may go without a byte from either side. Then the client gets a Close frame (1001), and both connections close. vLLM sends a ping every 20 s."},
    {.name = "timeouts.total", .type = Type::duration, .field = PENSTOCK_FIELD(proxy.total_timeout), .min = 1e-3, .max = day,
     .zero = "none", .doc = "Longest time for the whole request, from its head to the end of the answer (504). Of a request for a WebSocket, to the answer's head: the session is not limited."},
    {.name = "timeouts.upstream_idle", .type = Type::duration, .field = PENSTOCK_FIELD(client.idle_timeout), .min = 1e-3, .max = day,
     .zero = "none", .doc = "How long an idle connection to an endpoint is kept. Keep it below the server's own limit (uvicorn: 5 s)."},

    {.name = "limits.header_bytes", .type = Type::size, .field = PENSTOCK_FIELD(server.parser.head_bytes_max), .min = KiB, .max = 16 * MiB,
     .doc = "Largest request head (431)."},
    {.name = "limits.body_bytes", .type = Type::size, .field = PENSTOCK_FIELD(proxy.body_bytes_max), .min = KiB, .max = 16 * GiB,
     .doc = "Largest request body (413)."},
    {.name = "limits.connections", .type = Type::integer, .field = PENSTOCK_FIELD(limits.connections), .max = 1e8,
     .zero = "from the limit on open files", .doc = "Most client connections of the whole process. Beyond it, those that have been idle longest are closed; if none is idle, a new one is refused (503)."},
    {.name = "limits.requests_per_shard", .type = Type::integer, .field = PENSTOCK_FIELD(proxy.requests_max), .min = 1, .max = 1e7,
     .doc = "Most requests in flight in one shard (503)."},
    {.name = "limits.tunnels_per_shard", .type = Type::integer, .field = PENSTOCK_FIELD(proxy.tunnels_max), .max = 1e7, .zero = "none is allowed",
     .doc = "Most WebSocket sessions of one shard, and requests for one (503). They count among `limits.requests_per_shard`, too."},
    {.name = "limits.metrics_page", .type = Type::size, .field = PENSTOCK_FIELD(limits.metrics_page), .min = 128 * KiB, .max = GiB,
     .needs_restart = true, .doc = "Most bytes of `/metrics` that names from clients may cause: fairness ids, and models that no endpoint lists. What finds no room is counted as `other` (`penstock_metrics_folded_total`)."},
    {.name = "limits.memory", .type = Type::size, .field = PENSTOCK_FIELD(limits.memory_bytes), .min = MiB, .max = 1024 * GiB,
     .zero = "60 % of the control group's limit, else of the machine's memory",
     .doc = "Most bytes of heads, bodies and queued output that the process may hold (503)."},
    {.name = "limits.client_min_rate", .type = Type::size, .field = PENSTOCK_FIELD(server.min_rate), .min = 1, .max = GiB, .zero = "any rate will do",
     .doc = "Bytes per second that a client must send of a body (408), and take of an answer that waits for it (its connection closes and the endpoint's work is cancelled). Time in which nothing waits for the client does not count, so a slow answer never counts against its reader."},
    {.name = "limits.incomplete_heads_percent", .type = Type::number, .field = PENSTOCK_FIELD(limits.incomplete_heads_percent), .min = 0.1, .max = 100,
     .doc = "Most of `limits.memory`, in percent, for request heads that have not arrived completely; each shard has its part. If more is needed, the oldest of them gives way (503)."},
    {.name = "limits.connections_per_client", .type = Type::integer, .field = PENSTOCK_FIELD(proxy.connections_per_client), .max = 1e6, .zero = "no limit",
     .doc = "Most connections of one client, of the whole process (429): an IPv4 address, or an IPv6 network of 64 bits. Of `trusted_proxies`, whose connections are not counted, so many requests at a time for each client that they name."},

    {.name = "http2.enabled", .type = Type::boolean, .field = PENSTOCK_FIELD(server.http2.enabled),
     .doc = "Clients may speak HTTP/2: over TLS if they ask for it (ALPN), on the plain port if their connection begins with its preface (prior knowledge). `false`: such a connection gets 505. Connections that speak it already go on."},
    {.name = "http2.streams", .type = Type::integer, .field = PENSTOCK_FIELD(server.http2.streams), .min = 1, .max = 100000,
     .doc = "Most requests at a time on one connection. A client is told so; what it sends beyond that is refused (REFUSED_STREAM), or ends the connection if the client knew. This key and the next ones count for connections that come after a reload."},
    {.name = "http2.stream_window", .type = Type::size, .field = PENSTOCK_FIELD(server.http2.stream_window), .min = 64 * KiB - 1, .max = GiB,
     .doc = "Most bytes of one request's body that may be on their way. They wait nowhere in the gateway: the window is for long paths, where one of 1 MiB carries 10 MB/s over 100 ms."},
    {.name = "http2.connection_window", .type = Type::size, .field = PENSTOCK_FIELD(server.http2.connection_window), .min = 64 * KiB - 1, .max = GiB,
     .doc = "The same for all bodies of a connection together."},
    {.name = "http2.resets", .type = Type::integer, .field = PENSTOCK_FIELD(server.http2.resets), .min = 1, .max = 1e6,
     .doc = "Requests that a connection may break off, by resetting them or by making the gateway reset them; refused heads count, too. So many at once, and a tenth of that each second. Beyond it the connection ends (GOAWAY ENHANCE_YOUR_CALM)."},
    {.name = "http2.idle_frames", .type = Type::integer, .field = PENSTOCK_FIELD(server.http2.idle_frames), .min = 100, .max = 1e7,
     .doc = "Frames that a connection may bring that neither ask nor answer anything (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty ones), besides four for each frame of a request or an answer. So many at once, and a tenth of that each second. Beyond it the connection ends (GOAWAY ENHANCE_YOUR_CALM)."},

    {.name = "paths.defaults", .type = Type::boolean, .field = PENSTOCK_FIELD(proxy.paths.defaults),
     .doc = "Let clients reach the inference, tokenizer, health and version paths of vLLM, SGLang, TensorRT-LLM, llama.cpp and TGI (docs/PATHS.md lists them). Everything else is refused (404), unless `paths.allow` or a rule of an HTTPRoute names it."},
    {.name = "paths.allow", .type = Type::list, .field = PENSTOCK_FIELD(proxy.paths.allow), .max = 64, .check = check_path_pattern_text,
     .accepted = "paths; * stands for any bytes within a segment, ** as the last segment for all below",
     .doc = "Further paths that clients may reach, with every method. `\"/**\"` opens all of them, also those that stop a server or load what a client names (`/shutdown`, `/v1/load_lora_adapter`)."},

    {.name = "responses.remembered", .type = Type::integer, .field = PENSTOCK_FIELD(responses.remembered), .max = 1e8, .zero = "none", .needs_restart = true,
     .doc = "Stored responses of the Responses API of which it is remembered which endpoint made them, 24 bytes each; rounded up to a power of two. Requests that name one (`/v1/responses/{id}`, `previous_response_id`) go there. The oldest are forgotten first."},
    {.name = "responses.ttl", .type = Type::duration, .field = PENSTOCK_FIELD(responses.ttl), .min = 1, .max = 365 * day,
     .doc = "How long that is remembered. Requests that name an older response go by load, and the model server answers whether it has it."},

    {.name = "retry.attempts", .type = Type::integer, .field = PENSTOCK_FIELD(proxy.attempts_max), .min = 1, .max = 8,
     .doc = "Endpoints tried for one request, the first included. Only failures before the first byte of the answer's body are retried. An endpoint to which no connection can be made does not count while another one that is ready was not tried."},
    {.name = "retry.budget_percent", .type = Type::number, .field = PENSTOCK_FIELD(retry_budget.percent), .max = 100,
     .doc = "Retries allowed, in percent of recent requests. The first retry of a request whose endpoint died (its connection ended, or no health probe is answered) counts for nothing here."},
    {.name = "retry.budget_min", .type = Type::integer, .field = PENSTOCK_FIELD(retry_budget.minimum), .max = 1e6,
     .doc = "Retries that are always allowed in 10 s, whatever the percentage says."},
    {.name = "retry.second_opinions", .type = Type::integer, .field = PENSTOCK_FIELD(proxy.second_opinions), .max = 100000,
     .zero = "none", .doc = "Refused requests (4xx) of an endpoint that may be tried on another one before their clients see the refusal: so many at once, then one a second. Those that the other answers well do not count. They take nothing from the retry budget."},

    {.name = "resume.enabled", .type = Type::boolean, .field = PENSTOCK_FIELD(proxy.resume.enabled),
     .doc = "Whether a stream of the completions APIs goes on at another endpoint when its own fails in the middle of it, if it can be continued faithfully (docs/FAILOVER.md). `x-penstock-resume: off` turns it off for one request."},
    {.name = "resume.per_stream", .type = Type::integer, .field = PENSTOCK_FIELD(proxy.resume.per_stream), .min = 1, .max = 100,
     .doc = "How often one stream may break and go on. Of the next break its client is told."},
    {.name = "resume.at_once", .type = Type::integer, .field = PENSTOCK_FIELD(proxy.resume.at_once), .min = 1, .max = 10000,
     .doc = "Broken streams of one shard whose prompt and text another endpoint computes again at the same time; the others wait their turn. When an endpoint with hundreds of streams dies, this keeps the streams of the others moving."},
    {.name = "resume.wait", .type = Type::duration, .field = PENSTOCK_FIELD(proxy.resume.wait), .min = 1e-3, .max = hour,
     .doc = "How long a broken stream may wait for its turn and for an endpoint that accepts it. Then its client is told that it broke."},
    {.name = "resume.stall", .type = Type::duration, .field = PENSTOCK_FIELD(proxy.resume.stall), .min = 1e-3, .max = day, .zero = "as timeouts.chunk_idle",
     .doc = "Longest pause between two events of a stream that can go on elsewhere: it then does, and the endpoint is held to have failed. For servers that hang and still answer probes. Keep it above the longest pause of a busy engine. `timeouts.chunk_idle`, if shorter, applies instead."},
    {.name = "resume.text_bytes", .type = Type::size, .field = PENSTOCK_FIELD(proxy.resume.text_bytes_max), .min = KiB, .max = GiB,
     .doc = "Longest text of a stream that is remembered, as it stands in the events. It counts in `limits.memory`. A longer stream cannot go on elsewhere."},
    {.name = "resume.request_bytes", .type = Type::size, .field = PENSTOCK_FIELD(proxy.resume.request_bytes_max), .min = KiB, .max = 16 * GiB,
     .doc = "Longest body of a request that is kept until its stream has ended, to continue it elsewhere. It counts in `limits.memory`; while more than half of that is in use, streams that begin are not remembered."},
    {.name = "resume.token_ids", .type = Type::list, .field = PENSTOCK_FIELD(proxy.resume.token_ids), .max = 64, .check = check_pool,
     .accepted = "names of pools, or * alone for all",
     .doc = "Pools whose engines are asked for the ids of their tokens (`return_token_ids`, vLLM from 0.10.2 on), so that a broken stream of the completions APIs goes on behind just these, whatever its text looks like. The ids are taken out of each event, and counted in `limits.memory`. Not for engines that refuse the field."},

    {.name = "ejection.consecutive_failures", .type = Type::integer, .field = PENSTOCK_FIELD(proxy.ejection.consecutive_failures), .min = 1, .max = 1000,
     .doc = "Failures in a row after which an endpoint is ejected: it gets no requests for a while."},
    {.name = "ejection.base_penalty", .type = Type::duration, .field = PENSTOCK_FIELD(proxy.ejection.base_penalty), .min = 1e-3, .max = hour,
     .doc = "Length of the first ejection; it doubles each time."},
    {.name = "ejection.max_penalty", .type = Type::duration, .field = PENSTOCK_FIELD(proxy.ejection.max_penalty), .min = 1e-3, .max = day,
     .doc = "Longest ejection."},
    {.name = "ejection.slow_start", .type = Type::duration, .field = PENSTOCK_FIELD(proxy.ejection.slow_start), .min = 1e-3, .max = hour,
     .zero = "none", .doc = "Time over which an endpoint that is new, or returns from an ejection, gets to its full share of requests."},
    {.name = "ejection.wedged", .type = Type::duration, .field = PENSTOCK_FIELD(proxy.slow.wedged), .min = 1, .max = hour, .zero = "never",
     .doc = "An endpoint is ejected when none of its streams (three at least) has brought anything for so long while those of another endpoint of its pool move: an engine that hangs and still answers probes. Its streams go on elsewhere where they can, and requests that wait there for their first byte move."},
    {.name = "ejection.slow_factor", .type = Type::number, .field = PENSTOCK_FIELD(proxy.slow.factor), .min = 2, .max = 1e6, .zero = "never",
     .doc = "Likewise when the pauses of its streams (three at least, in ten looks a second apart) are on average so many times as long as the median of the pool's other endpoints, and longer than 250 ms."},

    {.name = "metrics.interval", .type = Type::duration, .field = PENSTOCK_FIELD(poll.interval), .min = 5e-3, .max = minute,
     .doc = "Time between two reads of an endpoint's metrics while traffic flows."},
    {.name = "metrics.idle_interval", .type = Type::duration, .field = PENSTOCK_FIELD(poll.idle_interval), .min = 5e-3, .max = 10 * minute,
     .doc = "Time between two reads of an endpoint's metrics without traffic."},
    {.name = "metrics.timeout", .type = Type::duration, .field = PENSTOCK_FIELD(poll.timeout), .min = 1e-3, .max = minute,
     .doc = "Longest time for one read of the metrics or one health probe."},
    {.name = "metrics.path", .type = Type::url_path, .field = PENSTOCK_FIELD(poll.metrics_path), .doc = "Path of an endpoint's metrics."},
    {.name = "metrics.health_path", .type = Type::url_path, .field = PENSTOCK_FIELD(poll.health_path), .accepted = "starts with /, or empty",
     .doc = "Path of an endpoint's health probe. Empty: `/ready` for SGLang, whose `/health` computes a token and takes a second at least; else `/health`."},
    {.name = "metrics.health_interval", .type = Type::duration, .field = PENSTOCK_FIELD(poll.health_interval), .min = 1e-2, .max = 10 * minute,
     .doc = "Time between two health probes."},
    {.name = "metrics.engine", .type = Type::choice, .field = PENSTOCK_FIELD(metrics.engine), .words = engine_words,
     .doc = "What the endpoints run. It decides which metric names are read. `auto` finds out: by `owned_by` in the endpoint's list of models, else by the metrics that are there. An entry of `endpoints`, or a pod's label `llm-d.ai/engine-type` (or `inference.networking.k8s.io/engine-type`), may override it."},

    {.name = "metrics.api_key_file", .type = Type::path, .field = PENSTOCK_FIELD(metrics.api_key_file), .max = 4096, .accepted = "a path",
     .doc = "File with the key that the gateway's own requests to endpoints carry as `Authorization: Bearer KEY`: health probes, metrics, lists of models. Read again when it changes. An entry of `endpoints` may name its own. Requests of clients carry what the client sent."},
    {.name = "metrics.epp_names", .type = Type::choice, .field = PENSTOCK_ENUM(metrics.epp_names), .words = epp_names_words,
     .needs_restart = true, .doc = "Names of the Endpoint Picker's metrics on our own page. `v1`: those of the Gateway API Inference Extension (`inference_*`), which llm-d had before 0.9. `llm_d`: those it has since (`llm_d_epp_*`), which also tell requests apart by fairness id and priority. `both`: each metric twice."},
    {.name = "metrics.series_idle", .type = Type::duration, .field = PENSTOCK_FIELD(metrics.series_idle), .min = 1, .max = day,
     .doc = "How long the series of a fairness id stay on our own page after its last request."},

    {.name = "kv_events.enabled", .type = Type::boolean, .field = PENSTOCK_FIELD(kv_events.enabled), .needs_restart = true,
     .doc = "Listen to what the endpoints publish of their KV caches (vLLM's `--kv-events-config`, over ZeroMQ), and match prompts given as token ids by that (docs/PREFIX_CACHE.md). Implied by `precise-prefix-cache-scorer` of an EndpointPickerConfig."},
    {.name = "kv_events.port", .type = Type::integer, .field = PENSTOCK_FIELD(kv_events.port), .min = 1, .max = 65535, .needs_restart = true,
     .doc = "Where endpoints publish; of several ports of one pod the n-th publishes n ports on. An EndpointPickerConfig's `socketPort` counts instead."},
    {.name = "kv_events.replay_port", .type = Type::integer, .field = PENSTOCK_FIELD(kv_events.replay_port), .max = 65535, .zero = "none", .needs_restart = true,
     .doc = "Where they replay what was missed (vLLM's `replay_endpoint`). Without one, a gap in the numbers of the events voids what is known of that cache."},
    {.name = "kv_events.ranks", .type = Type::integer, .field = PENSTOCK_FIELD(kv_events.ranks), .min = 1, .max = 64, .needs_restart = true,
     .doc = "Data-parallel ranks behind each endpoint: rank r publishes at `port` + r and replays at `replay_port` + r."},
    {.name = "kv_events.topic", .type = Type::text, .field = PENSTOCK_FIELD(kv_events.topic), .max = 253, .needs_restart = true,
     .doc = "Only topics that begin so; empty: all. An EndpointPickerConfig's `topicFilter` counts instead."},

    {.name = "routing.policy", .type = Type::choice, .field = PENSTOCK_FIELD(policy), .words = policy_words, .needs_restart = true,
     .doc = "How an endpoint is chosen. `expected-cost` takes the endpoint where the request costs least time; `epp-default` weighs queue, KV-cache use and cached prefix as the Endpoint Picker does (docs/ROUTING.md)."},
    {.name = "routing.shadow_policy", .type = Type::choice, .field = PENSTOCK_FIELD(shadow_policy), .words = shadow_words, .needs_restart = true,
     .doc = "A second policy that decides too and is never obeyed: `penstock_shadow_*` say how often it differs and what obeying it was predicted to gain."},
    {.name = "routing.epp_config", .type = Type::path, .field = PENSTOCK_FIELD(epp_config), .max = 4096, .accepted = "a path", .needs_restart = true,
     .doc = "File with an EndpointPickerConfig that says how an endpoint is chosen, instead of `routing.policy` (`--epp-config`; `--epp-config-text` takes the text itself; below)."},
    {.name = "routing.shadow_epp_config", .type = Type::path, .field = PENSTOCK_FIELD(shadow_epp_config), .max = 4096, .accepted = "a path", .needs_restart = true,
     .doc = "File with an EndpointPickerConfig whose first profile decides as `routing.shadow_policy` would, instead of it (`--shadow-epp-config`; `--shadow-epp-config-text` takes the text itself; below)."},
    {.name = "routing.prefix_index_entries", .type = Type::integer, .field = PENSTOCK_FIELD(prefix_index_entries), .min = 1024, .max = 4294967296.0,
     .zero = "by the endpoints' caches", .needs_restart = true,
     .doc = "Size of the table of prompt blocks believed to be cached, 8 bytes each; rounded up to a power of two. 0: it begins with 4,194,304 (32 MiB) and doubles while the endpoints' caches hold more, to at most an eighth of the control group's limit or of the machine's memory, a quarter of `limits.memory`, and 1 GiB; below 256 MiB of memory it stays at 32 MiB. With `kv_events` there is a second one of the same size."},

    {.name = "flow_control.enabled", .type = Type::choice, .field = PENSTOCK_ENUM(flow_control), .words = flow_control_words,
     .doc = "Hold requests while their pool is saturated, and give them an endpoint when room appears (late binding). `auto`: with the policy `expected-cost`, and else as an EndpointPickerConfig says. `false`: nobody waits here. Requests of negative priority are refused while the pool is saturated (429), unless an EndpointPickerConfig has a band for them."},
    {.name = "flow_control.detector", .type = Type::choice, .field = PENSTOCK_ENUM(proxy.flow.detector.detector), .words = detector_words,
     .doc = "What saturated means. `late-binding`: every endpoint has `hold` of prefill before it or no room in its KV cache; `utilization`: the mean of max(waiting / `queue_depth`, KV use / `kv_usage_max`) is 1 or more; `concurrency`: `concurrency` requests in flight for each endpoint."},
    {.name = "flow_control.hold", .type = Type::duration, .field = PENSTOCK_FIELD(proxy.flow.detector.hold), .min = 1e-3, .max = hour, .zero = "nothing is ever held",
     .doc = "`late-binding`: an endpoint with this much prefill before it takes no more."},
    {.name = "flow_control.kv_limit", .type = Type::number, .field = PENSTOCK_FIELD(proxy.flow.detector.kv_limit), .min = 0.01, .max = 10, .zero = "not looked at",
     .doc = "`late-binding`: an endpoint whose KV cache would be taken beyond this share takes no more."},
    {.name = "flow_control.queue_depth", .type = Type::number, .field = PENSTOCK_FIELD(proxy.flow.detector.queue_depth), .min = 0.01, .max = 1e6,
     .doc = "`utilization`: waiting requests that fill an endpoint."},
    {.name = "flow_control.kv_usage_max", .type = Type::number, .field = PENSTOCK_FIELD(proxy.flow.detector.kv_usage_max), .min = 0.01, .max = 1,
     .doc = "`utilization`: share of the KV cache that fills an endpoint."},
    {.name = "flow_control.concurrency", .type = Type::integer, .field = PENSTOCK_FIELD(proxy.flow.detector.concurrency), .min = 1, .max = 1e6,
     .doc = "`concurrency`: requests in flight that fill an endpoint."},
    {.name = "flow_control.ordering", .type = Type::choice, .field = PENSTOCK_ENUM(proxy.flow.band.ordering), .words = ordering_words,
     .doc = "Who of one flow goes first: `least-work`, least prefill to compute, less waiting time / `aging`; `fcfs`, who came first; `edf`, whose `ttl` ends first; `slo-deadline`, arrival + `x-slo-ttft-ms`."},
    {.name = "flow_control.aging", .type = Type::number, .field = PENSTOCK_FIELD(proxy.flow.aging_seconds), .min = 0.1, .max = 1e6, .zero = "waiting counts for nothing",
     .doc = "`least-work`: so many seconds of waiting are worth one second of prefill. 5 is nearer to first come, first served, 60 greedier: the knob between the tail and everything else."},
    {.name = "flow_control.fairness", .type = Type::choice, .field = PENSTOCK_ENUM(proxy.flow.band.fairness), .words = fairness_words,
     .doc = "Which flow (`x-gateway-inference-fairness-id`) of a priority goes next: each in turn, or the one whose first request is best."},
    {.name = "flow_control.fairness_id", .type = Type::choice, .field = PENSTOCK_ENUM(flow_names), .words = flow_names_words,
     .doc = "What names the flow of a request. `header`: `x-gateway-inference-fairness-id`, which every client can choose. `client_certificate`: the first URI, else the first DNS name, else the common name of the client's certificate (`listeners[].tls.client_ca`), which nobody can forge; requests without one share a flow, and the header counts for nothing."},
    {.name = "flow_control.ttl", .type = Type::duration, .field = PENSTOCK_FIELD(proxy.flow.ttl), .min = 1e-3, .max = day, .zero = "none",
     .doc = "How long a request may wait for room (503)."},
    {.name = "flow_control.no_endpoint_ttl", .type = Type::duration, .field = PENSTOCK_FIELD(proxy.flow.no_endpoint_ttl), .min = 1e-3, .max = day, .zero = "none",
     .doc = "How long requests may wait for a pool that has no endpoint to use (503). Where endpoints are listed, so long after the last one that serves the model was ready, or after one was added: a server that is restarted loses no request, and one that is gone for good is told of at once. Where none is listed (scaled to zero), each request so long. Requests that a server was to answer when it died wait, too. An EndpointPickerConfig has its own (`noEndpointRequestTTL`)."},
    {.name = "flow_control.eviction", .type = Type::boolean, .field = PENSTOCK_FIELD(proxy.flow.evicts),
     .doc = "Cut off running requests of negative priority where that makes room for one of higher priority that waits (429, or an error event where the answer had begun)."},
    {.name = "flow_control.requests", .type = Type::integer, .field = PENSTOCK_FIELD(proxy.flow.requests_max), .max = 1e8, .zero = "no limit",
     .doc = "Requests that may wait for one pool (429)."},
    {.name = "flow_control.bytes", .type = Type::size, .field = PENSTOCK_FIELD(proxy.flow.bytes_max), .max = 1024 * GiB, .zero = "no limit",
     .doc = "Bytes of bodies that may wait for one pool (429)."},
    {.name = "flow_control.band_requests", .type = Type::integer, .field = PENSTOCK_FIELD(proxy.flow.band.requests_max), .max = 1e8, .zero = "no limit",
     .doc = "Requests that may wait for one pool at one priority (429)."},
    {.name = "flow_control.band_bytes", .type = Type::size, .field = PENSTOCK_FIELD(proxy.flow.band.bytes_max), .max = 1024 * GiB, .zero = "no limit",
     .doc = "Bytes of bodies that may wait for one pool at one priority (429)."},

    {.name = "lifecycle.drain_delay", .type = Type::duration, .field = PENSTOCK_FIELD(drain_delay), .min = 1e-3, .max = hour,
     .zero = "none", .doc = "After SIGTERM, how long connections are still accepted while `/readyz` already says no."},
    {.name = "lifecycle.drain_limit", .type = Type::duration, .field = PENSTOCK_FIELD(drain_limit), .min = 1e-3, .max = day,
     .zero = "at once", .doc = "After that, how long requests in flight may go on before they are cut."},
};
// clang-format on

#undef PENSTOCK_FIELD
#undef PENSTOCK_ENUM

}  // namespace

std::span<const Key> table() {
  return keys_in_order;
}

const Key* find_key(std::string_view name) {
  const auto found = std::find_if(std::begin(keys_in_order), std::end(keys_in_order),
                                  [&](const Key& key) { return key.name == name; });
  return found == std::end(keys_in_order) ? nullptr : found;
}

bool is_section(std::string_view name) {
  return std::any_of(std::begin(keys_in_order), std::end(keys_in_order), [&](const Key& key) {
    return key.name.size() > name.size() && key.name.starts_with(name) && key.name[name.size()] == '.';
  });
}

std::span<const std::string_view> engine_names() {
  return engine_words;
}

bool is_engine_name(std::string_view name) {
  return std::ranges::find(engine_words, name) != std::end(engine_words);
}

}  // namespace penstock::config
