// Everything that does not depend on pods: which pools there are, their rewrites and objectives, and the routes.
// Computed anew when one of these objects changes.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "penstock/objects/desired.h"
#include "penstock/objects/resolve.h"
#include "penstock/objects/store.h"

namespace penstock::objects {

struct PoolDefinition {
  PoolId id;
  Kind kind = Kind::inference_pool;  // of the object that it comes from
  std::string uid;
  Labels selector;
  std::vector<int32_t> ports;
  std::string app_protocol = "http";
  std::optional<ServicePool> service;  // instead of a selector
  bool operator==(const PoolDefinition&) const = default;
};

// A status that should be there. Conditions have no times yet. Pointers are into the store's objects.
struct WantedStatus {
  Kind kind;
  const Meta* meta;
  const Status* stored;
  Status status;
  bool served = true;  // false: it is left to others, and only what is certainly ours is taken back
};

// A parent in the status of a pool: a Gateway with a route that names the pool.
struct PoolParent {
  ParentRef gateway;
  bool accepted = true;  // by at least one route that the Gateway took
};

struct Policy {
  std::map<PoolId, PoolDefinition> pools;
  std::map<PoolId, std::shared_ptr<const Rewrites>> rewrites;
  std::map<PoolId, std::shared_ptr<const Objectives>> objectives;
  std::map<PoolId, std::shared_ptr<const BackendTls>> tls;
  std::shared_ptr<const RouteTable> routes;
  std::vector<WantedStatus> statuses;
  std::vector<Notice> notices;
  Certificates certificates;
};

// The store as the options let it be seen.
class View {
 public:
  View(const Store& store, const ResolveOptions& options) : store_(store), options_(options) {}
  const Store& store() const { return store_; }
  const ResolveOptions& options() const { return options_; }
  bool in_scope(const std::string& ns) const;
  // Everything was listed that says which Gateways are ours.
  bool knows_gateways() const;
  // visit(kind, shared pointer): objects of this kind and of its legacy form, as far as they count.
  template <typename T, typename Visit>
  void each(Kind kind, std::optional<Kind> legacy, Visit&& visit) const {
    const auto one_kind = [&](Kind which) {
      store_.each<T>(which, [&](const std::shared_ptr<const T>& object) {
        if (object->meta.ns.empty() || in_scope(object->meta.ns)) visit(which, *object);
      });
    };
    one_kind(kind);
    if (legacy && store_.in_force(*legacy)) one_kind(*legacy);
  }

 private:
  const Store& store_;
  const ResolveOptions& options_;
};

// What a model name leads to when there are several pools and no routes.
struct ModelClaim {
  std::string model;
  bool is_target = false;  // named only as what an alias leads to: weaker
  Timestamp created = 0;
  std::string ns, name;
  PoolId pool;
};

// Whether an object of this kind of the Gateway API may refer to another: that is in its own namespace, or a
// ReferenceGrant in that of the other allows it.
struct ReferredObject {
  std::string_view group, kind;
  const std::string &ns, &name;
};
bool granted(const Store& store, std::string_view from_kind, const std::string& from_ns, const ReferredObject& to);

// An InferencePool, served here or not.
bool pool_exists(const View& view, const std::string& ns, const std::string& name);

void find_pools(const View& view, Policy& policy);
void find_rewrites(const View& view, Policy& policy, std::vector<ModelClaim>& claims);
void find_objectives(const View& view, Policy& policy);
// Adds pools for Services that routes lead to; gives the parents of each pool.
std::map<PoolId, std::vector<PoolParent>> find_routes(const View& view, Policy& policy, std::vector<ModelClaim> claims);
void find_pool_statuses(const View& view, const std::map<PoolId, std::vector<PoolParent>>& parents, Policy& policy);

// BackendTLSPolicies: how the pools that they are about are spoken to.
void find_backend_tls(const View& view, const std::map<PoolId, std::vector<PoolParent>>& parents, Policy& policy);
// Whether one is about this Service.
bool has_backend_tls(const View& view, const std::string& ns, const std::string& service);

Policy find_policy(const View& view);

// False for what an appProtocol can name and we do not speak. We speak HTTP/1.1 without TLS; names that say nothing
// about that ("vllm.ai/fast") are of no concern.
bool speaks(std::string_view app_protocol);
std::string unspoken(std::string_view app_protocol);  // what to say of it

std::string_view type_of_address(std::string_view address);  // as Gateways name it

Condition condition(std::string_view type, bool value, std::string_view reason, std::string message, const Meta& about);

// Gives conditions their times and writes the bodies. Remembers the times that it gave until they are stored.
class StatusWriter {
 public:
  std::vector<StatusWrite> write(std::vector<WantedStatus> wanted, const View& view, int64_t now_seconds);

 private:
  // Status and time of each condition, by object, parent or listener, and type.
  using Given = std::map<std::string, std::pair<std::string, std::string>>;
  // A condition keeps its time while its status stays: as stored, or as given when it was not yet stored.
  void stamp(std::vector<Condition>& conditions, const std::vector<Condition>& before, const std::string& part,
             Given& given);
  void stamp_all(const WantedStatus& wanted, Status& status, const Status& before, Given& given);
  Given given_;
  std::string now_;
};

}  // namespace penstock::objects
