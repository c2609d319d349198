// One end of a tunnel: a connection that has left HTTP, so that nothing of ours reads its bytes as messages any more.
// The client's side and the endpoint's side each have one, which goes on with the stream of their HTTP connection and
// has no parser. proxy::Tunnel joins the two. Thread: its loop's. Lifetime: until the end of the turn in which it has
// closed; whoever was given it must not use it after leave() or on_tunnel_lost().
#pragma once

#include <cstdint>
#include <string_view>

#include "penstock/net/connection.h"

namespace penstock::net {

// Why an end has closed by itself.
enum class TunnelLoss : uint8_t {
  reset,     // RST, another socket error, or the end of the connection in the middle of a TLS stream
  stalled,   // it accepted no byte for ServerOptions::write_timeout
  too_slow,  // it read more slowly than ServerOptions::min_rate
  cut,       // the process ends
};

// What an end tells. No event comes before TunnelEnd::start().
class TunnelEvents {
 public:
  virtual void on_tunnel_bytes(std::string_view bytes) = 0;  // valid during the call
  virtual void on_tunnel_eof() = 0;                          // the peer sends no more; it may still read
  virtual void on_tunnel_drained() = 0;                      // its connection().congested() is over
  // The last event: it has closed. `unsent`: bytes given that its socket had not accepted.
  virtual void on_tunnel_lost(TunnelLoss why, uint64_t unsent) = 0;
  virtual void on_tunnel_ending() {}  // the process ends: the connection will be cut in the next turn

 protected:
  ~TunnelEvents() = default;
};

class TunnelEnd {
 public:
  // To be paused, and to send FIN on.
  virtual Connection& connection() = 0;
  virtual void start(TunnelEvents& events) = 0;
  // As Connection::write().
  [[nodiscard]] virtual bool write(std::string_view bytes) = 0;
  virtual void leave(bool reset) = 0;  // closes at once; no event follows

 protected:
  ~TunnelEnd() = default;
};

}  // namespace penstock::net
