// Tokens and text of the simulated model. One token is four bytes: of the prompt's text, of the piece that the model
// says next, or of a token id, so that a token count is bytes / 4 rounded up and a prompt given as text or as the ids
// that /tokenize returns is the same prompt. What comes next is a pure function of the seed and of all bytes so far:
// the same prompt gives the same answer on every server with the same seed and block size, and a prompt that ends in
// half an answer, as text or as ids, is continued with the other half. Pure; one thread.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace penstock::engine {

constexpr size_t bytes_per_token = 4;

// The bytes of a token. Unless text is to be broken, a generated one holds whole characters, so that any part of an
// answer that ends with a token is valid UTF-8 and has the tokens that were generated.
using Piece = std::array<char, bytes_per_token>;

// What generated text is made of.
enum class TextStyle : uint8_t {
  plain,   // words of small letters: nothing that JSON escapes
  varied,  // half of it is what JSON escapes, characters of two to four bytes, and what looks like the frames around it
  broken,  // half of it is parts of characters, some of which the next token completes, and bytes that stand for none
};

// A token's bytes, four or, at the end of a text, fewer. An id is these bytes in little endian; that of a short token
// says how many there are in its top byte, with values that no UTF-8 text contains.
struct TokenBytes {
  Piece bytes;
  size_t size = bytes_per_token;
  std::string_view view() const { return {bytes.data(), size}; }
};
TokenBytes bytes_of_token(uint32_t id);
uint32_t token_id_of(std::string_view bytes);  // one to four of them

// Mixes two values into one; for seeds and salts.
uint64_t mix(uint64_t a, uint64_t b);
uint64_t hash_of(std::string_view bytes);

// A growing run of bytes, kept only as the chain of hashes of its full blocks and the unfinished rest.
class TokenStream {
 public:
  // `keep`: block() will be asked for.
  explicit TokenStream(uint32_t block_tokens = 16, bool keep = false)
      : block_bytes_(block_tokens * bytes_per_token), keep_(keep) {}

  void append(std::string_view bytes);
  // Appends full blocks of which only the hashes are known (element i stands for all up to it). Only at the end of a
  // block.
  void append_blocks(std::span<const uint64_t> hashes);
  // The piece that follows, before it is appended. `seed` tells apart servers, requests and choices.
  struct Next {
    Piece piece;
    uint32_t chance;  // uniform; decides whether the answer ends instead
  };
  Next next(uint64_t seed, TextStyle style = TextStyle::plain) const;
  void append(const Piece& piece) { append({piece.data(), piece.size()}); }

  uint64_t bytes() const { return chain_.size() * block_bytes_ + rest_.size(); }
  uint32_t tokens() const { return static_cast<uint32_t>((bytes() + bytes_per_token - 1) / bytes_per_token); }
  // Element i stands for blocks 0 to i.
  const std::vector<uint64_t>& chain() const { return chain_; }
  // The bytes of a full block. Not of what append_blocks() brought.
  std::string_view block(size_t i) const { return std::string_view(kept_).substr(i * block_bytes_, block_bytes_); }
  // Stands for all bytes so far.
  uint64_t digest() const;
  // Empties it and keeps the memory.
  void clear();

 private:
  uint64_t parent() const { return chain_.empty() ? 0 : chain_.back(); }
  size_t block_bytes_;
  std::vector<uint64_t> chain_;
  std::string rest_;  // always shorter than a block
  bool keep_;
  std::string kept_;  // all bytes, if they are kept
};

}  // namespace penstock::engine
