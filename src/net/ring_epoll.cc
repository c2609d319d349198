// Edge triggered: each socket is registered once, for everything, and never modified. The price is to
// remember what an edge said until it has been used up: `readable`, `ending` and `hung_up` do that.
#include "ring_epoll.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "late_acks.h"
#include "penstock/net/clock.h"
#include "ring_common.h"

namespace penstock::net {
namespace {

constexpr size_t receive_size = 64 * 1024;  // one buffer for all sockets: it stays in cache
constexpr int reads_max = 4;                // of one socket in a row: what others may have to wait for it
// Per turn, as are the visits to the ready list. What a turn writes goes out at its end: with more, the first of a
// burst would wait for the last, and what the sends need would have left the cache.
constexpr int max_events = 64;
// Of what clients send, a turn reads this much, and what is being read to its end: then it is the turn of answers.
constexpr size_t client_bytes_max = 1024 * 1024;
constexpr size_t handler_lines = 6;         // of a connection, prefetched
constexpr uint64_t wake_mark = UINT64_MAX;  // no socket has this id

struct Socket {
  enum class State : uint8_t { free, listening, connecting, open, dead, watched };

  SocketEvents* events = nullptr;
  AcceptEvents* accept_events = nullptr;
  ReadyEvents* ready_events = nullptr;
  int fd = -1;
  uint32_t generation = 0;
  uint32_t next_free = 0;
  int failure = 0;  // found before there was a turn to report it in
  State state = State::free;
  bool connected : 1 = false;     // by us: it brings answers
  bool paused : 1 = false;        // by the owner
  bool readable : 1 = false;      // an edge said so and no short read has contradicted it
  bool ending : 1 = false;        // FIN or an error has been seen: read until it comes out
  bool hung_up : 1 = false;       // EPOLLERR or EPOLLHUP has been seen and not been looked into
  bool ended : 1 = false;         // on_eof was delivered
  bool ending_told : 1 = false;   // by on_hang_up, while it is paused
  bool send_blocked : 1 = false;  // on_writable is owed
  bool finish : 1 = false;        // shutdown_send() was called before the connection was there
  bool ready : 1 = false;         // stands in the ready list
  LateAck late_ack;
};

static_assert(sizeof(Socket) <= 48);  // all that an idle socket costs here

class EpollRing final : public Ring {
 public:
  EpollRing(int epoll, int wake, Duration spin) : epoll_(epoll), wake_(wake), spin_(spin) {}
  ~EpollRing() override;

  const char* name() const override { return "epoll"; }
  SocketId adopt(int fd, SocketEvents& events) override;
  void hand_over(SocketId id, SocketEvents& events) override;
  Result<SocketId, int> connect(const Address& to, SocketEvents& events) override;
  ssize_t send(SocketId id, std::span<const iovec> pieces) override;
  size_t unsent(SocketId id) override;
  void pause_recv(SocketId id) override;
  void resume_recv(SocketId id) override;
  void delay_acks(SocketId id, bool on) override;
  void shutdown_send(SocketId id) override;
  void close(SocketId id, bool reset) override;
  Result<SocketId> listen(const Address& at, bool reuse_port, AcceptEvents& events, Address* bound) override;
  void close_listener(SocketId id) override { close(id, false); }
  Result<SocketId, int> watch(int fd, ReadyEvents& events) override;
  void unwatch(SocketId id) override;
  size_t turn(Duration max_wait) override;
  void wake() override;

 private:
  using State = Socket::State;

  SocketId add(int fd, State state, uint32_t interest, int failure);
  Socket* find_live(SocketId id);  // nullptr also for a socket that has failed
  void make_ready(SocketId id, Socket& socket);

  int wait(Duration limit);
  int wait_in_kernel(Duration limit);
  void visit_ready(size_t most);
  void dispatch(SocketId id, uint32_t edges);
  bool finish_connect(SocketId id, uint32_t edges);
  void visit(SocketId id);
  void receive(SocketId id);
  void look_for_error(SocketId id);
  void accept(SocketId id);
  void fail(SocketId id, int error);

  SlotTable<Socket> sockets_;
  SocketFifo ready_;  // sockets to visit without a new edge
  AcceptBackoff backoff_;
  LateAcks<Socket> late_acks_;
  size_t delivered_ = 0;     // events of this turn
  size_t client_bytes_ = 0;  // read in this turn from sockets that were accepted
  int epoll_, wake_;
  bool precise_wait_ = true;  // epoll_pwait2: a timeout in nanoseconds
  Duration spin_;
  Instant last_event_{};
  std::array<epoll_event, max_events> edges_;
  alignas(4096) char buffer_[receive_size];
};

uint64_t pack(SocketId id) {
  return uint64_t{id.generation} << 32 | id.slot;
}
SocketId unpack(uint64_t data) {
  return {static_cast<uint32_t>(data), static_cast<uint32_t>(data >> 32)};
}

EpollRing::~EpollRing() {
  for (uint32_t slot = 0; slot < sockets_.size(); ++slot) {
    if (sockets_[slot].fd >= 0 && sockets_[slot].state != State::watched) ::close(sockets_[slot].fd);
  }
  ::close(wake_);
  ::close(epoll_);
}

Socket* EpollRing::find_live(SocketId id) {
  Socket* socket = sockets_.find(id);
  return socket != nullptr && socket->state != State::free && socket->state != State::dead ? socket : nullptr;
}

void EpollRing::make_ready(SocketId id, Socket& socket) {
  if (socket.ready) return;
  socket.ready = true;
  ready_.push(id);
}

SocketId EpollRing::add(int fd, State state, uint32_t interest, int failure) {
  const SocketId id = sockets_.take();
  Socket& socket = sockets_[id.slot];
  socket.fd = fd;
  socket.state = state;
  socket.failure = failure;
  stats_.sockets.add(1);
  if (failure == 0) {
    epoll_event event{};
    event.events = interest | EPOLLET;
    event.data.u64 = pack(id);
    stats_.syscalls.add();
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) socket.failure = errno;
  }
  if (socket.failure != 0) make_ready(id, socket);
  return id;
}

SocketId EpollRing::adopt(int fd, SocketEvents& events) {
  const SocketId id = add(fd, State::open, EPOLLIN | EPOLLOUT | EPOLLRDHUP, 0);
  sockets_[id.slot].events = &events;
  return id;
}

void EpollRing::hand_over(SocketId id, SocketEvents& events) {
  if (Socket* socket = find_live(id)) socket->events = &events;
}

Result<SocketId, int> EpollRing::connect(const Address& to, SocketEvents& events) {
  const Connecting started = start_connect(to, connect_below_, stats_.syscalls);
  if (started.fd < 0) return started.error;
  const SocketId id = add(started.fd, State::connecting, EPOLLIN | EPOLLOUT | EPOLLRDHUP, started.error);
  sockets_[id.slot].events = &events;
  sockets_[id.slot].connected = true;
  return id;
}

Result<SocketId> EpollRing::listen(const Address& at, bool reuse_port, AcceptEvents& events, Address* bound) {
  Result<int> fd = open_listener(at, reuse_port, bound, stats_.syscalls);
  if (!fd) return fd.error();
  const SocketId id = add(*fd, State::listening, EPOLLIN, 0);
  Socket& socket = sockets_[id.slot];
  socket.accept_events = &events;
  if (socket.failure == 0) return id;
  const int failure = socket.failure;
  close(id, false);
  return Message{"cannot listen on " + at.to_string() + ": " + describe("epoll_ctl", failure)};
}

// Level triggered: it is the caller who reads, and nobody tells the ring when it is drained.
Result<SocketId, int> EpollRing::watch(int fd, ReadyEvents& events) {
  const SocketId id = sockets_.take();
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = pack(id);
  stats_.syscalls.add();
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) {
    const int error = errno;
    sockets_.release(id.slot);
    return error;
  }
  Socket& socket = sockets_[id.slot];
  socket.fd = fd;
  socket.state = State::watched;
  socket.ready_events = &events;
  stats_.sockets.add(1);
  return id;
}

void EpollRing::unwatch(SocketId id) {
  Socket* socket = sockets_.find(id);
  if (socket == nullptr || socket->state != State::watched) return;
  stats_.syscalls.add();
  PENSTOCK_ASSERT(epoll_ctl(epoll_, EPOLL_CTL_DEL, socket->fd, nullptr) == 0);
  sockets_.release(id.slot);
  stats_.sockets.add(-1);
}

ssize_t EpollRing::send(SocketId id, std::span<const iovec> pieces) {
  Socket* socket = find_live(id);
  if (socket == nullptr) return -EPIPE;
  if (socket->state == State::connecting) {
    socket->send_blocked = true;
    return 0;
  }
  const SendResult result = send_pieces(socket->fd, pieces, stats_);
  if (result.taken < 0) socket->state = State::dead;
  if (!result.complete) socket->send_blocked = true;
  return result.taken;
}

size_t EpollRing::unsent(SocketId id) {
  const Socket* const socket = find_live(id);
  return socket == nullptr ? 0 : unsent_bytes(socket->fd, stats_.syscalls);
}

void EpollRing::pause_recv(SocketId id) {
  if (Socket* socket = find_live(id)) socket->paused = true;
}

void EpollRing::resume_recv(SocketId id) {
  Socket* socket = find_live(id);
  if (socket == nullptr || !socket->paused) return;
  socket->paused = socket->ending_told = false;
  if ((socket->readable || socket->ending) && !socket->ended) make_ready(id, *socket);
}

void EpollRing::delay_acks(SocketId id, bool on) {
  if (Socket* socket = find_live(id)) late_acks_.set(*socket, on, stats_.syscalls);
}

void EpollRing::shutdown_send(SocketId id) {
  Socket* socket = find_live(id);
  if (socket == nullptr) return;
  if (socket->state == State::connecting) {
    socket->finish = true;
    return;
  }
  stats_.syscalls.add();
  ::shutdown(socket->fd, SHUT_WR);
}

// The slot is free at once: edges and ready entries that still name it carry the old generation.
void EpollRing::close(SocketId id, bool reset) {
  Socket* socket = sockets_.find(id);
  if (socket == nullptr || socket->state == State::free || socket->state == State::watched) return;
  if (reset) arm_reset(socket->fd, stats_.syscalls);
  stats_.syscalls.add();
  ::close(socket->fd);
  sockets_.release(id.slot);
  stats_.sockets.add(-1);
}

void EpollRing::wake() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_, &one, sizeof one);
}

size_t EpollRing::turn(Duration max_wait) {
  stats_.turns.add();
  delivered_ = client_bytes_ = 0;
  const size_t visits = std::min(ready_.size(), size_t{max_events});
  const int count = wait(visits > 0 ? Duration(0) : backoff_.limit(max_wait));
  late_acks_.begin_turn();
  // Only those that stood in the list before this turn: whoever fills the buffer waits for the next
  // one, so that a fast peer gets one buffer per turn like everybody else.
  visit_ready(visits);
  for (int i = 0; i < count; ++i) {
    // The eventfd is never read: as an edge, each write is news.
    if (edges_[static_cast<size_t>(i)].data.u64 == wake_mark) continue;
    dispatch(unpack(edges_[static_cast<size_t>(i)].data.u64), edges_[static_cast<size_t>(i)].events);
  }
  for (SocketId id = backoff_.take_due(); id; id = backoff_.take_due()) accept(id);
  stats_.events.add(delivered_);
  return delivered_;
}

void EpollRing::visit_ready(size_t most) {
  for (size_t i = 0; i < most && client_bytes_ < client_bytes_max; ++i) {
    const SocketId id = ready_.pop();
    if (Socket* socket = sockets_.find(id)) socket->ready = false;
    visit(id);
  }
}

int EpollRing::wait(Duration limit) {
  if (spin_ > Duration(0) && limit != Duration(0)) {
    const Instant start = system_clock().now();
    Instant end = last_event_ + spin_;
    if (limit > Duration(0)) end = std::min(end, start + limit);
    Instant now = start;
    for (; now < end; now = system_clock().now()) {
      const int count = wait_in_kernel(Duration(0));
      if (count == 0) continue;
      last_event_ = now;
      return count;
    }
    if (limit > Duration(0)) limit = std::max(Duration(0), limit - (now - start));
  }
  if (limit != Duration(0)) stats_.waits.add();
  const int count = wait_in_kernel(limit);
  if (count > 0 && spin_ > Duration(0)) last_event_ = system_clock().now();
  return count;
}

int EpollRing::wait_in_kernel(Duration limit) {
  stats_.syscalls.add();
  int count = -1;
  if (limit > Duration(0) && precise_wait_) {
    const timespec timeout{duration_cast<seconds>(limit).count(), (limit % seconds(1)).count()};
    count = epoll_pwait2(epoll_, edges_.data(), max_events, &timeout, nullptr);
    if (count < 0 && errno != EINTR) {  // an old kernel or a sandbox
      precise_wait_ = false;
      stats_.syscalls.add();
    }
  }
  if (limit <= Duration(0) || !precise_wait_) {
    // Rounded up: waking before the deadline would only spin.
    const int64_t ms = limit < Duration(0) ? -1 : (limit.count() + 999'999) / 1'000'000;
    count = epoll_wait(epoll_, edges_.data(), max_events, static_cast<int>(std::min<int64_t>(ms, 1'000'000)));
  }
  PENSTOCK_ASSERT(count >= 0 || errno == EINTR);
  return std::max(count, 0);
}

void EpollRing::dispatch(SocketId id, uint32_t edges) {
  Socket* socket = find_live(id);
  if (socket == nullptr) return;
  if (socket->state == State::listening) {
    if (!socket->paused) accept(id);
    return;
  }
  if (socket->state == State::watched) {
    ++delivered_;
    return socket->ready_events->on_ready();
  }
  if (edges & EPOLLIN) socket->readable = true;
  if (edges & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) socket->ending = true;
  if (edges & (EPOLLHUP | EPOLLERR)) socket->hung_up = true;
  if (socket->state == State::connecting && !finish_connect(id, edges)) return;
  socket = find_live(id);
  if (socket == nullptr) return;
  if (socket->send_blocked && (edges & EPOLLOUT) && !(edges & EPOLLERR)) {
    socket->send_blocked = false;
    ++delivered_;
    socket->events->on_writable();
    socket = find_live(id);
    if (socket == nullptr) return;
  }
  if (!socket->connected && client_bytes_ >= client_bytes_max) return make_ready(id, *socket);
  if (!socket->ready) visit(id);  // else its place in the ready list will come
}

// False when nothing more is to be done for these edges.
bool EpollRing::finish_connect(SocketId id, uint32_t edges) {
  if (!(edges & (EPOLLOUT | EPOLLERR | EPOLLHUP))) return false;
  Socket& socket = sockets_[id.slot];
  const int error = take_socket_error(socket.fd, stats_.syscalls);
  if (error != 0) {
    fail(id, error);
    return false;
  }
  socket.state = State::open;
  if (socket.finish) shutdown_send(id);
  ++delivered_;
  socket.events->on_connected();
  return true;
}

void EpollRing::visit(SocketId id) {
  Socket* socket = find_live(id);
  if (socket == nullptr) return;
  if (socket->state == State::listening) return accept(id);
  if (socket->failure != 0) return fail(id, socket->failure);
  if (!socket->paused && !socket->ended && (socket->readable || socket->ending)) receive(id);
  socket = find_live(id);
  if (socket != nullptr && socket->hung_up && (socket->paused || socket->ended)) look_for_error(id);
  socket = find_live(id);
  if (socket == nullptr || !owes_hang_up(*socket)) return;
  socket->ending_told = true;
  ++delivered_;
  socket->events->on_hang_up();
}

void EpollRing::receive(SocketId id) {
  // Several reads in a row keep a large body in the cache from its first byte to its last. Behind a short read, one
  // more only where the end of the stream is known to stand there.
  for (int reads = 0; reads < reads_max; ++reads) {
    Socket* socket = &sockets_[id.slot];
    stats_.syscalls.add();
    // With many streams the handler has left the cache; it comes back while the kernel is at work.
    const char* const handler = reinterpret_cast<const char*>(socket->events);
    for (size_t line = 0; line < handler_lines; ++line) __builtin_prefetch(handler + line * 64);
    late_acks_.before_read(*socket, stats_.syscalls);
    // As in send_pieces(): not the C library's.
    const ssize_t got = syscall(SYS_recvfrom, socket->fd, buffer_, receive_size, MSG_DONTWAIT, nullptr, nullptr);
    if (got < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) return fail(id, errno);
      socket->readable = socket->ending = false;
      return;
    }
    ++delivered_;
    if (got == 0) {
      socket->ended = true;
      socket->events->on_eof();
      return;
    }
    stats_.bytes_received.add(static_cast<uint64_t>(got));
    if (!socket->connected) client_bytes_ += static_cast<size_t>(got);
    socket->readable = static_cast<size_t>(got) == receive_size;  // a short read has drained it
    socket->events->on_bytes({buffer_, static_cast<size_t>(got)});
    socket = find_live(id);
    if (socket == nullptr || socket->paused) return;
    if (!socket->readable && !socket->ending) return;
  }
  make_ready(id, sockets_[id.slot]);
}

// For a socket that nobody reads, which is how an error would otherwise come out.
void EpollRing::look_for_error(SocketId id) {
  Socket& socket = sockets_[id.slot];
  socket.hung_up = false;
  const int error = take_socket_error(socket.fd, stats_.syscalls);
  if (error != 0) fail(id, error);
}

// `paused` marks a listener that waits for descriptors.
void EpollRing::accept(SocketId id) {
  Socket* socket = find_live(id);
  if (socket == nullptr) return;
  socket->paused = false;
  const AcceptOutcome outcome =
      accept_some(socket->fd, *socket->accept_events, stats_, delivered_, [&] { return find_live(id) != nullptr; });
  if (outcome == AcceptOutcome::more) make_ready(id, sockets_[id.slot]);
  if (outcome != AcceptOutcome::backed_off) return;
  sockets_[id.slot].paused = true;
  backoff_.add(id);
}

void EpollRing::fail(SocketId id, int error) {
  Socket& socket = sockets_[id.slot];
  socket.state = State::dead;
  ++delivered_;
  socket.events->on_error(error);
}

}  // namespace

Result<std::unique_ptr<Ring>> make_epoll_ring(Duration spin) {
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0) return Message{describe("epoll_create1", errno)};
  const int wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;
  event.data.u64 = wake_mark;
  if (wake < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, wake, &event) != 0) {
    const int error = errno;
    if (wake >= 0) ::close(wake);
    ::close(epoll);
    return Message{describe(wake < 0 ? "eventfd" : "epoll_ctl", error)};
  }
  return std::unique_ptr<Ring>(std::make_unique<EpollRing>(epoll, wake, spin));
}

}  // namespace penstock::net
