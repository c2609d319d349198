#include "penstock/discovery/desired_pools.h"

#include <algorithm>
#include <map>

#include "penstock/base/text.h"

namespace penstock::discovery {
namespace {

std::shared_ptr<const EndpointSpec> spec_of(const objects::Endpoint& endpoint, const objects::BackendTls* tls,
                                            const PodEngines& engines) {
  auto spec = std::make_shared<EndpointSpec>();
  spec->name = endpoint.name;
  spec->url = (tls == nullptr ? "http://" : "https://") + authority_of(endpoint.ip, endpoint.port);
  if (tls != nullptr) {
    spec->tls_name = tls->hostname;
    spec->tls_trust = tls->policy;
  }
  spec->host = endpoint.ip;
  spec->port = endpoint.port;
  spec->rank = endpoint.rank;
  spec->engine = engine_of(*endpoint.labels, engines);
  spec->ns = endpoint.pod_ns;
  spec->uid = endpoint.pod_uid;
  spec->readiness = endpoint.readiness;
  spec->last_resort = endpoint.last_resort;
  spec->labels = endpoint.labels;
  return spec;
}

bool same_tls(const EndpointSpec& spec, const objects::BackendTls* tls) {
  if (tls == nullptr || !spec.tls_name) return tls == nullptr && !spec.tls_name;
  return *spec.tls_name == tls->hostname && spec.tls_trust == tls->policy;
}

// Where the route table's pools are in `pools`; one that is not there is added, empty.
std::vector<uint32_t> route_pools_of(const objects::RouteTable& routes, std::vector<PoolSpec>& pools) {
  std::vector<uint32_t> out;
  for (const objects::PoolId& id : routes.pools()) {
    auto at = std::find_if(pools.begin(), pools.end(), [&](const PoolSpec& pool) { return pool.id == id; });
    if (at == pools.end()) {
      pools.push_back(PoolSpec{.id = id, .name = {}, .endpoints = {}, .rewrites = {}, .objectives = {}});
      at = std::prev(pools.end());
    }
    out.push_back(static_cast<uint32_t>(at - pools.begin()));
  }
  return out;
}

const char* source_name(objects::Source source) {
  switch (source) {
    case objects::Source::inference_pool:
      return "pool";
    case objects::Source::selector:
      return "selector";
    case objects::Source::service:
      return "service";
  }
  return "";
}

// Gives every pool a name of its own, because metrics tell them apart by name alone: those whose name another one has
// too say their namespace, and where that does not help, what they are.
void name_pools(std::vector<PoolSpec>& pools) {
  std::map<std::string, size_t> plain, within;
  const auto longer = [](const PoolSpec& pool) { return pool.id.ns + '/' + pool.id.label(); };
  for (const PoolSpec& pool : pools) {
    ++plain[pool.id.label()];
    ++within[longer(pool)];
  }
  for (PoolSpec& pool : pools) {
    if (plain[pool.id.label()] == 1) pool.name = pool.id.label();
    else if (within[longer(pool)] == 1) pool.name = longer(pool);
    else pool.name = longer(pool) + " (" + source_name(pool.id.source) + ')';
  }
}

}  // namespace

const std::string& engine_of(const objects::Labels& labels, const PodEngines& known) {
  for (const std::string& label : known.labels) {
    const std::string* const name = objects::find_label(labels, label);
    if (name != nullptr && known.engines->contains(*name)) return *name;
  }
  return known.otherwise;
}

PoolsSpec DesiredPools::convert(const objects::Desired& desired) {
  PoolsSpec out;
  KnownByEndpoint known;
  known.reserve(known_.size());
  for (const auto& pool : desired.pools) {
    PoolSpec& spec = out.pools.emplace_back();
    spec.id = pool->id;
    spec.rewrites = pool->rewrites;
    spec.objectives = pool->objectives;
    spec.endpoints.reserve(pool->endpoints.size());
    for (const auto& endpoint : pool->endpoints) {
      const auto before = known_.find(endpoint.get());
      const bool same = before != known_.end() && same_tls(*before->second.spec, pool->tls.get());
      spec.endpoints.push_back(same ? before->second.spec : spec_of(*endpoint, pool->tls.get(), engines_));
      known.try_emplace(endpoint.get(), Known{endpoint, spec.endpoints.back()});
    }
  }
  known_ = std::move(known);
  out.routes = desired.routes;
  if (out.routes != nullptr) out.route_pools = route_pools_of(*out.routes, out.pools);
  name_pools(out.pools);
  return out;
}

}  // namespace penstock::discovery
