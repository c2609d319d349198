#include "penstock/net/buffer.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "penstock/base/assert.h"

namespace penstock::net {

namespace {
constexpr size_t header = sizeof(BlockPool::Block);
constexpr size_t first_growth_max = 64 * 1024;
constexpr size_t first_growth_min = 1024;

void free_list(BlockPool::Block* block) {
  while (block != nullptr) std::free(std::exchange(block, block->next));
}
}  // namespace

BlockPool::BlockPool(MemoryBudget& budget, size_t keep_bytes) : budget_(budget), keep_bytes_(keep_bytes) {}

BlockPool::~BlockPool() {
  free_list(free_small_);
  free_list(free_large_);
}

BlockPool::Block* BlockPool::take(size_t wanted) {
  const bool small = wanted <= small_size - header;
  const size_t size = small ? small_size : large_size;
  if (!budget_.try_take(size)) return nullptr;
  Block*& kept = small ? free_small_ : free_large_;
  void* memory = kept;
  if (kept != nullptr) {
    kept = kept->next;
    kept_ -= size;
  } else if (memory = std::malloc(size); memory == nullptr) {
    budget_.give_back(size);
    return nullptr;
  }
  auto* block = new (memory) Block;
  block->capacity = static_cast<uint32_t>(size - header);
  return block;
}

void BlockPool::release(Block* block) {
  const size_t size = block->capacity + header;
  budget_.give_back(size);
  if (kept_ + size > keep_bytes_) return std::free(block);
  Block*& kept = size == small_size ? free_small_ : free_large_;
  block->next = kept;
  kept = block;
  kept_ += size;
}

bool OutQueue::append(std::string_view bytes) {
  const size_t room = tail_ == nullptr ? 0 : tail_->capacity - tail_->end;
  const size_t in_tail = std::min(room, bytes.size());
  // All the new blocks first: a refusal then leaves the queue as it was.
  BlockPool::Block* first = nullptr;
  BlockPool::Block* last = nullptr;
  for (size_t rest = bytes.size() - in_tail; rest > 0;) {
    BlockPool::Block* block = pool_->take(rest);
    if (block == nullptr) {
      while (first != nullptr) pool_->release(std::exchange(first, first->next));
      return false;
    }
    (last == nullptr ? first : last->next) = block;
    last = block;
    rest -= std::min<size_t>(rest, block->capacity);
  }
  size_ += bytes.size();
  if (in_tail > 0) {
    std::memcpy(tail_->data() + tail_->end, bytes.data(), in_tail);
    tail_->end += static_cast<uint32_t>(in_tail);
    bytes.remove_prefix(in_tail);
  }
  if (first == nullptr) return true;
  for (BlockPool::Block* block = first; block != nullptr; block = block->next) {
    const size_t n = std::min<size_t>(bytes.size(), block->capacity);
    std::memcpy(block->data(), bytes.data(), n);
    block->end = static_cast<uint32_t>(n);
    bytes.remove_prefix(n);
  }
  (tail_ == nullptr ? head_ : tail_->next) = first;
  tail_ = last;
  return true;
}

size_t OutQueue::pieces(iovec* out, size_t max) const {
  size_t count = 0;
  for (BlockPool::Block* block = head_; block != nullptr && count < max; block = block->next) {
    out[count++] = {block->data() + block->begin, block->end - block->begin};
  }
  return count;
}

void OutQueue::consume(size_t bytes) {
  PENSTOCK_ASSERT(bytes <= size_);
  size_ -= bytes;
  while (bytes > 0) {
    const size_t n = std::min<size_t>(bytes, head_->end - head_->begin);
    head_->begin += static_cast<uint32_t>(n);
    bytes -= n;
    if (head_->begin == head_->end) pool_->release(std::exchange(head_, head_->next));
  }
  if (head_ == nullptr) tail_ = nullptr;
}

void OutQueue::take(OutQueue& from) {
  PENSTOCK_ASSERT(empty() && pool_ == from.pool_);
  head_ = std::exchange(from.head_, nullptr);
  tail_ = std::exchange(from.tail_, nullptr);
  size_ = std::exchange(from.size_, 0);
}

void OutQueue::clear() {
  consume(size_);
}

bool BodyBuffer::append(std::string_view bytes, size_t expected) {
  if (bytes.empty()) return true;
  if (bytes.size() > capacity_ - size_ && !grow(size_ + bytes.size(), expected)) return false;
  std::memcpy(data_ + size_, bytes.data(), bytes.size());
  size_ += bytes.size();
  std::memset(data_ + size_, 0, padding);
  return true;
}

bool BodyBuffer::grow(size_t needed, size_t expected) {
  // What is merely announced costs a client nothing: it gets 64 KiB for it, and from then on eight times what it has
  // sent, or twice that without an announcement.
  const size_t factor = expected >= needed ? 8 : 2;
  size_t wanted = capacity_ > 0 ? capacity_ * factor : std::clamp(expected, first_growth_min, first_growth_max);
  if (expected >= needed) wanted = std::min(wanted, expected);
  wanted = std::max(wanted, needed);
  const size_t taken = capacity_ > 0 ? capacity_ + padding : 0;
  const size_t more = wanted + padding - taken;
  if (!(use_ == Use::begins ? budget_->try_take_first(more) : budget_->try_take(more))) return false;
  const size_t bytes = wanted + padding;
  void* memory = data_ == nullptr ? std::malloc(bytes) : std::realloc(data_, bytes);
  if (memory == nullptr) {
    budget_->give_back(more);
    return false;
  }
  data_ = static_cast<char*>(memory);
  capacity_ = wanted;
  return true;
}

void BodyBuffer::keep_last(size_t bytes) {
  if (size_ <= bytes) return;
  std::memmove(data_, data_ + size_ - bytes, bytes);
  size_ = bytes;
  std::memset(data_ + size_, 0, padding);
}

void BodyBuffer::reset() {
  if (data_ == nullptr) return;
  std::free(data_);
  budget_->give_back(capacity_ + padding);
  data_ = nullptr;
  size_ = capacity_ = 0;
}

}  // namespace penstock::net
