#include "penstock/upstream/endpoint_tunnel.h"

#include <utility>

namespace penstock::upstream {

EndpointTunnel::EndpointTunnel(Client& client, const Target& target, net::Stream& from, net::BlockPool& pool)
    : net::Connection(from.loop(), pool), client_(client), open_connections_(target.open_connections) {
  take_over(from);
}

void EndpointTunnel::take(std::string_view bytes) {
  if (events_ != nullptr && !bytes.empty()) events_->on_tunnel_bytes(bytes);
}

void EndpointTunnel::on_eof() {
  if (events_ != nullptr) events_->on_tunnel_eof();
}

void EndpointTunnel::on_drained() {
  if (events_ != nullptr) events_->on_tunnel_drained();
}

void EndpointTunnel::on_error(int) {
  net::TunnelEvents* const events = events_;
  const uint64_t unsent = queued();
  leave(/*reset=*/true);
  if (events != nullptr) events->on_tunnel_lost(net::TunnelLoss::reset, unsent);
}

void EndpointTunnel::leave(bool reset) {
  if (!open()) return;
  events_ = nullptr;
  close(reset || queued() > 0);
  client_.tunnel_closed();
  if (open_connections_ != nullptr) open_connections_->fetch_sub(1, std::memory_order_release);
  loop().dispose(std::unique_ptr<net::Disposable>(this));
}

}  // namespace penstock::upstream
