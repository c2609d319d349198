#include "penstock/routing/prefix_hash.h"

#include <algorithm>
#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "penstock/base/assert.h"

namespace penstock::routing {
namespace {

// The hash of a chain that is one block longer: the high and low half of a product, folded. The block is hashed by
// itself and not with the chain as its seed, so that blocks need not wait for one another.
uint64_t extended(uint64_t chain, const char* block, size_t size) {
  __extension__ using Wide = unsigned __int128;
  const uint64_t content = XXH3_64bits(block, size);
  const Wide product = static_cast<Wide>(chain ^ 0x9e3779b97f4a7c15ull) * (content ^ 0xe7037ed1a0b428dbull);
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

// Extends the chain by whole blocks from `at` on, one for each link. Returns its last hash.
inline uint64_t extend_by(std::span<uint64_t> links, uint64_t hash, const char* at, size_t block_bytes) {
  for (uint64_t& link : links) {
    link = hash = extended(hash, at, block_bytes);
    at += block_bytes;
  }
  return hash;
}

// The same for blocks of the usual size: known to the compiler, it leaves of the hash function a few multiplications.
constexpr size_t usual_block_bytes = 64;
[[gnu::flatten]] uint64_t extend_by_usual(std::span<uint64_t> links, uint64_t hash, const char* at) {
  return extend_by(links, hash, at, usual_block_bytes);
}

}  // namespace

// The seed of the salt's hash is the model's, so "ab"+"c" and "a"+"bc" differ.
uint64_t chain_start(std::string_view model, std::string_view cache_salt) {
  return XXH3_64bits_withSeed(cache_salt.data(), cache_salt.size(), XXH3_64bits(model.data(), model.size()));
}

uint64_t extend_chain(uint64_t chain, std::string_view block) {
  return extended(chain, block.data(), block.size());
}

void hash_prompt(std::string_view model, std::string_view cache_salt, std::span<const std::string_view> pieces,
                 const PrefixHashOptions& options, std::vector<uint64_t>& chain) {
  const size_t block_bytes = size_t{options.block_tokens} * options.bytes_per_token;
  PENSTOCK_ASSERT(block_bytes > 0 && block_bytes <= prefix_block_bytes_max);
  chain.clear();
  size_t total = 0;
  for (const std::string_view piece : pieces) total += piece.size();
  const size_t blocks = std::min<size_t>(total / block_bytes, options.blocks_max);
  if (blocks == 0) return;
  chain.resize(blocks);

  uint64_t hash = chain_start(model, cache_salt);

  char straddling[prefix_block_bytes_max];
  size_t gathered = 0;  // bytes of the current block that earlier pieces gave
  size_t done = 0;
  for (std::string_view piece : pieces) {
    if (gathered > 0) {
      const size_t take = std::min(block_bytes - gathered, piece.size());
      if (take > 0) std::memcpy(straddling + gathered, piece.data(), take);
      gathered += take;
      piece.remove_prefix(take);
      if (gathered < block_bytes) continue;
      hash = extended(hash, straddling, block_bytes);
      chain[done++] = hash;
      gathered = 0;
    }
    const char* at = piece.data();
    const size_t whole = std::min(piece.size() / block_bytes, blocks - done);
    const std::span<uint64_t> links = std::span(chain).subspan(done, whole);
    hash =
        block_bytes == usual_block_bytes ? extend_by_usual(links, hash, at) : extend_by(links, hash, at, block_bytes);
    at += whole * block_bytes;
    done += whole;
    if (done == blocks) return;
    gathered = piece.size() - whole * block_bytes;
    if (gathered > 0) std::memcpy(straddling, at, gathered);
  }
}

}  // namespace penstock::routing
