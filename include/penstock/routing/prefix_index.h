// Which endpoints are believed to hold which blocks: one lock-free table of bounded size for the whole process, shared
// by all shards. Lossy by design: a lost race or an overwritten entry costs a cache hit, nothing else. Entries never
// tear, because an entry is one atomic 64-bit word {tag, endpoint slot, stamp}; a bucket is a cache line. The stamp is
// the number of distinct blocks recorded for the endpoint at that time, so entries older than its KV capacity are
// recognised without lists (an approximation of LRU). Any thread.
//
// Slots of endpoint_slots_max and more are accepted and hold nothing.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "penstock/routing/prefix_uses.h"

namespace penstock::routing {

class PrefixIndex {
 public:
  static constexpr uint32_t endpoint_slots_max = 4096;
  // Larger capacities are cut to this: 134 million tokens in blocks of 16. Bounded by the width of the stamp.
  static constexpr uint64_t capacity_max = uint64_t{1} << 23;

  // Which blocks of a chain have entries: all of the first `dense` blocks, and after them one in `every`. Each entry
  // costs a cache miss, and for a match of a thousand tokens an error of three blocks does not matter.
  struct Sampling {
    uint32_t dense;
    uint32_t every;
  };
  static constexpr Sampling every_block{UINT32_MAX, 1}, long_prompts{64, 4};

  // Number of entries, 8 bytes each: `entries` at first, rounded up to a power of two; reserve() may grow the table to
  // `most`, rounded down to a power of two.
  struct Room {
    size_t entries;
    size_t most;
    Room(size_t for_good) : entries(for_good), most(for_good) {}
    Room(size_t first, size_t limit) : entries(first), most(limit) {}
  };
  // Matches are exact while all blocks have entries, and are otherwise cut to the last block that has one.
  PrefixIndex(Room room, Sampling sampling);
  explicit PrefixIndex(size_t entries);  // every block; of fixed size
  ~PrefixIndex();

  // For each endpoint slot in `slots`, the number of leading blocks of `chain` that it is believed to hold. A cache
  // that holds a block of a chain also holds the blocks before it, so not every block is looked up: only one entry in
  // 32 and, where a match ends, a few more, once for all endpoints. An entry that this table has lost in the middle may
  // go unnoticed, which is closer to the truth than ending the match there.
  void match(std::span<const uint64_t> chain, std::span<const uint32_t> slots,
             std::span<uint32_t> matched_blocks) const;
  // The endpoint is about to compute (and so hold) these blocks.
  void record(std::span<const uint64_t> chain, uint32_t slot);
  // The endpoint holds only the first `kept_blocks` of the chain.
  void forget_tail(std::span<const uint64_t> chain, uint32_t slot, size_t kept_blocks);
  // The endpoint has restarted or is gone: all its entries become void at once.
  void forget_endpoint(uint32_t slot);
  // The slot belongs to this incarnation of an endpoint: voids the entries of another incarnation. Cheap if nothing has
  // changed; Router::decide() calls it once for each snapshot of a pool.
  void bind(uint32_t slot, uint32_t incarnation);
  // Capacity in blocks of the chain (KV blocks x engine block size / chain block size); 0: unlimited.
  void set_capacity(uint32_t slot, uint64_t blocks);
  // Entries written and not known to be void; approximate. For inference_extension_prefix_indexer_size.
  size_t size() const;
  size_t bytes() const;       // memory in use
  size_t bytes_most() const;  // memory in use after growing to Room::most
  size_t entries() const;     // capacity
  // Doubles the table until its capacity is at least `wanted`; entries are kept. False: it must not grow so far, or
  // there is no memory. One thread at a time, while other threads use the index. Takes 10 ms for 32 MiB in use.
  bool reserve(size_t wanted);
  PrefixUses& uses() { return uses_; }  // how often these prefixes were used

 private:
  struct Table;
  std::unique_ptr<Table> table_;
  PrefixUses uses_;
};

}  // namespace penstock::routing
