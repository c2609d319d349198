// Which endpoints are believed to hold which blocks: one table of bounded size for the whole process, lock-free, shared
// by all shards. Lossy by design: a lost race or an overwritten entry costs a hit, never a wrong answer that matters,
// and it never tears, and never takes more memory than was allowed it. An entry is one atomic 64-bit word {tag,
// endpoint slot, stamp}; a bucket is a cache line. The stamp is the endpoint's own count of distinct blocks recorded,
// so "older than the endpoint's KV capacity" is an LRU approximation without lists. Any thread.
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

  // Which blocks of a chain have entries: the first `dense` ones all, behind them one in `every`. A long prompt costs
  // its cache misses by the entry, and of a match of a thousand tokens three blocks more or less decide nothing.
  struct Sampling {
    uint32_t dense;
    uint32_t every;
  };
  static constexpr Sampling every_block{UINT32_MAX, 1}, long_prompts{64, 4};

  // Entries, 8 bytes each: `entries` at first, rounded up to a power of two, and `most`, rounded down to one, where
  // reserve() asks for them.
  struct Room {
    size_t entries;
    size_t most;
    Room(size_t for_good) : entries(for_good), most(for_good) {}
    Room(size_t first, size_t limit) : entries(first), most(limit) {}
  };
  // Matches are exact to the block where all have entries, else cut to the last block that has one.
  PrefixIndex(Room room, Sampling sampling);
  explicit PrefixIndex(size_t entries);  // every block; of this size for good
  ~PrefixIndex();

  // For each endpoint slot in `slots`, the number of leading blocks of `chain` it is believed to hold. A cache that
  // holds a block of a chain holds what stands before it, so not every block is looked up: an entry that this table
  // lost in the middle may go unnoticed, which is nearer to the truth than a gap. Looks at one entry in 32 and,
  // where a match ends, at a few between; once for all endpoints.
  void match(std::span<const uint64_t> chain, std::span<const uint32_t> slots,
             std::span<uint32_t> matched_blocks) const;
  // The endpoint is about to compute (and so hold) these blocks.
  void record(std::span<const uint64_t> chain, uint32_t slot);
  // The endpoint holds only the first `kept_blocks` of the chain after all (cached_tokens said so, or the request
  // failed).
  void forget_tail(std::span<const uint64_t> chain, uint32_t slot, size_t kept_blocks);
  // The endpoint restarted or is gone: everything of it is void at once.
  void forget_endpoint(uint32_t slot);
  // The slot belongs to this incarnation of an endpoint: forgets what another incarnation left. Cheap when nothing
  // changed; Router::decide() does it once for each snapshot of a pool.
  void bind(uint32_t slot, uint32_t incarnation);
  // Capacity in blocks of the chain (KV blocks x engine block size / chain block size); 0: unlimited.
  void set_capacity(uint32_t slot, uint64_t blocks);
  // Entries written and not known to be void; approximate. For inference_extension_prefix_indexer_size.
  size_t size() const;
  size_t bytes() const;       // of memory
  size_t bytes_most() const;  // that it may come to
  size_t entries() const;     // that there is room for
  // Doubles the table until there is room for so many; what it knows stays known. False: it may not grow so far, or
  // there is no memory. One thread at a time, while any others use the index; takes 10 ms for 32 MiB in use.
  bool reserve(size_t wanted);
  PrefixUses& uses() { return uses_; }  // of the same prefixes

 private:
  struct Table;
  std::unique_ptr<Table> table_;
  PrefixUses uses_;
};

}  // namespace penstock::routing
