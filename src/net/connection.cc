#include "penstock/net/connection.h"

#include <cerrno>

namespace penstock::net {

Connection::~Connection() {
  close();
  if (destroyed_ != nullptr) *destroyed_ = true;
}

void Connection::adopt(int fd) {
  PENSTOCK_ASSERT(!open());
  opened(loop_.ring().adopt(fd, *this));
}

int Connection::connect(const Address& to) {
  PENSTOCK_ASSERT(!open());
  const Result<SocketId, int> socket = loop_.ring().connect(to, *this);
  if (!socket.ok()) return socket.error();
  opened(*socket);
  return 0;
}

void Connection::opened(SocketId socket) {
  socket_ = socket;
  congested_ = recv_paused_ = finish_when_flushed_ = false;
}

void Connection::close(bool reset) {
  if (!open()) return;
  loop_.ring().close(socket_, reset);
  socket_ = {};
  queue_.clear();
  congested_ = false;
}

bool Connection::write(std::string_view bytes) {
  if (bytes.empty()) return open();
  const iovec piece{const_cast<char*>(bytes.data()), bytes.size()};
  return write({&piece, 1});
}

bool Connection::write(std::span<const iovec> pieces) {
  if (!open()) return false;
  PENSTOCK_ASSERT(!finish_when_flushed_);
  size_t sent = 0;
  if (queue_.empty()) {
    const ssize_t n = loop_.ring().send(socket_, pieces);
    if (n < 0) return false;
    sent = static_cast<size_t>(n);
  }
  if (!queue_rest(pieces, sent)) return false;
  note_congestion();
  return true;
}

bool Connection::queue_rest(std::span<const iovec> pieces, size_t sent) {
  for (const iovec& piece : pieces) {
    if (sent >= piece.iov_len) {
      sent -= piece.iov_len;
      continue;
    }
    if (!queue_.append({static_cast<const char*>(piece.iov_base) + sent, piece.iov_len - sent})) return false;
    sent = 0;
  }
  return true;
}

bool Connection::under_pressure() const {
  const MemoryBudget& budget = queue_.budget();
  return budget.used() > budget.limit() / 8 * 7;
}

void Connection::note_congestion() {
  if (queue_.empty() || congested_) return;
  congested_ = queue_.size() > high_mark || under_pressure();
}

void Connection::finish_sending() {
  if (!open() || finish_when_flushed_) return;
  finish_when_flushed_ = true;
  if (queue_.empty()) loop_.ring().shutdown_send(socket_);
}

void Connection::pause_recv() {
  if (!open() || recv_paused_) return;
  recv_paused_ = true;
  loop_.ring().pause_recv(socket_);
}

void Connection::resume_recv() {
  if (!open() || !recv_paused_) return;
  recv_paused_ = false;
  loop_.ring().resume_recv(socket_);
}

bool Connection::send_queued() {
  while (!queue_.empty()) {
    iovec pieces[16];
    const size_t count = queue_.pieces(pieces, std::size(pieces));
    size_t offered = 0;
    for (size_t i = 0; i < count; ++i) offered += pieces[i].iov_len;
    const ssize_t sent = loop_.ring().send(socket_, {pieces, count});
    if (sent < 0) {
      on_error(static_cast<int>(-sent));  // the ring leaves it to the caller of send() to tell
      return false;
    }
    queue_.consume(static_cast<size_t>(sent));
    if (static_cast<size_t>(sent) < offered) break;  // on_writable comes again
  }
  return true;
}

void Connection::on_writable() {
  if (queue_.empty() || !send_queued()) return;
  const bool flushed = queue_.empty();
  if (flushed && finish_when_flushed_) loop_.ring().shutdown_send(socket_);
  if (congested_ && queue_.size() < low_mark && (flushed || !under_pressure())) {
    congested_ = false;
    bool destroyed = false;
    destroyed_ = &destroyed;
    on_drained();
    if (destroyed) return;
    destroyed_ = nullptr;
  }
  // Whoever was told that the queue has drained may have filled it again, or closed.
  if (flushed && open() && queue_.empty()) on_flushed();
}

}  // namespace penstock::net
