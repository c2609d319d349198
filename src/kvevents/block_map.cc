#include "penstock/kvevents/block_map.h"

#include <algorithm>

#include "penstock/base/containers.h"
#include "penstock/routing/prefix_hash.h"

namespace penstock::kvevents {

namespace {
constexpr uint32_t block_tokens_max = routing::prefix_block_bytes_max / sizeof(uint32_t);
}  // namespace

void BlockMap::store(const StoredBlocks& event) {
  ++counts_.stored;
  const size_t count = event.hashes.size();
  if (event.tokens.empty()) return add_copies(event.hashes);
  const bool sense = event.block_tokens > 0 && event.block_tokens <= block_tokens_max &&
                     event.tokens.size() == count * event.block_tokens;
  if (!sense) {
    counts_.senseless += count;
    return;
  }
  uint64_t ours = routing::chain_start(event.adapter, "");
  if (event.has_parent) {
    const auto parent = blocks_.find(event.parent);
    if (parent == blocks_.end()) {
      counts_.orphaned += count;
      return;
    }
    ours = parent->second.ours;
  }
  const size_t plain = event.adapter_named ? event.plain : 0;
  counts_.special += count - plain;
  const std::string_view bytes = routing::bytes_of(event.tokens);
  const size_t block_bytes = event.block_tokens * sizeof(uint32_t);
  chain_.clear();
  for (size_t i = 0; i < plain; ++i) {
    ours = routing::extend_chain(ours, bytes.substr(i * block_bytes, block_bytes));
    if (!place(event.hashes[i], ours)) {
      counts_.no_room += plain - i;
      break;
    }
    chain_.push_back(ours);
  }
  index_.record(chain_, slot_, rank_);
  refresh(count);
  if (block_tokens_ == event.block_tokens) return;
  block_tokens_ = event.block_tokens;
  tell(told_, complete_);
}

// Blocks of which only the hashes are told were copied: to memory of the host, say.
void BlockMap::add_copies(std::span<const uint64_t> hashes) {
  for (const uint64_t hash : hashes) {
    const auto found = blocks_.find(hash);
    if (found == blocks_.end()) ++counts_.orphaned;
    else ++found->second.copies;
  }
}

bool BlockMap::place(uint64_t hash, uint64_t ours) {
  if (const auto found = blocks_.find(hash); found != blocks_.end()) {
    ++found->second.copies;
    return true;
  }
  if (blocks_.size() == blocks_max) return false;
  blocks_.emplace(hash, Block{ours, 1});
  index_.count_admitted(1);
  return true;
}

// Entries of the index age with every block that is recorded, and a system prompt may be told of once and held for
// ever. So for every block stored the next ones of all those held are recorded again: each comes round at least once in
// blocks_max blocks, long before it is too old.
void BlockMap::refresh(size_t count) {
  static_assert(BlockMap::blocks_max * 2 < routing::PrefixIndex::capacity_max);
  for (; count > 0; --count) {
    if (refreshed_ >= blocks_.bucket_count()) refreshed_ = 0;
    for (auto at = blocks_.cbegin(refreshed_); at != blocks_.cend(refreshed_); ++at) {
      index_.record({&at->second.ours, 1}, slot_, rank_);
    }
    ++refreshed_;
  }
}

void BlockMap::remove(std::span<const uint64_t> hashes) {
  ++counts_.removed;
  for (const uint64_t hash : hashes) {
    const auto found = blocks_.find(hash);
    if (found == blocks_.end() || --found->second.copies > 0) continue;
    index_.forget(found->second.ours, slot_, rank_);
    blocks_.erase(found);
    index_.count_evicted(1);
  }
}

void BlockMap::forget() {
  index_.count_evicted(blocks_.size());
  if (!blocks_.empty()) free_memory(blocks_);  // to clear it would touch all its buckets, also for the next one
  refreshed_ = 0;
  index_.forget_all(slot_, rank_);
  block_tokens_ = 0;
  tell(false, false);
}

void BlockMap::tell(bool told, bool complete) {
  told_ = told;
  complete_ = complete;
  index_.set_state(slot_, rank_, told, complete, block_tokens_);
}

}  // namespace penstock::kvevents
