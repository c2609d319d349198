// Tunnel: what a client and an endpoint say to each other after a 101, until both have finished. It joins the two ends
// (net/tunnel_end.h) and passes bytes on as they come: each direction has a queue in the memory budget, and whoever
// sends is paused while the other does not read. It watches where WebSocket frames end, so that it knows whether a
// session was closed properly, and can say why when the gateway itself ends one.
// Thread: its shard's. Lifetime: made by the exchange; its owner destroys it when it has ended. Destroying it earlier
// resets both connections.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "penstock/downstream/client_tunnel.h"
#include "penstock/http/websocket.h"
#include "penstock/net/tunnel_end.h"
#include "penstock/proxy/gateway.h"
#include "penstock/upstream/endpoint_tunnel.h"

namespace penstock::proxy {

// How a tunnel ended.
enum class TunnelOutcome : uint8_t {
  closed,            // a Close frame went before the end of the first connection that ended
  client_gone,       // without one, the client's connection ended first
  client_stalled,    // it accepted no byte for timeouts.client_write
  client_too_slow,   // it read more slowly than limits.client_min_rate
  endpoint_closed,   // without one, the endpoint's connection ended first: FIN
  endpoint_reset,    // likewise, in another way
  idle,              // nobody sent a byte for timeouts.tunnel_idle
  no_memory,         // the memory budget has no room for what one side sends faster than the other reads
  ended_by_gateway,  // end()
};

class TunnelOwner {
 public:
  // The last event: the ends have been left. The owner destroys the tunnel.
  virtual void on_tunnel_over(TunnelOutcome how) = 0;
  // The process ends: the owner calls Tunnel::end().
  virtual void on_tunnel_ending() = 0;

 protected:
  ~TunnelOwner() = default;
};

class Tunnel {
 public:
  Tunnel(Context& context, downstream::ClientTunnel& client, upstream::EndpointTunnel& endpoint, TunnelOwner& owner);
  ~Tunnel();
  Tunnel(const Tunnel&) = delete;

  // From now on bytes pass; first, what the client sent early. The caller must not touch the tunnel afterwards.
  void start();
  // Ends it: the endpoint's connection is reset, and the client gets a Close frame if none has gone to it and it is not
  // in the middle of another one. Calls on_tunnel_over().
  void end(http::WebSocketClose why);

  uint64_t from_client() const { return client_.bytes; }  // bytes that it has sent
  uint64_t to_client() const { return endpoint_.bytes; }  // that its socket has accepted, or that wait for it
  // When the endpoint last sent anything; later than any time while it is paused.
  Instant heard_at() const;

 private:
  struct Side final : net::TunnelEvents {
    explicit Side(Tunnel& owner) : tunnel(owner) {}
    void on_tunnel_bytes(std::string_view piece) override { tunnel.pass_on(*this, piece); }
    void on_tunnel_eof() override { tunnel.finished_sending(*this); }
    void on_tunnel_drained() override { tunnel.drained(*this); }
    void on_tunnel_lost(net::TunnelLoss why, uint64_t unsent) override { tunnel.lost(*this, why, unsent); }
    void on_tunnel_ending() override { tunnel.owner_.on_tunnel_ending(); }

    Tunnel& tunnel;
    net::TunnelEnd* end = nullptr;  // null: it has been left
    http::WebSocketFrames frames;   // that it sends
    uint64_t bytes = 0;             // that it has sent
    Instant heard_at{};
    bool finished = false;  // it sends no more
  };

  Side& other(const Side& side) { return &side == &client_ ? endpoint_ : client_; }
  void pass_on(Side& from, std::string_view piece);
  void cannot_pass(Side& to);
  void finished_sending(Side& from);
  void drained(Side& side);
  void lost(Side& side, net::TunnelLoss why, uint64_t unsent);
  void on_idle();
  Duration limit() const;
  TunnelOutcome without_error(TunnelOutcome otherwise) const;
  void over(TunnelOutcome how, bool reset_endpoint);

  Context& context_;
  TunnelOwner& owner_;
  downstream::ClientTunnel& client_end_;
  Side client_{*this}, endpoint_{*this};
  net::Timer idle_;
  Instant moved_at_;                      // when a byte last came, or a queue went down
  std::optional<TunnelOutcome> decided_;  // when the first side finished
};

}  // namespace penstock::proxy
