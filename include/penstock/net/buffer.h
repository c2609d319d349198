// Memory for bytes that must outlive the event that brought them. Everything here is taken from the
// process-wide MemoryBudget while in use. One thread (its shard's).
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "penstock/base/memory_budget.h"

namespace penstock::net {

// Blocks of 4 KiB and 64 KiB with small free lists (at most `keep_bytes` kept per pool). The budget is charged for
// whole blocks, while they are in use.
class BlockPool {
 public:
  static constexpr size_t small_size = 4 * 1024, large_size = 64 * 1024;
  struct Block {
    Block* next = nullptr;
    uint32_t capacity = 0, begin = 0, end = 0;
    char* data() { return reinterpret_cast<char*>(this + 1); }
  };

  explicit BlockPool(MemoryBudget& budget, size_t keep_bytes = 1024 * 1024);
  ~BlockPool();
  BlockPool(const BlockPool&) = delete;

  // A block with room for at least min(wanted, large_size - header); nullptr when the budget refuses.
  Block* take(size_t wanted);
  void release(Block* block);
  MemoryBudget& budget() { return budget_; }

 private:
  MemoryBudget& budget_;
  size_t keep_bytes_, kept_ = 0;
  Block* free_small_ = nullptr;
  Block* free_large_ = nullptr;
};
static_assert(sizeof(BlockPool::Block) < BlockPool::small_size / 64);

// Bytes waiting to be sent (or to be read), in order: a chain of blocks. Empty queues own no memory.
class OutQueue {
 public:
  explicit OutQueue(BlockPool& pool) : pool_(&pool) {}
  ~OutQueue() { clear(); }
  OutQueue(const OutQueue&) = delete;

  // Copies; false (and nothing is copied) when the budget refuses.
  [[nodiscard]] bool append(std::string_view bytes);
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  // Fills up to max pieces with the front of the queue; returns how many.
  size_t pieces(iovec* out, size_t max) const;
  void consume(size_t bytes);
  void clear();
  // Takes all that `from` holds, which must use the same pool. This one must be empty.
  void take(OutQueue& from);
  BlockPool& pool() const { return *pool_; }
  const MemoryBudget& budget() const { return pool_->budget(); }

 private:
  BlockPool* pool_;
  BlockPool::Block* head_ = nullptr;
  BlockPool::Block* tail_ = nullptr;
  size_t size_ = 0;
};

// One contiguous body, grown as bytes arrive (never by what a peer merely announces), with
// `padding` readable bytes behind it so that simdjson can scan it in place.
class BodyBuffer {
 public:
  static constexpr size_t padding = 64;  // zeros; simdjson 3.0 asks for 32, later versions for 64

  // What a buffer is for: of bodies that only come in, the budget takes less (MemoryBudget::try_take_first()).
  enum class Use : uint8_t { goes_on, begins };
  explicit BodyBuffer(MemoryBudget& budget, Use use = Use::goes_on) : budget_(&budget), use_(use) {}
  ~BodyBuffer() { reset(); }
  BodyBuffer(const BodyBuffer&) = delete;

  // `expected`: the announced length if known (0: unknown); used to avoid regrowth, capped. False (and nothing is
  // copied) when the budget refuses. The budget is charged for capacity and padding.
  [[nodiscard]] bool append(std::string_view bytes, size_t expected);
  std::string_view view() const { return {data_, size_}; }
  char* data() { return data_; }
  size_t size() const { return size_; }
  size_t capacity() const { return capacity_; }
  bool empty() const { return size_ == 0; }
  void keep_last(size_t bytes);  // forgets what is before them; the capacity stays
  void reset();                  // frees the memory and gives back the budget

 private:
  [[nodiscard]] bool grow(size_t needed, size_t expected);
  MemoryBudget* budget_;
  Use use_;
  char* data_ = nullptr;
  size_t size_ = 0, capacity_ = 0;  // capacity without padding
};

}  // namespace penstock::net
