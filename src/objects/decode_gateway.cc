// GatewayClass, Gateway, HTTPRoute, ReferenceGrant.
#include <algorithm>

#include "json.h"

namespace penstock::objects::json {
namespace {

template <typename T>
void nothing_more(Reader&, T&) {}

// ---- GatewayClass ----

constexpr Field<GatewayClass> class_spec_fields[] = {
    {"controllerName", [](Reader& r, Value v, GatewayClass& c) { r.text(v, c.spec.controller); }},
    {"parametersRef", [](Reader&, Value, GatewayClass& c) { c.spec.parameters = true; }},
    {"description", nullptr},
};
constexpr Field<GatewayClass> class_fields[] = {
    {"spec", [](Reader& r, Value v, GatewayClass& c) { read_object(r, v, c, class_spec_fields); }},
    {"status", [](Reader& r, Value v, GatewayClass& c) { read_status(r, v, c.status); }},
};
void check_class(Reader& reader, GatewayClass& gateway_class) {
  if (gateway_class.spec.controller.empty()) {
    reader.missing("spec.controllerName", "the name of a controller, as in example.com/name");
  }
}

// ---- Gateway ----

constexpr Field<LabelRequirement> requirement_fields[] = {
    {"key", [](Reader& r, Value v, LabelRequirement& l) { r.text(v, l.key); }},
    {"operator",
     [](Reader& r, Value v, LabelRequirement& l) {
       size_t index = static_cast<size_t>(l.op);
       r.word(v, {"In", "NotIn", "Exists", "DoesNotExist"}, index);
       l.op = static_cast<LabelRequirement::Operator>(index);
     }},
    {"values", [](Reader& r, Value v, LabelRequirement& l) { r.texts(v, l.values); }},
};
constexpr Field<LabelSelector> selector_fields[] = {
    {"matchLabels", [](Reader& r, Value v, LabelSelector& s) { r.labels(v, s.match_labels); }},
    {"matchExpressions",
     [](Reader& r, Value v, LabelSelector& s) {
       read_list(r, v, s.requirements, requirement_fields, [](LabelRequirement&) {});
     }},
};
constexpr Field<Listener> allowed_namespaces_fields[] = {
    {"from",
     [](Reader& r, Value v, Listener& l) {
       size_t index = static_cast<size_t>(l.from);
       r.word(v, {"Same", "All", "Selector", "None"}, index);
       l.from = static_cast<RoutesFrom>(index);
     }},
    {"selector", [](Reader& r, Value v, Listener& l) { read_object(r, v, l.selector, selector_fields); }},
};
constexpr Field<GroupKind> group_kind_fields[] = {
    {"group", [](Reader& r, Value v, GroupKind& k) { r.text(v, k.group); }},
    {"kind", [](Reader& r, Value v, GroupKind& k) { r.text(v, k.kind); }},
};
constexpr Field<Listener> allowed_routes_fields[] = {
    {"namespaces", [](Reader& r, Value v, Listener& l) { read_object(r, v, l, allowed_namespaces_fields); }},
    {"kinds", [](Reader& r, Value v, Listener& l) { read_list(r, v, l.kinds, group_kind_fields, [](GroupKind&) {}); }},
};
constexpr Field<ObjectRef> object_ref_fields[] = {
    {"group", [](Reader& r, Value v, ObjectRef& o) { r.text(v, o.group); }},
    {"kind", [](Reader& r, Value v, ObjectRef& o) { r.text(v, o.kind); }},
    {"namespace", [](Reader& r, Value v, ObjectRef& o) { r.text(v, o.ns); }},
    {"name", [](Reader& r, Value v, ObjectRef& o) { r.text(v, o.name); }},
};
constexpr Field<Listener> listener_tls_fields[] = {
    {"mode", [](Reader& r, Value v, Listener& l) { r.text(v, l.tls_mode); }},
    {"certificateRefs",
     [](Reader& r, Value v, Listener& l) {
       read_list(r, v, l.certificates, object_ref_fields, [&](ObjectRef& ref) {
         if (ref.kind.empty()) ref.kind = "Secret";
         if (ref.name.empty()) r.missing("name", "the name of a Secret");
       });
     }},
    {"options", [](Reader&, Value, Listener& l) { l.tls_options = true; }},
    // Of the experimental channel, before it became a part of the Gateway.
    {"frontendValidation", [](Reader&, Value, Listener& l) { l.tls_mode = "with frontendValidation"; }},
};
void read_listener_tls(Reader& reader, Value value, Listener& listener) {
  listener.tls = true;
  read_object(reader, value, listener, listener_tls_fields);
}
constexpr Field<Listener> listener_fields[] = {
    {"name", [](Reader& r, Value v, Listener& l) { r.text(v, l.name); }},
    {"hostname", [](Reader& r, Value v, Listener& l) { r.text(v, l.hostname); }},
    {"port", [](Reader& r, Value v, Listener& l) { r.port(v, l.port); }},
    {"protocol", [](Reader& r, Value v, Listener& l) { r.text(v, l.protocol); }},
    {"allowedRoutes", [](Reader& r, Value v, Listener& l) { read_object(r, v, l, allowed_routes_fields); }},
    {"tls", read_listener_tls},
};
void read_listeners(Reader& reader, Value value, std::vector<Listener>& out) {
  read_list(reader, value, out, listener_fields, [&](Listener& listener) {
    if (listener.name.empty()) reader.missing("name", "the listener's name");
    if (listener.port == 0) reader.missing("port", "a whole number from 1 to 65535");
    if (listener.protocol.empty()) reader.missing("protocol", "HTTP or HTTPS");
  });
}

constexpr Field<GatewayAddress> address_fields[] = {
    {"type", [](Reader& r, Value v, GatewayAddress& a) { r.text(v, a.type); }},
    {"value", [](Reader& r, Value v, GatewayAddress& a) { r.text(v, a.value); }},
};
constexpr Field<Gateway> infrastructure_fields[] = {
    {"labels", [](Reader&, Value, Gateway& g) { g.spec.ignored.emplace_back("infrastructure.labels"); }},
    {"annotations", [](Reader&, Value, Gateway& g) { g.spec.ignored.emplace_back("infrastructure.annotations"); }},
    {"parametersRef", [](Reader&, Value, Gateway& g) { g.spec.parameters = true; }},
};
constexpr Field<std::string> listener_sets_from_fields[] = {
    {"from", [](Reader& r, Value v, std::string& from) { r.text(v, from); }},
    {"selector", nullptr},
};
constexpr Field<std::string> listener_sets_fields[] = {
    {"namespaces", [](Reader& r, Value v, std::string& from) { read_object(r, v, from, listener_sets_from_fields); }},
};
// ListenerSets are not known here; that none may attach is no more than what is so anyway.
void read_allowed_listeners(Reader& reader, Value value, Gateway& gateway) {
  std::string from = "None";
  read_object(reader, value, from, listener_sets_fields);
  if (from != "None") gateway.spec.ignored.emplace_back("allowedListeners");
}
// Of a defaultScope and of what uses it.
bool read_scope(Reader& reader, Value value) {
  std::string scope;
  reader.text(value, scope);
  return !scope.empty() && scope != "None";
}
void read_default_scope(Reader& reader, Value value, Gateway& gateway) {
  gateway.spec.is_default = read_scope(reader, value);
  if (gateway.spec.is_default) gateway.spec.ignored.emplace_back("defaultScope");
}

constexpr Field<Gateway> gateway_tls_fields[] = {
    {"frontend", [](Reader&, Value, Gateway& g) { g.spec.frontend_tls = true; }},
    {"backend", [](Reader&, Value, Gateway& g) { g.spec.ignored.emplace_back("tls.backend"); }},
};
constexpr Field<Gateway> gateway_spec_fields[] = {
    {"gatewayClassName", [](Reader& r, Value v, Gateway& g) { r.text(v, g.spec.class_name); }},
    {"listeners", [](Reader& r, Value v, Gateway& g) { read_listeners(r, v, g.spec.listeners); }},
    {"addresses",
     [](Reader& r, Value v, Gateway& g) { read_list(r, v, g.spec.addresses, address_fields, [](GatewayAddress&) {}); }},
    {"infrastructure", [](Reader& r, Value v, Gateway& g) { read_object(r, v, g, infrastructure_fields); }},
    {"allowedListeners", read_allowed_listeners},
    {"defaultScope", read_default_scope},
    {"tls", [](Reader& r, Value v, Gateway& g) { read_object(r, v, g, gateway_tls_fields); }},
};
constexpr Field<Gateway> gateway_fields[] = {
    {"spec", [](Reader& r, Value v, Gateway& g) { read_object(r, v, g, gateway_spec_fields); }},
    {"status", [](Reader& r, Value v, Gateway& g) { read_status(r, v, g.status); }},
};
void check_gateway(Reader& reader, Gateway& gateway) {
  if (gateway.spec.class_name.empty()) {
    reader.missing("spec.gatewayClassName", "the name of a GatewayClass");
  }
  if (gateway.spec.listeners.empty()) reader.missing("spec.listeners", "listeners");
}

// ---- HTTPRoute: matches ----

void read_match_type(Reader& reader, Value value, MatchType& out, bool path) {
  size_t index = 0;
  if (path) reader.word(value, {"Exact", "PathPrefix", "RegularExpression"}, index);
  else reader.word(value, {"Exact", "RegularExpression"}, index);
  if (path) out = static_cast<MatchType>(index);
  else out = index == 0 ? MatchType::exact : MatchType::regex;
}
constexpr Field<PathMatch> path_fields[] = {
    {"type", [](Reader& r, Value v, PathMatch& p) { read_match_type(r, v, p.type, true); }},
    {"value", [](Reader& r, Value v, PathMatch& p) { r.text(v, p.value); }},
};
constexpr Field<ValueMatch> value_match_fields[] = {
    {"type", [](Reader& r, Value v, ValueMatch& m) { read_match_type(r, v, m.type, false); }},
    {"name", [](Reader& r, Value v, ValueMatch& m) { r.text(v, m.name); }},
    {"value", [](Reader& r, Value v, ValueMatch& m) { r.text(v, m.value); }},
};
void read_value_matches(Reader& reader, Value value, std::vector<ValueMatch>& out) {
  read_list(reader, value, out, value_match_fields, [&](ValueMatch& match) {
    if (match.name.empty()) reader.missing("name", "a name");
  });
}
void read_method(Reader& reader, Value value, std::string& out) {
  size_t index = 0;
  const auto words = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"};
  reader.word(value, {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}, index);
  out = *(words.begin() + index);
}
constexpr Field<RouteMatch> match_fields[] = {
    {"path",
     [](Reader& r, Value v, RouteMatch& m) {
       read_object(r, v, m.path, path_fields);
       if (m.path.type != MatchType::regex && !m.path.value.starts_with('/')) {
         r.problem("is \"" + m.path.value.substr(0, 64) + "\"; expected a path that begins with /", "value");
       }
     }},
    {"headers", [](Reader& r, Value v, RouteMatch& m) { read_value_matches(r, v, m.headers); }},
    {"queryParams", [](Reader& r, Value v, RouteMatch& m) { read_value_matches(r, v, m.queries); }},
    {"method", [](Reader& r, Value v, RouteMatch& m) { read_method(r, v, m.method); }},
};

// ---- HTTPRoute: filters ----

struct Modifier {
  std::vector<HeaderChange> set, add;
  std::vector<std::string> remove;
};
constexpr Field<HeaderChange> header_fields[] = {
    {"name", [](Reader& r, Value v, HeaderChange& h) { r.text(v, h.name); }},
    {"value", [](Reader& r, Value v, HeaderChange& h) { r.text(v, h.value); }},
};

bool token(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
  });
}
// What ends in a head must not be able to end it.
void check_header(Reader& reader, const HeaderChange& change) {
  if (!token(change.name)) reader.problem("is not the name of a header field", "name");
  const auto control = [](char c) { return static_cast<unsigned char>(c) < 0x20 && c != '\t'; };
  if (std::any_of(change.value.begin(), change.value.end(), control)) {
    reader.problem("has control characters; expected the value of a header field", "value");
  }
}
void read_headers(Reader& reader, Value value, std::vector<HeaderChange>& out, HeaderChange::Op op) {
  read_list(reader, value, out, header_fields, [&](HeaderChange& change) {
    change.op = op;
    check_header(reader, change);
  });
}
constexpr Field<Modifier> modifier_fields[] = {
    {"set", [](Reader& r, Value v, Modifier& m) { read_headers(r, v, m.set, HeaderChange::Op::set); }},
    {"add", [](Reader& r, Value v, Modifier& m) { read_headers(r, v, m.add, HeaderChange::Op::add); }},
    {"remove", [](Reader& r, Value v, Modifier& m) { r.texts(v, m.remove); }},
};
void read_modifier(Reader& reader, Value value, RouteFilter& filter) {
  Modifier modifier;
  read_object(reader, value, modifier, modifier_fields);
  auto& changes = filter.changes;
  changes = std::move(modifier.set);
  changes.insert(changes.end(), modifier.add.begin(), modifier.add.end());
  for (std::string& name : modifier.remove) {
    if (!token(name)) reader.problem("lists what is not the name of a header field", "remove");
    changes.push_back({HeaderChange::Op::remove, std::move(name), ""});
  }
}
// What is read of these is judged when the route is compiled: a value that is not supported must not hide the rest.
constexpr Field<PathModifier> path_modifier_fields[] = {
    {"type", [](Reader& r, Value v, PathModifier& p) { r.text(v, p.type); }},
    {"replaceFullPath", [](Reader& r, Value v, PathModifier& p) { r.text(v, p.full); }},
    {"replacePrefixMatch", [](Reader& r, Value v, PathModifier& p) { r.text(v, p.prefix); }},
};
void read_path_modifier(Reader& reader, Value value, UrlFilter& url) {
  read_object(reader, value, url.path.emplace(), path_modifier_fields);
}
constexpr Field<UrlFilter> redirect_fields[] = {
    {"scheme", [](Reader& r, Value v, UrlFilter& u) { r.text(v, u.scheme); }},
    {"hostname", [](Reader& r, Value v, UrlFilter& u) { r.text(v, u.hostname); }},
    {"path", read_path_modifier},
    {"port", [](Reader& r, Value v, UrlFilter& u) { r.port(v, u.port); }},
    {"statusCode", [](Reader& r, Value v, UrlFilter& u) { r.integer(v, 100, 999, u.status); }},
};
constexpr Field<UrlFilter> rewrite_fields[] = {
    {"hostname", [](Reader& r, Value v, UrlFilter& u) { r.text(v, u.hostname); }},
    {"path", read_path_modifier},
};
constexpr Field<RouteFilter> filter_fields[] = {
    {"type", [](Reader& r, Value v, RouteFilter& f) { r.text(v, f.type); }},
    {"requestHeaderModifier", read_modifier},
    {"responseHeaderModifier", read_modifier},
    {"requestRedirect", [](Reader& r, Value v, RouteFilter& f) { read_object(r, v, f.url, redirect_fields); }},
    {"urlRewrite", [](Reader& r, Value v, RouteFilter& f) { read_object(r, v, f.url, rewrite_fields); }},
    // Of filters that are not supported the type is enough to say so.
    {"requestMirror", nullptr},
    {"cors", nullptr},
    {"externalAuth", nullptr},
    {"extensionRef", nullptr},
};
void read_filters(Reader& reader, Value value, std::vector<RouteFilter>& out) {
  read_list(reader, value, out, filter_fields, [&](RouteFilter& filter) {
    if (filter.type.empty()) reader.missing("type", "the type of a filter");
  });
}

// ---- HTTPRoute: the rest ----

constexpr Field<ParentRef> parent_fields[] = {
    {"group", [](Reader& r, Value v, ParentRef& p) { r.text(v, p.group); }},
    {"kind", [](Reader& r, Value v, ParentRef& p) { r.text(v, p.kind); }},
    {"namespace", [](Reader& r, Value v, ParentRef& p) { r.text(v, p.ns); }},
    {"name", [](Reader& r, Value v, ParentRef& p) { r.text(v, p.name); }},
    {"sectionName", [](Reader& r, Value v, ParentRef& p) { r.text(v, p.section); }},
    {"port", [](Reader& r, Value v, ParentRef& p) { r.port(v, p.port); }},
};
constexpr Field<BackendRef> backend_fields[] = {
    {"group", [](Reader& r, Value v, BackendRef& b) { r.text(v, b.group); }},
    {"kind", [](Reader& r, Value v, BackendRef& b) { r.text(v, b.kind); }},
    {"namespace", [](Reader& r, Value v, BackendRef& b) { r.text(v, b.ns); }},
    {"name", [](Reader& r, Value v, BackendRef& b) { r.text(v, b.name); }},
    {"port", [](Reader& r, Value v, BackendRef& b) { r.port(v, b.port); }},
    {"weight", [](Reader& r, Value v, BackendRef& b) { r.integer(v, 0, 1'000'000, b.weight); }},
    {"filters", [](Reader& r, Value v, BackendRef& b) { read_filters(r, v, b.filters); }},
};

// "1h30m", "500ms": numbers of at most five digits with h, m, s or ms. Nothing when it is not one.
std::optional<Duration> parse_duration(std::string_view text) {
  Duration sum{0};
  if (text.empty()) return std::nullopt;
  while (!text.empty()) {
    int64_t number = 0;
    size_t at = 0;
    for (; at < text.size() && at < 5 && text[at] >= '0' && text[at] <= '9'; ++at)
      number = number * 10 + text[at] - '0';
    if (at == 0) return std::nullopt;
    text.remove_prefix(at);
    const size_t unit = text.starts_with("ms") ? 2 : 1;
    if (unit == 2) sum += milliseconds(number);
    else if (text.starts_with('h')) sum += std::chrono::hours(number);
    else if (text.starts_with('m')) sum += std::chrono::minutes(number);
    else if (text.starts_with('s')) sum += seconds(number);
    else return std::nullopt;
    text.remove_prefix(unit);
  }
  return sum;
}
void read_duration(Reader& reader, Value value, Duration& out) {
  std::string text;
  reader.text(value, text);
  if (const std::optional<Duration> found = parse_duration(text)) out = *found;
  else reader.problem("is not a duration; expected one like 30s, 500ms or 1h30m");
}
constexpr Field<RouteRule> timeout_fields[] = {
    {"request", [](Reader& r, Value v, RouteRule& rule) { read_duration(r, v, rule.timeout); }},
    {"backendRequest", [](Reader& r, Value v, RouteRule& rule) { read_duration(r, v, rule.backend_timeout); }},
};
constexpr Field<RouteRule> retry_fields[] = {
    {"attempts", [](Reader& r, Value v, RouteRule& rule) { r.integer(v, 0, 1'000'000, rule.retries.emplace(0)); }},
    {"codes", [](Reader&, Value, RouteRule& rule) { rule.ignored.emplace_back("retry.codes"); }},
    {"backoff", [](Reader&, Value, RouteRule& rule) { rule.ignored.emplace_back("retry.backoff"); }},
};
constexpr Field<RouteRule> rule_fields[] = {
    {"name", nullptr},
    {"matches",
     [](Reader& r, Value v, RouteRule& rule) { read_list(r, v, rule.matches, match_fields, [](RouteMatch&) {}); }},
    {"filters", [](Reader& r, Value v, RouteRule& rule) { read_filters(r, v, rule.filters); }},
    {"backendRefs",
     [](Reader& r, Value v, RouteRule& rule) {
       read_list(r, v, rule.backends, backend_fields, [&](BackendRef& backend) {
         if (backend.name.empty()) r.missing("name", "the name of a backend");
       });
     }},
    {"timeouts", [](Reader& r, Value v, RouteRule& rule) { read_object(r, v, rule, timeout_fields); }},
    {"retry", [](Reader& r, Value v, RouteRule& rule) { read_object(r, v, rule, retry_fields); }},
    {"sessionPersistence", [](Reader&, Value, RouteRule& rule) { rule.ignored.emplace_back("sessionPersistence"); }},
};
constexpr Field<HttpRoute> route_spec_fields[] = {
    {"parentRefs",
     [](Reader& r, Value v, HttpRoute& h) {
       read_list(r, v, h.spec.parents, parent_fields, [&](ParentRef& parent) {
         if (parent.name.empty()) r.missing("name", "the name of a Gateway");
       });
     }},
    {"useDefaultGateways", [](Reader& r, Value v, HttpRoute& h) { h.spec.use_default = read_scope(r, v); }},
    {"hostnames", [](Reader& r, Value v, HttpRoute& h) { r.texts(v, h.spec.hostnames); }},
    {"rules", [](Reader& r, Value v, HttpRoute& h) { read_list(r, v, h.spec.rules, rule_fields, [](RouteRule&) {}); }},
};
constexpr Field<HttpRoute> route_fields[] = {
    {"spec", [](Reader& r, Value v, HttpRoute& h) { read_object(r, v, h, route_spec_fields); }},
    {"status", [](Reader& r, Value v, HttpRoute& h) { read_status(r, v, h.status); }},
};

// ---- ReferenceGrant ----

constexpr Field<GrantFrom> from_fields[] = {
    {"group", [](Reader& r, Value v, GrantFrom& f) { r.text(v, f.group); }},
    {"kind", [](Reader& r, Value v, GrantFrom& f) { r.text(v, f.kind); }},
    {"namespace", [](Reader& r, Value v, GrantFrom& f) { r.text(v, f.ns); }},
};
constexpr Field<GrantTo> to_fields[] = {
    {"group", [](Reader& r, Value v, GrantTo& t) { r.text(v, t.group); }},
    {"kind", [](Reader& r, Value v, GrantTo& t) { r.text(v, t.kind); }},
    {"name", [](Reader& r, Value v, GrantTo& t) { r.text(v, t.name); }},
};
constexpr Field<ReferenceGrant> grant_spec_fields[] = {
    {"from", [](Reader& r, Value v, ReferenceGrant& g) { read_list(r, v, g.from, from_fields, [](GrantFrom&) {}); }},
    {"to", [](Reader& r, Value v, ReferenceGrant& g) { read_list(r, v, g.to, to_fields, [](GrantTo&) {}); }},
};
constexpr Field<ReferenceGrant> grant_fields[] = {
    {"spec", [](Reader& r, Value v, ReferenceGrant& g) { read_object(r, v, g, grant_spec_fields); }},
};

// ---- BackendTLSPolicy ----

constexpr Field<PolicyTarget> policy_target_fields[] = {
    {"group", [](Reader& r, Value v, PolicyTarget& t) { r.text(v, t.group); }},
    {"kind", [](Reader& r, Value v, PolicyTarget& t) { r.text(v, t.kind); }},
    {"name", [](Reader& r, Value v, PolicyTarget& t) { r.text(v, t.name); }},
    {"sectionName", [](Reader& r, Value v, PolicyTarget& t) { r.text(v, t.section); }},
};
constexpr Field<std::string> alt_name_fields[] = {
    {"type", nullptr},
    {"hostname", [](Reader& r, Value v, std::string& name) { r.text(v, name); }},
    {"uri", [](Reader& r, Value v, std::string& name) { r.text(v, name); }},
};
constexpr Field<BackendTlsPolicy> validation_fields[] = {
    {"caCertificateRefs",
     [](Reader& r, Value v, BackendTlsPolicy& p) {
       read_list(r, v, p.spec.authorities, object_ref_fields, [](ObjectRef&) {});
     }},
    {"wellKnownCACertificates", [](Reader& r, Value v, BackendTlsPolicy& p) { r.text(v, p.spec.well_known); }},
    {"hostname", [](Reader& r, Value v, BackendTlsPolicy& p) { r.text(v, p.spec.hostname); }},
    {"subjectAltNames",
     [](Reader& r, Value v, BackendTlsPolicy& p) {
       read_list(r, v, p.spec.names, alt_name_fields, [&](std::string& name) {
         if (name.empty()) r.missing("hostname", "a hostname or a uri");
       });
     }},
};
constexpr Field<BackendTlsPolicy> backend_tls_spec_fields[] = {
    {"targetRefs",
     [](Reader& r, Value v, BackendTlsPolicy& p) {
       read_list(r, v, p.spec.targets, policy_target_fields, [](PolicyTarget&) {});
     }},
    {"validation", [](Reader& r, Value v, BackendTlsPolicy& p) { read_object(r, v, p, validation_fields); }},
    {"options", [](Reader&, Value, BackendTlsPolicy& p) { p.spec.options = true; }},
};
constexpr Field<BackendTlsPolicy> backend_tls_fields[] = {
    {"spec", [](Reader& r, Value v, BackendTlsPolicy& p) { read_object(r, v, p, backend_tls_spec_fields); }},
    {"status", [](Reader& r, Value v, BackendTlsPolicy& p) { read_status(r, v, p.status); }},
};
void check_backend_tls(Reader& reader, BackendTlsPolicy& policy) {
  if (policy.spec.hostname.empty())
    reader.missing("spec.validation.hostname", "the name of the endpoints' certificate");
}

template <typename T, size_t count>
std::unique_ptr<Body> table(const Field<T> (&fields)[count], void (*check)(Reader&, T&)) {
  return std::make_unique<TableBody<T, count>>(fields, Keys::closed, check);
}

}  // namespace

std::unique_ptr<Body> gateway_body(Kind kind) {
  switch (kind) {
    case Kind::gateway_class:
      return table(class_fields, check_class);
    case Kind::gateway:
      return table(gateway_fields, check_gateway);
    case Kind::http_route:
      return table(route_fields, nothing_more<HttpRoute>);
    case Kind::backend_tls_policy:
      return table(backend_tls_fields, check_backend_tls);
    default:
      return table(grant_fields, nothing_more<ReferenceGrant>);
  }
}

}  // namespace penstock::objects::json
