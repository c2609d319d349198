#include "backend_trusts.h"

#include "penstock/base/log.h"

namespace penstock::app {

void BackendTrusts::set(const objects::Desired& desired) {
  std::map<std::string, std::shared_ptr<const objects::BackendTls>> now;
  for (const auto& pool : desired.pools) {
    if (pool->tls != nullptr) now.emplace(pool->tls->policy, pool->tls);
  }
  for (const auto& [policy, tls] : now) {
    const auto before = known_.find(policy);
    if (before == known_.end() || !(*before->second == *tls)) publish(*tls);
  }
  for (const auto& [policy, tls] : known_) {
    if (!now.contains(policy)) publish_(policy, nullptr);
  }
  known_ = std::move(now);
}

// Without a context nobody can connect: an invalid policy must not become no policy.
void BackendTrusts::publish(const objects::BackendTls& tls) {
  if (!tls.usable) return publish_(tls.policy, nullptr);
  auto context = net::TlsClientContext::make({.ca = tls.authorities, .names = tls.names});
  if (!context.ok()) {
    log::error("TLS: a BackendTLSPolicy cannot be obeyed", {{"policy", tls.policy}, {"error", context.error().text}});
    return publish_(tls.policy, nullptr);
  }
  publish_(tls.policy, std::move(*context));
}

}  // namespace penstock::app
