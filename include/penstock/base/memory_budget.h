// The process-wide memory budget for bytes that are buffered for peers: request bodies and queued output. A request for
// memory is granted or refused at once; if refused, the caller answers 503 or pauses its source. Taken once per body or
// buffer block, never per chunk.
// The whole may be used by any thread. Each shard has a part of it, for its thread alone: if all of them added to one
// counter several times per request, they would wait for its cache line.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "penstock/base/assert.h"

namespace penstock {

class MemoryBudget {
 public:
  // The whole. limit_bytes: named `limits.memory` in the configuration.
  explicit MemoryBudget(size_t limit_bytes) : limit_(limit_bytes) {}
  // A part. It takes up to piece_max bytes more than it was asked for while the whole is less than half used, and keeps
  // at most twice that, until nothing of it is used. `whole` outlives it.
  explicit MemoryBudget(MemoryBudget* whole) : whole_(whole) {}
  ~MemoryBudget() {
    if (whole_ != nullptr) whole_->give_back(spare_);
  }
  MemoryBudget(const MemoryBudget&) = delete;

  bool try_take(size_t bytes) { return take(limit(), bytes); }
  // For new work: the last eighth of the budget is reserved for work in progress. A refused request can be sent again,
  // but a stream that is cut cannot be continued.
  bool try_take_first(size_t bytes) { return take(first_limit(), bytes); }
  size_t first_limit() const { return limit() - limit() / 8; }
  void give_back(size_t bytes) {
    if (whole_ != nullptr) return give_back_to_part(bytes);
    const size_t before = used_.fetch_sub(bytes, std::memory_order_relaxed);
    PENSTOCK_ASSERT(before >= bytes);
  }

  void set_limit(size_t bytes) { limit_.store(bytes, std::memory_order_relaxed); }  // of the whole
  size_t limit() const { return (whole_ != nullptr ? whole_->limit_ : limit_).load(std::memory_order_relaxed); }
  // By everybody. The whole counts what parts keep for later.
  size_t used() const { return whole_ != nullptr ? whole_->used() - spare_ : used_.load(std::memory_order_relaxed); }
  size_t taken() const { return taken_; }  // of a part: what its own thread has in use
  uint64_t refusals() const { return refusals_.load(std::memory_order_relaxed); }  // of the whole

  static constexpr size_t piece_max = 256 * 1024;

 private:
  bool take(size_t most, size_t bytes) {
    return whole_ != nullptr ? take_of_part(most, bytes) : take_below(most, bytes);
  }
  bool take_below(size_t most, size_t bytes) {
    const size_t before = used_.fetch_add(bytes, std::memory_order_relaxed);
    if (before + bytes <= most) return true;
    used_.fetch_sub(bytes, std::memory_order_relaxed);
    refusals_.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  // With many shards and a small limit, what the parts keep must stay a small share of it.
  size_t piece() const { return std::min(piece_max, limit() / 1024); }
  bool take_of_part(size_t most, size_t bytes) {
    if (bytes > spare_) {
      const size_t missing = bytes - spare_;
      const size_t extra = whole_->used() + missing + piece() <= most / 2 ? piece() : 0;
      if (!whole_->take_below(most, missing + extra)) return false;
      spare_ += missing + extra;
    }
    spare_ -= bytes;
    taken_ += bytes;
    return true;
  }
  void give_back_to_part(size_t bytes) {
    PENSTOCK_ASSERT(taken_ >= bytes);
    taken_ -= bytes;
    spare_ += bytes;
    const size_t kept = taken_ == 0 ? 0 : piece();
    if (spare_ > 2 * kept) whole_->give_back(std::exchange(spare_, kept) - kept);
  }

  MemoryBudget* const whole_ = nullptr;
  size_t spare_ = 0, taken_ = 0;  // of a part
  alignas(64) std::atomic<size_t> used_{0};
  alignas(64) std::atomic<size_t> limit_{0};
  std::atomic<uint64_t> refusals_{0};
};

}  // namespace penstock
