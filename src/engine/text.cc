#include "penstock/engine/text.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>

#include "penstock/base/assert.h"

namespace penstock::engine {
namespace {

// Sixty-four words of three letters behind a space, without quotes or other characters that JSON escapes.
constexpr char kWords[] =
    " the and for are but not you all any can had her was one our out day get has him his how man new now old see two"
    " way who boy did its let put say she too use air arm art ask bed big box car cup cut dog dry eat end far fit fly"
    " fog gas hot ice key lab log net";
constexpr size_t kWordCount = 64;
static_assert(sizeof(kWords) - 1 == kWordCount * bytes_per_token);

}  // namespace

uint64_t mix(uint64_t a, uint64_t b) {
  uint64_t z = a + 0x9e3779b97f4a7c15ull * (b + 1);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

uint64_t hash_of(std::string_view bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

void TokenStream::append(std::string_view bytes) {
  if (keep_) kept_ += bytes;
  if (!rest_.empty()) {
    const size_t taken = std::min(bytes.size(), block_bytes_ - rest_.size());
    rest_.append(bytes.substr(0, taken));
    bytes.remove_prefix(taken);
    if (rest_.size() < block_bytes_) return;
    chain_.push_back(XXH3_64bits_withSeed(rest_.data(), block_bytes_, parent()));
    rest_.clear();
  }
  while (bytes.size() >= block_bytes_) {
    chain_.push_back(XXH3_64bits_withSeed(bytes.data(), block_bytes_, parent()));
    bytes.remove_prefix(block_bytes_);
  }
  rest_.assign(bytes);
}

void TokenStream::append_token_id(uint32_t id) {
  const char bytes[bytes_per_token] = {static_cast<char>(id), static_cast<char>(id >> 8), static_cast<char>(id >> 16),
                                       static_cast<char>(id >> 24)};
  append({bytes, sizeof bytes});
}

void TokenStream::append_blocks(std::span<const uint64_t> hashes) {
  PENSTOCK_ASSERT(rest_.empty() && !keep_);
  chain_.insert(chain_.end(), hashes.begin(), hashes.end());
}

uint64_t TokenStream::digest() const {
  return XXH3_64bits_withSeed(rest_.data(), rest_.size(), parent());
}

TokenStream::Next TokenStream::next(uint64_t seed) const {
  const uint64_t hash = XXH3_64bits_withSeed(rest_.data(), rest_.size(), parent() ^ seed);
  Next next;
  std::memcpy(next.piece.data(), kWords + (hash % kWordCount) * bytes_per_token, bytes_per_token);
  next.chance = static_cast<uint32_t>(hash >> 32);
  return next;
}

void TokenStream::clear() {
  chain_.clear();
  rest_.clear();
  kept_.clear();
}

}  // namespace penstock::engine
