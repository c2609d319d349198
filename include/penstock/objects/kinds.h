// The Kubernetes resources that the gateway reads, one value for each API resource: a resource that exists in two API
// groups is two kinds. Pure data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace penstock::objects {

enum class Kind : uint8_t {
  pod,
  endpoint_slice,
  service,
  name_space,
  inference_pool,
  inference_pool_legacy,
  model_rewrite,
  model_rewrite_legacy,
  objective,
  objective_legacy,
  gateway_class,
  gateway,
  http_route,
  reference_grant,
  secret,
  config_map,
  backend_tls_policy,
};
inline constexpr size_t kind_count = 17;

struct ApiResource {
  Kind kind;
  std::string_view group;    // "" for the core group
  std::string_view version;  // what to list, watch and write
  std::string_view resource;
  std::string_view name;  // value of the object's `kind`
  bool namespaced;
};
const ApiResource& api_of(Kind kind);
// "gateway.networking.k8s.io/v1", or "v1" for the core group.
std::string_view api_version(Kind kind);
// By what an object says of itself. Any version of a group is the same kind; nothing for resources that we do not read.
std::optional<Kind> kind_of(std::string_view api_version, std::string_view kind_name);

// The kind that makes this one ignored when its resource is served, or nothing: the legacy groups of rewrites,
// objectives and pools yield to the newer ones.
std::optional<Kind> preferred_over(Kind legacy);

}  // namespace penstock::objects
