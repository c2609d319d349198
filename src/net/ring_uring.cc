// Receives by multishot requests into shared buffers; everything else (send, connect, accept) is the
// plain non-blocking call, with a poll request where it would block. So the kernel never holds memory
// of ours but the receive buffers, and a socket's slot can wait for its last completion by itself.
#include "ring_uring.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "penstock/net/clock.h"
#include "ring_common.h"
#include "ring_uring_queue.h"
#include "ring_uring_socket.h"
#include "starved_sockets.h"

namespace penstock::net {

using namespace uring;

namespace {

constexpr size_t max_events = 256;   // handled per turn
constexpr size_t handler_lines = 6;  // of a connection, prefetched
constexpr unsigned trouble = POLLERR | POLLHUP;

class UringRing final : public Ring {
 public:
  explicit UringRing(Duration spin) : queue_(stats_.syscalls), spin_(spin) {}
  ~UringRing() override;
  int open(const char** failed_call);

  const char* name() const override { return "io_uring"; }
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

  SocketId add(int fd, State state);
  Socket* find_live(SocketId id);  // nullptr also for a socket that has failed or is closing
  void arm(Op op, SocketId id, Socket& socket);
  void receive_again(SocketId id);
  void receive_later(SocketId id);
  void watch(SocketId id, Socket& socket);
  void release_when_idle(uint32_t slot);

  void wait(Duration limit);
  bool spin(Duration& limit);
  void feed_starved();
  void prefetch(size_t next);
  void handle(const Completion& completion);
  void on_receive(SocketId id, const Completion& completion);
  void on_watch(SocketId id, const Completion& completion);
  void tell_hang_up(SocketId id);
  void on_connect(SocketId id, const Completion& completion);
  void on_foreign(SocketId id, const Completion& completion);
  void accept(SocketId id);
  void fail(SocketId id, int error);

  UringQueue queue_;
  SlotTable<Socket> sockets_;
  std::vector<Completion> completions_;  // copied out of the ring, being handled
  StarvedSockets starved_;
  SocketFifo failed_;  // failures to report in the next turn
  AcceptBackoff backoff_;
  LateAcksAhead<Socket> late_acks_;
  size_t operations_ = 0;  // requests in flight
  size_t delivered_ = 0;   // events of this turn
  uint8_t turn_ : 6 = 0;   // its number: the lowest bits, as in Socket::fed
  int wake_ = -1;
  Duration spin_;
  Instant last_event_{};
};

int UringRing::open(const char** failed_call) {
  const int error = queue_.open(spin_ > Duration(0));
  *failed_call = queue_.failed_call();
  if (error != 0) return error;
  *failed_call = "eventfd";
  stats_.syscalls.add();
  wake_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (wake_ < 0) return errno;
  // Never read: a multishot poll reports each write, whatever the counter says.
  queue_.poll_multishot(wake_, POLLIN, pack(Op::wake, {}));
  ++operations_;
  return 0;
}

UringRing::~UringRing() {
  if (operations_ > 0) {
    // The kernel may still write to the buffers: see every request end before they go.
    queue_.cancel_everything(pack(Op::cancel, {}));
    for (uint32_t slot = 0; slot < sockets_.size(); ++slot) {
      if (sockets_[slot].state != State::free) sockets_[slot].state = State::closing;
    }
    constexpr int patience = 50;
    for (int i = 0; i < patience && operations_ > 0; ++i) {
      queue_.wait(milliseconds(20));
      completions_.clear();
      queue_.reap(completions_, max_events);
      for (const Completion& completion : completions_) handle(completion);
    }
  }
  for (uint32_t slot = 0; slot < sockets_.size(); ++slot) {
    if (sockets_[slot].fd >= 0 && sockets_[slot].ready_events == nullptr) ::close(sockets_[slot].fd);
  }
  if (wake_ >= 0) ::close(wake_);
}

Socket* UringRing::find_live(SocketId id) {
  Socket* socket = sockets_.find(id);
  if (socket == nullptr) return nullptr;
  switch (socket->state) {
    case State::listening:
    case State::connecting:
    case State::open:
    case State::watched:
      return socket;
    default:
      return nullptr;
  }
}

SocketId UringRing::add(int fd, State state) {
  const SocketId id = sockets_.take();
  sockets_[id.slot].fd = fd;
  sockets_[id.slot].state = state;
  stats_.sockets.add(1);
  return id;
}

void UringRing::arm(Op op, SocketId id, Socket& socket) {
  PENSTOCK_ASSERT(!socket.has(op));
  socket.in_flight |= bit(op);
  ++operations_;
  const uint64_t user_data = pack(op, id);
  switch (op) {
    case Op::receive:
      return queue_.receive_multishot(socket.fd, user_data, socket.connected ? UringQueue::small : UringQueue::large);
    case Op::watch:
      return queue_.poll_multishot(socket.fd, POLLOUT, user_data);
    case Op::connect:
      return queue_.poll_once(socket.fd, POLLOUT, user_data);
    case Op::accept:
    case Op::foreign:
      return queue_.poll_once(socket.fd, POLLIN, user_data);
    case Op::cancel:
    case Op::wake:
      break;
  }
  PENSTOCK_ASSERT(false);
}

void UringRing::receive_again(SocketId id) {
  Socket* socket = find_live(id);
  if (socket == nullptr || socket->state != State::open) return;
  if (socket->paused || socket->ended || socket->starved || socket->has(Op::receive)) return;
  arm(Op::receive, id, *socket);
}

// In the next turn. Asking at once would fail, or take the buffers that others wait for.
void UringRing::receive_later(SocketId id) {
  Socket* socket = find_live(id);
  if (socket == nullptr || socket->starved) return;
  socket->starved = true;
  starved_.push(id, socket->connected, socket->fed == turn_);
}

// Tells of room to send, errors and hang-ups that no receive request would bring. Multishot, because
// the kernel adds POLLRDHUP to every poll: after a FIN a one-shot poll would end at once, each time.
void UringRing::watch(SocketId id, Socket& socket) {
  if (!socket.has(Op::watch)) arm(Op::watch, id, socket);
}

SocketId UringRing::adopt(int fd, SocketEvents& events) {
  const SocketId id = add(fd, State::open);
  sockets_[id.slot].events = &events;
  arm(Op::receive, id, sockets_[id.slot]);
  return id;
}

void UringRing::hand_over(SocketId id, SocketEvents& events) {
  if (Socket* socket = find_live(id)) socket->events = &events;
}

Result<SocketId, int> UringRing::connect(const Address& to, SocketEvents& events) {
  const Connecting started = start_connect(to, connect_below_, stats_.syscalls);
  if (started.fd < 0) return started.error;
  const SocketId id = add(started.fd, State::connecting);
  Socket& socket = sockets_[id.slot];
  socket.events = &events;
  socket.connected = true;
  socket.failure = started.error;
  if (started.error == 0) {
    arm(Op::connect, id, socket);
  } else {
    failed_.push(id);
  }
  return id;
}

Result<SocketId> UringRing::listen(const Address& at, bool reuse_port, AcceptEvents& events, Address* bound) {
  Result<int> fd = open_listener(at, reuse_port, bound, stats_.syscalls);
  if (!fd) return fd.error();
  const SocketId id = add(*fd, State::listening);
  sockets_[id.slot].accept_events = &events;
  arm(Op::accept, id, sockets_[id.slot]);
  return id;
}

Result<SocketId, int> UringRing::watch(int fd, ReadyEvents& events) {
  const SocketId id = add(fd, State::watched);
  sockets_[id.slot].ready_events = &events;
  arm(Op::foreign, id, sockets_[id.slot]);
  return id;
}

// The poll request holds its own reference to what the descriptor means, so the caller need not wait for its end.
void UringRing::unwatch(SocketId id) {
  Socket* socket = sockets_.find(id);
  if (socket == nullptr || socket->state != State::watched) return;
  socket->state = State::closing;
  if (socket->has(Op::foreign)) queue_.cancel(pack(Op::foreign, id), pack(Op::cancel, {}));
  release_when_idle(id.slot);
}

ssize_t UringRing::send(SocketId id, std::span<const iovec> pieces) {
  Socket* socket = find_live(id);
  if (socket == nullptr) return -EPIPE;
  if (socket->state == State::connecting) {
    socket->send_blocked = true;
    return 0;
  }
  const SendResult result = send_pieces(socket->fd, pieces, stats_);
  if (result.taken < 0) socket->state = State::dead;
  if (!result.complete) {
    socket->send_blocked = true;
    watch(id, *socket);
  }
  return result.taken;
}

size_t UringRing::unsent(SocketId id) {
  const Socket* const socket = find_live(id);
  return socket == nullptr ? 0 : unsent_bytes(socket->fd, stats_.syscalls);
}

void UringRing::pause_recv(SocketId id) {
  Socket* socket = find_live(id);
  if (socket == nullptr || socket->paused) return;
  socket->paused = true;
  if (socket->state != State::open || socket->ended) return;
  watch(id, *socket);
  if (!socket->has(Op::receive) || socket->stopping) return;
  socket->stopping = true;
  queue_.cancel(pack(Op::receive, id), pack(Op::cancel, {}));
}

void UringRing::resume_recv(SocketId id) {
  Socket* socket = find_live(id);
  if (socket == nullptr || !socket->paused) return;
  socket->paused = socket->ending_told = false;
  receive_again(id);  // or, while the old request is being cancelled, when that has ended
}

void UringRing::delay_acks(SocketId id, bool on) {
  if (Socket* socket = find_live(id)) late_acks_.set(id, *socket, on, stats_.syscalls);
}

void UringRing::shutdown_send(SocketId id) {
  Socket* socket = find_live(id);
  if (socket == nullptr) return;
  if (socket->state == State::connecting) {
    socket->finish = true;
    return;
  }
  stats_.syscalls.add();
  ::shutdown(socket->fd, SHUT_WR);
}

// A request in flight keeps the connection open whatever close(2) says, so it must end first.
void UringRing::close(SocketId id, bool reset) {
  Socket* socket = sockets_.find(id);
  if (socket == nullptr || socket->state == State::free || socket->state == State::closing) return;
  if (socket->state == State::watched) return;
  socket->state = State::closing;
  if (reset) arm_reset(socket->fd, stats_.syscalls);
  if (socket->in_flight != 0 && !reset) {
    stats_.syscalls.add();
    ::shutdown(socket->fd, SHUT_RDWR);  // the peer learns of it now, a listener refuses from now on
  }
  for (Op op : socket_ops) {
    if (socket->has(op)) queue_.cancel(pack(op, id), pack(Op::cancel, {}));
  }
  release_when_idle(id.slot);
}

void UringRing::release_when_idle(uint32_t slot) {
  if (sockets_[slot].in_flight != 0) return;
  if (sockets_[slot].ready_events == nullptr) {
    stats_.syscalls.add();
    ::close(sockets_[slot].fd);
  }
  sockets_.release(slot);
  stats_.sockets.add(-1);
}

void UringRing::wake() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_, &one, sizeof one);
}

size_t UringRing::turn(Duration max_wait) {
  stats_.turns.add();
  delivered_ = 0;
  ++turn_;
  feed_starved();
  // Those that ask may have nothing to read: then nothing would tell that it is the turn of the next ones.
  const bool idle = failed_.empty() && starved_.empty();
  wait(idle ? backoff_.limit(max_wait) : Duration(0));
  late_acks_.sweep([this](SocketId id) { return find_live(id); }, stats_.syscalls);
  completions_.clear();
  queue_.reap(completions_, max_events);
  for (size_t i = 0; i < completions_.size(); ++i) {
    prefetch(i + 1);
    handle(completions_[i]);
  }
  for (size_t left = failed_.size(); left > 0; --left) {
    const SocketId id = failed_.pop();
    if (Socket* socket = find_live(id)) fail(id, socket->failure);
  }
  for (SocketId id = backoff_.take_due(); id; id = backoff_.take_due()) accept(id);
  if (const uint64_t overflows = queue_.take_overflows()) stats_.completion_overflows.add(overflows);
  stats_.events.add(delivered_);
  return delivered_;
}

void UringRing::wait(Duration limit) {
  if (limit != Duration(0) && queue_.completions_ready()) limit = Duration(0);
  if (spin_ > Duration(0) && limit != Duration(0) && spin(limit)) return;
  if (limit != Duration(0)) stats_.waits.add();
  queue_.wait(limit);
  if (spin_ > Duration(0) && queue_.completions_ready()) last_event_ = system_clock().now();
}

// Looks at shared memory until the kernel has something for us: true when it had. Shortens the limit
// by the time that took.
bool UringRing::spin(Duration& limit) {
  const Instant start = system_clock().now();
  Instant end = last_event_ + spin_;
  if (limit > Duration(0)) end = std::min(end, start + limit);
  if (start >= end) return false;
  if (queue_.requests_queued()) queue_.wait(Duration(0));
  Instant now = start;
  while (now < end) {
    if (queue_.work_pending()) {
      if (!queue_.completions_ready()) queue_.wait(Duration(0));
      if (queue_.completions_ready()) {
        last_event_ = now;
        return true;
      }
    }
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
    now = system_clock().now();
  }
  if (limit > Duration(0)) limit = std::max(Duration(0), limit - (now - start));
  return false;
}

// Between turns every buffer is back with the kernel.
void UringRing::feed_starved() {
  starved_.begin_turn(UringQueue::buffer_count);
  for (SocketId id = starved_.next(); id; id = starved_.next()) {
    Socket* socket = sockets_.find(id);
    if (socket == nullptr) continue;
    socket->starved = false;
    receive_again(id);
  }
}

// With many streams their handlers have left the cache: they come back while the completions before them are handled.
void UringRing::prefetch(size_t next) {
  if (next + 1 < completions_.size()) {
    const uint32_t slot = id_of(completions_[next + 1].user_data).slot;
    if (slot < sockets_.size()) __builtin_prefetch(&sockets_[slot]);
  }
  if (next >= completions_.size() || completions_[next].buffer < 0) return;
  const Socket* const socket = sockets_.find(id_of(completions_[next].user_data));
  if (socket == nullptr) return;
  const char* const handler = reinterpret_cast<const char*>(socket->events);
  for (size_t line = 0; line < handler_lines; ++line) __builtin_prefetch(handler + line * 64);
}

void UringRing::handle(const Completion& completion) {
  const Op op = op_of(completion.user_data);
  const SocketId id = id_of(completion.user_data);
  if (op == Op::cancel) return;  // it failed: the request it was for has ended or is ending by itself
  if (completion.last) --operations_;
  if (op == Op::wake) {
    if (completion.last && completion.result >= 0) {
      queue_.poll_multishot(wake_, POLLIN, completion.user_data);
      ++operations_;
    }
    return;
  }
  Socket* socket = sockets_.find(id);
  if (socket != nullptr && completion.last) socket->in_flight &= static_cast<uint8_t>(~bit(op));
  if (find_live(id) == nullptr) {
    if (completion.buffer >= 0) queue_.recycle(completion.buffer);
    if (socket != nullptr && socket->state == State::closing) release_when_idle(id.slot);
    return;
  }
  switch (op) {
    case Op::receive:
      return on_receive(id, completion);
    case Op::watch:
      return on_watch(id, completion);
    case Op::connect:
      return on_connect(id, completion);
    case Op::accept:
      return accept(id);
    case Op::foreign:
      return on_foreign(id, completion);
    case Op::cancel:
    case Op::wake:
      return;
  }
}

void UringRing::on_receive(SocketId id, const Completion& completion) {
  Socket* socket = find_live(id);
  if (completion.last) socket->stopping = false;
  const int result = completion.result;
  if (result > 0) {
    PENSTOCK_ASSERT(completion.buffer >= 0);
    ++delivered_;
    socket->fed = turn_;
    late_acks_.on_read(id, *socket);
    stats_.bytes_received.add(static_cast<uint64_t>(result));
    socket->events->on_bytes({queue_.buffer(completion.buffer), static_cast<size_t>(result)});
    tell_hang_up(id);  // the poll request may have seen it before the owner paused
  }
  if (completion.buffer >= 0) queue_.recycle(completion.buffer);
  if (result == 0) {
    socket->ended = true;
    ++delivered_;
    socket->events->on_eof();
    socket = find_live(id);
    if (socket != nullptr) watch(id, *socket);  // a reset may still follow
    return;
  }
  if (!completion.last) return;
  if (result == -ENOBUFS) {
    stats_.buffer_starvations.add();
    receive_later(id);
  } else if (result > 0) {
    receive_later(id);  // it has had its share
  } else if (result == -ECANCELED || result == -EINTR || result == -EAGAIN) {
    receive_again(id);
  } else {
    fail(id, -result);
  }
}

void UringRing::on_watch(SocketId id, const Completion& completion) {
  Socket* socket = find_live(id);
  const unsigned events = completion.result > 0 ? static_cast<unsigned>(completion.result) : 0;
  // While receiving is on, the receive request brings the error, after the bytes that precede it.
  if ((events & trouble) != 0 && (socket->paused || socket->ended)) {
    const int error = take_socket_error(socket->fd, stats_.syscalls);
    if (error != 0) return fail(id, error);
  }
  if ((events & (POLLRDHUP | POLLHUP)) != 0) socket->ending = true;
  if (completion.last) {
    if (completion.result < 0 && completion.result != -ECANCELED) return fail(id, -completion.result);
    watch(id, *socket);
  }
  if (socket->send_blocked && (events & POLLOUT) != 0 && (events & POLLERR) == 0) {
    socket->send_blocked = false;
    ++delivered_;
    socket->events->on_writable();
  }
  tell_hang_up(id);
}

void UringRing::tell_hang_up(SocketId id) {
  Socket* socket = find_live(id);
  if (socket == nullptr || !owes_hang_up(*socket)) return;
  socket->ending_told = true;
  ++delivered_;
  socket->events->on_hang_up();
}

void UringRing::on_connect(SocketId id, const Completion& completion) {
  Socket* socket = find_live(id);
  const int error = completion.result < 0 ? -completion.result : take_socket_error(socket->fd, stats_.syscalls);
  if (error != 0) return fail(id, error);
  socket->state = State::open;
  if (socket->finish) shutdown_send(id);
  if (socket->paused || socket->send_blocked) watch(id, *socket);
  receive_again(id);
  ++delivered_;
  socket->events->on_connected();
}

// One-shot, asked for again only after the owner has read: the kernel looks at the state when it gets the request, so
// that what is left to be read completes the new one at once.
void UringRing::on_foreign(SocketId id, const Completion& completion) {
  PENSTOCK_ASSERT(completion.result != -EBADF);  // closed before unwatch()
  ++delivered_;
  sockets_[id.slot].ready_events->on_ready();
  if (find_live(id) != nullptr) arm(Op::foreign, id, sockets_[id.slot]);
}

void UringRing::accept(SocketId id) {
  Socket* socket = find_live(id);
  if (socket == nullptr || socket->has(Op::accept)) return;
  const AcceptOutcome outcome =
      accept_some(socket->fd, *socket->accept_events, stats_, delivered_, [&] { return find_live(id) != nullptr; });
  if (outcome == AcceptOutcome::closed) return;
  if (outcome == AcceptOutcome::backed_off) {
    backoff_.add(id);
  } else {
    arm(Op::accept, id, sockets_[id.slot]);
  }
}

void UringRing::fail(SocketId id, int error) {
  Socket& socket = sockets_[id.slot];
  socket.state = State::dead;
  ++delivered_;
  socket.events->on_error(error);
}

}  // namespace

Result<std::unique_ptr<Ring>, UringFailure> make_uring_ring(Duration spin) {
  auto ring = std::make_unique<UringRing>(spin);
  const char* failed_call = "";
  const int error = ring->open(&failed_call);
  if (error != 0) return UringFailure{error, describe_uring_failure(failed_call, error)};
  return std::unique_ptr<Ring>(std::move(ring));
}

std::string describe_uring_failure(const char* call, int error) {
  std::string text = describe(call, error);
  if (error == EPERM || error == EACCES) text += " (seccomp or kernel.io_uring_disabled)";
  if (error == ENOSYS) text += " (no io_uring in this kernel or sandbox)";
  // Locked memory is counted for all processes of a user, those in other containers included.
  if (error == ENOMEM) text += " (RLIMIT_MEMLOCK is used up by the processes of this user; see ulimit -l)";
  if (error == EINVAL) text += " (Linux 6.1 or newer is needed)";
  return text;
}

}  // namespace penstock::net
