#include "gateways.h"

#include <algorithm>
#include <set>

#include "listener_certificates.h"
#include "penstock/base/text.h"

namespace penstock::objects {
namespace {

constexpr std::string_view gateway_group = "gateway.networking.k8s.io";

// The conformance profiles' names of what is supported, in the order of the alphabet.
constexpr std::string_view features[] = {
    "BackendTLSPolicy",
    "BackendTLSPolicySANValidation",
    "Gateway",
    "GatewayHTTPListenerIsolation",
    "HTTPRoute",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendTimeout",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteSchemeRedirect",
    "ReferenceGrant",
    "SupportInferencePool",
};
static_assert(std::ranges::is_sorted(features));

ListenerState judge(const Gateway& gateway, const Listener& listener) {
  ListenerState state{.gateway = &gateway, .spec = &listener, .host = lower_case(listener.hostname)};
  if (listener.protocol != "HTTP" && listener.protocol != "HTTPS") {
    state.refused = "UnsupportedProtocol";
    state.why = "the protocol " + listener.protocol + " is not supported; expected HTTP or HTTPS";
  } else if (listener.protocol == "HTTPS" && listener.tls_mode != "Terminate") {
    state.refused = "UnsupportedProtocol";
    state.why = "tls.mode " + listener.tls_mode + " is not supported; expected Terminate";
  } else if (listener.protocol == "HTTPS" && gateway.spec.frontend_tls) {
    // Not to be passed over: it keeps out clients that have no certificate.
    state.refused = "UnsupportedProtocol";
    state.why = "certificates of clients are not asked for here (tls.frontend)";
  }
  if (listener.kinds.empty()) state.kinds = {std::string(gateway_group) + "/HTTPRoute"};
  for (const GroupKind& kind : listener.kinds) {
    if (kind.group == gateway_group && kind.kind == "HTTPRoute") state.kinds = {kind.group + "/" + kind.kind};
    else state.other_kinds = true;
  }
  return state;
}

bool is_https(const ListenerState& listener) {
  return listener.spec->protocol == "HTTPS";
}

ListenerPort port_of(const Listener& listener) {
  return {listener.port, listener.protocol == "HTTPS"};
}

void refuse_port(ListenerState& listener) {
  const bool tls = port_of(*listener.spec).tls;
  listener.refused = "PortUnavailable";
  listener.why = "no listener of this gateway " + std::string(tls ? "with TLS" : "in plain HTTP") + " has the port " +
                 std::to_string(listener.spec->port) + ", nor is one left over (listeners[].gateway_port)";
}

// Listeners that cannot be told apart: none of them counts.
void mark_conflicts(std::vector<ListenerState>& listeners) {
  for (ListenerState& a : listeners) {
    for (const ListenerState& b : listeners) {
      if (&a == &b || a.spec->port != b.spec->port || a.refused == "UnsupportedProtocol") continue;
      const bool protocols = a.spec->protocol != b.spec->protocol && b.refused != "UnsupportedProtocol";
      if (!protocols && (a.host != b.host || a.spec->protocol != b.spec->protocol)) continue;
      a.conflicted = true;
      a.refused = protocols ? "ProtocolConflict" : "HostnameConflict";
      a.why = protocols ? "another listener has the same port and another protocol"
                        : "another listener has the same port and hostname";
    }
  }
}

std::vector<Condition> conditions_of(const ListenerState& listener, const Meta& about, bool programmed) {
  const bool good = listener.refused.empty();
  // A conflict has a condition of its own.
  const bool accepted = good || listener.conflicted;
  std::vector<Condition> out;
  out.push_back(condition("Accepted", accepted, accepted ? "Accepted" : listener.refused,
                          accepted ? "is in use" : listener.why, about));
  out.push_back(condition("Conflicted", listener.conflicted, listener.conflicted ? listener.refused : "NoConflicts",
                          listener.conflicted ? listener.why : "no other listener is in the way", about));
  Finding pending, unresolved;  // the first of these counts
  if (!good) pending.note("Invalid", listener.why);
  else if (is_https(listener) && !shows_certificate(listener)) pending.note("Invalid", listener.unresolved.message);
  else if (!programmed) pending.note("Pending", "the gateway has no address yet");
  const bool done = !pending.found();
  pending.note("Programmed", "takes requests");
  out.push_back(condition("Programmed", done, pending.reason, pending.message, about));
  if (listener.other_kinds) unresolved.note("InvalidRouteKinds", "only HTTPRoute is supported");
  if (listener.unresolved.found()) unresolved.note(listener.unresolved.reason, listener.unresolved.message);
  const bool resolved = !unresolved.found();
  unresolved.note("ResolvedRefs", "every reference is resolved");
  out.push_back(condition("ResolvedRefs", resolved, unresolved.reason, unresolved.message, about));
  return out;
}

Notice notice(Kind kind, const Meta& meta, std::string reason, std::string message) {
  return {kind, meta.ns, meta.name, meta.uid, true, std::move(reason), std::move(message)};
}

void report(const Meta& gateway, const ListenerState& listener, Policy& policy) {
  const auto add = [&](const std::string& reason, const std::string& why) {
    policy.notices.push_back(notice(Kind::gateway, gateway, reason, "listener " + listener.spec->name + ": " + why));
  };
  if (!listener.refused.empty()) add(listener.refused, listener.why);
  if (listener.other_kinds) add("InvalidRouteKinds", "only HTTPRoute is supported");
  if (listener.unresolved.found()) add(listener.unresolved.reason, listener.unresolved.message);
}

std::string ignored_of(const GatewaySpec& spec) {
  std::string out;
  const auto add = [&](const std::string& field) { out.append(out.empty() ? "" : ", ").append(field); };
  for (const std::string& field : spec.ignored) add(field);
  for (size_t i = 0; i < spec.listeners.size(); ++i) {
    const Listener& listener = spec.listeners[i];
    const std::string path = "listeners[" + std::to_string(i) + "].tls";
    if (listener.tls && listener.protocol == "HTTP") add(path);
    else if (listener.tls_options) add(path + ".options");
  }
  return out;
}

// Why a Gateway is not accepted, whatever its listeners are.
Finding refusal_of(const GatewaySpec& spec) {
  Finding out;
  for (const GatewayAddress& asked : spec.addresses) {
    if (asked.type == "IPAddress" || asked.type == "Hostname") continue;
    out.note("UnsupportedAddress",
             "addresses of the type " + asked.type + " are not supported; expected IPAddress or Hostname");
  }
  if (spec.parameters) out.note("InvalidParameters", "no kind is supported in infrastructure.parametersRef");
  return out;
}

// The first address that is asked for and is not the one that there is ("": none).
Finding missing_address(const GatewaySpec& spec, const std::string& address) {
  Finding out;
  const std::string only = address.empty() ? "" : "; the only one here is " + address + " (kubernetes.gateway_address)";
  for (const GatewayAddress& asked : spec.addresses) {
    const bool same = asked.value.empty() || lower_case(asked.value) == lower_case(address);
    if (!address.empty() && asked.type == type_of_address(address) && same) continue;
    if (asked.value.empty()) out.note("AddressNotAssigned", "there is no address of the type " + asked.type + only);
    else out.note("AddressNotUsable", "the address " + asked.value + " cannot be had" + only);
  }
  return out;
}

void report(const Gateway& gateway, const Finding& refused, const Finding& missing, Policy& policy) {
  const auto add = [&](const std::string& reason, const std::string& message) {
    policy.notices.push_back(notice(Kind::gateway, gateway.meta, reason, message));
  };
  if (refused.found()) add(refused.reason, refused.message);
  else if (missing.found()) add(missing.reason, missing.message);
  if (const std::string ignored = ignored_of(gateway.spec); !ignored.empty()) {
    add("FieldIgnored", "has no effect here: " + ignored);
  }
}

}  // namespace

std::string lower_case(std::string text) {
  for (char& c : text) c = lower(c);
  return text;
}

std::optional<std::string> intersection(const std::string& listener, const std::string& route) {
  if (listener.empty() || listener == route) return route;
  if (route.empty()) return listener;
  const auto covers = [](const std::string& wildcard, const std::string& host) {
    return wildcard.starts_with("*.") && host.size() > wildcard.size() - 1 && host.ends_with(wildcard.substr(1));
  };
  if (covers(listener, route)) return route;
  if (covers(route, listener)) return listener;
  return std::nullopt;
}

std::vector<std::string> intersections(const std::string& listener, const std::vector<std::string>& route) {
  if (route.empty()) return {listener};
  std::set<std::string> out;
  for (const std::string& host : route) {
    if (auto common = intersection(listener, lower_case(host))) out.insert(std::move(*common));
  }
  return {out.begin(), out.end()};
}

Gateways::Gateways(const View& view, Policy& policy) : view_(view) {
  std::set<std::string> classes;
  view.each<GatewayClass>(Kind::gateway_class, std::nullopt, [&](Kind kind, const GatewayClass& found) {
    if (found.spec.controller != view.options().controller) return;
    classes.insert(found.meta.name);
    Status status;
    const bool bare = !found.spec.parameters;
    const std::string said =
        bare ? "Gateways of this class are served" : "no kind is supported in parametersRef: it has no effect";
    status.conditions.push_back(condition("Accepted", bare, bare ? "Accepted" : "InvalidParameters", said, found.meta));
    if (!bare) policy.notices.push_back(notice(kind, found.meta, "InvalidParameters", said));
    status.features.assign(std::begin(features), std::end(features));
    policy.statuses.push_back({kind, &found.meta, &found.status, std::move(status)});
  });
  // Without its routes a Gateway would answer 404 to everything.
  const bool ignored = view.store().awaited(Kind::http_route);
  view.each<Gateway>(Kind::gateway, std::nullopt, [&](Kind kind, const Gateway& gateway) {
    if (!classes.contains(gateway.spec.class_name)) return;
    if (ignored) {
      return policy.notices.push_back(notice(kind, gateway.meta, "RoutesNotReadable",
                                             "is ignored as long as HTTPRoutes cannot be listed: they may be forbidden "
                                             "to this gateway, or not installed"));
    }
    has_default_ |= gateway.spec.is_default;
    GatewayState state{&gateway, {}};
    for (const Listener& listener : gateway.spec.listeners) state.listeners.push_back(judge(gateway, listener));
    mark_conflicts(state.listeners);
    gateways_.emplace(std::pair(gateway.meta.ns, gateway.meta.name), std::move(state));
  });
  place_listeners(policy);
}

// Where none of ours has the port of a Gateway's listener, it depends on all others which one takes its requests.
void Gateways::place_listeners(Policy& policy) {
  std::set<ListenerPort> asked;
  for (const auto& [name, gateway] : gateways_) {
    for (const ListenerState& listener : gateway.listeners) {
      if (listener.refused.empty() || listener.conflicted) asked.insert(port_of(*listener.spec));
    }
  }
  map_ = ListenerMap(view_.options().listeners, asked);
  std::set<std::pair<size_t, std::string>> hosts;
  for (auto& [name, gateway] : gateways_) {
    for (ListenerState& listener : gateway.listeners) {
      if (!listener.refused.empty()) continue;
      const auto table = map_.find(port_of(*listener.spec));
      if (!table) {
        refuse_port(listener);
        continue;
      }
      merged_ |= !hosts.emplace(listener.table = *table, listener.host).second;
      if (!is_https(listener)) continue;
      find_certificates(view_, map_, listener);
      add_certificates(view_, map_, listener, policy.certificates);
    }
  }
}

GatewayState* Gateways::find(const std::string& ns, const std::string& name) {
  const auto found = gateways_.find({ns, name});
  return found == gateways_.end() ? nullptr : &found->second;
}

bool Gateways::lets_in(const Listener& listener, const Gateway& gateway, const HttpRoute& route) const {
  switch (listener.from) {
    case RoutesFrom::same:
      return route.meta.ns == gateway.meta.ns;
    case RoutesFrom::all:
      return true;
    case RoutesFrom::none:
      return false;
    case RoutesFrom::selector:
      break;
  }
  const auto found = view_.store().get<Namespace>(Kind::name_space, "", route.meta.ns);
  Labels labels = found == nullptr ? Labels() : found->meta.labels;
  constexpr const char* name_label = "kubernetes.io/metadata.name";  // every namespace has it
  if (find_label(labels, name_label) == nullptr) {
    labels.emplace_back(name_label, route.meta.ns);
    std::sort(labels.begin(), labels.end());
  }
  return listener.selector.matches(labels);
}

Attachment Gateways::attach(GatewayState& gateway, const HttpRoute& route, const ParentRef& parent) const {
  bool named = false, allowed = false;
  Attachment out;
  for (ListenerState& listener : gateway.listeners) {
    if (!parent.section.empty() && parent.section != listener.spec->name) continue;
    if (parent.port != 0 && parent.port != listener.spec->port) continue;
    named = true;
    if (!listener.refused.empty() || listener.kinds.empty()) continue;
    if (!lets_in(*listener.spec, *gateway.gateway, route)) continue;
    allowed = true;
    if (!intersections(listener.host, route.spec.hostnames).empty()) out.listeners.push_back(&listener);
  }
  if (!out.listeners.empty()) return out;
  if (!named) {
    out.reason = "NoMatchingParent";
    out.message = "the Gateway has no listener with this sectionName and port";
  } else if (!allowed) {
    out.reason = "NotAllowedByListeners";
    out.message = "no listener of the Gateway takes routes of this kind from this namespace";
  } else {
    out.reason = "NoMatchingListenerHostname";
    out.message = "no hostname of the route is one of a listener's";
  }
  return out;
}

void Gateways::want_statuses(Policy& policy) const {
  for (const auto& [key, state] : gateways_) want_status(state, policy);
}

void Gateways::want_status(const GatewayState& state, Policy& policy) const {
  const Meta& meta = state.gateway->meta;
  const std::string& address = view_.options().gateway_address;
  const auto good = std::count_if(state.listeners.begin(), state.listeners.end(),
                                  [](const ListenerState& listener) { return listener.refused.empty(); });
  Finding refused = refusal_of(state.gateway->spec);
  const Finding missing = missing_address(state.gateway->spec, address);
  report(*state.gateway, refused, missing, policy);
  if (good == 0) refused.note("ListenersNotValid", "some listeners cannot be used");
  Finding pending;  // the first of these counts
  if (address.empty()) pending.note("AddressNotAssigned", "the gateway has no address yet");
  if (good == 0) pending.note("Invalid", "no listener can be used");
  if (refused.found()) pending.note("Invalid", refused.message);
  if (missing.found()) pending.note(missing.reason, missing.message);
  const bool accepted = !refused.found(), programmed = !pending.found();
  if (good == static_cast<ptrdiff_t>(state.listeners.size())) refused.note("Accepted", "every listener is in use");
  refused.note("ListenersNotValid", "some listeners cannot be used");
  pending.note("Programmed", "takes requests");
  WantedStatus wanted{Kind::gateway, &meta, &state.gateway->status, {}};
  wanted.status.conditions = {condition("Accepted", accepted, refused.reason, refused.message, meta),
                              condition("Programmed", programmed, pending.reason, pending.message, meta)};
  if (!address.empty()) wanted.status.addresses.push_back(address);
  for (const ListenerState& listener : state.listeners) {
    report(meta, listener, policy);
    wanted.status.listeners.push_back(
        {listener.spec->name, listener.attached, listener.kinds, conditions_of(listener, meta, !address.empty())});
  }
  policy.statuses.push_back(std::move(wanted));
}

}  // namespace penstock::objects
