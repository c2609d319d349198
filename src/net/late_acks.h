// Keeps sockets in the kernel's mode of late acknowledgements (see Ring::delay_acks()), which it leaves by itself once
// its timer, 40 ms after a read, has had to send one. A socket that has brought nothing for longer than that is put
// back into it before its next bytes come. A peer that holds its next bytes back until it has our acknowledgement
// (Nagle's algorithm) has sent them by then: its socket is not silent for so long, and gets acknowledgements at once.
#pragma once

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "penstock/net/clock.h"
#include "ring_common.h"

namespace penstock::net {

// `Socket` has `fd` and the fields of LateAck. One thread, one ring.
struct LateAck {
  uint32_t read_ms : 30 = 0;  // when it was read last
  uint32_t wanted : 1 = 0;    // by its owner
  uint32_t listed : 1 = 0;    // stands in the list of LateAcksAhead
};

// For an engine that reads by itself.
template <typename Socket>
class LateAcks {
 public:
  void set(Socket& socket, bool on, Counter& syscalls) {
    socket.late_ack.wanted = on ? 1 : 0;
    if (!on) return;
    ask(socket, syscalls);
    socket.late_ack.read_ms = now();
  }

  // To be called in each turn behind the wait.
  void begin_turn() { known_ = false; }

  void before_read(Socket& socket, Counter& syscalls) {
    if (!socket.late_ack.wanted) return;
    if (since(socket.late_ack.read_ms) >= silence_ms) ask(socket, syscalls);
    socket.late_ack.read_ms = now();
  }

 protected:
  static constexpr uint32_t silence_ms = 46;  // the kernel's 40, its clock's 4, and what an answer to its packet takes

  static void ask(const Socket& socket, Counter& syscalls) {
    const int quick = 0;
    syscalls.add();  // as in send_pieces(): not the C library's
    syscall(SYS_setsockopt, socket.fd, IPPROTO_TCP, TCP_QUICKACK, &quick, sizeof quick);
  }

  // In milliseconds that wrap around after 12 days. The clock is read once a turn, and only where there is such a
  // socket.
  uint32_t now() {
    if (!known_) now_ms_ = static_cast<uint32_t>(system_clock().now().time_since_epoch() / milliseconds(1)) & wrap;
    known_ = true;
    return now_ms_;
  }
  uint32_t since(uint32_t at_ms) { return (now() - at_ms) & wrap; }

 private:
  static constexpr uint32_t wrap = (1u << 30) - 1;
  uint32_t now_ms_ = 0;
  bool known_ = false;
};

// For an engine whose kernel reads while it waits: then it is too late to ask.
template <typename Socket>
class LateAcksAhead : private LateAcks<Socket> {
  using Base = LateAcks<Socket>;

 public:
  void set(SocketId id, Socket& socket, bool on, Counter& syscalls) {
    Base::set(socket, on, syscalls);
    if (on && !socket.late_ack.listed) list(id, socket);
  }

  void on_read(SocketId id, Socket& socket) {
    if (!socket.late_ack.wanted) return;
    socket.late_ack.read_ms = Base::now();
    if (!socket.late_ack.listed) list(id, socket);
  }

  // To be called in each turn behind the wait. `find` gives the live socket of an id, or nullptr.
  template <typename Find>
  void sweep(Find find, Counter& syscalls) {
    Base::begin_turn();
    for (int looked = 0; looked < most && !listed_.empty(); ++looked) {
      if (Base::since(listed_.front().at_ms) < Base::silence_ms) return;
      const SocketId id = listed_.pop().id;
      Socket* const socket = find(id);
      if (socket == nullptr) continue;
      socket->late_ack.listed = 0;
      if (!socket->late_ack.wanted) continue;
      if (Base::since(socket->late_ack.read_ms) < Base::silence_ms) list(id, *socket);
      else Base::ask(*socket, syscalls);
    }
  }

 private:
  static constexpr int most = 64;  // looked at in a turn, which may bring as many reads
  struct Listed {
    SocketId id;
    uint32_t at_ms = 0;
  };

  void list(SocketId id, Socket& socket) {
    socket.late_ack.listed = 1;
    listed_.push({id, Base::now()});
  }

  Fifo<Listed> listed_;  // ascending
};

}  // namespace penstock::net
