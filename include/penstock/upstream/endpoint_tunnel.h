// The endpoint's end of a tunnel (net/tunnel_end.h): a connection to an endpoint that has left HTTP after a 101. It has
// no parser and never goes back to a pool. Thread: its loop's. Lifetime: made by Connection::switch_protocols(); the
// loop destroys it at the end of the turn in which it has closed.
#pragma once

#include "penstock/net/tunnel_end.h"
#include "penstock/upstream/client.h"

namespace penstock::upstream {

class EndpointTunnel final : public net::Connection, public net::Disposable, public net::TunnelEnd {
 public:
  // Goes on with the stream of a connection to this target, which stays counted as one of its connections.
  EndpointTunnel(Client& client, const Target& target, net::Stream& from, net::BlockPool& pool);

  net::Connection& connection() override { return *this; }
  void start(net::TunnelEvents& events) override { events_ = &events; }
  [[nodiscard]] bool write(std::string_view bytes) override { return net::Connection::write(bytes); }
  void leave(bool reset) override;
  // Bytes that were received with the head of the 101.
  void take(std::string_view bytes);

 private:
  void on_bytes(std::span<char> bytes) override { take({bytes.data(), bytes.size()}); }
  void on_eof() override;
  void on_error(int error) override;
  void on_drained() override;

  Client& client_;
  net::TunnelEvents* events_ = nullptr;
  std::atomic<int64_t>* const open_connections_;
};

}  // namespace penstock::upstream
