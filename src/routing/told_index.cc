#include "penstock/routing/told_index.h"

#include <algorithm>

#include "penstock/base/assert.h"

namespace penstock::routing {

ToldIndex::ToldIndex(PrefixIndex::Room room, uint32_t ranks)
    : ranks_(ranks),
      index_(room, PrefixIndex::every_block),
      states_(new std::atomic<uint32_t>[PrefixIndex::endpoint_slots_max] {}) {
  PENSTOCK_ASSERT(ranks > 0);
}

void ToldIndex::match(std::span<const uint64_t> chain, uint32_t block_tokens, std::span<const uint32_t> slots,
                      std::span<Match> out, Scratch& scratch) const {
  PENSTOCK_ASSERT(slots.size() == out.size());
  scratch.places.clear();
  for (const uint32_t slot : slots) {
    for (uint32_t rank = 0; rank < ranks_; ++rank) scratch.places.push_back(place_of(slot, rank));
  }
  scratch.matched.resize(scratch.places.size());
  index_.match(chain, scratch.places, scratch.matched);
  for (size_t i = 0; i < slots.size(); ++i) {
    Match found{.blocks = 0, .told = false, .complete = true};
    for (size_t at = i * ranks_; at < (i + 1) * ranks_; ++at) {
      const uint32_t place = scratch.places[at];
      const uint32_t state =
          place < PrefixIndex::endpoint_slots_max ? states_[place].load(std::memory_order_relaxed) : 0;
      const uint32_t tokens = state >> tokens_shift;
      const bool told = (state & flag_told) != 0 && (tokens == 0 || tokens == block_tokens);
      found.told = found.told || told;
      found.complete = found.complete && told && (state & flag_complete) != 0;
      if (told) found.blocks = std::max(found.blocks, scratch.matched[at]);
    }
    out[i] = found;
  }
}

void ToldIndex::record(std::span<const uint64_t> chain, uint32_t slot, uint32_t rank) {
  index_.record(chain, place_of(slot, rank));
}

void ToldIndex::forget(uint64_t block, uint32_t slot, uint32_t rank) {
  index_.forget_tail({&block, 1}, place_of(slot, rank), 0);
}

void ToldIndex::forget_all(uint32_t slot, uint32_t rank) {
  index_.forget_endpoint(place_of(slot, rank));
}

void ToldIndex::set_state(uint32_t slot, uint32_t rank, bool told, bool complete, uint32_t block_tokens) {
  const uint32_t place = place_of(slot, rank);
  if (place >= PrefixIndex::endpoint_slots_max) return;
  const uint32_t state = (told ? flag_told : 0) | (complete ? flag_complete : 0) | block_tokens << tokens_shift;
  states_[place].store(state, std::memory_order_relaxed);
}

}  // namespace penstock::routing
