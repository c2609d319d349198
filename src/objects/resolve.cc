#include "penstock/objects/resolve.h"

#include <algorithm>
#include <map>
#include <set>

#include "endpoints_of.h"
#include "penstock/base/assert.h"
#include "policy.h"

namespace penstock::objects {
namespace {

bool label_text(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-' || c == '_' ||
           c == '.' || c == '/';
  });
}

// One pool with what its endpoints are made from.
struct PoolState {
  PoolDefinition definition;
  std::unique_ptr<PodSelection> pods;  // of a selector; null for a Service
  std::set<std::string> pod_names;     // of a Service: whose pods matter
  std::shared_ptr<const Rewrites> rewrites;
  std::shared_ptr<const Objectives> objectives;
  std::shared_ptr<const BackendTls> tls;
  std::shared_ptr<const Pool> published;
  std::vector<Notice> notices;  // about its endpoints
  bool dirty = true;
};

}  // namespace

Result<Labels> parse_selector(std::string_view text) {
  Labels out;
  while (!text.empty()) {
    const std::string_view part = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), part.size() + 1));
    const size_t equals = part.find('=');
    if (equals == std::string_view::npos || equals == 0 || part[equals - 1] == '!') {
      return Message{"\"" + std::string(part) + "\" is not label=value"};
    }
    const std::string_view key = part.substr(0, equals);
    const std::string_view value = part.substr(part.substr(equals).starts_with("==") ? equals + 2 : equals + 1);
    if (!label_text(key) || !label_text(value)) return Message{"\"" + std::string(part) + "\" is not label=value"};
    if (find_label(out, key) != nullptr) return Message{"the label " + std::string(key) + " is given twice"};
    out.emplace_back(key, value);
    std::sort(out.begin(), out.end());
  }
  if (out.empty()) return Message{"is empty; expected label=value,..."};
  return out;
}

struct Resolver::State {
  State(Store& s, ResolveOptions o) : store(s), options(std::move(o)) {}

  Store& store;
  ResolveOptions options;
  Desired desired;
  bool everything = true;  // nothing is known yet, or too much changed
  std::map<PoolId, PoolState> pools;
  std::vector<Notice> policy_notices;
  std::string routes_text;  // to tell whether they changed
  StatusWriter writer;
  using Name = std::pair<std::string, std::string>;
  std::map<Name, std::string> slice_service;     // slice -> its Service
  std::map<Name, std::set<std::string>> slices;  // Service -> its slices

  const Desired& update(int64_t now_seconds) {
    const Store::Changes changes = store.take_changes();
    bool policy = false, statuses = false;
    if (everything || changes.everything) {
      start_over();
      policy = true;
    } else {
      for (const Store::Changed& changed : changes.list) take(changed, policy, statuses);
    }
    everything = false;
    if (policy || statuses) apply_policy(now_seconds);
    if (refresh_pools() || policy) gather_notices();
    return desired;
  }

  void start_over() {
    pools.clear();
    slice_service.clear();
    slices.clear();
    store.each<EndpointSlice>(Kind::endpoint_slice,
                              [&](const auto& slice) { index_slice(slice->meta.ns, slice->meta.name); });
  }

  void take(const Store::Changed& changed, bool& policy, bool& statuses) {
    switch (changed.kind) {
      case Kind::pod:
        return pod_changed(changed.ns, changed.name);
      case Kind::endpoint_slice:
        return index_slice(changed.ns, changed.name);
      case Kind::service:
        service_changed(changed.ns, changed.name);
        break;
      default:
        break;
    }
    if (changed.change == Store::Change::status) statuses = true;
    else policy = true;
  }

  // ---- endpoints ----

  template <typename Visit>
  void each_pool_in(const std::string& ns, Visit&& visit) {
    for (auto& [id, pool] : pools) {
      if (id.ns == ns) visit(pool);
    }
  }

  void pod_changed(const std::string& ns, const std::string& name) {
    const auto pod = store.get<Pod>(Kind::pod, ns, name);
    each_pool_in(ns, [&](PoolState& pool) {
      if (pool.pods != nullptr) pool.dirty |= pool.pods->update(name, pod);
      else pool.dirty |= pool.pod_names.contains(name);
    });
  }

  void service_changed(const std::string& ns, const std::string& service) {
    each_pool_in(ns, [&](PoolState& pool) {
      if (pool.definition.service && pool.definition.service->name == service) pool.dirty = true;
    });
  }

  void index_slice(const std::string& ns, const std::string& name) {
    const auto slice = store.get<EndpointSlice>(Kind::endpoint_slice, ns, name);
    const std::string* const service =
        slice == nullptr ? nullptr : find_label(slice->meta.labels, annotation::service_name_label);
    const auto known = slice_service.find({ns, name});
    if (known != slice_service.end()) {
      service_changed(ns, known->second);
      if (service == nullptr || *service != known->second) {
        slices[{ns, known->second}].erase(name);
        slice_service.erase(known);
      }
    }
    if (service == nullptr) return;
    slice_service[{ns, name}] = *service;
    slices[{ns, *service}].insert(name);
    service_changed(ns, *service);
  }

  Endpoints service_endpoints(const PoolState& pool) const {
    const ServicePool& service = *pool.definition.service;
    std::vector<std::shared_ptr<const EndpointSlice>> list;
    if (const auto found = slices.find({service.ns, service.name}); found != slices.end()) {
      for (const std::string& name : found->second) {
        list.push_back(store.get<EndpointSlice>(Kind::endpoint_slice, service.ns, name));
      }
    }
    static const Endpoints none;
    return endpoints_of_service(store, service, list, options.prefer_ipv6,
                                pool.published == nullptr ? none : pool.published->endpoints);
  }

  bool refresh_pools() {
    bool any = false;
    for (auto& [id, pool] : pools) {
      if (!pool.dirty) continue;
      pool.dirty = false;
      any = true;
      publish(pool);
    }
    if (any) list_pools();
    return any;
  }

  void publish(PoolState& state) {
    auto pool = std::make_shared<Pool>();
    pool->id = state.definition.id;
    if (state.definition.id.source == Source::inference_pool) pool->uid = state.definition.uid;
    pool->app_protocol = state.definition.app_protocol;
    if (state.pods != nullptr) pool->selector = state.definition.selector;
    pool->endpoints = state.pods != nullptr ? state.pods->endpoints() : service_endpoints(state);
    pool->ready = static_cast<size_t>(std::count_if(pool->endpoints.begin(), pool->endpoints.end(),
                                                    [](const auto& e) { return e->readiness == Readiness::ready; }));
    pool->rewrites = state.rewrites;
    pool->objectives = state.objectives;
    pool->tls = state.tls;
    if (state.pods == nullptr) {
      state.pod_names.clear();
      for (const auto& endpoint : pool->endpoints) state.pod_names.insert(endpoint->pod_name);
      // Also of those that were left out: they may come back.
      add_slice_pods(state);
    }
    find_notices(state, *pool);
    state.published = std::move(pool);
  }

  void add_slice_pods(PoolState& state) const {
    const ServicePool& service = *state.definition.service;
    const auto found = slices.find({service.ns, service.name});
    if (found == slices.end()) return;
    for (const std::string& name : found->second) {
      const auto slice = store.get<EndpointSlice>(Kind::endpoint_slice, service.ns, name);
      for (const SliceEndpoint& endpoint : slice->endpoints) state.pod_names.insert(endpoint.target_name);
    }
  }

  // An appProtocol that we do not speak, of the pool or of its endpoints; null: there is none.
  static const std::string* unspoken_of(const Pool& pool) {
    const auto unspoken = [&](const std::string& protocol) {
      return !speaks(protocol) && !(pool.tls != nullptr && protocol == "https");
    };
    if (unspoken(pool.app_protocol)) return &pool.app_protocol;
    const auto found = std::find_if(pool.endpoints.begin(), pool.endpoints.end(),
                                    [&](const auto& e) { return unspoken(e->app_protocol); });
    return found == pool.endpoints.end() ? nullptr : &(*found)->app_protocol;
  }

  static void find_notices(PoolState& state, const Pool& pool) {
    const PoolDefinition& d = state.definition;
    state.notices.clear();
    const auto add = [&](std::string reason, std::string message) {
      state.notices.push_back({d.kind, d.id.ns, d.id.name, d.uid, true, std::move(reason), std::move(message)});
    };
    if (state.pods != nullptr && state.pods->selected() == 0) {
      std::string selector;
      for (const auto& [key, value] : d.selector) selector += (selector.empty() ? "" : ",") + key + '=' + value;
      add("NoMatchingPods", "no pod in " + d.id.ns + " has the labels " + selector);
    } else if (pool.endpoints.empty()) {
      add("NoEndpoints", state.pods == nullptr ? "the Service " + d.service->name + " has no endpoint with this port"
                                               : "no selected pod has an address and an active port");
    }
    if (const std::string* const protocol = unspoken_of(pool)) add("UnsupportedProtocol", unspoken(*protocol));
    if (state.pods != nullptr && state.pods->ambiguous()) {
      add("SharedAddress", "several pods say that they have one address; the ready or younger one is used");
    }
  }

  void list_pools() {
    desired.pools.clear();
    for (const auto& [id, pool] : pools) desired.pools.push_back(pool.published);
    ++desired.pools_revision;
  }

  // ---- policy ----

  void apply_policy(int64_t now_seconds) {
    const View view(store, options);
    Policy policy = find_policy(view);
    take_pools(policy);
    std::string text = policy.routes->describe();
    if (desired.routes == nullptr || text != routes_text) {
      desired.routes = policy.routes;
      routes_text = std::move(text);
      ++desired.routes_revision;
    }
    policy_notices = std::move(policy.notices);
    if (policy.certificates != desired.certificates || desired.certificates_revision == 0) {
      desired.certificates = std::move(policy.certificates);
      ++desired.certificates_revision;
    }
    std::vector<StatusWrite> statuses = writer.write(std::move(policy.statuses), view, now_seconds);
    const auto same = [](const StatusWrite& a, const StatusWrite& b) {
      return a.path == b.path && a.body == b.body && a.needed == b.needed && (!a.needed || a.version == b.version);
    };
    if (desired.statuses_revision == 0 ||
        !std::equal(statuses.begin(), statuses.end(), desired.statuses.begin(), desired.statuses.end(), same)) {
      desired.statuses = std::move(statuses);
      ++desired.statuses_revision;
    }
  }

  void take_pools(Policy& policy) {
    static const auto no_rewrites = std::make_shared<const Rewrites>();
    static const auto no_objectives =
        std::make_shared<const Objectives>(std::vector<std::pair<std::string, int32_t>>());
    const size_t before = pools.size();
    std::erase_if(pools, [&](const auto& entry) { return !policy.pools.contains(entry.first); });
    const bool fewer = pools.size() != before || desired.pools_revision == 0;
    for (auto& [id, definition] : policy.pools) {
      const auto [at, added] = pools.try_emplace(id);
      PoolState& pool = at->second;
      if (added || !(pool.definition == definition)) define(pool, std::move(definition));
      const auto rewrites = policy.rewrites.find(id);
      const auto objectives = policy.objectives.find(id);
      adopt(pool, pool.rewrites, rewrites == policy.rewrites.end() ? no_rewrites : rewrites->second);
      adopt(pool, pool.objectives, objectives == policy.objectives.end() ? no_objectives : objectives->second);
      const auto tls = policy.tls.find(id);
      adopt(pool, pool.tls, tls == policy.tls.end() ? std::shared_ptr<const BackendTls>() : tls->second);
    }
    if (fewer && std::none_of(pools.begin(), pools.end(), [](const auto& p) { return p.second.dirty; })) list_pools();
  }

  // Takes the new one only if it says something else: an unchanged part keeps its pointer.
  template <typename T>
  static void adopt(PoolState& pool, std::shared_ptr<const T>& have, const std::shared_ptr<const T>& now) {
    if (have == now || (have != nullptr && now != nullptr && *have == *now)) return;
    have = now;
    pool.dirty = true;
  }

  void define(PoolState& pool, PoolDefinition definition) {
    pool.definition = std::move(definition);
    pool.dirty = true;
    pool.pods.reset();
    const PoolDefinition& d = pool.definition;
    if (d.service) return;
    pool.pods = std::make_unique<PodSelection>(d.selector, d.ports, d.app_protocol);
    store.each_in<Pod>(Kind::pod, d.id.ns, [&](const auto& pod) { pool.pods->update(pod->meta.name, pod); });
  }

  void gather_notices() {
    std::vector<Notice> all = policy_notices;
    for (const auto& [id, pool] : pools) all.insert(all.end(), pool.notices.begin(), pool.notices.end());
    std::sort(all.begin(), all.end());
    if (all == desired.notices && desired.notices_revision != 0) return;
    desired.notices = std::move(all);
    ++desired.notices_revision;
  }
};

Resolver::Resolver(Store& store, ResolveOptions options) : state_(std::make_unique<State>(store, std::move(options))) {}
Resolver::~Resolver() = default;

void Resolver::set_options(ResolveOptions options) {
  if (state_->options == options) return;
  state_->options = std::move(options);
  state_->everything = true;
}

const Desired& Resolver::update(int64_t now_seconds) {
  return state_->update(now_seconds);
}

const Desired& Resolver::desired() const {
  return state_->desired;
}

}  // namespace penstock::objects
