// What the two real ring engines share: slots with generations, small queues, socket calls.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "penstock/base/assert.h"
#include "penstock/net/ring.h"

namespace penstock::net {

// Records by slot number, reused last in first out so that hot slots stay in cache. `Record` has
// `generation` and `next_free`. Pointers are valid until the next take(): look up again after a callback.
template <typename Record>
class SlotTable {
 public:
  static constexpr uint32_t none = UINT32_MAX;
  // Fits beside an operation and a slot number in 64 bits of user data.
  static constexpr uint32_t max_generation = (1u << 24) - 1;

  SocketId take() {
    if (free_ == none) {
      PENSTOCK_ASSERT(records_.size() < none);
      records_.emplace_back();
      records_.back().generation = 1;
      return {static_cast<uint32_t>(records_.size() - 1), 1};
    }
    const uint32_t slot = free_;
    free_ = records_[slot].next_free;
    return {slot, records_[slot].generation};
  }

  void release(uint32_t slot) {
    const uint32_t last = records_[slot].generation;
    records_[slot] = Record{};
    records_[slot].generation = last == max_generation ? 1 : last + 1;
    records_[slot].next_free = free_;
    free_ = slot;
  }

  // nullptr for a slot that has been released (and perhaps reused) since the id was made.
  Record* find(SocketId id) {
    if (id.slot >= records_.size()) return nullptr;
    Record& record = records_[id.slot];
    return record.generation == id.generation ? &record : nullptr;
  }
  Record& operator[](uint32_t slot) { return records_[slot]; }
  size_t size() const { return records_.size(); }

 private:
  std::vector<Record> records_;
  uint32_t free_ = none;
};

// First in, first out, without an allocation per element once it has grown.
template <typename Item>
class Fifo {
 public:
  bool empty() const { return head_ == items_.size(); }
  size_t size() const { return items_.size() - head_; }
  void push(const Item& item) {
    if (head_ > 256 && head_ * 2 > items_.size()) {
      items_.erase(items_.begin(), items_.begin() + static_cast<ptrdiff_t>(head_));
      head_ = 0;
    }
    items_.push_back(item);
  }
  const Item& front() const { return items_[head_]; }
  Item pop() {
    const Item item = items_[head_++];
    if (empty()) {
      items_.clear();
      head_ = 0;
    }
    return item;
  }

 private:
  std::vector<Item> items_;
  size_t head_ = 0;
};
using SocketFifo = Fifo<SocketId>;

// Listeners that ran out of descriptors or memory and wait before they accept again.
class AcceptBackoff {
 public:
  static constexpr Duration pause = milliseconds(100);

  void add(SocketId listener);
  // max_wait, shortened to the first retry.
  Duration limit(Duration max_wait) const;
  // The next listener whose pause is over; an empty id when there is none.
  SocketId take_due();

 private:
  struct Entry {
    SocketId listener;
    Instant retry;
  };
  std::vector<Entry> entries_;  // ascending: every pause has the same length
};

// A listening socket with TCP_NODELAY for those it accepts; `bound` (may be null) gets its address.
Result<int> open_listener(const Address& at, bool reuse_port, Address* bound, Counter& syscalls);

struct Connecting {
  int fd = -1;
  int error = 0;  // of socket() when fd is -1, else of connect(); 0 while it is in progress
};
// `below`: EMFILE when the descriptor's number is not lower (0: any will do).
Connecting start_connect(const Address& to, int below, Counter& syscalls);

// Non-blocking send of all pieces: bytes taken, 0 when it would block, or -errno.
struct SendResult {
  ssize_t taken = 0;
  bool complete = true;
};
SendResult send_pieces(int fd, std::span<const iovec> pieces, RingStats& stats);

// Ring::unsent().
size_t unsent_bytes(int fd, Counter& syscalls);

// The pending error of a socket, cleared by asking.
int take_socket_error(int fd, Counter& syscalls);
// close() will then send RST.
void arm_reset(int fd, Counter& syscalls);

enum class AcceptOutcome {
  drained,     // nobody waits any more
  more,        // the bound was reached
  backed_off,  // out of descriptors or memory: reported, try again later
  closed,      // a handler closed the listener
};
// One accept4(), with errors that belong to a single connection already skipped: a descriptor or -errno.
int accept_one(int fd, Counter& syscalls);

// Accepts a bounded number of connections. `alive` says whether the listener still is open.
template <typename Alive>
AcceptOutcome accept_some(int fd, AcceptEvents& events, RingStats& stats, size_t& delivered, Alive alive) {
  constexpr int most = 16;
  for (int i = 0; i < most; ++i) {
    const int accepted = accept_one(fd, stats.syscalls);
    if (accepted == -EAGAIN) return AcceptOutcome::drained;
    ++delivered;
    if (accepted < 0) {
      events.on_accept_error(-accepted);
      return alive() ? AcceptOutcome::backed_off : AcceptOutcome::closed;
    }
    events.on_accept(accepted);
    if (!alive()) return AcceptOutcome::closed;
  }
  return AcceptOutcome::more;
}

// on_hang_up() is owed: the peer's end has been seen, and the owner, who has paused, cannot learn of it by reading.
template <typename Socket>
bool owes_hang_up(const Socket& socket) {
  return socket.paused && socket.ending && !socket.ended && !socket.ending_told;
}

// "accept4: Too many open files"
std::string describe(const char* call, int error);

}  // namespace penstock::net
