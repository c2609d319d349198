// Whom to trust at the endpoints that BackendTLSPolicies are about: a context of TLS for each policy. Thread: control.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "penstock/net/tls.h"
#include "penstock/objects/desired.h"

namespace penstock::app {

class BackendTrusts {
 public:
  // `trust`: as in EndpointState. A null context: there is none any more.
  using Publish = std::function<void(const std::string& trust, std::shared_ptr<const net::TlsClientContext> context)>;
  explicit BackendTrusts(Publish publish) : publish_(std::move(publish)) {}

  // What the pools say now; publishes what is new. To be called before endpoints of these pools are published.
  void set(const objects::Desired& desired);

 private:
  void publish(const objects::BackendTls& tls);

  Publish publish_;
  std::map<std::string, std::shared_ptr<const objects::BackendTls>> known_;  // by policy
};

}  // namespace penstock::app
