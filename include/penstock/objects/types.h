// Kubernetes objects, reduced to what the gateway needs. Plain values, immutable once in a Store. Two objects compare
// equal when nothing that matters differs: the resource version never does.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "penstock/base/time.h"
#include "penstock/objects/kinds.h"

namespace penstock::objects {

using Labels = std::vector<std::pair<std::string, std::string>>;  // sorted by key, each key once
// The value of `key`, or nullptr.
const std::string* find_label(const Labels& labels, std::string_view key);
// True when `labels` has every pair of `selector`.
bool has_all(const Labels& labels, const Labels& selector);

// Whether an endpoint may be given requests. draining: what it has it finishes.
enum class Readiness : uint8_t { ready, not_ready, draining };

using Timestamp = int64_t;  // nanoseconds since 1970; 0: not given
// RFC 3339, with or without fraction; nothing when it is not one.
std::optional<Timestamp> parse_timestamp(std::string_view text);
std::string format_timestamp(int64_t seconds_since_1970);  // "2025-01-31T12:00:00Z"

// Text that says which state of an object this is; opaque, and no part of what the object says.
struct ResourceVersion {
  std::string text;
  bool operator==(const ResourceVersion&) const { return true; }
};

struct Meta {
  std::string ns, name, uid;  // ns is "" for objects without namespace
  ResourceVersion resource_version;
  int64_t generation = 0;
  Timestamp created = 0;
  bool deleting = false;  // deletionTimestamp is set
  Labels labels;
  Labels annotations;  // only those that mean something here
  bool operator==(const Meta&) const = default;
};

// ---- status as it is stored, to tell what is already written ----

struct Condition {
  std::string type, status, reason, message;
  int64_t observed_generation = 0;
  std::string since;  // lastTransitionTime as it is written
  bool operator==(const Condition&) const = default;
};
struct ParentRef {
  std::string group = "gateway.networking.k8s.io", kind = "Gateway", ns, name, section;
  int32_t port = 0;  // 0: not given
  bool operator==(const ParentRef&) const = default;
};
struct ParentStatus {
  ParentRef parent;
  std::string controller;
  std::vector<Condition> conditions;
  std::string raw;  // the entry as JSON: entries of other controllers are written back untouched
  bool operator==(const ParentStatus&) const = default;
};
struct ListenerStatus {
  std::string name;
  int32_t attached_routes = 0;
  std::vector<std::string> supported_kinds;  // "group/kind"
  std::vector<Condition> conditions;
  bool operator==(const ListenerStatus&) const = default;
};
struct Status {
  std::vector<Condition> conditions;
  std::vector<ParentStatus> parents;
  std::vector<ListenerStatus> listeners;
  std::vector<std::string> addresses;
  std::vector<std::string> features;  // of a GatewayClass
  bool operator==(const Status&) const = default;
};

// ---- core ----

struct Pod {
  Meta meta;
  std::string ip;     // status.podIP
  std::string phase;  // "Running"; "" when absent
  std::string node;
  bool ready = false;  // condition Ready is True
  bool operator==(const Pod&) const = default;
};

struct SlicePort {
  std::string name, app_protocol;
  int32_t port = 0;  // 0: none given
  bool operator==(const SlicePort&) const = default;
};
struct SliceEndpoint {
  std::string address;  // the first one: the others mean nothing for pods
  std::optional<bool> ready, serving, terminating;
  std::string target_kind, target_ns, target_name, target_uid;
  std::string node, zone;
  bool operator==(const SliceEndpoint&) const = default;
};
struct EndpointSlice {
  enum class Family : uint8_t { ipv4, ipv6, fqdn };
  Meta meta;
  Family family = Family::ipv4;
  std::vector<SliceEndpoint> endpoints;
  std::vector<SlicePort> ports;
  bool operator==(const EndpointSlice&) const = default;
};

struct ServicePort {
  std::string name, app_protocol;
  int32_t port = 0;
  bool operator==(const ServicePort&) const = default;
};
struct Service {
  Meta meta;
  std::string type;  // "" is ClusterIP
  std::vector<ServicePort> ports;
  bool operator==(const Service&) const = default;
};

struct Namespace {
  Meta meta;
  bool operator==(const Namespace&) const = default;
};

// What a Secret of the type kubernetes.io/tls holds. It goes nowhere but to the TLS context: no page, status, log line
// or error shows it.
struct Secret {
  Meta meta;
  std::string type;
  std::string certificate, key;  // tls.crt and tls.key, PEM; "": missing, or not base64
  bool operator==(const Secret&) const = default;
};

struct ConfigMap {
  Meta meta;
  std::string authorities;  // ca.crt; "": missing
  bool operator==(const ConfigMap&) const = default;
};

// ---- inference ----

struct InferencePoolSpec {
  Labels selector;
  std::vector<int32_t> ports;  // 1 to 8; the index is the rank
  std::string app_protocol = "http";
  bool operator==(const InferencePoolSpec&) const = default;
};
struct InferencePool {
  Meta meta;
  InferencePoolSpec spec;
  Status status;
};

struct PoolRef {
  std::string group = "inference.networking.k8s.io", kind = "InferencePool", name;
  bool operator==(const PoolRef&) const = default;
};
struct RewriteTarget {
  std::string model;
  int32_t weight = -1;  // -1: not given
  bool operator==(const RewriteTarget&) const = default;
};
struct RewriteRule {
  bool generic = false;             // no matches at all: every model
  std::vector<std::string> models;  // any of them; empty and not generic: never matches
  std::vector<RewriteTarget> targets;
  bool operator==(const RewriteRule&) const = default;
};
struct ModelRewriteSpec {
  PoolRef pool;
  std::vector<RewriteRule> rules;
  bool operator==(const ModelRewriteSpec&) const = default;
};
struct ModelRewrite {
  Meta meta;
  ModelRewriteSpec spec;
  Status status;
};

struct ObjectiveSpec {
  PoolRef pool;
  int32_t priority = 0;
  bool operator==(const ObjectiveSpec&) const = default;
};
struct Objective {
  Meta meta;
  ObjectiveSpec spec;
  Status status;
};

// ---- Gateway API ----

struct GatewayClassSpec {
  std::string controller;
  bool parameters = false;  // it has a parametersRef
  bool operator==(const GatewayClassSpec&) const = default;
};
struct GatewayClass {
  Meta meta;
  GatewayClassSpec spec;
  Status status;
};

struct LabelRequirement {
  enum class Operator : uint8_t { in, not_in, exists, does_not_exist };
  std::string key;
  Operator op = Operator::exists;
  std::vector<std::string> values;
  bool operator==(const LabelRequirement&) const = default;
};
struct LabelSelector {
  Labels match_labels;
  std::vector<LabelRequirement> requirements;
  bool matches(const Labels& labels) const;
  bool operator==(const LabelSelector&) const = default;
};

enum class RoutesFrom : uint8_t { same, all, selector, none };
struct GroupKind {
  std::string group = "gateway.networking.k8s.io", kind;
  bool operator==(const GroupKind&) const = default;
};
struct ObjectRef {
  std::string group, kind, ns, name;  // ns "": that of the object that refers
  bool operator==(const ObjectRef&) const = default;
};
struct Listener {
  std::string name, hostname, protocol;
  int32_t port = 0;
  RoutesFrom from = RoutesFrom::same;
  LabelSelector selector;
  std::vector<GroupKind> kinds;  // empty: those that fit the protocol
  bool tls = false;              // it has settings of TLS
  std::string tls_mode = "Terminate";
  std::vector<ObjectRef> certificates;  // certificateRefs
  bool tls_options = false;             // it has some: none means anything here
  bool operator==(const Listener&) const = default;
};
struct GatewayAddress {
  std::string type = "IPAddress", value;  // value "": any of the type
  bool operator==(const GatewayAddress&) const = default;
};
struct GatewaySpec {
  std::string class_name;
  std::vector<Listener> listeners;
  std::vector<GatewayAddress> addresses;  // asked for
  bool parameters = false;                // infrastructure has a parametersRef
  bool frontend_tls = false;              // asks for certificates of clients
  bool is_default = false;                // asks for the routes of its defaultScope
  std::vector<std::string> ignored;       // fields that are given and mean nothing here: they are reported
  bool operator==(const GatewaySpec&) const = default;
};
struct Gateway {
  Meta meta;
  GatewaySpec spec;
  Status status;
};

enum class MatchType : uint8_t { exact, prefix, regex };
struct PathMatch {
  MatchType type = MatchType::prefix;
  std::string value = "/";
  bool operator==(const PathMatch&) const = default;
};
struct ValueMatch {  // of a header or a query parameter
  MatchType type = MatchType::exact;
  std::string name, value;
  bool operator==(const ValueMatch&) const = default;
};
struct RouteMatch {
  PathMatch path;
  std::vector<ValueMatch> headers, queries;
  std::string method;  // "": any
  bool operator==(const RouteMatch&) const = default;
};
struct HeaderChange {
  enum class Op : uint8_t { set, add, remove };
  Op op = Op::set;
  std::string name, value;
  bool operator==(const HeaderChange&) const = default;
};
struct PathModifier {  // of a redirect or a rewrite
  std::string type, full, prefix;
  bool operator==(const PathModifier&) const = default;
};
struct UrlFilter {               // a RequestRedirect or a URLRewrite
  std::string scheme, hostname;  // "": as in the request
  std::optional<PathModifier> path;
  int32_t port = 0;  // 0: not given
  int32_t status = 302;
  bool operator==(const UrlFilter&) const = default;
};
struct RouteFilter {
  std::string type;  // as written: unknown ones are reported, not skipped
  std::vector<HeaderChange> changes;
  UrlFilter url;
  bool operator==(const RouteFilter&) const = default;
};
struct BackendRef {
  std::string group, kind = "Service", ns, name;
  int32_t port = 0;  // 0: not given
  int32_t weight = 1;
  std::vector<RouteFilter> filters;
  bool operator==(const BackendRef&) const = default;
};
struct RouteRule {
  std::vector<RouteMatch> matches;
  std::vector<RouteFilter> filters;
  std::vector<BackendRef> backends;
  Duration timeout{0};          // of the whole request; 0: none given
  Duration backend_timeout{0};  // of each attempt; 0: none given
  std::optional<int32_t> retries;
  std::vector<std::string> ignored;  // fields that are given and mean nothing here: they are reported
  bool operator==(const RouteRule&) const = default;
};
struct HttpRouteSpec {
  std::vector<ParentRef> parents;
  bool use_default = false;  // attaches to default Gateways, too
  std::vector<std::string> hostnames;
  std::vector<RouteRule> rules;
  bool operator==(const HttpRouteSpec&) const = default;
};
struct HttpRoute {
  Meta meta;
  HttpRouteSpec spec;
  Status status;
};

struct GrantFrom {
  std::string group, kind, ns;
  bool operator==(const GrantFrom&) const = default;
};
struct GrantTo {
  std::string group, kind, name;  // name "": any
  bool operator==(const GrantTo&) const = default;
};
struct ReferenceGrant {
  Meta meta;
  std::vector<GrantFrom> from;
  std::vector<GrantTo> to;
  bool operator==(const ReferenceGrant&) const = default;
};

struct PolicyTarget {
  std::string group, kind, name, section;  // in the policy's namespace; section "": all of it
  bool operator==(const PolicyTarget&) const = default;
};
struct BackendTlsSpec {
  std::vector<PolicyTarget> targets;
  std::vector<ObjectRef> authorities;  // caCertificateRefs
  std::string well_known;              // wellKnownCACertificates
  std::string hostname;
  std::vector<std::string> names;  // subjectAltNames: DNS names and URIs
  bool options = false;            // it has some: none means anything here
  bool operator==(const BackendTlsSpec&) const = default;
};
struct BackendTlsPolicy {
  Meta meta;
  BackendTlsSpec spec;
  Status status;  // its ancestors are `parents`
};

using Object = std::variant<Pod, EndpointSlice, Service, Namespace, InferencePool, ModelRewrite, Objective,
                            GatewayClass, Gateway, HttpRoute, ReferenceGrant, Secret, ConfigMap, BackendTlsPolicy>;
const Meta& meta_of(const Object& object);

// Annotations and labels that mean something to the gateway.
namespace annotation {
inline constexpr std::string_view active_ports = "llm-d.ai/active-ports";
inline constexpr std::string_view active_ports_legacy = "inference.networking.k8s.io/active-ports";
inline constexpr std::string_view slice_changed = "endpoints.kubernetes.io/last-change-trigger-time";
// On an InferencePool: take its endpoints from the EndpointSlices of this Service in the same namespace.
inline constexpr std::string_view pool_service = "penstock.dev/service";
inline constexpr std::string_view service_name_label = "kubernetes.io/service-name";
inline constexpr std::string_view zone_label = "topology.kubernetes.io/zone";
}  // namespace annotation

}  // namespace penstock::objects
