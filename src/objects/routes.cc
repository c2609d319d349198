// HTTPRoutes: where they attach, what they match, and which pools they lead to.
#include <algorithm>
#include <tuple>

#include "gateways.h"
#include "route_builder.h"
#include "route_filters.h"
#include "shadows.h"

namespace penstock::objects {
namespace {

constexpr std::string_view gateway_group = "gateway.networking.k8s.io";
constexpr std::string_view inference_group = "inference.networking.k8s.io";
constexpr std::string_view inference_group_legacy = "inference.networking.x-k8s.io";

// A route compiled without regard to where it attaches.
struct CompiledRoute {
  struct Rule {
    uint32_t route;
    size_t index;  // in the HTTPRoute
    std::vector<std::pair<size_t, std::shared_ptr<const CompiledMatch>>> matches;
  };
  std::vector<Rule> rules;
  Finding unresolved;   // a backend reference
  Finding unsupported;  // a filter or a match
  bool any_supported = false;
  std::vector<Finding> problems;  // all of them, each once
  std::string ignored;            // fields that mean nothing here, for people
  std::vector<PoolId> pools;      // that it names
};

class RouteFinder {
  struct Place {
    size_t table;
    std::string listener_host, host;
    auto operator<=>(const Place&) const = default;
  };
  struct Placed {
    int32_t port;  // of the listener; 0: not known
    bool tls;
    CameBy came_by;
  };

 public:
  RouteFinder(const View& view, Policy& policy) : view_(view), policy_(policy), gateways_(view, policy) {}

  std::map<PoolId, std::vector<PoolParent>> find(std::vector<ModelClaim> claims) {
    view_.each<HttpRoute>(Kind::http_route, std::nullopt, [&](Kind, const HttpRoute& route) { add(route); });
    gateways_.want_statuses(policy_);
    if (gateways_.merged()) report_shadows(view_, routes_, entries_, came_by_, policy_);
    if (gateways_.any() || implicit_) {
      policy_.routes =
          std::make_shared<const RouteTable>(RoutingMode::routes, std::move(pools_),
                                             compile_routes(std::move(routes_), std::move(entries_), gateways_.map()));
    } else {
      policy_.routes = without_routes(std::move(claims));
    }
    return std::move(parents_);
  }

 private:
  // ---- backends ----

  int32_t pool_index(const PoolId& id) {
    const auto [at, added] = indices_.try_emplace(id, static_cast<int32_t>(pools_.size()));
    if (added) pools_.push_back(id);
    return at->second;
  }

  // Index of the backend's pool, or -1; in `finding` what stands against it.
  int32_t resolve(const HttpRoute& route, const BackendRef& backend, CompiledRoute& out, Finding& finding) {
    const std::string& ns = backend.ns.empty() ? route.meta.ns : backend.ns;
    const std::string what = backend.kind + ' ' + ns + '/' + backend.name;
    const bool is_pool = backend.kind == "InferencePool" &&
                         (backend.group == inference_group || backend.group == inference_group_legacy);
    const bool is_service = backend.kind == "Service" && (backend.group.empty() || backend.group == "core");
    if (!is_pool && !is_service) {
      finding.note("InvalidKind", "the kind " + backend.kind + " of group \"" + backend.group +
                                      "\" is not supported; expected InferencePool or Service");
      return -1;
    }
    const ReferredObject to{is_service ? std::string_view() : backend.group, backend.kind, ns, backend.name};
    if (!granted(view_.store(), "HTTPRoute", route.meta.ns, to)) {
      finding.note("RefNotPermitted", "no ReferenceGrant in " + ns + " allows the reference to " + what);
      return -1;
    }
    return is_pool ? resolve_pool(ns, backend, what, out, finding) : resolve_service(ns, backend, what, out, finding);
  }

  int32_t named(const PoolId& id, CompiledRoute& out) {
    if (std::find(out.pools.begin(), out.pools.end(), id) == out.pools.end()) out.pools.push_back(id);
    return pool_index(id);
  }

  int32_t resolve_pool(const std::string& ns, const BackendRef& backend, const std::string& what, CompiledRoute& out,
                       Finding& finding) {
    const PoolId id{Source::inference_pool, ns, backend.name, ""};
    if (!policy_.pools.contains(id)) {
      // The reference is good, whoever is asked: a gateway that serves the pool says so, too.
      if (pool_exists(view_, ns, backend.name)) {
        note_problem(out, {"BackendNotServed", what + " is not served here: requests for it are answered with 500"});
      } else {
        finding.note("BackendNotFound", what + " does not exist or is not served here");
      }
      return -1;
    }
    return named(id, out);
  }

  int32_t resolve_service(const std::string& ns, const BackendRef& backend, const std::string& what, CompiledRoute& out,
                          Finding& finding) {
    const auto service = view_.store().get<Service>(Kind::service, ns, backend.name);
    // An ExternalName could lead anywhere.
    if (service == nullptr || service->type == "ExternalName") {
      finding.note("BackendNotFound", service == nullptr ? what + " does not exist" : what + " is an ExternalName");
      return -1;
    }
    const auto& ports = service->ports;
    const auto found =
        std::find_if(ports.begin(), ports.end(), [&](const ServicePort& p) { return p.port == backend.port; });
    if (found == ports.end()) {
      finding.note("BackendNotFound", backend.port == 0 ? "the reference to " + what + " has no port"
                                                        : what + " has no port " + std::to_string(backend.port));
      return -1;
    }
    const bool tls = found->app_protocol == "https" && has_backend_tls(view_, ns, backend.name);
    if (!tls && !speaks(found->app_protocol))
      finding.note("UnsupportedProtocol", what + ": " + unspoken(found->app_protocol));
    const std::string port = std::to_string(backend.port);
    const PoolId id{Source::service, ns, backend.name, port};
    policy_.pools.try_emplace(
        id, PoolDefinition{id, Kind::service, service->meta.uid, {}, {}, "http", ServicePool{ns, backend.name, port}});
    return named(id, out);
  }

  // ---- rules ----

  // A filter must not be skipped: requests that it was meant for are refused instead.
  void add_rule(const HttpRoute& route, const RouteRule& rule, size_t index, CompiledRoute& out) {
    Route compiled;
    compiled.name = route.meta.ns + '/' + route.meta.name + '[' + std::to_string(index) + ']';
    compiled.timeout = rule.timeout;
    compiled.backend_timeout = rule.backend_timeout;
    if (rule.retries) compiled.retries = static_cast<uint32_t>(*rule.retries);
    Finding bad_filter, bad_backend, bad_match;
    compiled.filters = compile_filters(rule.filters, rule, bad_filter);
    if (compiled.filters.redirect && !rule.backends.empty()) {
      bad_filter.note("IncompatibleFilters", "a RequestRedirect stands beside backendRefs");
    }
    for (const BackendRef& backend : rule.backends) add_backend(route, rule, backend, compiled, out, bad_backend);
    note_extensions(rule, index, out);
    if (bad_filter.found()) compiled = Route{.name = std::move(compiled.name)};  // without backends: an error
    CompiledRoute::Rule result{static_cast<uint32_t>(routes_.size()), index, compile_matches(rule, bad_match)};
    out.any_supported |= !bad_filter.found() && !bad_match.found();
    const Finding& unsupported = bad_filter.found() ? bad_filter : bad_backend.found() ? bad_backend : bad_match;
    if (unsupported.found()) {
      note(out, out.unsupported, {unsupported.reason, "rule " + std::to_string(index) + ": " + unsupported.message});
    }
    for (const std::string& field : rule.ignored) {
      out.ignored.append(out.ignored.empty() ? "" : ", ").append("rules[" + std::to_string(index) + "]." + field);
    }
    routes_.push_back(std::move(compiled));
    out.rules.push_back(std::move(result));
  }

  void add_backend(const HttpRoute& route, const RouteRule& rule, const BackendRef& ref, Route& compiled,
                   CompiledRoute& out, Finding& unsupported) {
    Finding unresolved, bad_filter;
    RouteBackend backend{resolve(route, ref, out, unresolved), static_cast<uint32_t>(ref.weight)};
    if (unresolved.found()) note(out, out.unresolved, std::move(unresolved));
    backend.filters = compile_filters(ref.filters, rule, bad_filter);
    if (bad_filter.found()) {
      backend = {-1, backend.weight};
      unsupported.note(bad_filter.reason, "backend " + ref.name + ": " + bad_filter.message);
    } else if (auto& changes = backend.filters.response_headers; !changes.empty()) {
      const auto& before = compiled.filters.response_headers;
      changes.insert(changes.begin(), before.begin(), before.end());
    }
    if (backend.weight == 0) return;
    compiled.total_weight += backend.weight;
    compiled.backends.push_back(std::move(backend));
  }

  // `first`: what the route's condition says.
  static void note(CompiledRoute& out, Finding& first, Finding problem) {
    first.note(problem.reason, problem.message);
    note_problem(out, std::move(problem));
  }
  static void note_problem(CompiledRoute& out, Finding problem) {
    const auto same = [&](const Finding& known) { return known.message == problem.message; };
    if (std::none_of(out.problems.begin(), out.problems.end(), same)) out.problems.push_back(std::move(problem));
  }

  // What an ExtensionRef names is of no kind that is known here.
  static void note_extensions(const RouteRule& rule, size_t index, CompiledRoute& out) {
    const auto check = [&](const std::vector<RouteFilter>& filters) {
      if (std::none_of(filters.begin(), filters.end(), [](const auto& f) { return f.type == "ExtensionRef"; })) return;
      note(out, out.unresolved,
           {"InvalidKind", "rule " + std::to_string(index) + ": no kind is supported in an ExtensionRef"});
    };
    check(rule.filters);
    for (const BackendRef& backend : rule.backends) check(backend.filters);
  }

  static std::vector<std::pair<size_t, std::shared_ptr<const CompiledMatch>>> compile_matches(const RouteRule& rule,
                                                                                              Finding& unsupported) {
    std::vector<std::pair<size_t, std::shared_ptr<const CompiledMatch>>> out;
    const std::vector<RouteMatch> everything{RouteMatch()};
    const auto& matches = rule.matches.empty() ? everything : rule.matches;
    for (size_t i = 0; i < matches.size(); ++i) {
      Result<CompiledMatch> match = compile_match(matches[i]);
      if (match) out.emplace_back(i, std::make_shared<const CompiledMatch>(std::move(match).value()));
      else unsupported.note("UnsupportedValue", match.error().text);
    }
    return out;
  }

  CompiledRoute compile(const HttpRoute& route) {
    CompiledRoute out;
    const std::vector<RouteRule> everything{RouteRule()};
    const auto& rules = route.spec.rules.empty() ? everything : route.spec.rules;
    for (size_t i = 0; i < rules.size(); ++i) add_rule(route, rules[i], i, out);
    return out;
  }

  // ---- attachment ----

  // Of several listeners with the same table and host nobody can tell which one a request came to.
  void place(const HttpRoute& route, const ListenerState& listener) {
    const int32_t port = listener.spec->port;
    const bool tls = listener.spec->protocol == "HTTPS";
    for (const std::string& host : intersections(listener.host, route.spec.hostnames)) {
      Placed& placed = placed_.try_emplace({listener.table, listener.host, host}, Placed{port, tls, {}}).first->second;
      if (placed.port != port) placed.port = 0;
      placed.came_by.push_back(&listener);
    }
  }

  void add_entries(const HttpRoute& route, const CompiledRoute& compiled) {
    for (const auto& [place, placed] : placed_) {
      for (const CompiledRoute::Rule& rule : compiled.rules) {
        const uint32_t compiled_route = with_port(rule.route, placed.port, placed.tls);
        for (const auto& [index, match] : rule.matches) {
          entries_.push_back({place.table, place.listener_host, place.host, match, compiled_route, route.meta.created,
                              route.meta.ns, route.meta.name, rule.index, index});
          if (gateways_.merged()) came_by_.push_back(placed.came_by);
        }
      }
    }
  }

  // A redirect that names no scheme stays with that of the listener; if it names no port either, it leads to the port
  // of the listener, and where that is not known, to the port that the request names.
  uint32_t with_port(uint32_t index, int32_t port, bool tls) {
    const auto open = [&](const RouteFilters& filters) {
      return filters.redirect && filters.redirect->scheme.empty() && (tls || filters.redirect->port == 0);
    };
    const auto open_backend = [&](const RouteBackend& backend) { return open(backend.filters); };
    const auto& backends = routes_[index].backends;
    const bool any = open(routes_[index].filters) || std::any_of(backends.begin(), backends.end(), open_backend);
    if ((port == 0 && !tls) || !any) return index;
    const auto [at, added] = with_port_.try_emplace({index, port, tls}, static_cast<uint32_t>(routes_.size()));
    if (!added) return at->second;
    Route& copy = routes_.emplace_back(Route(routes_[index]));
    const auto close = [&](RouteFilters& filters) {
      if (!open(filters)) return;
      Redirect& redirect = *filters.redirect;
      if (redirect.port == 0) redirect.port = static_cast<uint16_t>(port);
      if (tls) redirect.secure = true;
    };
    close(copy.filters);
    for (RouteBackend& backend : copy.backends) close(backend.filters);
    return at->second;
  }

  void add(const HttpRoute& route) {
    std::optional<CompiledRoute> compiled;
    placed_.clear();
    counted_.clear();
    WantedStatus wanted{Kind::http_route, &route.meta, &route.status, {}};
    const auto compiled_once = [&]() -> const CompiledRoute& {
      if (!compiled) compiled = compile(route);
      return *compiled;
    };
    for (const ParentRef& parent : route.spec.parents) {
      if (parent.group != gateway_group || parent.kind != "Gateway") continue;
      const std::string& ns = parent.ns.empty() ? route.meta.ns : parent.ns;
      if (GatewayState* const gateway = gateways_.find(ns, parent.name)) {
        attach(route, parent, *gateway, compiled_once(), wanted);
      } else if (view_.options().implicit_gateway &&
                 view_.store().get<Gateway>(Kind::gateway, ns, parent.name) == nullptr) {
        add_implicit(route);
      } else {
        report_missing(route, ns, parent.name);
      }
    }
    if (route.spec.parents.empty() && view_.options().implicit_gateway) add_implicit(route);
    if (!placed_.empty()) add_entries(route, compiled_once());
    if (compiled) report(route, *compiled);
    if (route.spec.use_default && gateways_.has_default()) {
      report(route, "FieldIgnored", "has no effect here: useDefaultGateways");
    }
    policy_.statuses.push_back(std::move(wanted));
  }

  // By a Gateway that is not there: whichever listener a request comes to.
  void add_implicit(const HttpRoute& route) {
    implicit_ = true;
    for (size_t table = 0; table < gateways_.map().tables(); ++table) {
      for (const std::string& host : intersections("", route.spec.hostnames)) {
        placed_.try_emplace({table, "", host}, Placed{0, false, {}}).first->second.port = 0;
      }
    }
  }

  void attach(const HttpRoute& route, const ParentRef& parent, GatewayState& gateway, const CompiledRoute& compiled,
              WantedStatus& wanted) {
    Attachment attachment = gateways_.attach(gateway, route, parent);
    if (attachment.listeners.empty()) {
      report(route, attachment.reason, "not with " + name_of(*gateway.gateway) + ": " + attachment.message);
    } else if (!compiled.any_supported) {
      attachment.reason = compiled.unsupported.reason;
      attachment.message = compiled.unsupported.message;
    }
    // A route of which nothing is supported is not accepted; but what it matches must not go to another one, without
    // the filter that it was meant to pass.
    const bool accepted = !attachment.listeners.empty() && compiled.any_supported;
    for (ListenerState* const listener : attachment.listeners) {
      if (accepted && counted_.insert(listener).second) ++listener->attached;
      place(route, *listener);
    }
    const Finding& unresolved = compiled.unresolved;
    std::vector<Condition> conditions{
        condition("Accepted", accepted, accepted ? "Accepted" : attachment.reason,
                  accepted ? "the Gateway serves this route" : attachment.message, route.meta),
        condition("ResolvedRefs", !unresolved.found(), unresolved.found() ? unresolved.reason : "ResolvedRefs",
                  unresolved.found() ? unresolved.message : "every backend is known", route.meta)};
    if (accepted && compiled.unsupported.found()) {
      conditions.push_back(condition("PartiallyInvalid", true, compiled.unsupported.reason,
                                     "Dropped Rule: " + compiled.unsupported.message, route.meta));
    }
    wanted.status.parents.push_back({parent, view_.options().controller, std::move(conditions), ""});
    for (const PoolId& pool : compiled.pools) add_parent(pool, gateway.gateway->meta, accepted);
  }

  void add_parent(const PoolId& pool, const Meta& gateway, bool accepted) {
    ParentRef ref{.ns = gateway.ns, .name = gateway.name};
    auto& list = parents_[pool];
    const auto known = std::find_if(list.begin(), list.end(), [&](const PoolParent& p) { return p.gateway == ref; });
    if (known == list.end()) list.push_back({std::move(ref), accepted});
    else known->accepted |= accepted;
  }

  static std::string name_of(const Gateway& gateway) { return "Gateway " + gateway.meta.ns + '/' + gateway.meta.name; }

  void report(const HttpRoute& route, const std::string& reason, std::string message) {
    policy_.notices.push_back(
        {Kind::http_route, route.meta.ns, route.meta.name, route.meta.uid, true, reason, std::move(message)});
  }
  void report(const HttpRoute& route, const CompiledRoute& compiled) {
    for (const Finding& problem : compiled.problems) report(route, problem.reason, problem.message);
    if (!compiled.ignored.empty()) report(route, "FieldIgnored", "has no effect here: " + compiled.ignored);
  }
  // Nobody's Gateway; where none is ours, routes are none of our business.
  void report_missing(const HttpRoute& route, const std::string& ns, const std::string& name) {
    if (!gateways_.any() || !view_.in_scope(ns)) return;
    if (view_.store().get<Gateway>(Kind::gateway, ns, name) != nullptr) return;
    report(route, "GatewayNotFound", "there is no Gateway " + ns + '/' + name);
  }

  // ---- without a Gateway ----

  std::shared_ptr<const RouteTable> without_routes(std::vector<ModelClaim> claims) {
    std::vector<PoolId> pools;
    for (const auto& [id, pool] : policy_.pools) pools.push_back(id);
    const RoutingMode mode = pools.empty()       ? RoutingMode::nothing
                             : pools.size() == 1 ? RoutingMode::one_pool
                                                 : RoutingMode::by_model;
    auto compiled = std::make_shared<RouteTable::Compiled>();
    if (mode == RoutingMode::by_model) {
      const auto order = [](const ModelClaim& c) {
        return std::tie(c.model, c.is_target, c.created, c.ns, c.name, c.pool);
      };
      std::sort(claims.begin(), claims.end(), [&](const auto& a, const auto& b) { return order(a) < order(b); });
      for (const ModelClaim& claim : claims) {
        if (!compiled->models.empty() && compiled->models.back().first == claim.model) continue;
        const auto at = std::lower_bound(pools.begin(), pools.end(), claim.pool);
        compiled->models.emplace_back(claim.model, static_cast<int32_t>(at - pools.begin()));
      }
    }
    return std::make_shared<const RouteTable>(mode, std::move(pools), std::move(compiled));
  }

  const View& view_;
  Policy& policy_;
  Gateways gateways_;
  bool implicit_ = false;
  std::vector<Route> routes_;
  std::vector<RouteEntry> entries_;
  std::vector<PoolId> pools_;
  std::map<PoolId, int32_t> indices_;
  std::map<PoolId, std::vector<PoolParent>> parents_;
  std::map<std::tuple<uint32_t, int32_t, bool>, uint32_t> with_port_;  // copies of routes for a listener's port
  std::vector<CameBy> came_by_;                                        // of each entry, when Gateways are merged
  std::map<Place, Placed> placed_;                                     // of the route at hand
  std::set<const ListenerState*> counted_;                             // likewise
};

}  // namespace

std::map<PoolId, std::vector<PoolParent>> find_routes(const View& view, Policy& policy,
                                                      std::vector<ModelClaim> claims) {
  return RouteFinder(view, policy).find(std::move(claims));
}

}  // namespace penstock::objects
