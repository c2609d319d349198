#include "penstock/routing/prefix_hash.h"

#include <algorithm>
#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "penstock/base/assert.h"

namespace penstock::routing {
namespace {

// ChainHash::xxh3. The seed of the salt's hash is the model's, so "ab"+"c" and "a"+"bc" differ.
struct Xxh3 {
  static uint64_t start(std::string_view model, std::string_view cache_salt) {
    return XXH3_64bits_withSeed(cache_salt.data(), cache_salt.size(), XXH3_64bits(model.data(), model.size()));
  }
  // The hash of a chain that is one block longer: the high and low half of a product, folded. The block is hashed by
  // itself and not with the chain as its seed, so that blocks need not wait for one another.
  static uint64_t extended(uint64_t chain, const char* block, size_t size) {
    __extension__ using Wide = unsigned __int128;
    const uint64_t content = XXH3_64bits(block, size);
    const Wide product = static_cast<Wide>(chain ^ 0x9e3779b97f4a7c15ull) * (content ^ 0xe7037ed1a0b428dbull);
    return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  }
};

// ChainHash::xxh64.
struct Xxh64 {
  static uint64_t start(std::string_view model, std::string_view cache_salt) {
    XXH64_state_t state;
    XXH64_reset(&state, 0);
    XXH64_update(&state, model.data(), model.size());
    XXH64_update(&state, cache_salt.data(), cache_salt.size());
    return XXH64_digest(&state);
  }
  static uint64_t extended(uint64_t chain, const char* block, size_t size) {
    char both[prefix_block_bytes_max + sizeof chain];
    std::memcpy(both, block, size);
    for (size_t i = 0; i < sizeof chain; ++i) both[size + i] = static_cast<char>(chain >> (8 * i));
    return XXH64(both, size + sizeof chain, 0);
  }
};

// Extends the chain by whole blocks from `at` on, one for each link. Returns its last hash.
template <typename Hash>
inline uint64_t extend_by(std::span<uint64_t> links, uint64_t hash, const char* at, size_t block_bytes) {
  for (uint64_t& link : links) {
    link = hash = Hash::extended(hash, at, block_bytes);
    at += block_bytes;
  }
  return hash;
}

// The same for blocks of the usual size: known to the compiler, it leaves of the hash function a few multiplications.
constexpr size_t usual_block_bytes = 64;
template <typename Hash>
[[gnu::flatten]] uint64_t extend_by_usual(std::span<uint64_t> links, uint64_t hash, const char* at) {
  return extend_by<Hash>(links, hash, at, usual_block_bytes);
}

// Sets all of `chain`; the pieces have at least as many blocks.
template <typename Hash>
void hash_blocks(uint64_t hash, std::span<const std::string_view> pieces, size_t block_bytes,
                 std::span<uint64_t> chain) {
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
      hash = Hash::extended(hash, straddling, block_bytes);
      chain[done++] = hash;
      gathered = 0;
    }
    const char* at = piece.data();
    const size_t whole = std::min(piece.size() / block_bytes, chain.size() - done);
    const std::span<uint64_t> links = chain.subspan(done, whole);
    hash = block_bytes == usual_block_bytes ? extend_by_usual<Hash>(links, hash, at)
                                            : extend_by<Hash>(links, hash, at, block_bytes);
    at += whole * block_bytes;
    done += whole;
    if (done == chain.size()) return;
    gathered = piece.size() - whole * block_bytes;
    if (gathered > 0) std::memcpy(straddling, at, gathered);
  }
}

}  // namespace

uint64_t chain_start(std::string_view model, std::string_view cache_salt) {
  return Xxh3::start(model, cache_salt);
}

uint64_t extend_chain(uint64_t chain, std::string_view block) {
  return Xxh3::extended(chain, block.data(), block.size());
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
  if (options.hash == ChainHash::xxh3) hash_blocks<Xxh3>(Xxh3::start(model, cache_salt), pieces, block_bytes, chain);
  else hash_blocks<Xxh64>(Xxh64::start(model, cache_salt), pieces, block_bytes, chain);
}

}  // namespace penstock::routing
