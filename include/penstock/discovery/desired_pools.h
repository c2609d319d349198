// From what the Kubernetes objects ask for to what the Directory is told. Control thread.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>

#include "penstock/discovery/directory.h"
#include "penstock/objects/desired.h"

namespace penstock::discovery {

// On a pod: which engine serves it ("vllm", "sglang", ...), that is, what its metrics are called.
inline constexpr std::string_view engine_label = "llm-d.ai/engine-type";

// Depends on `desired` alone. What it gave last is kept only because an endpoint that did not change must keep its
// pointer: with 1,000 endpoints, that is what makes an event cheap.
class DesiredPools {
 public:
  // `engine`: of pods without the label; "" is vllm.
  explicit DesiredPools(std::string engine = "") : engine_(std::move(engine)) {}
  PoolsSpec convert(const objects::Desired& desired);

 private:
  struct Known {
    std::shared_ptr<const objects::Endpoint> endpoint;  // held, so that its address stays its own
    std::shared_ptr<const EndpointSpec> spec;
  };
  using KnownByEndpoint = std::unordered_map<const objects::Endpoint*, Known>;

  std::string engine_;
  KnownByEndpoint known_;
};

}  // namespace penstock::discovery
