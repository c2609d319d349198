// The process-wide memory budget for bytes that are buffered for peers: request bodies and queued output. A request for
// memory is granted or refused at once; if refused, the caller answers 503 or pauses its source. Any thread; one
// relaxed atomic addition per body or buffer block, never per chunk.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "penstock/base/assert.h"

namespace penstock {

class MemoryBudget {
 public:
  // limit_bytes: named `limits.memory` in the configuration.
  explicit MemoryBudget(size_t limit_bytes) : limit_(limit_bytes) {}

  bool try_take(size_t bytes) { return take_below(limit(), bytes); }
  // For new work: the last eighth of the budget is reserved for work in progress. A refused request can be sent again,
  // but a stream that is cut cannot be continued.
  bool try_take_first(size_t bytes) { return take_below(first_limit(), bytes); }
  size_t first_limit() const { return limit() - limit() / 8; }
  // For memory that must be had to finish what was begun (an error answer). Counted, may exceed.
  void take_anyway(size_t bytes) { used_.fetch_add(bytes, std::memory_order_relaxed); }
  void give_back(size_t bytes) {
    const size_t before = used_.fetch_sub(bytes, std::memory_order_relaxed);
    PENSTOCK_ASSERT(before >= bytes);
  }

  void set_limit(size_t bytes) { limit_.store(bytes, std::memory_order_relaxed); }
  size_t limit() const { return limit_.load(std::memory_order_relaxed); }
  size_t used() const { return used_.load(std::memory_order_relaxed); }
  uint64_t refusals() const { return refusals_.load(std::memory_order_relaxed); }

 private:
  bool take_below(size_t most, size_t bytes) {
    const size_t before = used_.fetch_add(bytes, std::memory_order_relaxed);
    if (before + bytes <= most) return true;
    used_.fetch_sub(bytes, std::memory_order_relaxed);
    refusals_.fetch_add(1, std::memory_order_relaxed);
    return false;
  }

  alignas(64) std::atomic<size_t> used_{0};
  alignas(64) std::atomic<size_t> limit_;
  std::atomic<uint64_t> refusals_{0};
};

}  // namespace penstock
