// From the store to what the gateway should do. The result depends only on the store's content, the options and the
// time (which goes into statuses): never on the order of events. Work follows what changed: an event of one pod touches
// the pools that select it. One thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/base/result.h"
#include "penstock/objects/desired.h"
#include "penstock/objects/store.h"

namespace penstock::objects {

// A pool from flags, without an InferencePool.
struct SelectorPool {
  std::string ns, name;
  Labels selector;
  std::vector<uint16_t> ports;  // 1 to 8
  bool operator==(const SelectorPool&) const = default;
};
// A pool from a Service's EndpointSlices.
struct ServicePool {
  std::string ns, name;
  std::string port;  // number or name; "": the only one, or the one called http
  bool operator==(const ServicePool&) const = default;
};
// One of the gateway's own listeners, as the listeners of Gateways name it.
struct OwnListener {
  std::string name;
  uint16_t port = 0;  // 0: no Gateway's listener has this port
  bool tls = false;
  bool has_certificate = false;  // of its own, from files
  bool operator==(const OwnListener&) const = default;
};
// Why a certificate with its key cannot be used; "": it can.
using CheckCertificate = std::string (*)(const Secret& secret);
// Likewise for a bundle of authorities.
using CheckAuthorities = std::string (*)(const std::string& pem);
struct PoolName {
  std::string ns, name;
  bool operator==(const PoolName&) const = default;
};

struct ResolveOptions {
  std::vector<std::string> namespaces;  // whose objects count; empty: all
  bool inference_pools = true;          // false: none of them, only the pools below
  std::vector<PoolName> pools;          // InferencePools to serve; empty: all in `namespaces`
  std::vector<SelectorPool> selector_pools;
  std::vector<ServicePool> service_pools;
  std::string controller = "penstock.dev/gateway";  // GatewayClass.spec.controllerName, and who writes statuses
  std::string gateway_address;                      // for the status of Gateways: an IP or a hostname; "": not known
  // By number (RouteQuery::listener); empty: all of them are one, in plain HTTP.
  std::vector<OwnListener> listeners;
  CheckCertificate check_certificate = nullptr;  // null: whatever there is can be used
  CheckAuthorities check_authorities = nullptr;
  // HTTPRoutes whose Gateway is not in the store count as attached to one that lets everything in: for manifests.
  bool implicit_gateway = false;
  // Parent in the status of pools that no route leads to: the gateway's own Service. name "": none is written.
  ParentRef self{.group = "", .kind = "Service"};
  bool self_certain = false;  // nobody else has that Service: what it says of pools that we do not serve is taken back
  bool prefer_ipv6 = false;   // of Services with both families
  bool operator==(const ResolveOptions&) const = default;
};

// Secrets that listeners of our Gateways refer to, and may: in the Gateway's namespace, or in one with a
// ReferenceGrant. Sorted, each once.
struct ObjectName {
  std::string ns, name;
  auto operator<=>(const ObjectName&) const = default;
};
std::vector<ObjectName> referenced_secrets(const Store& store, const ResolveOptions& options);
// ConfigMaps that BackendTLSPolicies take authorities from. Likewise.
std::vector<ObjectName> referenced_config_maps(const Store& store, const ResolveOptions& options);

// "app=vllm,tier=prod" (also "=="). Only equality: what a pool's selector can say.
Result<Labels> parse_selector(std::string_view text);

class Resolver {
 public:
  // The store must outlive the resolver, which is the only taker of its changes.
  Resolver(Store& store, ResolveOptions options);
  ~Resolver();

  void set_options(ResolveOptions options);
  // Brings the result up to date with the store. `now_seconds`: since 1970, for conditions that change.
  const Desired& update(int64_t now_seconds);
  const Desired& desired() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace penstock::objects
