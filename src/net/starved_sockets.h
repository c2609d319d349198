// The sockets of the io_uring engine that found no receive buffer, in the order in which they try again.
// One thread, one ring.
#pragma once

#include <algorithm>
#include <array>

#include "ring_common.h"

namespace penstock::net {

class StarvedSockets {
 public:
  // `answer`: of a peer that we connected to. `fed`: it has had buffers since it last asked (of answers this says
  // nothing: an idle connection goes on asking from one to the next).
  void push(SocketId id, bool answer, bool fed) { lists_[answer ? 0 : fed ? 2 : 1].push(id); }

  // Chooses who tries in this turn: as many as there are buffers, the others would only fail again. Answers go first
  // (docs/ARCHITECTURE.md says why), but a quarter is for clients. Of these, those that had no buffer go first, or a
  // fast one that takes all buffers each time could shut out the rest for ever.
  void begin_turn(size_t buffers) {
    const size_t others = std::min(lists_[1].size() + lists_[2].size(), buffers / 4);
    tries_[0] = std::min(lists_[0].size(), buffers - others);
    tries_[1] = std::min(lists_[1].size(), buffers - tries_[0]);
    tries_[2] = std::min(lists_[2].size(), buffers - tries_[0] - tries_[1]);
  }

  // The next one of those chosen; an empty id behind the last. It may be pushed again at once.
  SocketId next() {
    for (size_t i = 0; i < lists_.size(); ++i) {
      if (tries_[i] == 0) continue;
      --tries_[i];
      return lists_[i].pop();
    }
    return {};
  }

 private:
  std::array<SocketFifo, 3> lists_;  // answers, clients that had no buffer, clients that had some
  std::array<size_t, 3> tries_{};    // how many of each are left to this turn
};

}  // namespace penstock::net
