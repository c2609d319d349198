#include "penstock/objects/kinds.h"

#include <string>

#include "penstock/base/assert.h"

namespace penstock::objects {
namespace {

constexpr std::string_view gateway_api = "gateway.networking.k8s.io";
constexpr std::string_view inference = "inference.networking.k8s.io";
constexpr std::string_view inference_x = "inference.networking.x-k8s.io";

// In the order of Kind.
constexpr ApiResource resources[kind_count] = {
    {Kind::pod, "", "v1", "pods", "Pod", true},
    {Kind::endpoint_slice, "discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", true},
    {Kind::service, "", "v1", "services", "Service", true},
    {Kind::name_space, "", "v1", "namespaces", "Namespace", false},
    {Kind::inference_pool, inference, "v1", "inferencepools", "InferencePool", true},
    {Kind::inference_pool_legacy, inference_x, "v1alpha2", "inferencepools", "InferencePool", true},
    {Kind::model_rewrite, "llm-d.ai", "v1alpha2", "inferencemodelrewrites", "InferenceModelRewrite", true},
    {Kind::model_rewrite_legacy, inference_x, "v1alpha2", "inferencemodelrewrites", "InferenceModelRewrite", true},
    {Kind::objective, "llm-d.ai", "v1alpha2", "inferenceobjectives", "InferenceObjective", true},
    {Kind::objective_legacy, inference_x, "v1alpha2", "inferenceobjectives", "InferenceObjective", true},
    {Kind::gateway_class, gateway_api, "v1", "gatewayclasses", "GatewayClass", false},
    {Kind::gateway, gateway_api, "v1", "gateways", "Gateway", true},
    {Kind::http_route, gateway_api, "v1", "httproutes", "HTTPRoute", true},
    {Kind::reference_grant, gateway_api, "v1beta1", "referencegrants", "ReferenceGrant", true},
    {Kind::secret, "", "v1", "secrets", "Secret", true},
    {Kind::config_map, "", "v1", "configmaps", "ConfigMap", true},
    {Kind::backend_tls_policy, gateway_api, "v1", "backendtlspolicies", "BackendTLSPolicy", true},
};

constexpr std::string_view api_versions[kind_count] = {
    "v1",
    "discovery.k8s.io/v1",
    "v1",
    "v1",
    "inference.networking.k8s.io/v1",
    "inference.networking.x-k8s.io/v1alpha2",
    "llm-d.ai/v1alpha2",
    "inference.networking.x-k8s.io/v1alpha2",
    "llm-d.ai/v1alpha2",
    "inference.networking.x-k8s.io/v1alpha2",
    "gateway.networking.k8s.io/v1",
    "gateway.networking.k8s.io/v1",
    "gateway.networking.k8s.io/v1",
    "gateway.networking.k8s.io/v1beta1",
    "v1",
    "v1",
    "gateway.networking.k8s.io/v1",
};

}  // namespace

const ApiResource& api_of(Kind kind) {
  const ApiResource& found = resources[static_cast<size_t>(kind)];
  PENSTOCK_ASSERT(found.kind == kind);
  return found;
}

std::string_view api_version(Kind kind) {
  return api_versions[static_cast<size_t>(kind)];
}

std::optional<Kind> kind_of(std::string_view api_version, std::string_view kind_name) {
  const size_t slash = api_version.find('/');
  const std::string_view group = slash == std::string_view::npos ? "" : api_version.substr(0, slash);
  for (const ApiResource& resource : resources) {
    if (resource.name == kind_name && resource.group == group) return resource.kind;
  }
  return std::nullopt;
}

std::optional<Kind> preferred_over(Kind legacy) {
  switch (legacy) {
    case Kind::inference_pool_legacy:
      return Kind::inference_pool;
    case Kind::model_rewrite_legacy:
      return Kind::model_rewrite;
    case Kind::objective_legacy:
      return Kind::objective;
    default:
      return std::nullopt;
  }
}

}  // namespace penstock::objects
