// The Gateways that are ours, their listeners, and which route each listener lets in.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "listener_map.h"
#include "policy.h"
#include "route_filters.h"

namespace penstock::objects {

struct ListenerState {
  const Gateway* gateway;
  const Listener* spec;
  std::string host;          // in lower case
  size_t table = 0;          // of routes, in the ListenerMap
  std::string refused, why;  // reason and message when it takes no traffic; "" when it does
  bool conflicted = false;
  std::vector<std::string> kinds;  // "group/kind" of the routes that it takes
  bool other_kinds = false;        // asks for kinds that we do not know
  Finding unresolved;              // a certificateRef
  std::vector<GatewayCertificate> certificates;
  int32_t attached = 0;
};
struct GatewayState {
  const Gateway* gateway;
  std::vector<ListenerState> listeners;
};

// Where a route attaches with one of its parentRefs.
struct Attachment {
  std::vector<ListenerState*> listeners;  // empty: refused
  std::string reason, message;            // of a refusal
};

class Gateways {
 public:
  // Finds them, and wants the statuses of GatewayClasses.
  Gateways(const View& view, Policy& policy);
  bool any() const { return !gateways_.empty(); }
  const ListenerMap& map() const { return map_; }
  // Several listeners have the same hostname and a table in common: what they take is not apart here.
  bool merged() const { return merged_; }
  bool has_default() const { return has_default_; }  // one has a defaultScope
  GatewayState* find(const std::string& ns, const std::string& name);
  Attachment attach(GatewayState& gateway, const HttpRoute& route, const ParentRef& parent) const;
  // When all routes are attached.
  void want_statuses(Policy& policy) const;

 private:
  void place_listeners(Policy& policy);
  bool lets_in(const Listener& listener, const Gateway& gateway, const HttpRoute& route) const;
  void want_status(const GatewayState& state, Policy& policy) const;
  const View& view_;
  bool has_default_ = false, merged_ = false;
  ListenerMap map_;
  std::map<std::pair<std::string, std::string>, GatewayState> gateways_;
};

std::string lower_case(std::string text);
// Where a listener's and a route's hostname overlap ("" is every host): the narrower of the two, or nothing.
std::optional<std::string> intersection(const std::string& listener, const std::string& route);
// Of all the route's hostnames; those of the listener when the route has none.
std::vector<std::string> intersections(const std::string& listener, const std::vector<std::string>& route);

}  // namespace penstock::objects
