// Which collections of objects must be watched: from the options, and from what the objects seen so far refer to. Pure.
#pragma once

#include <string>
#include <vector>

#include "penstock/discovery/cluster.h"
#include "penstock/objects/store.h"

namespace penstock::discovery {

struct PlannedWatch {
  objects::Kind kind;
  std::string ns;        // "": all, or objects without namespace
  std::string selector;  // "app=vllm,tier=x"; "": all objects
  std::string name;      // of the only object; "": all
  bool essential = false;
  bool operator==(const PlannedWatch& other) const {
    return kind == other.kind && ns == other.ns && selector == other.selector && name == other.name;
  }
};

std::string name_of(const PlannedWatch& watch);  // "pods in ns with app=vllm"

// True when a pool or a route names a Service.
bool services_wanted(const ClusterOptions& options, const objects::Store& store);
// True when a Gateway is ours: HTTPRoutes decide then.
bool has_gateway(const ClusterOptions& options, const objects::Store& store);
// Pods are narrowed by a selector where that leaves none out that matters.
std::vector<PlannedWatch> plan_watches(const ClusterOptions& options, const objects::Store& store, bool services);

}  // namespace penstock::discovery
