#include "watch_plan.h"

#include <algorithm>

namespace penstock::discovery {

using objects::Kind;

namespace {

std::string text_of(const objects::Labels& selector) {
  std::string out;
  for (const auto& [key, value] : selector) out.append(out.empty() ? "" : ",").append(key).append("=").append(value);
  return out;
}

void add(std::vector<PlannedWatch>& plan, PlannedWatch watch) {
  if (std::find(plan.begin(), plan.end(), watch) == plan.end()) plan.push_back(std::move(watch));
}

void add_everywhere(std::vector<PlannedWatch>& plan, const ClusterOptions& options, Kind kind, bool essential) {
  if (!objects::api_of(kind).namespaced || options.resolve.namespaces.empty()) {
    return add(plan, {.kind = kind, .essential = essential});
  }
  for (const std::string& ns : options.resolve.namespaces) {
    add(plan, {.kind = kind, .ns = ns, .essential = essential});
  }
}

bool names_service(const objects::InferencePool& pool) {
  return objects::find_label(pool.meta.annotations, objects::annotation::pool_service) != nullptr;
}

bool ours(const ClusterOptions& options, const objects::Store& store, const objects::Gateway& gateway) {
  const auto found = store.get<objects::GatewayClass>(Kind::gateway_class, "", gateway.spec.class_name);
  return found != nullptr && found->spec.controller == options.resolve.controller;
}

// Through a Gateway of ours. Routes of other gateways in the cluster are none of our business.
bool reaches_service(const ClusterOptions& options, const objects::Store& store, const objects::HttpRoute& route) {
  const auto& parents = route.spec.parents;
  const bool attached = std::any_of(parents.begin(), parents.end(), [&](const objects::ParentRef& parent) {
    const std::string& ns = parent.ns.empty() ? route.meta.ns : parent.ns;
    const auto gateway = store.get<objects::Gateway>(Kind::gateway, ns, parent.name);
    return gateway != nullptr && ours(options, store, *gateway);
  });
  if (!attached) return false;
  for (const objects::RouteRule& rule : route.spec.rules) {
    for (const objects::BackendRef& backend : rule.backends) {
      if (backend.kind == "Service") return true;
    }
  }
  return false;
}

// The only InferencePool that can be served. Without it there is no pod to watch for.
void add_pods_of_one(std::vector<PlannedWatch>& plan, const ClusterOptions& options, const objects::Store& store) {
  const objects::PoolName& name = options.resolve.pools.front();
  for (const Kind kind : {Kind::inference_pool, Kind::inference_pool_legacy}) {
    const auto pool = store.get<objects::InferencePool>(kind, name.ns, name.name);
    if (pool == nullptr || !store.in_force(kind)) continue;
    return add(plan, {.kind = Kind::pod, .ns = name.ns, .selector = text_of(pool->spec.selector), .essential = true});
  }
}

void add_pods(std::vector<PlannedWatch>& plan, const ClusterOptions& options, const objects::Store& store,
              bool services) {
  const objects::ResolveOptions& resolve = options.resolve;
  const bool only_selectors = !options.resolve.inference_pools && !services;
  const bool one_pool =
      options.resolve.inference_pools && !services && resolve.pools.size() == 1 && resolve.selector_pools.empty();
  if (one_pool) return add_pods_of_one(plan, options, store);
  if (!only_selectors) return add_everywhere(plan, options, Kind::pod, /*essential=*/true);
  for (const objects::SelectorPool& pool : resolve.selector_pools) {
    add(plan, {.kind = Kind::pod, .ns = pool.ns, .selector = text_of(pool.selector), .essential = true});
  }
}

// By their names: the permission to read these is enough then. A watch each, so that many are watched together.
void add_named(std::vector<PlannedWatch>& plan, const ClusterOptions& options, Kind kind,
               const std::vector<objects::ObjectName>& names) {
  constexpr size_t alone_max = 32;
  if (names.size() > alone_max) return add_everywhere(plan, options, kind, /*essential=*/false);
  for (const auto& [ns, name] : names) add(plan, {.kind = kind, .ns = ns, .name = name});
}

}  // namespace

std::string name_of(const PlannedWatch& watch) {
  const objects::ApiResource& api = objects::api_of(watch.kind);
  std::string out(api.resource);
  if (!api.group.empty()) out.append(".").append(api.group);
  if (!watch.ns.empty()) out += " in " + watch.ns;
  if (!watch.selector.empty()) out += " with " + watch.selector;
  if (!watch.name.empty()) out += " named " + watch.name;
  return out;
}

bool services_wanted(const ClusterOptions& options, const objects::Store& store) {
  if (!options.resolve.service_pools.empty()) return true;
  bool wanted = false;
  for (const Kind kind : {Kind::inference_pool, Kind::inference_pool_legacy}) {
    store.each<objects::InferencePool>(kind, [&](const auto& pool) { wanted |= names_service(*pool); });
  }
  store.each<objects::HttpRoute>(Kind::http_route,
                                 [&](const auto& route) { wanted |= reaches_service(options, store, *route); });
  return wanted;
}

bool has_gateway(const ClusterOptions& options, const objects::Store& store) {
  bool found = false;
  store.each<objects::Gateway>(Kind::gateway, [&](const auto& gateway) { found |= ours(options, store, *gateway); });
  return found;
}

std::vector<PlannedWatch> plan_watches(const ClusterOptions& options, const objects::Store& store, bool services) {
  std::vector<PlannedWatch> plan;
  if (options.resolve.inference_pools) {
    add_everywhere(plan, options, Kind::inference_pool, /*essential=*/true);
    add_everywhere(plan, options, Kind::inference_pool_legacy, /*essential=*/false);
  }
  for (const Kind kind : {Kind::model_rewrite, Kind::model_rewrite_legacy, Kind::objective, Kind::objective_legacy}) {
    add_everywhere(plan, options, kind, /*essential=*/false);
  }
  if (options.gateway_api) {
    for (const Kind kind : {Kind::gateway_class, Kind::gateway, Kind::http_route, Kind::reference_grant,
                            Kind::name_space, Kind::backend_tls_policy}) {
      add_everywhere(plan, options, kind, /*essential=*/false);
    }
    add_named(plan, options, Kind::secret, objects::referenced_secrets(store, options.resolve));
    add_named(plan, options, Kind::config_map, objects::referenced_config_maps(store, options.resolve));
  }
  if (services) {
    // Without the right to list them, pools that do not need them still work.
    add_everywhere(plan, options, Kind::endpoint_slice, /*essential=*/!options.resolve.service_pools.empty());
    add_everywhere(plan, options, Kind::service, /*essential=*/false);
  }
  add_pods(plan, options, store, services);
  return plan;
}

}  // namespace penstock::discovery
