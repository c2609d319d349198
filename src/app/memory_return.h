// Gives memory back to the system once a load is over. Allocators keep what was freed, to use it again; a process that
// is idle would keep it for good, because they return it only while somebody allocates.
//
// The memory that was in use at most is compared with what was in use at most during the last `window`: the difference
// was not needed for that long, and goes back. So a load that goes up and down within a window costs nothing, and after
// its end the memory is back within two windows.
// Thread: its shard's, whose heap it is about.
#pragma once

#include <cstddef>

#include "penstock/net/event_loop.h"

namespace penstock::app {

class MemoryReturn {
 public:
  static constexpr Duration window = seconds(2);
  static constexpr size_t worth = size_t{4} << 20;  // less than this is left to the allocator

  explicit MemoryReturn(net::EventLoop& loop);
  // At the end of each turn: the bytes in use.
  void end_turn(size_t in_use) {
    in_use_ = in_use;
    if (in_use <= most_) return;
    most_ = in_use;
    if (most_ >= worth && !timer_.armed()) loop_.arm(timer_, window);
  }

 private:
  void on_window();

  net::EventLoop& loop_;
  net::Timer timer_;
  size_t in_use_ = 0;
  size_t most_ = 0;  // in this window
  size_t held_ = 0;  // the most of all windows since memory was last given back
};

}  // namespace penstock::app
