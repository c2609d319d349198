// The sockets of the io_uring engine that wait for a receive buffer: those that found none, and those that have had
// their share. In the order in which they ask again. One thread, one ring.
#pragma once

#include <algorithm>
#include <array>

#include "ring_common.h"

namespace penstock::net {

class StarvedSockets {
 public:
  // `answer`: of a peer that we connected to. `fed`: it has had a buffer in this turn.
  void push(SocketId id, bool answer, bool fed) { lists_[(fed ? 2 : 0) + (answer ? 0 : 1)].push(id); }

  bool empty() const {
    return std::all_of(lists_.begin(), lists_.end(), [](const SocketFifo& list) { return list.empty(); });
  }

  // Chooses who asks in this turn: as many as there are buffers, the others would only fail. Answers go first
  // (docs/decisions/send-at-the-end-of-the-turn.md), but in every fourth turn clients do, for those who ask first may
  // take all buffers. Those that had none go before those that had some, or a few fast peers could shut out the rest
  // for ever.
  void begin_turn(size_t buffers) {
    const bool clients_first = ++turns_ % 4 == 0;
    order_ = clients_first ? Order{1, 0, 3, 2} : Order{0, 1, 2, 3};
    for (const size_t list : order_) {
      asking_[list] = std::min(lists_[list].size(), buffers);
      buffers -= asking_[list];
    }
  }

  // The next one of those chosen; an empty id behind the last. It may be pushed again at once.
  SocketId next() {
    for (const size_t list : order_) {
      if (asking_[list] == 0) continue;
      --asking_[list];
      return lists_[list].pop();
    }
    return {};
  }

 private:
  using Order = std::array<size_t, 4>;
  std::array<SocketFifo, 4> lists_;  // without a buffer: answers, clients; with some: answers, clients
  std::array<size_t, 4> asking_{};   // how many of each are left to this turn
  Order order_{};
  uint64_t turns_ = 0;
};

}  // namespace penstock::net
