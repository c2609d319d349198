#include "memory_return.h"

#include <algorithm>
#include <utility>

#ifdef PENSTOCK_MIMALLOC
#include <mimalloc.h>
#else
#include <malloc.h>
#endif

namespace penstock::app {

namespace {

void give_back() {
#ifdef PENSTOCK_MIMALLOC
  mi_collect(/*force=*/true);
#else
  malloc_trim(0);
#endif
}

}  // namespace

MemoryReturn::MemoryReturn(net::EventLoop& loop)
    : loop_(loop), timer_(net::Timer::of<&MemoryReturn::on_window>(this)) {}

void MemoryReturn::on_window() {
  held_ = std::max(held_, most_);
  if (held_ - most_ >= worth) {
    give_back();
    held_ = most_;
  }
  most_ = in_use_;
  if (held_ >= worth) loop_.arm(timer_, window);
}

}  // namespace penstock::app
