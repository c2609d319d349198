// What the io_uring engine keeps of a socket, and how it names the requests that it has in flight for it.
// One thread, one ring.
#pragma once

#include <cstddef>
#include <cstdint>

#include "late_acks.h"
#include "penstock/net/ring.h"

namespace penstock::net::uring {

// Requests that a socket can have in flight, one of each at most; and two without a socket.
enum class Op : uint8_t { receive, watch, connect, accept, cancel, wake, foreign };
constexpr Op socket_ops[] = {Op::receive, Op::watch, Op::connect, Op::accept, Op::foreign};
constexpr uint8_t bit(Op op) {
  return static_cast<uint8_t>(1u << static_cast<unsigned>(op));
}

// user_data: operation (8 bits), generation (24), slot (32).
constexpr uint64_t pack(Op op, SocketId id) {
  return uint64_t{static_cast<uint8_t>(op)} << 56 | uint64_t{id.generation} << 32 | id.slot;
}
constexpr Op op_of(uint64_t user_data) {
  return static_cast<Op>(user_data >> 56);
}
constexpr SocketId id_of(uint64_t user_data) {
  return {static_cast<uint32_t>(user_data), static_cast<uint32_t>(user_data >> 32) & 0xffffff};
}

struct Socket {
  enum class State : uint8_t { free, listening, connecting, open, dead, closing, watched };

  SocketEvents* events = nullptr;
  AcceptEvents* accept_events = nullptr;
  ReadyEvents* ready_events = nullptr;
  int fd = -1;
  uint32_t generation = 0;
  uint32_t next_free = 0;
  int failure = 0;  // found before there was a turn to report it in
  State state = State::free;
  uint8_t in_flight = 0;          // bits of Op
  bool paused : 1 = false;        // by the owner
  bool stopping : 1 = false;      // the receive request is being cancelled
  bool starved : 1 = false;       // stands in the list of those that wait for a buffer
  bool connected : 1 = false;     // by us, to an endpoint: it brings answers, whose reader may be slow
  bool ended : 1 = false;         // on_eof was delivered
  bool ending : 1 = false;        // the poll request has seen FIN
  bool ending_told : 1 = false;   // by on_hang_up, while it is paused
  bool send_blocked : 1 = false;  // on_writable is owed
  bool finish : 1 = false;        // shutdown_send() was called before the connection was there
  uint8_t fed : 6 = 0;            // the turn in which it had a buffer last: its lowest bits
  LateAck late_ack;

  bool has(Op op) const { return (in_flight & bit(op)) != 0; }
};

static_assert(sizeof(Socket) <= 48);  // all that an idle socket costs here

}  // namespace penstock::net::uring
