#include "penstock/downstream/client_connection.h"

#include <utility>

#include "penstock/downstream/connection.h"

namespace penstock::downstream {

ClientConnection::ClientConnection(Server& server, const std::optional<net::IpAddress>& peer, ClientTable* counted_in,
                                   size_t listener)
    : net::Connection(server.loop(), server.pool()),
      server_(server),
      peer_(peer),
      counted_in_(counted_in),
      listener_(listener) {
  if (peer_.has_value()) peer_ip_ = peer_->to_string();
}

ClientConnection::ClientConnection(ClientConnection& from)
    : net::Connection(from.loop(), from.server_.pool()),
      server_(from.server_),
      peer_ip_(from.peer_ip_),
      peer_(from.peer_),
      counted_in_(std::exchange(from.counted_in_, nullptr)),
      listener_(from.listener_) {
  take_over(from);
}

bool ClientConnection::hold_unfinished(size_t wanted) {
  if (!ListNode<UnfinishedTag>::linked()) server_.unfinished_.push_back(*this);
  if (wanted <= unfinished_) return true;
  if (!server_.make_room_for_head(*this, wanted - unfinished_)) return false;
  server_.unfinished_bytes_ += wanted - unfinished_;
  unfinished_ = wanted;
  return true;
}

void ClientConnection::finish_head() {
  if (!ListNode<UnfinishedTag>::linked()) return;
  ListNode<UnfinishedTag>::unlink();
  server_.unfinished_bytes_ -= unfinished_;
  unfinished_ = 0;
}

void ClientConnection::leave_count() {
  if (ClientTable* const table = std::exchange(counted_in_, nullptr)) table->leave(peer_->client());
}

}  // namespace penstock::downstream
