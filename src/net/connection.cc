#include "penstock/net/connection.h"

#include <algorithm>
#include <cerrno>

namespace penstock::net {

Connection::~Connection() {
  close();
  if (destroyed_ != nullptr) *destroyed_ = true;
}

void Connection::adopt(int fd, const TlsAccept* tls) {
  PENSTOCK_ASSERT(!open());
  stream_.adopt(fd, *this, tls);
  opened();
}

int Connection::connect(const Address& to, const TlsConnect* tls) {
  PENSTOCK_ASSERT(!open());
  if (const int error = stream_.connect(to, *this, tls); error != 0) return error;
  opened();
  return 0;
}

void Connection::take_over(Connection& from) {
  const bool paused = from.recv_paused_, blocked = from.blocked_;
  from.Flushable::unlink();
  take_over(from.stream_);
  queue_.take(from.queue_);
  recv_paused_ = paused;
  blocked_ = blocked;
  note_congestion();
  if (!blocked_ && !queue_.empty()) loop().flush_later(*this);
}

void Connection::take_over(Stream& from) {
  PENSTOCK_ASSERT(!open());
  stream_.take_over(from, *this);
  opened();
}

void Connection::opened() {
  congested_ = recv_paused_ = blocked_ = finish_when_flushed_ = starved_ = false;
}

void Connection::close(bool reset) {
  if (!open()) return;
  stream_.close(reset);
  queue_.clear();
  congested_ = blocked_ = false;
  Flushable::unlink();
}

bool Connection::write(std::string_view bytes) {
  if (bytes.empty()) return open();
  const iovec piece{const_cast<char*>(bytes.data()), bytes.size()};
  return write({&piece, 1});
}

bool Connection::write(std::span<const iovec> pieces) {
  if (!open()) return false;
  PENSTOCK_ASSERT(!finish_when_flushed_);
  size_t size = 0;
  for (const iovec& piece : pieces) size += piece.iov_len;
  const bool gather = queue_.size() + size <= gather_max;
  const size_t queued = blocked_ || gather ? queue(pieces) : 0;
  starved_ = queued < size && blocked_;
  if (queued < size) return !blocked_ && write_now(pieces, queued);
  if (blocked_) {
    note_congestion();
  } else if (size > 0) {
    loop().flush_later(*this);
  }
  return true;
}

// For what is large, and for what the budget would not queue: the kernel may take it. `skip` bytes are queued already.
bool Connection::write_now(std::span<const iovec> pieces, size_t skip) {
  if (send_queued() != 0) return false;
  const bool at_once = queue_.empty() && skip == 0;
  if (at_once) {
    const ssize_t sent = send(pieces);
    if (sent < 0) return false;
    skip = static_cast<size_t>(sent);
  }
  for (const iovec& piece : pieces) {
    const size_t from = std::min(skip, piece.iov_len);
    skip -= from;
    const std::string_view rest(static_cast<const char*>(piece.iov_base) + from, piece.iov_len - from);
    if (!(at_once ? enqueue(rest) : send_or_queue(rest))) return false;
  }
  blocked_ = !queue_.empty();
  note_congestion();
  return true;
}

ssize_t Connection::send(std::span<const iovec> pieces) {
  const ssize_t sent = stream_.send(pieces);
  starved_ = sent == -ENOBUFS;
  return sent;
}

bool Connection::send_or_queue(std::string_view bytes) {
  ssize_t sent = 0;
  if (queue_.empty() && !bytes.empty()) {
    const iovec piece{const_cast<char*>(bytes.data()), bytes.size()};
    sent = send({&piece, 1});
  }
  return sent >= 0 && enqueue(bytes.substr(static_cast<size_t>(sent)));
}

bool Connection::enqueue(std::string_view bytes) {
  starved_ = !queue_.append(bytes);
  return !starved_;
}

// Returns how many bytes were queued: fewer than all when the budget refused.
size_t Connection::queue(std::span<const iovec> pieces) {
  size_t queued = 0;
  for (const iovec& piece : pieces) {
    if (!queue_.append({static_cast<const char*>(piece.iov_base), piece.iov_len})) break;
    queued += piece.iov_len;
  }
  return queued;
}

// The fuller the budget, the less may be queued before the source pauses, and in a small one it never is much: the
// first of many slow readers must leave room for the last, and each may still be handed what was on its way. Nothing of
// the last quarter is to be had without need.
size_t Connection::mark(const MemoryBudget& budget) {
  constexpr size_t slow_readers = 2048;  // that many get their share whatever the others have
  const size_t used = budget.used(), limit = budget.limit();
  if (used > limit / 4 * 3) return 0;
  return std::min(high_mark, (limit - used) / slow_readers);
}

void Connection::note_congestion() {
  if (queue_.empty() || congested_) return;
  congested_ = queue_.size() > mark(queue_.budget());
}

void Connection::finish_sending() {
  if (!open() || finish_when_flushed_) return;
  finish_when_flushed_ = true;
  if (queue_.empty()) stream_.shutdown_send();
}

void Connection::pause_recv() {
  if (!open() || recv_paused_) return;
  recv_paused_ = true;
  stream_.pause_recv();
}

void Connection::resume_recv() {
  if (!open() || !recv_paused_) return;
  recv_paused_ = false;
  stream_.resume_recv();
}

int Connection::send_queued() {
  while (!queue_.empty()) {
    iovec pieces[16];
    const size_t count = queue_.pieces(pieces, std::size(pieces));
    size_t offered = 0;
    for (size_t i = 0; i < count; ++i) offered += pieces[i].iov_len;
    const ssize_t sent = send({pieces, count});
    if (sent < 0) return static_cast<int>(-sent);  // the ring leaves it to the caller of send() to tell
    queue_.consume(static_cast<size_t>(sent));
    if (static_cast<size_t>(sent) < offered) break;  // on_writable comes
  }
  return 0;
}

void Connection::flush() {
  if (blocked_ || queue_.empty()) return;
  if (const int error = send_queued(); error != 0) return on_error(error);
  blocked_ = !queue_.empty();
  if (!blocked_) return all_sent();
  note_congestion();
  on_blocked();
}

void Connection::on_writable() {
  if (queue_.empty()) return;
  if (const int error = send_queued(); error != 0) return on_error(error);
  blocked_ = !queue_.empty();
  if (congested_ && queue_.size() <= std::min(low_mark - 1, mark(queue_.budget()) / 2)) {
    congested_ = false;
    bool destroyed = false;
    destroyed_ = &destroyed;
    on_drained();
    if (destroyed) return;
    destroyed_ = nullptr;
  }
  // Whoever was told that the queue has drained may have filled it again, or closed.
  if (open() && queue_.empty()) all_sent();
}

void Connection::all_sent() {
  if (finish_when_flushed_) stream_.shutdown_send();
  on_flushed();
}

}  // namespace penstock::net
