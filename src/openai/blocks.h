// Sixteen characters of text compared at once. The comparisons of Blocks give masks, which & and | put together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace penstock::openai {

using Block = unsigned char __attribute__((vector_size(16)));

inline Block block_at(const char* text) {
  Block block;
  std::memcpy(&block, text, sizeof(Block));
  return block;
}

// A bit for each character that the mask holds, the first one lowest.
template <typename Mask>
uint32_t bits_of(const Mask& mask) {
  static_assert(sizeof(mask) == sizeof(Block));
#if defined(__SSE2__)
  return static_cast<uint32_t>(_mm_movemask_epi8(reinterpret_cast<__m128i>(mask)));
#else
  uint32_t bits = 0;
  for (size_t i = 0; i < sizeof(Block); ++i) bits |= (mask[i] != 0 ? 1U : 0U) << i;
  return bits;
#endif
}

template <typename Mask>
bool any(const Mask& mask) {
  return bits_of(mask) != 0;
}

}  // namespace penstock::openai
