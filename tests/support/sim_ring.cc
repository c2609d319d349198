#include "tests/support/sim_ring.h"

#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>

namespace penstock::test {

using net::SocketId;

SimRing::SimRing(SimNetwork& network) : network_(network) {
  network_.rings_.push_back(this);
}

SimRing::~SimRing() {
  for (const Slot& slot : slots_) {
    if (slot.socket == nullptr && slot.listener == nullptr) continue;
    if (std::uncaught_exceptions() == 0) network_.fail("a ring was destroyed before its sockets were closed");
  }
  std::erase(network_.rings_, this);
}

// ---- slots ----

SocketId SimRing::take_slot() {
  if (free_slots_.empty()) {
    free_slots_.push_back(static_cast<uint32_t>(slots_.size()));
    slots_.emplace_back();
  }
  const uint32_t slot = free_slots_.back();
  free_slots_.pop_back();
  return {slot, ++slots_[slot].generation};
}

void SimRing::free_slot(SocketId id) {
  slots_[id.slot].socket.reset();
  slots_[id.slot].listener.reset();
  free_slots_.push_back(id.slot);
}

SimRing::Slot* SimRing::find(SocketId id) {
  if (!id || id.slot >= slots_.size() || slots_[id.slot].generation != id.generation) return nullptr;
  return &slots_[id.slot];
}

SimRing::SocketPtr SimRing::find_socket(SocketId id) {
  const Slot* slot = find(id);
  return slot == nullptr ? nullptr : slot->socket;
}

void SimRing::own(const SocketPtr& socket, net::SocketEvents& events) {
  socket->ring = this;
  socket->id = take_slot();
  socket->events = &events;
  slots_[socket->id.slot].socket = socket;
  stats_.sockets.add(1);
}

// ---- what the owner asks for ----

SocketId SimRing::adopt(int fd, net::SocketEvents& events) {
  const auto accepted = network_.accepted_.extract(fd);
  if (accepted.empty()) network_.fail("adopt() of a descriptor that is not the callee's");
  const SocketPtr& socket = accepted.mapped();
  own(socket, events);
  note(socket);
  return socket->id;
}

void SimRing::hand_over(SocketId id, net::SocketEvents& events) {
  if (const SocketPtr socket = find_socket(id)) socket->events = &events;
}

Result<SocketId, int> SimRing::connect(const net::Address& to, net::SocketEvents& events) {
  if (network_.random_.chance(network_.faults_.connect_no_socket)) return EMFILE;
  const SocketPtr socket = network_.new_socket();
  own(socket, events);
  network_.begin_connect(socket, to);
  return socket->id;
}

ssize_t SimRing::send(SocketId id, std::span<const iovec> pieces) {
  const SocketPtr socket = find_socket(id);
  if (socket == nullptr) return -EBADF;
  stats_.syscalls.add();
  if (socket->fin_sent) network_.fail("send() after shutdown_send()");
  if (socket->error != 0) {
    socket->error_told = true;  // by this answer
    return -socket->error;
  }
  size_t total = 0;
  for (const iovec& piece : pieces) total += piece.iov_len;
  const size_t room = socket->state == SimSocket::State::open ? socket->room() : 0;
  size_t taken = std::min(room, total);
  if (network_.random_.chance(network_.faults_.short_send)) taken = network_.random_size(0, taken);
  if (taken < total) {
    socket->writable_wanted = true;
    if (taken < room) network_.become_writable(socket);
  }
  if (taken == 0) return 0;
  std::string bytes;
  bytes.reserve(taken);
  for (const iovec& piece : pieces) {
    bytes.append(static_cast<const char*>(piece.iov_base), std::min(piece.iov_len, taken - bytes.size()));
  }
  socket->unread += taken;
  stats_.bytes_sent.add(taken);
  network_.transmit(socket, SimSocket::Kind::bytes, std::move(bytes));
  if (network_.random_.chance(network_.faults_.reset)) network_.break_connection(socket);
  return static_cast<ssize_t>(taken);
}

size_t SimRing::unsent(SocketId id) {
  const SocketPtr socket = find_socket(id);
  return socket == nullptr ? 0 : socket->unread;
}

void SimRing::pause_recv(SocketId id) {
  const SocketPtr socket = find_socket(id);
  if (socket == nullptr || socket->paused) return;
  socket->paused = true;
  note(socket);
  if (!network_.random_.chance(network_.faults_.late_bytes)) return;
  if (!socket->inbox.empty()) socket->late_bytes = network_.random_size(1, socket->inbox.size());
  else if (socket->fin_arrived && !socket->eof_told) socket->late_bytes = 1;  // the FIN itself
}

void SimRing::resume_recv(SocketId id) {
  const SocketPtr socket = find_socket(id);
  if (socket == nullptr) return;
  socket->paused = socket->hang_up_told = false;
  socket->late_bytes = 0;
  note(socket);
}

void SimRing::shutdown_send(SocketId id) {
  const SocketPtr socket = find_socket(id);
  if (socket == nullptr || socket->fin_sent) return;
  socket->fin_sent = true;
  socket->writable_wanted = socket->writable_untold = false;
  if (socket->state == SimSocket::State::open && socket->error == 0) {
    network_.transmit(socket, SimSocket::Kind::fin, {});
  }
}

void SimRing::close(SocketId id, bool reset) {
  const SocketPtr socket = find_socket(id);
  if (socket == nullptr) return;
  socket->events = nullptr;
  network_.close_socket(socket, reset);
  free_slot(id);
  stats_.sockets.add(-1);
}

Result<SocketId> SimRing::listen(const net::Address& at, bool reuse_port, net::AcceptEvents& events,
                                 net::Address* bound) {
  if (at.family() != AF_INET) return Message{"the simulation knows IPv4 alone"};
  sockaddr_in raw;
  std::memcpy(&raw, at.data(), sizeof raw);
  if (raw.sin_port == 0) raw.sin_port = htons(network_.next_port_++);
  const net::Address address(reinterpret_cast<const sockaddr*>(&raw), sizeof raw);
  for (const auto& other : network_.listeners_) {
    if (other->at == address && !(other->reuse_port && reuse_port)) return Message{"address already in use"};
  }
  const SocketId id = take_slot();
  auto listener = std::make_shared<SimListener>();
  listener->at = address;
  listener->reuse_port = reuse_port;
  listener->ring = this;
  listener->id = id;
  listener->events = &events;
  slots_[id.slot].listener = listener;
  network_.listeners_.push_back(listener);
  if (bound != nullptr) *bound = address;
  return id;
}

void SimRing::close_listener(SocketId id) {
  const Slot* slot = find(id);
  if (slot == nullptr || slot->listener == nullptr) return;
  network_.close_listener(*slot->listener);
  free_slot(id);
}

Result<SocketId, int> SimRing::watch(int, net::ReadyEvents&) {
  network_.fail("the simulation has no foreign descriptors");
}

void SimRing::unwatch(SocketId) {
  network_.fail("the simulation has no foreign descriptors");
}

// ---- events ----

void SimRing::note(const SocketPtr& socket) {
  if (socket->queued || !socket->pending()) return;
  socket->queued = true;
  ready_.push_back(socket);
}

size_t SimRing::turn(Duration max_wait) {
  if (in_turn_) network_.fail("turn() inside turn()");
  in_turn_ = true;
  stats_.turns.add();
  busy_ = std::exchange(woken_, false) || max_wait == Duration{0};
  wake_at_ = max_wait < Duration{0} ? Instant::max() : network_.now() + max_wait;
  const size_t limit = network_.random_size(1, 64);
  size_t events = 0;
  for (size_t n = acceptances_.size(); n > 0 && events < limit; --n, ++events) {
    const Acceptance acceptance = acceptances_.front();
    acceptances_.pop_front();
    deliver_acceptance(acceptance);
  }
  for (size_t n = ready_.size(); n > 0 && events < limit; --n) {
    std::swap(ready_.front(), ready_[network_.random_.below(ready_.size())]);
    const SocketPtr socket = ready_.front();
    ready_.pop_front();
    socket->queued = false;
    if (!socket->pending()) continue;
    ++events;
    deliver(*socket);
    note(socket);
  }
  stats_.events.add(events);
  busy_ |= events > 0;
  in_turn_ = false;
  return events;
}

bool SimRing::run() {
  if (network_.now() < away_until_) {
    wake_at_ = away_until_;
    return false;
  }
  if (loop_ != nullptr) {
    loop_->run_turn(Duration{-1});
  } else {
    turn(Duration{-1});
  }
  if (network_.random_.chance(network_.faults_.slow_turn)) {
    away_until_ = network_.now() + microseconds(network_.random_.below(50'000));
    wake_at_ = away_until_;
    return false;
  }
  return busy_ || woken_ || !ready_.empty() || !acceptances_.empty();
}

void SimRing::deliver_acceptance(const Acceptance& acceptance) {
  const auto listener = acceptance.listener.lock();
  if (listener == nullptr || listener->events == nullptr) return;
  if (acceptance.error != 0) return listener->events->on_accept_error(acceptance.error);
  const SocketPtr socket = listener->backlog.front();
  listener->backlog.pop_front();
  const int fd = network_.next_descriptor_++;
  network_.accepted_.emplace(fd, socket);
  listener->events->on_accept(fd);
}

void SimRing::deliver(SimSocket& socket) {
  if (socket.connected_untold) {
    socket.connected_untold = false;
    return socket.events->on_connected();
  }
  const bool fin = socket.fin_arrived && !socket.eof_told;
  const bool read = socket.readable() && (!socket.inbox.empty() || fin);
  // An owner may learn of an error by sending what it has queued, too.
  if (socket.writable_untold && ((socket.error == 0 && !read) || network_.random_.chance(0.5))) {
    socket.writable_untold = false;
    return socket.events->on_writable();
  }
  if (socket.error != 0) {
    // Bytes that have arrived come first where receiving goes on; a FIN may be swallowed by the reset behind it.
    const bool told_now = socket.paused && socket.error_while_paused;
    const bool fin_first = fin && !socket.paused && network_.random_.chance(0.5);
    if (told_now || !read || (socket.inbox.empty() && !fin_first)) {
      socket.error_told = true;
      return socket.events->on_error(socket.error);
    }
  }
  if (!read) {
    socket.hang_up_told = true;
    return socket.events->on_hang_up();
  }
  if (!socket.inbox.empty()) return deliver_bytes(socket);
  socket.eof_told = true;
  socket.late_bytes = 0;
  socket.events->on_eof();
}

void SimRing::deliver_bytes(SimSocket& socket) {
  size_t n = std::min<size_t>(socket.inbox.size(), 64 * 1024);
  if (socket.paused) n = std::min(n, socket.late_bytes);
  if (network_.random_.chance(network_.faults_.short_delivery)) n = network_.random_size(1, n);
  // Memory of exactly this size, freed right after: a sanitizer sees whoever keeps or overruns the span.
  const auto bytes = std::make_unique<char[]>(n);
  std::memcpy(bytes.get(), socket.inbox.data(), n);
  socket.inbox.erase(0, n);
  if (socket.paused) socket.late_bytes -= n;
  stats_.bytes_received.add(n);
  network_.delivered(socket, n);
  socket.events->on_bytes({bytes.get(), n});
}

}  // namespace penstock::test
