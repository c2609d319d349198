#include "tests/support/sim_peer.h"

#include <utility>

namespace penstock::test {

bool SimPeer::connect(const net::Address& to) {
  PENSTOCK_ASSERT(!is_open());
  const auto socket = ring_.connect(to, *this);
  if (!socket.ok()) {
    error_ = socket.error();
    return false;
  }
  id_ = *socket;
  return true;
}

void SimPeer::adopt(int fd) {
  PENSTOCK_ASSERT(!is_open());
  connected_ = true;
  id_ = ring_.adopt(fd, *this);
}

void SimPeer::send(std::string_view bytes) {
  if (!is_open() || error_ != 0) return;
  PENSTOCK_ASSERT(!finish_wanted_);
  unsent_ += bytes;
  if (unsent_.size() == bytes.size()) flush();  // else on_writable is on its way
}

void SimPeer::flush() {
  if (!is_open() || error_ != 0) return;
  if (!unsent_.empty()) {
    const iovec piece{unsent_.data(), unsent_.size()};
    const ssize_t n = ring_.send(id_, {&piece, 1});
    if (n < 0) {
      error_ = static_cast<int>(-n);
      return;
    }
    unsent_.erase(0, static_cast<size_t>(n));
  }
  if (!unsent_.empty() || !finish_wanted_ || finished_) return;
  finished_ = true;
  ring_.shutdown_send(id_);
}

void SimPeer::finish() {
  finish_wanted_ = true;
  if (unsent_.empty()) flush();
}

void SimPeer::close(bool reset) {
  ring_.close(std::exchange(id_, {}), reset);
}

void SimPeer::pause() {
  ring_.pause_recv(id_);
}

void SimPeer::resume() {
  ring_.resume_recv(id_);
}

std::string SimPeer::take() {
  return std::exchange(received_, {});
}

void SimPeer::on_connected() {
  connected_ = true;
  tell();
}

void SimPeer::on_bytes(std::span<char> bytes) {
  received_.append(bytes.data(), bytes.size());
  tell();
}

void SimPeer::on_eof() {
  eof_ = true;
  tell();
}

void SimPeer::on_writable() {
  flush();
  tell();
}

void SimPeer::on_error(int error) {
  error_ = error;
  tell();
}

SimServer::SimServer(SimNetwork& network, const net::Address& at, std::function<void(SimPeer&)> on_peer)
    : network_(network), on_peer_(std::move(on_peer)) {
  const auto listener = network_.peer_ring().listen(at, /*reuse_port=*/false, *this, &bound_);
  PENSTOCK_ASSERT(listener.ok());
  listener_ = *listener;
}

void SimServer::stop() {
  network_.peer_ring().close_listener(std::exchange(listener_, {}));
}

void SimServer::on_accept(int fd) {
  auto& peer = *peers_.emplace_back(std::make_unique<SimPeer>(network_));
  peer.adopt(fd);
  if (on_peer_) on_peer_(peer);
}

void SimServer::on_accept_error(int) {
  ++accept_errors_;
}

}  // namespace penstock::test
