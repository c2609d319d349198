// The paged KV cache of one engine: a fixed number of blocks with reference counts, found again by the hash of their
// content and everything before it. Blocks that nobody uses keep their content until they are needed: least recently
// used first and, within one sequence, its tail first, so that shared beginnings live longest. Pure; one thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace penstock::engine {

// The keys of a sequence's full blocks: chain hashes, told apart between models, adapters and cache salts.
struct BlockKeys {
  std::span<const uint64_t> chain;
  uint64_t salt = 0;
  size_t size() const { return chain.size(); }
  uint64_t operator[](size_t i) const { return chain[i] ^ salt; }
};

// Hears of blocks that can no longer be found.
class KvCacheEvents {
 public:
  virtual void on_removed(uint64_t key) = 0;
  virtual void on_cleared() = 0;  // all of them

 protected:
  ~KvCacheEvents() = default;
};

class KvCache {
 public:
  using BlockId = uint32_t;
  using Table = std::vector<BlockId>;  // the blocks of one sequence, in order

  // Without `prefix_caching` nothing is ever found again.
  KvCache(uint32_t blocks, bool prefix_caching);

  // How many of the first `limit` keys are cached without a gap.
  size_t find_prefix(const BlockKeys& keys, size_t limit) const;
  // Appends to `table` the cached blocks of the first `hits` keys (as find_prefix just said) and `fresh` new ones.
  // False, and nothing changed, when there is no room.
  [[nodiscard]] bool take(Table& table, const BlockKeys& keys, size_t hits, size_t fresh);
  // From now on `block` can be found by `key`. Once per block until it is evicted.
  void publish(BlockId block, uint64_t key);
  // Nothing can be found any more. False, and nothing changed, while blocks are in use.
  bool clear();
  // Null: nobody.
  void set_events(KvCacheEvents* events) { events_ = events; }
  // Gives back every block of the table, the last one first, and empties it.
  void release(Table& table);

  uint32_t blocks() const { return static_cast<uint32_t>(blocks_.size()); }
  uint32_t free_blocks() const { return free_count_; }
  uint32_t cached_blocks() const { return published_count_; }  // findable, in use or not
  double usage() const { return 1.0 - static_cast<double>(free_count_) / static_cast<double>(blocks_.size()); }

 private:
  static constexpr BlockId none = UINT32_MAX;
  struct Block {
    uint64_t key = 0;
    uint32_t references = 0;
    BlockId next_free = none, previous_free = none;  // while references == 0
    BlockId next_in_bucket = none;                   // while published
    bool published = false;
  };

  BlockId find(uint64_t key) const;
  size_t bucket_of(uint64_t key) const { return (key * 0x9e3779b97f4a7c15ull) >> bucket_shift_; }
  void push_free(BlockId id);
  void remove_free(BlockId id);
  void unpublish(BlockId id);
  BlockId evict();

  std::vector<Block> blocks_;
  std::vector<BlockId> buckets_;
  int bucket_shift_;
  bool prefix_caching_;
  KvCacheEvents* events_ = nullptr;
  BlockId oldest_free_ = none, newest_free_ = none;
  uint32_t free_count_ = 0, published_count_ = 0;
};

}  // namespace penstock::engine
