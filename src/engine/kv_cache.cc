#include "penstock/engine/kv_cache.h"

#include <bit>

#include "penstock/base/assert.h"

namespace penstock::engine {

KvCache::KvCache(uint32_t blocks, bool prefix_caching) : blocks_(blocks), prefix_caching_(prefix_caching) {
  PENSTOCK_ASSERT(blocks > 0 && blocks < none / 2);
  const size_t buckets = std::bit_ceil(size_t{blocks} * 2);
  buckets_.assign(buckets, none);
  bucket_shift_ = 64 - std::countr_zero(buckets);
  for (BlockId id = 0; id < blocks; ++id) push_free(id);
}

size_t KvCache::find_prefix(const BlockKeys& keys, size_t limit) const {
  if (!prefix_caching_) return 0;
  const size_t end = std::min(limit, keys.size());
  size_t hits = 0;
  while (hits < end && find(keys[hits]) != none) ++hits;
  return hits;
}

bool KvCache::take(Table& table, const BlockKeys& keys, size_t hits, size_t fresh) {
  // A cached block that nobody uses is free, but cannot serve as a fresh one at the same time.
  size_t unused_hits = 0;
  for (size_t i = 0; i < hits; ++i) unused_hits += blocks_[find(keys[i])].references == 0;
  if (fresh + unused_hits > free_count_) return false;
  for (size_t i = 0; i < hits; ++i) {
    const BlockId id = find(keys[i]);
    if (blocks_[id].references++ == 0) remove_free(id);
    table.push_back(id);
  }
  for (size_t i = 0; i < fresh; ++i) {
    const BlockId id = evict();
    blocks_[id].references = 1;
    table.push_back(id);
  }
  return true;
}

void KvCache::publish(BlockId id, uint64_t key) {
  Block& block = blocks_[id];
  PENSTOCK_ASSERT(block.references > 0 && !block.published);
  if (!prefix_caching_) return;
  // Two blocks may hold the same content (computed side by side); either is found, each is evicted by itself.
  BlockId& bucket = buckets_[bucket_of(key)];
  block.key = key;
  block.published = true;
  block.next_in_bucket = bucket;
  bucket = id;
  ++published_count_;
}

void KvCache::release(Table& table) {
  for (size_t i = table.size(); i-- > 0;) {
    Block& block = blocks_[table[i]];
    PENSTOCK_ASSERT(block.references > 0);
    if (--block.references == 0) push_free(table[i]);
  }
  table.clear();
}

KvCache::BlockId KvCache::find(uint64_t key) const {
  for (BlockId id = buckets_[bucket_of(key)]; id != none; id = blocks_[id].next_in_bucket) {
    if (blocks_[id].key == key) return id;
  }
  return none;
}

void KvCache::push_free(BlockId id) {
  Block& block = blocks_[id];
  block.previous_free = newest_free_;
  block.next_free = none;
  (newest_free_ == none ? oldest_free_ : blocks_[newest_free_].next_free) = id;
  newest_free_ = id;
  ++free_count_;
}

void KvCache::remove_free(BlockId id) {
  Block& block = blocks_[id];
  (block.previous_free == none ? oldest_free_ : blocks_[block.previous_free].next_free) = block.next_free;
  (block.next_free == none ? newest_free_ : blocks_[block.next_free].previous_free) = block.previous_free;
  --free_count_;
}

void KvCache::unpublish(BlockId id) {
  Block& block = blocks_[id];
  BlockId* link = &buckets_[bucket_of(block.key)];
  while (*link != id) link = &blocks_[*link].next_in_bucket;
  *link = block.next_in_bucket;
  block.published = false;
  --published_count_;
}

bool KvCache::clear() {
  if (free_count_ != blocks()) return false;
  for (BlockId id = 0; id < blocks(); ++id) {
    if (blocks_[id].published) unpublish(id);
  }
  if (events_ != nullptr) events_->on_cleared();
  return true;
}

KvCache::BlockId KvCache::evict() {
  const BlockId id = oldest_free_;
  PENSTOCK_ASSERT(id != none);
  remove_free(id);
  if (blocks_[id].published) {
    unpublish(id);
    if (events_ != nullptr) events_->on_removed(blocks_[id].key);
  }
  return id;
}

}  // namespace penstock::engine
