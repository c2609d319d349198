// BackendTLSPolicies: which of them is about a pool, and what it says. A pool whose policy cannot be obeyed gets no
// requests: they must not go out in plain text, nor to endpoints that nobody has verified.
#include <algorithm>

#include "policy.h"
#include "route_filters.h"

namespace penstock::objects {
namespace {

constexpr std::string_view inference_group = "inference.networking.k8s.io";
constexpr std::string_view inference_group_legacy = "inference.networking.x-k8s.io";

constexpr size_t ancestors_max = 16;  // that a status may list

bool about_service(const PolicyTarget& target) {
  return target.kind == "Service" && (target.group.empty() || target.group == "core");
}
bool about_pool(const PolicyTarget& target) {
  return target.kind == "InferencePool" && (target.group == inference_group || target.group == inference_group_legacy);
}
bool is_config_map(const ObjectRef& ref) {
  return ref.kind == "ConfigMap" && (ref.group.empty() || ref.group == "core");
}

// Whether the pool is made of this port of its Service: a policy names the port by its name.
bool is_section(const View& view, const PoolId& pool, const std::string& section) {
  if (section.empty() || section == pool.port) return true;
  const auto service = view.store().get<Service>(Kind::service, pool.ns, pool.name);
  if (service == nullptr) return false;
  return std::ranges::any_of(service->ports, [&](const ServicePort& port) {
    return port.name == section && (pool.port.empty() || std::to_string(port.port) == pool.port);
  });
}

// What a policy comes to.
struct Judged {
  const BackendTlsPolicy* policy;
  BackendTls tls;
  Finding refused;                // why it is not accepted
  Finding unresolved;             // a caCertificateRef
  std::vector<PoolId> pools;      // that it is about
  std::set<PoolId> of_a_section;  // of these, those that it names by their port
  bool wins = false;              // for at least one of them
};

void add_authorities(const View& view, const ObjectRef& ref, Judged& judged) {
  const std::string& ns = judged.policy->meta.ns;
  const std::string what = ref.kind + ' ' + ns + '/' + ref.name;
  if (!is_config_map(ref)) {
    return judged.unresolved.note("InvalidKind", what + " is of no supported kind; expected ConfigMap");
  }
  const auto found = view.store().get<ConfigMap>(Kind::config_map, ns, ref.name);
  if (found == nullptr || found->authorities.empty()) {
    return judged.unresolved.note(
        "InvalidCACertificateRef",
        what + (found == nullptr ? " does not exist, or this gateway may not read it" : " has no ca.crt"));
  }
  const CheckAuthorities check = view.options().check_authorities;
  const std::string problem = check == nullptr ? "" : check(found->authorities);
  if (!problem.empty()) return judged.unresolved.note("InvalidCACertificateRef", what + ": " + problem);
  judged.tls.authorities.append(found->authorities).append("\n");
}

Judged judge(const View& view, const BackendTlsPolicy& policy) {
  const BackendTlsSpec& spec = policy.spec;
  Judged out{.policy = &policy};
  out.tls.policy = policy.meta.ns + '/' + policy.meta.name;
  out.tls.hostname = spec.hostname;
  out.tls.names = spec.names;
  for (const ObjectRef& ref : spec.authorities) add_authorities(view, ref, out);
  if (spec.well_known.empty()) {
    if (out.tls.authorities.empty()) {
      out.refused.note("NoValidCACertificate",
                       out.unresolved.found() ? out.unresolved.message : "names no authority to trust");
    }
  } else if (spec.well_known != "System" || !spec.authorities.empty()) {
    out.refused.note("Invalid",
                     spec.well_known == "System"
                         ? "caCertificateRefs and wellKnownCACertificates exclude each other"
                         : "wellKnownCACertificates " + spec.well_known + " is not supported; expected System");
  }
  out.tls.usable = !out.refused.found();
  return out;
}

void find_targets(const View& view, const Policy& policy, Judged& judged) {
  for (const PolicyTarget& target : judged.policy->spec.targets) {
    const Source source = about_service(target) ? Source::service : Source::inference_pool;
    if (source == Source::inference_pool && !about_pool(target)) continue;
    for (const auto& [id, pool] : policy.pools) {
      if (id.source != source || id.ns != judged.policy->meta.ns || id.name != target.name) continue;
      if (source == Source::service && !is_section(view, id, target.section)) continue;
      judged.pools.push_back(id);
      if (!target.section.empty()) judged.of_a_section.insert(id);
    }
  }
}

// Who names the port comes before who names the Service; then the older, then the first by name.
bool comes_before(const Judged& a, const Judged& b, const PoolId& pool) {
  const auto order = [&](const Judged& one) {
    const Meta& meta = one.policy->meta;
    return std::tuple(!one.of_a_section.contains(pool), meta.created, std::string_view(meta.name));
  };
  return order(a) < order(b);
}

std::vector<Condition> conditions_of(const Judged& judged) {
  const Meta& meta = judged.policy->meta;
  Finding accepted = judged.refused;
  if (!judged.wins) accepted.note("Conflicted", "another BackendTLSPolicy is about the same");
  const bool good = !accepted.found();
  accepted.note("Accepted", "is in use");
  Finding resolved = judged.unresolved;
  const bool all = !resolved.found();
  resolved.note("ResolvedRefs", "every reference is resolved");
  return {condition("Accepted", good, accepted.reason, accepted.message, meta),
          condition("ResolvedRefs", all, resolved.reason, resolved.message, meta)};
}

void report(const Judged& judged, Policy& policy) {
  const Meta& meta = judged.policy->meta;
  const auto add = [&](const std::string& reason, const std::string& message) {
    policy.notices.push_back({Kind::backend_tls_policy, meta.ns, meta.name, meta.uid, true, reason, message});
  };
  for (const Condition& one : conditions_of(judged)) {
    if (one.status != "True") add(one.reason, one.message);
  }
  if (judged.policy->spec.options) add("FieldIgnored", "has no effect here: options");
}

// Of a pool that Gateways lead to, these; of one that none does, our own Service.
std::vector<ParentRef> ancestors_of(const View& view, const std::map<PoolId, std::vector<PoolParent>>& parents,
                                    const PoolId& pool, const Policy& policy) {
  std::vector<ParentRef> out;
  if (const auto found = parents.find(pool); found != parents.end()) {
    for (const PoolParent& parent : found->second) out.push_back(parent.gateway);
  } else if (!view.options().self.name.empty() && policy.routes->mode() != RoutingMode::routes) {
    out.push_back(view.options().self);
  }
  return out;
}

}  // namespace

void find_backend_tls(const View& view, const std::map<PoolId, std::vector<PoolParent>>& parents, Policy& policy) {
  std::vector<Judged> all;
  view.each<BackendTlsPolicy>(Kind::backend_tls_policy, std::nullopt, [&](Kind, const BackendTlsPolicy& one) {
    if (one.meta.deleting) return;
    find_targets(view, policy, all.emplace_back(judge(view, one)));
  });
  std::map<PoolId, Judged*> winners;
  for (Judged& judged : all) {
    for (const PoolId& pool : judged.pools) {
      Judged*& winner = winners[pool];
      if (winner == nullptr || comes_before(judged, *winner, pool)) winner = &judged;
    }
  }
  for (const auto& [pool, winner] : winners) {
    winner->wins = true;
    policy.tls.emplace(pool, std::make_shared<const BackendTls>(winner->tls));
  }
  for (const Judged& judged : all) {
    WantedStatus wanted{Kind::backend_tls_policy, &judged.policy->meta, &judged.policy->status, {}};
    for (const PoolId& pool : judged.pools) {
      for (const ParentRef& ancestor : ancestors_of(view, parents, pool, policy)) {
        auto& list = wanted.status.parents;
        const bool known = std::ranges::find(list, ancestor, &ParentStatus::parent) != list.end();
        if (known || list.size() == ancestors_max) continue;
        list.push_back({ancestor, view.options().controller, conditions_of(judged), ""});
      }
    }
    if (!judged.pools.empty()) report(judged, policy);
    policy.statuses.push_back(std::move(wanted));
  }
}

bool has_backend_tls(const View& view, const std::string& ns, const std::string& service) {
  bool found = false;
  view.store().each_in<BackendTlsPolicy>(Kind::backend_tls_policy, ns, [&](const auto& policy) {
    found |= std::ranges::any_of(policy->spec.targets, [&](const PolicyTarget& target) {
      return about_service(target) && target.name == service;
    });
  });
  return found;
}

std::vector<ObjectName> referenced_config_maps(const Store& store, const ResolveOptions& options) {
  std::set<ObjectName> out;
  const View view(store, options);
  view.each<BackendTlsPolicy>(Kind::backend_tls_policy, std::nullopt, [&](Kind, const BackendTlsPolicy& policy) {
    for (const ObjectRef& ref : policy.spec.authorities) {
      if (is_config_map(ref)) out.insert({policy.meta.ns, ref.name});
    }
  });
  return {out.begin(), out.end()};
}

}  // namespace penstock::objects
