#include "penstock/net/stream.h"

#include <utility>

#include "tls_layer.h"

namespace penstock::net {

Stream::Stream(EventLoop& loop) : loop_(loop) {}

Stream::~Stream() = default;

void Stream::adopt(int fd, SocketEvents& owner, const TlsAccept* tls) {
  if (tls != nullptr) tls_ = std::make_unique<TlsLayer>(*this, owner, *tls);
  socket_ = loop_.ring().adopt(fd, tls_ != nullptr ? *tls_ : owner);
}

int Stream::connect(const Address& to, SocketEvents& owner, const TlsConnect* tls) {
  if (tls != nullptr) tls_ = std::make_unique<TlsLayer>(*this, owner, *tls, to);
  const Result<SocketId, int> socket = loop_.ring().connect(to, tls_ != nullptr ? *tls_ : owner);
  if (!socket.ok()) {
    tls_.reset();
    return socket.error();
  }
  socket_ = *socket;
  return 0;
}

void Stream::take_over(Stream& from, SocketEvents& owner) {
  socket_ = std::exchange(from.socket_, {});
  tls_ = std::move(from.tls_);
  if (tls_ != nullptr) tls_->move_to(*this, owner);
  else loop_.ring().hand_over(socket_, owner);
}

ssize_t Stream::send_tls(std::span<const iovec> pieces) {
  return tls_->send(pieces);
}

size_t Stream::unsent() const {
  const size_t in_socket = loop_.ring().unsent(socket_);
  return tls_ == nullptr ? in_socket : tls_->unsent(in_socket);
}

void Stream::pause_recv() {
  tls_ == nullptr ? loop_.ring().pause_recv(socket_) : tls_->pause_recv(true);
}

void Stream::resume_recv() {
  tls_ == nullptr ? loop_.ring().resume_recv(socket_) : tls_->pause_recv(false);
}

void Stream::shutdown_send() {
  tls_ == nullptr ? loop_.ring().shutdown_send(socket_) : tls_->shutdown_send();
}

void Stream::close(bool reset) {
  if (!open()) return;
  if (tls_ != nullptr && !reset) tls_->say_goodbye();
  loop_.ring().close(socket_, reset);
  socket_ = {};
  tls_.reset();
}

TlsInfo Stream::tls_info() const {
  return tls_ == nullptr ? TlsInfo{} : tls_->info();
}

std::string_view Stream::failure() const {
  return tls_ == nullptr ? std::string_view{} : tls_->failure();
}

}  // namespace penstock::net
