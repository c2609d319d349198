#include "penstock/downstream/client_tunnel.h"

#include <algorithm>
#include <utility>

#include "penstock/downstream/connection.h"

namespace penstock::downstream {

// Whatever is queued already counts as given.
ClientTunnel::ClientTunnel(ClientConnection& from, net::OutQueue& early, ClientTicket& ticket)
    : ClientConnection(from),
      early_(server_.pool()),
      ticket_(std::move(ticket)),
      deadline_(net::Timer::of<&ClientTunnel::on_deadline>(this)),
      given_(queued()),
      began_(loop().now()) {
  early_.take(early);
  if (blocked()) watch_reading();
}

// The owner may end the tunnel from inside its event, and may pause the client.
void ClientTunnel::start(net::TunnelEvents& events) {
  events_ = &events;
  resume_recv();
  while (events_ != nullptr && !early_.empty()) {
    iovec front;
    early_.pieces(&front, 1);
    events_->on_tunnel_bytes({static_cast<const char*>(front.iov_base), front.iov_len});
    if (!early_.empty()) early_.consume(front.iov_len);
  }
}

bool ClientTunnel::write(std::string_view bytes) {
  given_ += bytes.size();
  if (!net::Connection::write(bytes)) return false;
  if (blocked()) watch_reading();
  return true;
}

// ---- what the client does ----

void ClientTunnel::on_bytes(std::span<char> bytes) {
  if (events_ != nullptr) return events_->on_tunnel_bytes({bytes.data(), bytes.size()});
  discarded_ += bytes.size();
  if (discarded_ > server_.options().linger_bytes_max) leave(/*reset=*/true);
}

void ClientTunnel::on_eof() {
  peer_finished_ = true;
  if (events_ != nullptr) events_->on_tunnel_eof();
  else if (queued() == 0) leave(/*reset=*/false);
}

void ClientTunnel::on_error(int) {
  lose(net::TunnelLoss::reset);
}

void ClientTunnel::on_drained() {
  if (events_ != nullptr) events_->on_tunnel_drained();
}

void ClientTunnel::on_flushed() {
  deadline_.cancel();
  if (!parting_) return;
  if (peer_finished_) return leave(/*reset=*/false);
  loop().arm(deadline_, server_.linger_time());
}

// ---- a client that does not read ----

uint64_t ClientTunnel::delivered() {
  const uint64_t sent = given_ - queued();
  return sent - std::min<uint64_t>(sent, stream().unsent());
}

void ClientTunnel::watch_reading() {
  if (deadline_.armed()) return;
  pace_.begin_reading(delivered(), loop().now(), server_.options());
  loop().arm_at(deadline_, pace_.next_check(loop().now(), server_.options()));
}

void ClientTunnel::check_reading() {
  switch (pace_.check_reading(delivered(), loop().now(), server_.options())) {
    case Pace::Reading::fine:
      return loop().arm_at(deadline_, pace_.next_check(loop().now(), server_.options()));
    case Pace::Reading::stalled:
      return lose(net::TunnelLoss::stalled);
    case Pace::Reading::too_slow:
      server_.service().on_limit("client_min_rate");
      return lose(net::TunnelLoss::too_slow);
  }
}

void ClientTunnel::on_deadline() {
  if (queued() > 0) return check_reading();
  if (parting_) leave(/*reset=*/false);
}

// ---- the ends ----

void ClientTunnel::announce_end() {
  if (events_ != nullptr) events_->on_tunnel_ending();
}

// Closing a socket with unread bytes sends RST, which could destroy what was sent last before the client has read it.
void ClientTunnel::part() {
  events_ = nullptr;
  parting_ = true;
  early_.clear();
  finish_sending();
  resume_recv();
  if (queued() > 0) return;  // on_flushed() or watch_reading() follows
  if (peer_finished_) return leave(/*reset=*/false);
  loop().arm(deadline_, server_.linger_time());
}

void ClientTunnel::lose(net::TunnelLoss why) {
  net::TunnelEvents* const events = std::exchange(events_, nullptr);
  const uint64_t unsent = queued();
  leave(/*reset=*/why != net::TunnelLoss::cut || events != nullptr);
  if (events != nullptr) events->on_tunnel_lost(why, unsent);
}

void ClientTunnel::leave(bool reset) {
  if (std::exchange(closed_, true)) return;
  events_ = nullptr;
  early_.clear();
  deadline_.cancel();
  close(reset || queued() > 0);
  leave_count();
  ticket_.release();
  server_.remove(*this);
}

}  // namespace penstock::downstream
