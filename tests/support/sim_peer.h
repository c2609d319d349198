// Scriptable ends of connections, for driving servers and clients in tests. They live on the network's own ring.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/sim_ring.h"

namespace penstock::test {

// A socket that remembers what happened to it and sends what it is told.
class SimPeer final : public net::SocketEvents {
 public:
  explicit SimPeer(SimNetwork& network) : ring_(network.peer_ring()) {}
  ~SimPeer() { close(); }
  SimPeer(const SimPeer&) = delete;

  // Called after each event has been recorded; may use the peer in any way but destroying it.
  std::function<void(SimPeer&)> on_event;

  // False: not even a socket could be made.
  bool connect(const net::Address& to);
  void adopt(int fd);
  // Sends as the network takes it; keeps the rest for later. Nothing when the connection is gone.
  void send(std::string_view bytes);
  void finish();  // FIN after everything given to send()
  void close(bool reset = false);
  void pause();
  void resume();

  const std::string& received() const { return received_; }
  // Takes what was received so far.
  std::string take();
  bool is_open() const { return static_cast<bool>(id_); }
  bool connected() const { return connected_; }
  bool eof() const { return eof_; }
  int error() const { return error_; }  // 0: none
  bool ended() const { return eof_ || error_ != 0 || !is_open(); }
  size_t unsent() const { return unsent_.size(); }

 private:
  void on_connected() override;
  void on_bytes(std::span<char> bytes) override;
  void on_eof() override;
  void on_writable() override;
  void on_error(int error) override;
  void flush();
  void tell() {
    if (on_event) on_event(*this);
  }

  SimRing& ring_;
  net::SocketId id_;
  std::string received_, unsent_;
  bool connected_ = false, eof_ = false, finish_wanted_ = false, finished_ = false;
  int error_ = 0;
};

// Listens and makes a SimPeer of each connection.
class SimServer final : public net::AcceptEvents {
 public:
  // `on_peer` may set on_event. Port 0: any.
  SimServer(SimNetwork& network, const net::Address& at, std::function<void(SimPeer&)> on_peer = {});
  ~SimServer() { stop(); }
  SimServer(const SimServer&) = delete;

  const net::Address& address() const { return bound_; }
  std::vector<std::unique_ptr<SimPeer>>& peers() { return peers_; }
  size_t accept_errors() const { return accept_errors_; }
  void stop();  // stops listening; the peers stay

 private:
  void on_accept(int fd) override;
  void on_accept_error(int error) override;

  SimNetwork& network_;
  net::SocketId listener_;
  net::Address bound_;
  std::function<void(SimPeer&)> on_peer_;
  std::vector<std::unique_ptr<SimPeer>> peers_;
  size_t accept_errors_ = 0;
};

}  // namespace penstock::test
