// From the options of Kubernetes mode to those of the layers that do it. Pure, but for the environment; start-up and
// control thread.
#pragma once

#include <string>

#include "penstock/config/options.h"
#include "penstock/kube/config.h"
#include "penstock/objects/resolve.h"

namespace penstock::config {

// What the deployment tells the process of itself: $POD_NAME, $POD_NAMESPACE; "" where it does not.
struct PodIdentity {
  std::string name, ns;
};
PodIdentity pod_identity();

// Where the API server is and who we are.
kube::ConfigSources kube_sources(const Options& options);

// The namespace of names without one: the first of kubernetes.namespaces, else `fallback` (that of the kubeconfig or
// service account: kube::ClientConfig::ns), else "default".
std::string home_namespace(const Options& options, const std::string& fallback = {});

// Which objects count, for a cluster or for manifests. `fallback` as above.
objects::ResolveOptions resolve_options(const Options& options, const PodIdentity& pod,
                                        const std::string& fallback = {});

}  // namespace penstock::config
