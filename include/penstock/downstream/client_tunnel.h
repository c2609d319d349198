// The client's end of a tunnel (net/tunnel_end.h): a client's connection that has left HTTP after a 101. It has no
// parser, so nothing that comes can be taken for a request. The timeouts of a client that does not read hold as for an
// answer. Thread: its loop's. Lifetime: owned by its Server, as a Connection.
#pragma once

#include "penstock/downstream/client_connection.h"
#include "penstock/downstream/pace.h"
#include "penstock/net/tunnel_end.h"

namespace penstock::downstream {

class ClientTunnel final : public ClientConnection, public net::TunnelEnd {
 public:
  // `early`: what the client has sent behind its request; `ticket`: what counts it. Both are taken over.
  ClientTunnel(ClientConnection& from, net::OutQueue& early, ClientTicket& ticket);

  // ---- TunnelEnd ----
  net::Connection& connection() override { return *this; }
  void start(net::TunnelEvents& events) override;  // hands over what came early at once
  [[nodiscard]] bool write(std::string_view bytes) override;
  void leave(bool reset) override;
  // Sends what is queued and then FIN; discards what comes until the client has closed as well, or for linger_timeout.
  // No event follows.
  void part();

  // ---- for the Server ----
  bool idle() const override { return false; }
  Instant idle_since() const override { return began_; }
  bool asks_nothing() const override { return false; }
  void close_when_idle() override {}  // a drain waits for sessions as it does for answers
  void announce_end() override;
  void cut() override { lose(net::TunnelLoss::cut); }
  void evict() override {}
  void crowded_out() override {}

 private:
  void on_bytes(std::span<char> bytes) override;
  void on_eof() override;
  void on_error(int error) override;
  void on_drained() override;
  void on_blocked() override { watch_reading(); }
  void on_flushed() override;
  void on_deadline();
  void watch_reading();
  void check_reading();
  uint64_t delivered();  // bytes that have reached the client's host, as far as the kernel tells
  void lose(net::TunnelLoss why);

  net::TunnelEvents* events_ = nullptr;  // null: not started, parting, or closed
  net::OutQueue early_;
  ClientTicket ticket_;
  net::Timer deadline_;
  Pace pace_;
  uint64_t given_;
  size_t discarded_ = 0;
  const Instant began_;
  bool parting_ = false, peer_finished_ = false, closed_ = false;
};

}  // namespace penstock::downstream
