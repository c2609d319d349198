// Which blocks model servers report to hold (KV events). PrefixIndex, in contrast, holds the blocks of prompts that
// were sent to them. Its chains are hashes of token ids, so they match only prompts given as token ids. A server may
// have several ranks, each with its own cache; a prompt is served by one of them, so the longest match on a single rank
// counts.
//
// Threads: match() any; everything else the control thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "penstock/routing/prefix_index.h"

namespace penstock::routing {

class ToldIndex {
 public:
  // Every endpoint has `ranks` ranks.
  ToldIndex(PrefixIndex::Room room, uint32_t ranks);

  struct Match {
    uint32_t blocks = 0;    // leading blocks of the chain that the endpoint holds
    bool told = false;      // the endpoint reports what it holds
    bool complete = false;  // the reports are complete: it holds no other blocks
  };
  struct Scratch {
    std::vector<uint32_t> places, matched;
  };
  // One Match for each endpoint slot. Blocks of the chain have `block_tokens` tokens; endpoints with blocks of another
  // length count as not reporting.
  void match(std::span<const uint64_t> chain, uint32_t block_tokens, std::span<const uint32_t> slots,
             std::span<Match> out, Scratch& scratch) const;

  void record(std::span<const uint64_t> chain, uint32_t slot, uint32_t rank);
  void forget(uint64_t block, uint32_t slot, uint32_t rank);
  void forget_all(uint32_t slot, uint32_t rank);
  // `block_tokens` 0: no block was reported yet. `told` false: nothing is known about the rank.
  void set_state(uint32_t slot, uint32_t rank, bool told, bool complete, uint32_t block_tokens);

  // Blocks that were reported as added to a cache, and as removed from it.
  void count_admitted(uint64_t blocks) { admitted_.fetch_add(blocks, std::memory_order_relaxed); }
  void count_evicted(uint64_t blocks) { evicted_.fetch_add(blocks, std::memory_order_relaxed); }
  uint64_t admitted() const { return admitted_.load(std::memory_order_relaxed); }
  uint64_t evicted() const { return evicted_.load(std::memory_order_relaxed); }

  uint32_t ranks() const { return ranks_; }
  size_t size() const { return index_.size(); }
  size_t entries() const { return index_.entries(); }
  size_t bytes() const { return index_.bytes(); }
  bool reserve(size_t wanted) { return index_.reserve(wanted); }  // as of PrefixIndex

 private:
  static constexpr uint32_t flag_told = 1, flag_complete = 2;
  static constexpr uint32_t tokens_shift = 2;
  uint32_t place_of(uint32_t slot, uint32_t rank) const { return slot * ranks_ + rank; }

  uint32_t ranks_;
  PrefixIndex index_;  // by place
  std::unique_ptr<std::atomic<uint32_t>[]> states_;
  std::atomic<uint64_t> admitted_{0}, evicted_{0};
};

}  // namespace penstock::routing
