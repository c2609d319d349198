// The chain of block hashes of a prompt; the partial tail is not hashed, h0 is not part of the chain. A block is
// `block_tokens` tokens of `bytes_per_token` bytes; token-id prompts (arrays of 32-bit ids) are bytes like any other,
// and exact with 4 bytes per token. Pure.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace penstock::routing {

enum class ChainHash : uint8_t {
  // h0 = XXH3(model, cache salt); h_i = h_{i-1} mixed with XXH3(block_i): blocks need not wait for one another.
  xxh3,
  // The Endpoint Picker's: h0 = XXH64(model and cache salt in one), h_i = XXH64(block_i and, little-endian, h_{i-1}).
  xxh64,
};

struct PrefixHashOptions {
  uint32_t block_tokens = 16;
  // The chain always uses this constant, so that equal prompts hash equally over time: the learnt ratio corrects token
  // counts, not block borders.
  uint32_t bytes_per_token = 4;
  uint32_t blocks_max = 8192;  // the reach: 131,072 tokens with blocks of 16; what follows is not matched
  ChainHash hash = ChainHash::xxh3;
};

// Appends to `chain` (cleared first) the hashes of the concatenation of `pieces`.
void hash_prompt(std::string_view model, std::string_view cache_salt, std::span<const std::string_view> pieces,
                 const PrefixHashOptions& options, std::vector<uint64_t>& chain);

// The same with ChainHash::xxh3, block by block: h0, and the hash of a chain that is one block longer. A block has at
// most prefix_block_bytes_max bytes.
constexpr size_t prefix_block_bytes_max = 4096;
uint64_t chain_start(std::string_view model, std::string_view cache_salt);
uint64_t extend_chain(uint64_t chain, std::string_view block);

// Token ids as the bytes that are hashed: 4 each.
inline std::string_view bytes_of(std::span<const uint32_t> token_ids) {
  return {reinterpret_cast<const char*>(token_ids.data()), token_ids.size_bytes()};
}

}  // namespace penstock::routing
