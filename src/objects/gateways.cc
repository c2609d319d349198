#include "gateways.h"

#include <algorithm>
#include <set>

namespace penstock::objects {
namespace {

constexpr std::string_view gateway_group = "gateway.networking.k8s.io";

ListenerState judge(const Listener& listener) {
  ListenerState state{&listener, lower_case(listener.hostname), "", "", false, {}, false, 0};
  if (listener.protocol != "HTTP") {
    state.refused = "UnsupportedProtocol";
    state.why = "the protocol " + listener.protocol + " is not supported; expected HTTP";
  }
  if (listener.kinds.empty()) state.kinds = {std::string(gateway_group) + "/HTTPRoute"};
  for (const GroupKind& kind : listener.kinds) {
    if (kind.group == gateway_group && kind.kind == "HTTPRoute") state.kinds = {kind.group + "/" + kind.kind};
    else state.other_kinds = true;
  }
  return state;
}

// Listeners that cannot be told apart: none of them counts.
void mark_conflicts(std::vector<ListenerState>& listeners) {
  for (ListenerState& a : listeners) {
    for (const ListenerState& b : listeners) {
      if (&a == &b || a.spec->port != b.spec->port || a.host != b.host) continue;
      if (a.spec->protocol != b.spec->protocol) continue;
      a.conflicted = true;
      a.refused = "HostnameConflict";
      a.why = "another listener has the same port and hostname";
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
  out.push_back(condition("Programmed", good && programmed,
                          !good        ? "Invalid"
                          : programmed ? "Programmed"
                                       : "Pending",
                          !good        ? listener.why
                          : programmed ? "takes requests"
                                       : "the gateway has no address yet",
                          about));
  out.push_back(condition("ResolvedRefs", !listener.other_kinds,
                          listener.other_kinds ? "InvalidRouteKinds" : "ResolvedRefs",
                          listener.other_kinds ? "only HTTPRoute is supported" : "every reference is resolved", about));
  return out;
}

void report(const Meta& gateway, const ListenerState& listener, Policy& policy) {
  const auto add = [&](const std::string& reason, const std::string& why) {
    policy.notices.push_back({Kind::gateway, gateway.ns, gateway.name, gateway.uid, true, reason,
                              "listener " + listener.spec->name + ": " + why});
  };
  if (!listener.refused.empty()) add(listener.refused, listener.why);
  if (listener.other_kinds) add("InvalidRouteKinds", "only HTTPRoute is supported");
}

}  // namespace

std::string lower_case(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
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
    status.conditions.push_back(
        condition("Accepted", true, "Accepted", "Gateways of this class are served", found.meta));
    policy.statuses.push_back({kind, &found.meta, &found.status, std::move(status)});
  });
  // Without its routes a Gateway would answer 404 to everything.
  const bool ignored = view.store().awaited(Kind::http_route);
  view.each<Gateway>(Kind::gateway, std::nullopt, [&](Kind kind, const Gateway& gateway) {
    if (!classes.contains(gateway.spec.class_name)) return;
    if (ignored) {
      const Meta& meta = gateway.meta;
      return policy.notices.push_back({kind, meta.ns, meta.name, meta.uid, true, "RoutesNotReadable",
                                       "is ignored as long as HTTPRoutes cannot be listed: they may be forbidden to "
                                       "this gateway, or not installed"});
    }
    GatewayState state{&gateway, {}};
    for (const Listener& listener : gateway.spec.listeners) state.listeners.push_back(judge(listener));
    mark_conflicts(state.listeners);
    gateways_.emplace(std::pair(gateway.meta.ns, gateway.meta.name), std::move(state));
  });
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
  const bool all_good = good == static_cast<ptrdiff_t>(state.listeners.size());
  const bool programmed = good > 0 && !address.empty();
  WantedStatus wanted{Kind::gateway, &meta, &state.gateway->status, {}};
  auto& conditions = wanted.status.conditions;
  conditions.push_back(condition("Accepted", good > 0, all_good ? "Accepted" : "ListenersNotValid",
                                 all_good ? "every listener is in use" : "some listeners cannot be used", meta));
  conditions.push_back(condition("Programmed", programmed,
                                 programmed        ? "Programmed"
                                 : address.empty() ? "AddressNotAssigned"
                                                   : "Invalid",
                                 programmed        ? "takes requests"
                                 : address.empty() ? "the gateway has no address yet"
                                                   : "no listener can be used",
                                 meta));
  if (!address.empty()) wanted.status.addresses.push_back(address);
  for (const ListenerState& listener : state.listeners) {
    report(meta, listener, policy);
    wanted.status.listeners.push_back(
        {listener.spec->name, listener.attached, listener.kinds, conditions_of(listener, meta, programmed)});
  }
  policy.statuses.push_back(std::move(wanted));
}

}  // namespace penstock::objects
