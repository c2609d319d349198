// The blocks that one rank of a model server holds: from the hashes that its engine gives them to ours, which are of
// token ids and so the same for every engine. Keeps a routing::ToldIndex up to date. A block may be held several times
// (twice in one cache, or on another medium as well); it is gone with its last copy. Pure; one thread.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "penstock/kvevents/events.h"
#include "penstock/routing/told_index.h"

namespace penstock::kvevents {

class BlockMap {
 public:
  struct Counts {
    uint64_t stored = 0, removed = 0, cleared = 0, other = 0;  // events
    // Blocks that were told of and could not be placed: their parent is not known; they are told by more than their
    // tokens (media, salts, adapters without a name); there are too many (`blocks_max`); or the event makes no sense.
    uint64_t orphaned = 0, special = 0, no_room = 0, senseless = 0;
  };
  static constexpr size_t blocks_max = size_t{1} << 20;  // 16 million tokens in blocks of 16

  BlockMap(routing::ToldIndex& index, uint32_t slot, uint32_t rank) : index_(index), slot_(slot), rank_(rank) {}
  ~BlockMap() { forget(); }
  BlockMap(const BlockMap&) = delete;

  void store(const StoredBlocks& blocks);
  void remove(std::span<const uint64_t> hashes);
  // Nothing is held, or nothing is known of what is.
  void forget();
  // What match() may conclude: `complete` if what was not told is not there.
  void tell(bool told, bool complete);

  size_t blocks() const { return blocks_.size(); }
  uint32_t block_tokens() const { return block_tokens_; }
  Counts& counts() { return counts_; }
  const Counts& counts() const { return counts_; }

 private:
  struct Block {
    uint64_t ours;
    uint32_t copies;
  };

  void add_copies(std::span<const uint64_t> hashes);
  bool place(uint64_t hash, uint64_t ours);
  void refresh(size_t count);

  routing::ToldIndex& index_;
  uint32_t slot_, rank_;
  bool told_ = false, complete_ = false;
  uint32_t block_tokens_ = 0;                   // of the last blocks stored
  std::unordered_map<uint64_t, Block> blocks_;  // by the engine's hash
  size_t refreshed_ = 0;                        // bucket
  std::vector<uint64_t> chain_;                 // scratch
  Counts counts_;
};

}  // namespace penstock::kvevents
