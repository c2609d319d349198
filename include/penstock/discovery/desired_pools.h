// From what the Kubernetes objects ask for to what the Directory is told. Control thread.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "penstock/discovery/directory.h"
#include "penstock/discovery/engines.h"
#include "penstock/objects/desired.h"

namespace penstock::discovery {

// How the engine of a pod is known.
struct PodEngines {
  Engines engines = built_in_engines();
  std::string otherwise = {};  // of pods without a label that names one of them; "": it is found out
  // The labels; the first that names an engine counts. The second is the Gateway API Inference Extension's.
  std::vector<std::string> labels = {"llm-d.ai/engine-type", "inference.networking.k8s.io/engine-type"};
};

// What these labels say it is, else `otherwise`.
const std::string& engine_of(const objects::Labels& labels, const PodEngines& known);

// Depends on `desired` alone. What it gave last is kept only because an endpoint that did not change must keep its
// pointer: with 1,000 endpoints, that is what makes an event cheap.
class DesiredPools {
 public:
  explicit DesiredPools(PodEngines engines = {}) : engines_(std::move(engines)) {}
  PoolsSpec convert(const objects::Desired& desired);

 private:
  struct Known {
    std::shared_ptr<const objects::Endpoint> endpoint;  // held, so that its address stays its own
    std::shared_ptr<const EndpointSpec> spec;
  };
  using KnownByEndpoint = std::unordered_map<const objects::Endpoint*, Known>;

  PodEngines engines_;
  KnownByEndpoint known_;
};

}  // namespace penstock::discovery
