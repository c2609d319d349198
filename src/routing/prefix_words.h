// The words of PrefixIndex: what the bits of an entry mean. Pure.
#pragma once

#include <cstdint>

#include "penstock/routing/prefix_index.h"

namespace penstock::routing {

// A word: tag (28 bits of the block's hash) | endpoint slot (12) | stamp (24). Zero: empty.
constexpr unsigned stamp_bits = 24;
constexpr unsigned slot_bits = 12;
constexpr unsigned tag_shift = stamp_bits + slot_bits;
constexpr uint64_t stamp_mask = (uint64_t{1} << stamp_bits) - 1;
constexpr uint64_t slot_mask = (uint64_t{1} << slot_bits) - 1;

// Stamps run ahead of the endpoint's counter while a chain is being recorded, by at most this; seen from the counter
// they count as just recorded, not as 2^24 old.
constexpr uint64_t ahead_max = uint64_t{1} << 20;
// All lines are swept once in this many new blocks of any one endpoint. A word dies at an age of capacity_max or less,
// so it is erased before its stamp, cut to 24 bits, could look young again.
constexpr unsigned sweep_period_bits = 22;
static_assert(PrefixIndex::capacity_max + (uint64_t{1} << sweep_period_bits) + ahead_max < stamp_mask);
static_assert(PrefixIndex::endpoint_slots_max == slot_mask + 1);

inline uint64_t tag_of(uint64_t word) {
  return word >> tag_shift;
}
// `difference`: of a word and another word, or the hash of a block, by exclusive or.
inline bool same_tag(uint64_t difference) {
  return difference < uint64_t{1} << tag_shift;
}
inline bool same_tag_and_slot(uint64_t difference) {
  return difference < uint64_t{1} << stamp_bits;
}
inline uint32_t slot_of(uint64_t word) {
  return static_cast<uint32_t>((word >> stamp_bits) & slot_mask);
}
inline uint64_t make_word(uint64_t hash, uint32_t slot, uint64_t stamp) {
  return (hash >> tag_shift << tag_shift) | (uint64_t{slot} << stamp_bits) | (stamp & stamp_mask);
}

// Blocks the endpoint has recorded since the word was stamped.
inline uint64_t age_of(uint64_t word, uint64_t counter) {
  const uint64_t age = (counter - word) & stamp_mask;
  return age > stamp_mask - ahead_max ? 0 : age;
}

}  // namespace penstock::routing
