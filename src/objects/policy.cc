#include "policy.h"

#include <algorithm>
#include <tuple>

namespace penstock::objects {

// Collects the rules of one pool in order of precedence.
class RewritesBuilder {
 public:
  struct Claimed {
    bool taken = false;      // an earlier rule has all that this one asks for
    std::string first_lost;  // the first model (or "*") that an earlier rule has
  };
  Claimed add(const std::string& object, const RewriteRule& rule) {
    const auto index = static_cast<uint32_t>(out_->rules_.size());
    Claimed claimed;
    bool used = false;
    if (rule.generic) {
      if (out_->generic_ < 0) out_->generic_ = static_cast<int32_t>(index), used = true;
      else claimed.first_lost = "*";
    }
    for (const std::string& model : rule.models) {
      const auto [at, added] = models_.try_emplace(model, index);
      used |= added;
      if (!added && at->second != index && claimed.first_lost.empty()) claimed.first_lost = model;
    }
    claimed.taken = !used && !claimed.first_lost.empty();
    if (used) out_->rules_.push_back(compiled(object, rule));
    return claimed;
  }
  std::shared_ptr<const Rewrites> take() {
    for (const auto& [model, rule] : models_) out_->aliases_.push_back({model, rule});
    return std::move(out_);
  }

 private:
  static Rewrites::Rule compiled(const std::string& object, const RewriteRule& rule) {
    Rewrites::Rule out;
    out.object = object;
    const bool weighted =
        std::any_of(rule.targets.begin(), rule.targets.end(), [](const RewriteTarget& t) { return t.weight > 0; });
    for (const RewriteTarget& target : rule.targets) {
      // No weights, or none above 0: all the same. A single missing one counts as 1.
      const uint32_t weight = !weighted || target.weight < 0 ? 1 : static_cast<uint32_t>(target.weight);
      out.targets.push_back({target.model, weight});
      out.total_weight += weight;
    }
    return out;
  }
  std::shared_ptr<Rewrites> out_ = std::make_shared<Rewrites>();
  std::map<std::string, uint32_t> models_;
};

namespace {

constexpr std::string_view inference_group = "inference.networking.k8s.io";
constexpr std::string_view inference_group_legacy = "inference.networking.x-k8s.io";
// What the resource definitions of llm-d fill in where an object leaves the group of its pool out.
constexpr std::string_view llmd_group = "llm-d.ai";

Notice notice(Kind kind, const Meta& meta, std::string reason, std::string message) {
  return {kind, meta.ns, meta.name, meta.uid, true, std::move(reason), std::move(message)};
}

bool names_a_pool(const PoolRef& ref) {
  const bool known = ref.group == inference_group || ref.group == inference_group_legacy || ref.group == llmd_group;
  return known && ref.kind == "InferencePool";
}

// The pool of this name in the namespace, of whatever source; null when it is not served here.
const PoolDefinition* pool_named(const Policy& policy, const std::string& ns, const PoolRef& ref) {
  if (!names_a_pool(ref)) return nullptr;
  for (const Source source : {Source::inference_pool, Source::selector, Source::service}) {
    const auto at = policy.pools.lower_bound(PoolId{source, ns, ref.name, ""});
    if (at != policy.pools.end() && at->first.source == source && at->first.ns == ns && at->first.name == ref.name) {
      return &at->second;
    }
  }
  return nullptr;
}

// "vllm" or "vllm:8000".
ServicePool service_of(const std::string& ns, const std::string& text) {
  const size_t colon = text.find(':');
  return {ns, text.substr(0, colon), colon == std::string::npos ? "" : text.substr(colon + 1)};
}

void add_pool(Policy& policy, PoolDefinition pool) {
  const PoolId id = pool.id;
  policy.pools.try_emplace(id, std::move(pool));
}

constexpr const char* in_use = "is in use";
// Of a release that looks for pods by labels or by a Service: others, which know InferencePools, leave it alone.
constexpr const char* in_use_elsewhere = "is in use, for a pool that is no InferencePool";
constexpr const char* older_rule = "an older rule already rewrites the model ";
constexpr const char* no_pool = "there is no pool ";

std::string used_by(const PoolDefinition& pool) {
  return pool.id.source == Source::inference_pool ? in_use : in_use_elsewhere;
}

bool says_no_pool(const Status& stored) {
  return std::any_of(stored.conditions.begin(), stored.conditions.end(),
                     [](const Condition& c) { return c.type == "Accepted" && c.message.starts_with(no_pool); });
}

// Nobody has judged the object yet, or the words are ours: then it is for us to judge it.
bool ours_to_judge(const Status& stored) {
  for (const Condition& condition : stored.conditions) {
    if (condition.type != "Accepted" || condition.status == "Unknown") continue;
    const std::string& message = condition.message;
    return message == in_use || message.find(older_rule) != std::string::npos || message.starts_with(no_pool);
  }
  return true;
}

// Where pools come from labels or Services only.
std::string not_served(const View& view, const std::string& ns, const std::string& name) {
  std::string names;
  const auto add = [&](const auto& pool) {
    names.append(names.empty() ? "" : ", ").append(pool.ns).append("/").append(pool.name);
  };
  for (const SelectorPool& pool : view.options().selector_pools) add(pool);
  for (const ServicePool& pool : view.options().service_pools) add(pool);
  return "is for the pool " + ns + '/' + name +
         ", which is not served here: InferencePools are not read, and the pools are " + names;
}

// For a rewrite or an objective. Silent about pools that exist and are left to another gateway, but for what was said
// before they did.
template <typename T>
void report_no_pool(const View& view, Policy& policy, Kind kind, const T& object) {
  const Meta& meta = object.meta;
  const PoolRef& ref = object.spec.pool;
  if (names_a_pool(ref) && pool_exists(view, meta.ns, ref.name)) {
    if (!says_no_pool(object.status)) return;
    Status open;
    open.conditions.push_back(
        {"Accepted", "Unknown", "Pending", "is for the gateway of its pool to judge", meta.generation, ""});
    policy.statuses.push_back({kind, &meta, &object.status, std::move(open)});
    return;
  }
  const std::string message = no_pool + meta.ns + '/' + ref.name + " (" + ref.kind + " of " + ref.group + ")";
  // Where InferencePools are not read, they may exist; and what names no such pool is another controller's.
  const bool unread = names_a_pool(ref) && !view.options().inference_pools;
  policy.notices.push_back(notice(kind, meta, "PoolNotFound", unread ? not_served(view, meta.ns, ref.name) : message));
  if (!names_a_pool(ref) || !view.options().inference_pools || !ours_to_judge(object.status)) return;
  Status status;
  status.conditions.push_back(condition("Accepted", false, "PoolNotFound", message, meta));
  policy.statuses.push_back({kind, &meta, &object.status, std::move(status)});
}

// Legacy objects that nobody reads any more, since the newer group is there.
template <typename T>
void report_ignored(const View& view, Kind legacy, Policy& policy) {
  if (view.store().in_force(legacy)) return;
  view.store().each<T>(legacy, [&](const std::shared_ptr<const T>& object) {
    if (!view.in_scope(object->meta.ns)) return;
    policy.notices.push_back(notice(legacy, object->meta, "LegacyGroupIgnored",
                                    "is ignored: objects of " + std::string(api_version(*preferred_over(legacy))) +
                                        " replace those of " + std::string(api_version(legacy))));
  });
}

}  // namespace

bool pool_exists(const View& view, const std::string& ns, const std::string& name) {
  for (const Kind kind : {Kind::inference_pool, Kind::inference_pool_legacy}) {
    const auto pool = view.store().get<InferencePool>(kind, ns, name);
    if (view.store().in_force(kind) && pool != nullptr && !pool->meta.deleting) return true;
  }
  return false;
}

bool View::in_scope(const std::string& ns) const {
  const auto& list = options_.namespaces;
  return list.empty() || std::find(list.begin(), list.end(), ns) != list.end();
}

bool View::knows_gateways() const {
  return !store_.awaited(Kind::gateway_class) && !store_.awaited(Kind::gateway) && !store_.awaited(Kind::http_route);
}

bool speaks(std::string_view app_protocol) {
  constexpr std::string_view others[] = {
      "kubernetes.io/h2c", "kubernetes.io/ws", "kubernetes.io/wss", "h2c", "http2", "grpc", "https", "tls"};
  return std::find(std::begin(others), std::end(others), app_protocol) == std::end(others);
}

std::string unspoken(std::string_view app_protocol) {
  return "the appProtocol " + std::string(app_protocol) +
         " is not supported: requests go over HTTP/1.1, to endpoints that answer it";
}

Condition condition(std::string_view type, bool value, std::string_view reason, std::string message,
                    const Meta& about) {
  return {std::string(type), value ? "True" : "False", std::string(reason), std::move(message), about.generation, ""};
}

void find_pools(const View& view, Policy& policy) {
  const ResolveOptions& options = view.options();
  view.each<InferencePool>(
      Kind::inference_pool, Kind::inference_pool_legacy, [&](Kind kind, const InferencePool& pool) {
        const PoolName name{pool.meta.ns, pool.meta.name};
        if (!options.inference_pools || pool.meta.deleting) return;
        const auto& wanted = options.pools;
        if (!wanted.empty() && std::find(wanted.begin(), wanted.end(), name) == wanted.end()) return;
        PoolDefinition out{PoolId{Source::inference_pool, name.ns, name.name, ""},
                           kind,
                           pool.meta.uid,
                           pool.spec.selector,
                           pool.spec.ports,
                           pool.spec.app_protocol,
                           std::nullopt};
        const std::string* const service = find_label(pool.meta.annotations, annotation::pool_service);
        if (service != nullptr) out.service = service_of(name.ns, *service);
        add_pool(policy, std::move(out));
      });
  report_ignored<InferencePool>(view, Kind::inference_pool_legacy, policy);
  for (const PoolName& name : options.pools) {
    if (policy.pools.contains(PoolId{Source::inference_pool, name.ns, name.name, ""})) continue;
    policy.notices.push_back({Kind::inference_pool, name.ns, name.name, "", true, "PoolNotFound",
                              "the gateway is told to serve this pool, and it does not exist or is being deleted"});
  }
  for (const SelectorPool& pool : options.selector_pools) {
    add_pool(policy, {PoolId{Source::selector, pool.ns, pool.name, ""}, Kind::pod, "", pool.selector,
                      std::vector<int32_t>(pool.ports.begin(), pool.ports.end()), "http", std::nullopt});
  }
  for (const ServicePool& pool : options.service_pools) {
    add_pool(policy, {PoolId{Source::service, pool.ns, pool.name, pool.port}, Kind::service, "", {}, {}, "http", pool});
  }
}

void find_rewrites(const View& view, Policy& policy, std::vector<ModelClaim>& claims) {
  struct Item {
    Kind kind;
    const ModelRewrite* rewrite;
    const PoolDefinition* pool;
  };
  std::vector<Item> items;
  view.each<ModelRewrite>(Kind::model_rewrite, Kind::model_rewrite_legacy, [&](Kind kind, const ModelRewrite& rewrite) {
    const PoolDefinition* const pool = pool_named(policy, rewrite.meta.ns, rewrite.spec.pool);
    if (pool != nullptr) items.push_back({kind, &rewrite, pool});
    else report_no_pool(view, policy, kind, rewrite);
  });
  report_ignored<ModelRewrite>(view, Kind::model_rewrite_legacy, policy);
  // Older objects first; the clock of creation has whole seconds, so names decide between equals.
  std::stable_sort(items.begin(), items.end(), [](const Item& a, const Item& b) {
    const auto order = [](const Meta& m) { return std::tie(m.created, m.ns, m.name); };
    return order(a.rewrite->meta) < order(b.rewrite->meta);
  });
  std::map<PoolId, RewritesBuilder> builders;
  for (const Item& item : items) {
    const Meta& meta = item.rewrite->meta;
    std::string message;
    for (size_t i = 0; i < item.rewrite->spec.rules.size(); ++i) {
      const RewriteRule& rule = item.rewrite->spec.rules[i];
      const auto claimed = builders[item.pool->id].add(meta.name, rule);
      if (!claimed.first_lost.empty() && message.empty()) {
        message = "rule " + std::to_string(i) + (claimed.taken ? " is never used: " : " is used in part: ") +
                  older_rule + claimed.first_lost;
        policy.notices.push_back(notice(item.kind, meta, "ConflictingRewrite", message));
      }
      for (const std::string& model : rule.models) {
        claims.push_back({model, false, meta.created, meta.ns, meta.name, item.pool->id});
      }
      for (const RewriteTarget& target : rule.targets) {
        claims.push_back({target.model, true, meta.created, meta.ns, meta.name, item.pool->id});
      }
    }
    if (message.empty()) message = used_by(*item.pool);
    Status status;
    status.conditions.push_back(condition("Accepted", true, "Accepted", message, meta));
    policy.statuses.push_back({item.kind, &meta, &item.rewrite->status, std::move(status)});
  }
  for (auto& [id, builder] : builders) policy.rewrites.emplace(id, builder.take());
}

void find_objectives(const View& view, Policy& policy) {
  std::map<PoolId, std::vector<std::pair<std::string, int32_t>>> lists;
  view.each<Objective>(Kind::objective, Kind::objective_legacy, [&](Kind kind, const Objective& objective) {
    const PoolDefinition* const pool = pool_named(policy, objective.meta.ns, objective.spec.pool);
    if (pool == nullptr) return report_no_pool(view, policy, kind, objective);
    lists[pool->id].emplace_back(objective.meta.name, objective.spec.priority);
    Status status;
    status.conditions.push_back(condition("Accepted", true, "Accepted", used_by(*pool), objective.meta));
    policy.statuses.push_back({kind, &objective.meta, &objective.status, std::move(status)});
  });
  report_ignored<Objective>(view, Kind::objective_legacy, policy);
  for (auto& [id, list] : lists) {
    std::sort(list.begin(), list.end());
    policy.objectives.emplace(id, std::make_shared<const Objectives>(std::move(list)));
  }
}

void find_pool_statuses(const View& view, const std::map<PoolId, std::vector<PoolParent>>& parents, Policy& policy) {
  const ParentRef& self = view.options().self;
  view.store().each<InferencePool>(Kind::inference_pool, [&](const std::shared_ptr<const InferencePool>& pool) {
    const Meta& meta = pool->meta;
    const PoolId id{Source::inference_pool, meta.ns, meta.name, ""};
    WantedStatus wanted{Kind::inference_pool, &meta, &pool->status, {}, policy.pools.contains(id)};
    if (!wanted.served) {
      if (view.options().self_certain && !meta.deleting) policy.statuses.push_back(std::move(wanted));
      return;
    }
    const auto add = [&](const ParentRef& parent, bool accepted) {
      const std::string& protocol = pool->spec.app_protocol;
      Condition verdict = !speaks(protocol)
                              ? condition("Accepted", false, "NotSupportedByParent", unspoken(protocol), meta)
                          : accepted ? condition("Accepted", true, "Accepted", "is served", meta)
                                     : condition("Accepted", false, "HTTPRouteNotAccepted",
                                                 "the routes that lead here are not accepted", meta);
      Condition refs = condition("ResolvedRefs", true, "ResolvedRefs", "the gateway picks endpoints by itself", meta);
      wanted.status.parents.push_back({parent, view.options().controller, {std::move(verdict), std::move(refs)}, ""});
    };
    if (const auto found = parents.find(id); found != parents.end()) {
      for (const PoolParent& parent : found->second) add(parent.gateway, parent.accepted);
    } else if (!self.name.empty() && policy.routes->mode() != RoutingMode::routes) {
      add(self, true);
    }
    policy.statuses.push_back(std::move(wanted));
  });
}

bool granted(const Store& store, std::string_view from_kind, const std::string& from_ns, const ReferredObject& to) {
  bool found = to.ns == from_ns;
  store.each_in<ReferenceGrant>(Kind::reference_grant, to.ns, [&](const auto& grant) {
    const bool from = std::any_of(grant->from.begin(), grant->from.end(), [&](const GrantFrom& f) {
      return f.group == "gateway.networking.k8s.io" && f.kind == from_kind && f.ns == from_ns;
    });
    const bool named = std::any_of(grant->to.begin(), grant->to.end(), [&](const GrantTo& t) {
      return t.group == to.group && t.kind == to.kind && (t.name.empty() || t.name == to.name);
    });
    found |= from && named;
  });
  return found;
}

Policy find_policy(const View& view) {
  Policy policy;
  std::vector<ModelClaim> claims;
  find_pools(view, policy);
  find_rewrites(view, policy, claims);
  find_objectives(view, policy);
  const auto parents = find_routes(view, policy, std::move(claims));
  find_pool_statuses(view, parents, policy);
  find_backend_tls(view, parents, policy);
  return policy;
}

}  // namespace penstock::objects
