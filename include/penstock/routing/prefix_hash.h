// The chain of block hashes of a prompt. h0 = XXH3(model, cache salt); h_i = h_{i-1} mixed with XXH3(block_i); the
// partial tail is not hashed, h0 is not part of the chain. A block is `block_tokens` tokens of `bytes_per_token` bytes;
// token-id prompts (arrays of 32-bit ids) are bytes like any other, and exact with 4 bytes per token. Pure.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace penstock::routing {

struct PrefixHashOptions {
  uint32_t block_tokens = 16;
  // The chain always uses this constant, so that equal prompts hash equally over time: the learnt ratio corrects token
  // counts, not block borders.
  uint32_t bytes_per_token = 4;
  uint32_t blocks_max = 8192;  // the reach: 131,072 tokens with blocks of 16; what follows is not matched
};

// Appends to `chain` (cleared first) the hashes of the concatenation of `pieces`.
void hash_prompt(std::string_view model, std::string_view cache_salt, std::span<const std::string_view> pieces,
                 const PrefixHashOptions& options, std::vector<uint64_t>& chain);

}  // namespace penstock::routing
