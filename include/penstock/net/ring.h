// The ring: the seam between the event loop and the kernel. Three engines implement it: io_uring,
// epoll (both in src/net) and a simulated one for tests. All have the same contract; the contract
// test runs on each.
//
// Thread: a Ring belongs to the thread that runs turn(); only wake() may be called from elsewhere.
// Events are delivered from inside turn() alone, never from inside another call to the ring.
// After close(id) no further event reaches that socket's handler, which may be destroyed at once
// (also from inside one of its own events: the ring does not touch a handler after calling it if the
// socket was closed meanwhile). The ring keeps its own slot until the kernel's last completion.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "penstock/base/result.h"
#include "penstock/base/stats.h"
#include "penstock/base/time.h"
#include "penstock/net/address.h"

namespace penstock::net {

// Names a socket of one ring. The generation rises each time the slot is reused, so a stale id is
// recognised (calls with one are ignored).
struct SocketId {
  uint32_t slot = 0;
  uint32_t generation = 0;  // 0: no socket
  explicit operator bool() const { return generation != 0; }
  bool operator==(const SocketId&) const = default;
};

// What can happen to a socket. Implemented by its owner.
class SocketEvents {
 public:
  // An outgoing connection is established. Once, before any other event but on_error.
  virtual void on_connected() {}
  // Bytes have arrived. The span is valid (and may be scribbled on) only during the call.
  // A few calls may still come after pause_recv(), with bytes that the kernel had already handed over.
  virtual void on_bytes(std::span<char> bytes) = 0;
  // The peer will send no more (FIN). At most once. Sending still works; on_error may follow.
  virtual void on_eof() = 0;
  // The peer will send no more, or may be gone altogether, but receiving is paused and bytes that came before are still
  // to be read. At most once while a pause lasts; on_eof() comes when all has been read. Default: nothing.
  virtual void on_hang_up() {}
  // Room again after a send that took less than everything.
  virtual void on_writable() = 0;
  // The socket is dead in both directions (errno value: ECONNRESET, ECONNREFUSED, ...). At most
  // once, and the last event. The owner must still close() it. Delivered also after on_eof, when
  // the peer resets, and while receiving is paused where the kernel tells.
  virtual void on_error(int error) = 0;

 protected:
  ~SocketEvents() = default;
};

class AcceptEvents {
 public:
  // A new connection: a non-blocking, close-on-exec descriptor that now belongs to the callee.
  virtual void on_accept(int fd) = 0;
  // accept failed for want of descriptors or memory (EMFILE, ENFILE, ENOBUFS, ENOMEM). The ring
  // tries again by itself after a short pause.
  virtual void on_accept_error(int error) = 0;

 protected:
  ~AcceptEvents() = default;
};

// For a descriptor that somebody else reads and writes (a library's epoll set, a child's pipe).
class ReadyEvents {
 public:
  // It can be read, or has ended or failed: reading tells which. Level triggered: comes again, turn after turn, for as
  // long as that is so.
  virtual void on_ready() = 0;

 protected:
  ~ReadyEvents() = default;
};

struct RingStats {
  Counter turns, waits, events, syscalls;  // syscalls: every kernel entry the ring makes
  Counter bytes_received, bytes_sent;
  Counter buffer_starvations;    // receive slots ran out (io_uring)
  Counter completion_overflows;  // kernel completion queue overflowed (io_uring): a sizing bug
  Gauge sockets;                 // open or closing; watched descriptors count too
};

class Ring {
 public:
  virtual ~Ring() = default;
  virtual const char* name() const = 0;  // "io_uring", "epoll", "sim"

  // Takes ownership of a connected non-blocking stream socket and starts to receive.
  virtual SocketId adopt(int fd, SocketEvents& events) = 0;
  // From now on the events of this socket go to `events`. Also from inside one of its events, which is then the last
  // that goes to the handler before.
  virtual void hand_over(SocketId id, SocketEvents& events) = 0;
  // Starts a connection (TCP_NODELAY on). Ends in on_connected or on_error; an error value (errno)
  // is returned only when not even a socket could be made.
  virtual Result<SocketId, int> connect(const Address& to, SocketEvents& events) = 0;
  // Non-blocking send at once. Returns the number of bytes taken (0: would block) or -errno when the
  // socket is dead (on_error is then NOT delivered: the caller already knows). When it takes less
  // than everything, on_writable follows.
  virtual ssize_t send(SocketId id, std::span<const iovec> pieces) = 0;
  // Bytes taken by send() that the peer's host has not acknowledged. For rare questions: a system call. 0: not known.
  virtual size_t unsent(SocketId) { return 0; }
  virtual void pause_recv(SocketId id) = 0;
  virtual void resume_recv(SocketId id) = 0;
  // For a socket that brings a little at a time, its peer waiting for nothing (an event stream). The kernel sends an
  // acknowledgement from inside each read of such bytes, which is a fifth of what passing them on costs; with this it
  // sends one for two reads, or 40 ms later. A hint: an engine may ignore it.
  virtual void delay_acks(SocketId, bool /*on*/) {}
  // No more bytes from us (FIN after what was sent).
  virtual void shutdown_send(SocketId id) = 0;
  // Ends the socket, without waiting. With `reset`, the peer sees RST instead of FIN.
  virtual void close(SocketId id, bool reset = false) = 0;

  // Listens (SO_REUSEADDR, SO_REUSEPORT when `reuse_port`, TCP_NODELAY inherited). `bound` gets the
  // address really bound (port 0 becomes a number).
  virtual Result<SocketId> listen(const Address& at, bool reuse_port, AcceptEvents& events, Address* bound) = 0;
  // Stops accepting and closes the listening socket.
  virtual void close_listener(SocketId id) = 0;

  // Tells when `fd`, which stays the caller's, can be read. It must be one that can be polled, and stay open until
  // unwatch(). An errno value when the kernel refuses it.
  virtual Result<SocketId, int> watch(int fd, ReadyEvents& events) = 0;
  // No further event, and the descriptor may be closed at once (what it refers to may live until the next turn).
  virtual void unwatch(SocketId id) = 0;

  // One turn: waits up to max_wait for events (0: only polls; negative: no limit), delivers a bounded
  // number of them, and returns how many.
  virtual size_t turn(Duration max_wait) = 0;
  // Makes the current or next turn() return soon. Any thread; async-signal-safe.
  virtual void wake() = 0;

  const RingStats& stats() const { return stats_; }
  // Why it is this engine: what the probe found, or why io_uring could not be had after all. Set once, by make_ring().
  const std::string& reason() const { return reason_; }
  void set_reason(std::string reason) { reason_ = std::move(reason); }

  // connect() takes no descriptor of this number or above: it then fails with EMFILE. 0: whatever the kernel gives.
  void leave_descriptors_from(int number) { connect_below_ = number; }

 protected:
  int connect_below_ = 0;
  RingStats stats_;

 private:
  std::string reason_;
};

enum class RingKind { automatic, io_uring, epoll };

struct RingOptions {
  RingKind kind = RingKind::automatic;  // --ring auto|io_uring|epoll
  Duration spin{0};                     // --spin-us: stay in user space this long after the last event
};

// What a live probe found: done by doing (set-up, buffer ring, multishot receive, send, cancel on a
// socket pair), never by kernel version.
struct RingProbe {
  bool io_uring_usable = false;
  std::string detail;  // why not, or which features, for the log and `penstock version`
  std::string kernel;  // uname release
};
RingProbe probe_rings();

// Creates the engine on the calling thread (io_uring: SINGLE_ISSUER). `automatic` takes io_uring where the probe
// succeeded and this ring, too, can be had; else epoll. Fails when the kind asked for by name cannot be had.
Result<std::unique_ptr<Ring>> make_ring(const RingOptions& options, const RingProbe& probe);

}  // namespace penstock::net
