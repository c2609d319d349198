#include "penstock/discovery/cluster.h"

#include "cluster_impl.h"

namespace penstock::discovery {

Cluster::Cluster(net::EventLoop& loop, ClusterOptions options, ClusterEvents& events,
                 std::unique_ptr<kube::Transport> transport)
    : impl_(std::make_unique<ClusterImpl>(loop, std::move(options), events, std::move(transport))) {}

Cluster::~Cluster() = default;

std::optional<Message> Cluster::start() {
  return impl_->start();
}
void Cluster::stop() {
  impl_->stop();
}
void Cluster::stop_writing() {
  impl_->stop_writing();
}
bool Cluster::synced() const {
  return impl_->synced();
}
const objects::Desired& Cluster::desired() const {
  return impl_->desired();
}
ClusterStatus Cluster::status() const {
  return impl_->status();
}
bool Cluster::endpoint_unreachable(std::string_view ns, std::string_view name) {
  return impl_->endpoint_unreachable(ns, name);
}

}  // namespace penstock::discovery
