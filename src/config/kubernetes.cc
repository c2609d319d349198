#include "penstock/config/kubernetes.h"

#include <algorithm>
#include <cstdlib>

#include "penstock/base/text.h"
#include "penstock/config/tls.h"
#include "values.h"

namespace penstock::config {
namespace {

std::string variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// Gives names their namespaces, and collects these on the way.
class Names {
 public:
  Names(const Kubernetes& options, std::string home)
      : list_(options.namespaces), home_(std::move(home)), all_(!list_.empty() && list_[0] == "*") {}

  ObjectName resolve(const std::string& text) {
    ObjectName name = split_object_name(text);
    if (name.ns.empty()) name.ns = home_;
    if (std::find(list_.begin(), list_.end(), name.ns) == list_.end()) list_.push_back(name.ns);
    return name;
  }
  // Of everything that was named; all of them: empty. Without any name it is home.
  std::vector<std::string> namespaces() const {
    if (all_) return {};
    return list_.empty() ? std::vector{home_} : list_;
  }

 private:
  std::vector<std::string> list_;
  std::string home_;
  bool all_;
};

objects::SelectorPool selector_pool(const Kubernetes& options, Names& names) {
  const ObjectName name = names.resolve(options.pools.empty() ? "default" : options.pools[0]);
  auto selector = objects::parse_selector(options.endpoint_selector);
  PENSTOCK_ASSERT(selector.ok());  // validated when it was set
  return {.ns = name.ns, .name = name.name, .selector = std::move(*selector), .ports = options.endpoint_ports};
}

// In the order of their numbers: `listen`, unless it is none, then `listeners`.
std::vector<objects::OwnListener> own_listeners(const Options& options) {
  const auto port_of = [](const std::string& address) {
    uint16_t port = 0;
    static_cast<void>(parse_port(split_authority(address).port, &port));
    return port;
  };
  std::vector<objects::OwnListener> out;
  if (options.listen != "none") out.push_back({.name = "listen", .port = port_of(options.listen)});
  for (const ListenerEntry& entry : options.listeners) {
    out.push_back({.name = entry.name,
                   .port = entry.gateway_port != 0 ? entry.gateway_port : port_of(entry.address),
                   .tls = entry.tls.has_value(),
                   .has_certificate = entry.tls.has_value() && !entry.tls->certificates.empty()});
  }
  return out;
}

}  // namespace

PodIdentity pod_identity() {
  return {variable("POD_NAME"), variable("POD_NAMESPACE")};
}

kube::ConfigSources kube_sources(const Options& options) {
  kube::ConfigSources sources;
  sources.api_url = options.kubernetes.api;
  sources.kubeconfig = options.kubernetes.kubeconfig;
  sources.context = options.kubernetes.context;
  return sources;
}

std::string home_namespace(const Options& options, const std::string& fallback) {
  const auto& list = options.kubernetes.namespaces;
  if (!list.empty() && list[0] != "*") return list[0];
  return fallback.empty() ? "default" : fallback;
}

objects::ResolveOptions resolve_options(const Options& options, const PodIdentity& pod, const std::string& fallback) {
  const Kubernetes& from = options.kubernetes;
  const std::string home = home_namespace(options, fallback);
  Names names(from, home);
  objects::ResolveOptions out;
  if (!from.endpoint_selector.empty()) {
    out.selector_pools.push_back(selector_pool(from, names));
  } else {
    for (const std::string& pool : from.pools) {
      const ObjectName name = names.resolve(pool);
      out.pools.push_back({name.ns, name.name});
    }
  }
  for (const std::string& service : from.services) {
    const ObjectName name = names.resolve(service);
    out.service_pools.push_back({name.ns, name.name, name.port});
  }
  // Who names Services or labels wants those, not whatever InferencePools there are besides.
  out.inference_pools = !out.pools.empty() || (out.selector_pools.empty() && out.service_pools.empty());
  out.namespaces = names.namespaces();
  out.controller = from.controller;
  out.gateway_address = from.gateway_address;
  out.implicit_gateway = !from.enabled;
  out.listeners = own_listeners(options);
  out.check_certificate = check_secret;
  out.check_authorities = check_authorities;
  const ObjectName self = split_object_name(from.own_service);
  out.self.name = self.name;
  out.self.ns = !self.ns.empty() ? self.ns : !pod.ns.empty() ? pod.ns : home;
  out.self_certain = !pod.ns.empty();
  // What is known without asking anybody: the name by which our own Service is reached inside the cluster. Outside
  // there is none, unless it is said in full.
  const bool certain = !self.name.empty() && (out.self_certain || !self.ns.empty());
  if (out.gateway_address.empty() && certain) out.gateway_address = self.name + '.' + out.self.ns + ".svc";
  return out;
}

}  // namespace penstock::config
