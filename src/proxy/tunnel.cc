#include "tunnel.h"

#include <algorithm>
#include <utility>

namespace penstock::proxy {

namespace {
// How long the side that may still send has for that, in silence, once the other one has finished.
constexpr Duration closing_time = seconds(10);
}  // namespace

Tunnel::Tunnel(Context& context, downstream::ClientTunnel& client, upstream::EndpointTunnel& endpoint,
               TunnelOwner& owner)
    : context_(context),
      owner_(owner),
      client_end_(client),
      idle_(net::Timer::of<&Tunnel::on_idle>(this)),
      moved_at_(context.loop.now()) {
  client_.end = &client;
  endpoint_.end = &endpoint;
  client_.heard_at = endpoint_.heard_at = moved_at_;
  context_.observer.tunnels_changed(+1);
}

Tunnel::~Tunnel() {
  for (Side* const side : {&client_, &endpoint_}) {
    if (side->end != nullptr) side->end->leave(/*reset=*/true);
  }
  context_.observer.tunnels_changed(-1);
}

void Tunnel::start() {
  if (limit() > Duration{0}) context_.loop.arm(idle_, limit());
  endpoint_.end->start(endpoint_);
  client_.end->start(client_);
}

Instant Tunnel::heard_at() const {
  const bool paused = endpoint_.end != nullptr && endpoint_.end->connection().recv_paused();
  return paused ? Instant::max() : endpoint_.heard_at;
}

// ---- bytes ----

void Tunnel::pass_on(Side& from, std::string_view piece) {
  Side& to = other(from);
  moved_at_ = from.heard_at = context_.loop.now();
  from.bytes += piece.size();
  from.frames.feed(piece);
  context_.observer.tunnel_bytes(&from == &client_, piece.size());
  if (!to.end->write(piece)) return cannot_pass(to);
  if (to.end->connection().congested()) from.end->connection().pause_recv();
}

// Its connection is dead, or the memory budget is full: then what is queued is given up as well.
void Tunnel::cannot_pass(Side& to) {
  if (!to.end->connection().starved()) {
    return over(without_error(&to == &client_ ? TunnelOutcome::client_gone : TunnelOutcome::endpoint_reset), true);
  }
  context_.observer.limit_hit("memory");
  std::exchange(client_.end, nullptr)->leave(/*reset=*/true);
  over(TunnelOutcome::no_memory, /*reset_endpoint=*/true);
}

void Tunnel::drained(Side& side) {
  moved_at_ = context_.loop.now();
  other(side).end->connection().resume_recv();
}

// ---- the ends ----

// The other side learns of it, and may go on sending; but not to an endpoint that has said Close, which reads no more.
void Tunnel::finished_sending(Side& from) {
  from.finished = true;
  if (!decided_) {
    decided_ = without_error(&from == &client_ ? TunnelOutcome::client_gone : TunnelOutcome::endpoint_closed);
  }
  const bool said_close = endpoint_.finished && endpoint_.frames.closed();
  if (said_close || (client_.finished && endpoint_.finished)) return over(*decided_, /*reset_endpoint=*/false);
  moved_at_ = context_.loop.now();
  other(from).end->connection().finish_sending();
  context_.loop.arm(idle_, limit());
}

void Tunnel::lost(Side& side, net::TunnelLoss why, uint64_t unsent) {
  side.end = nullptr;
  Side& from = other(side);
  from.bytes -= std::min(from.bytes, unsent);
  const bool client = &side == &client_;
  TunnelOutcome how = client ? TunnelOutcome::client_gone : TunnelOutcome::endpoint_reset;
  if (why == net::TunnelLoss::stalled) how = TunnelOutcome::client_stalled;
  else if (why == net::TunnelLoss::too_slow) how = TunnelOutcome::client_too_slow;
  else if (why == net::TunnelLoss::cut) how = TunnelOutcome::ended_by_gateway;
  else how = decided_ ? *decided_ : without_error(how);
  over(how, /*reset_endpoint=*/true);
}

TunnelOutcome Tunnel::without_error(TunnelOutcome otherwise) const {
  return client_.frames.closed() || endpoint_.frames.closed() ? TunnelOutcome::closed : otherwise;
}

Duration Tunnel::limit() const {
  const Duration idle = context_.options.tunnel_idle_timeout;
  if (!client_.finished && !endpoint_.finished) return idle;
  return idle > Duration{0} ? std::min<Duration>(idle, closing_time) : closing_time;
}

// The timer is not moved by each piece.
void Tunnel::on_idle() {
  const Instant due = moved_at_ + limit();
  if (due > context_.loop.now()) return context_.loop.arm_at(idle_, due);
  if (decided_) return over(*decided_, /*reset_endpoint=*/true);
  context_.observer.limit_hit("tunnel_idle");
  decided_ = TunnelOutcome::idle;
  end(http::WebSocketClose::going_away);
}

// Nothing follows a Close frame (RFC 6455, section 5.5.1), nor does it stand inside of another frame.
void Tunnel::end(http::WebSocketClose why) {
  const bool may_say = !endpoint_.finished && endpoint_.frames.between_frames() && !endpoint_.frames.closed();
  if (client_.end != nullptr && may_say) {
    const auto frame = http::websocket_close(why);
    static_cast<void>(client_.end->write({frame.data(), frame.size()}));
  }
  over(decided_.value_or(TunnelOutcome::ended_by_gateway), /*reset_endpoint=*/true);
}

// What is queued for the client still goes to it. The last use of this: the owner destroys it.
void Tunnel::over(TunnelOutcome how, bool reset_endpoint) {
  idle_.cancel();
  if (std::exchange(client_.end, nullptr) != nullptr) client_end_.part();
  if (net::TunnelEnd* const end = std::exchange(endpoint_.end, nullptr)) end->leave(reset_endpoint);
  owner_.on_tunnel_over(how);
}

}  // namespace penstock::proxy
