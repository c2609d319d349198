#include "penstock/engine/text.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <iterator>

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

// The other half of varied text: what JSON escapes, the ends of JSON objects and SSE events (which a reader that looks
// for them inside strings stumbles over), and characters of two, three and four bytes.
constexpr char kOddities[][bytes_per_token + 1] = {
    "\n\n- ",   "\r\n\r\n", " \"a\"",   "\"}]}",        "\\n\\n",        "\\\"\\\\",     "\ta\tb",     "{\"\":",
    "[DON",     "E]\n\n",   "\n: x",    "\\u00",        "\x01\x1F\x7F ", "</s>",         "\n\"'`",     "&lt;",
    "\u00e9 a", "na\u00ef", "e\u0301 ", "\u00a0\u00df", "\u0434\u0430",  "\u05e9\u05dc", "\u20ac ",    " \u65e5",
    "\u672c.",  " \u200d",  "\u2028 ",  "\uac00,",      "\U0001f600",    "\U0001f680",   "\U0001f469", "\U0001d11e",
};
constexpr size_t kOddityCount = std::size(kOddities);
static_assert(kOddityCount * 2 == kWordCount && [] {
  for (const auto& oddity : kOddities) {
    if (std::string_view(oddity).size() != bytes_per_token) return false;
  }
  return true;
}());

// The other half of broken text. A part may be followed by any other token: then it is shown as U+FFFD.
constexpr char kParts[][bytes_per_token + 1] = {
    "ab \xF0", "\x9F\x98\x80 ", " x\xE2\x82", "\xAC yz", "\xFF\xFE .", "caf\xC3", "\xA9, a", "\x80\xBF \xEF",
};
constexpr size_t kPartCount = std::size(kParts);

// In the top byte of the id of a token that is shorter than others: this and how many bytes it has.
constexpr uint32_t kShort = 0xFC;

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

TokenBytes bytes_of_token(uint32_t id) {
  TokenBytes token;
  for (size_t i = 0; i < bytes_per_token; ++i) token.bytes[i] = static_cast<char>(id >> (8 * i));
  const uint32_t size = (id >> 24) - kShort;
  const bool is_short = size >= 1 && size < bytes_per_token && (id & 0xFFFFFF) >> (8 * size) == 0;
  if (is_short) token.size = size;
  return token;
}

uint32_t token_id_of(std::string_view bytes) {
  PENSTOCK_ASSERT(!bytes.empty() && bytes.size() <= bytes_per_token);
  uint32_t id = 0;
  for (size_t i = 0; i < bytes.size(); ++i) id |= uint32_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
  if (bytes.size() < bytes_per_token) id |= (kShort + static_cast<uint32_t>(bytes.size())) << 24;
  return id;
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

void TokenStream::append_blocks(std::span<const uint64_t> hashes) {
  PENSTOCK_ASSERT(rest_.empty() && !keep_);
  chain_.insert(chain_.end(), hashes.begin(), hashes.end());
}

uint64_t TokenStream::digest() const {
  return XXH3_64bits_withSeed(rest_.data(), rest_.size(), parent());
}

TokenStream::Next TokenStream::next(uint64_t seed, TextStyle style) const {
  const uint64_t hash = XXH3_64bits_withSeed(rest_.data(), rest_.size(), parent() ^ seed);
  Next next;
  const size_t choice = hash % kWordCount;
  const char* piece = kWords + choice * bytes_per_token;
  if (style == TextStyle::varied && choice < kOddityCount) piece = kOddities[choice];
  if (style == TextStyle::broken && choice < kOddityCount) piece = kParts[choice % kPartCount];
  std::memcpy(next.piece.data(), piece, bytes_per_token);
  next.chance = static_cast<uint32_t>(hash >> 32);
  return next;
}

void TokenStream::clear() {
  chain_.clear();
  rest_.clear();
  kept_.clear();
}

}  // namespace penstock::engine
