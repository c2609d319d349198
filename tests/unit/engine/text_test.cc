#include "penstock/engine/text.h"

#include <doctest/doctest.h>

#include "penstock/base/random.h"

using namespace penstock;
using namespace penstock::engine;

namespace {

std::string generate(TokenStream& stream, uint64_t seed, int tokens) {
  std::string text;
  for (int i = 0; i < tokens; ++i) {
    const Piece piece = stream.next(seed).piece;
    text.append(piece.data(), piece.size());
    stream.append(piece);
  }
  return text;
}

}  // namespace

TEST_CASE("The chain of hashes does not depend on how the bytes are cut") {
  const uint64_t seed = 20240607;
  CAPTURE(seed);
  Random random(seed);
  std::string bytes;
  for (int i = 0; i < 1000; ++i) bytes += static_cast<char>('a' + random.below(26));
  TokenStream whole;
  whole.append(bytes);
  CHECK(whole.tokens() == 250);
  CHECK(whole.chain().size() == 15);
  for (int round = 0; round < 50; ++round) {
    TokenStream pieces;
    for (size_t at = 0; at < bytes.size();) {
      const size_t size = 1 + random.below(150);
      pieces.append(std::string_view(bytes).substr(at, size));
      at += size;
    }
    REQUIRE(pieces.chain() == whole.chain());
    REQUIRE(pieces.next(1).piece == whole.next(1).piece);
  }
}

TEST_CASE("Tokens are four bytes, rounded up; token ids count one each") {
  TokenStream text;
  text.append("hello");
  CHECK(text.tokens() == 2);
  TokenStream ids;
  for (uint32_t id : {1u, 2u, 3u}) ids.append_token_id(id);
  CHECK(ids.tokens() == 3);
}

TEST_CASE("A prompt as text and as the ids of its four-byte units is the same prompt") {
  const std::string prompt = "the same prompt, as text and ids, in two or more blocks of sixteen tokens!";
  TokenStream text, ids;
  text.append(prompt.substr(0, 72));
  for (size_t i = 0; i < 72; i += 4) {
    uint32_t id = 0;
    for (size_t k = 0; k < 4; ++k) id |= static_cast<uint32_t>(static_cast<unsigned char>(prompt[i + k])) << (8 * k);
    ids.append_token_id(id);
  }
  CHECK(text.chain() == ids.chain());
}

TEST_CASE("The answer is a function of seed and prompt, and half an answer is continued with the other half") {
  const std::string prompt = "Once upon a time there was a gateway";
  TokenStream a, b, other_seed, other_prompt;
  for (TokenStream* stream : {&a, &b, &other_seed}) stream->append(prompt);
  other_prompt.append(prompt + ".");
  const std::string whole = generate(a, 7, 200);
  CHECK(generate(b, 7, 200) == whole);
  CHECK(generate(other_seed, 8, 200) != whole);
  CHECK(generate(other_prompt, 7, 200) != whole);

  TokenStream resumed;
  resumed.append(prompt + whole.substr(0, 4 * 77));
  CHECK(generate(resumed, 7, 123) == whole.substr(4 * 77));
}

TEST_CASE("The text does not run in circles and needs no escaping") {
  TokenStream stream;
  stream.append("x");
  const std::string text = generate(stream, 1, 2000);
  CHECK(text.find(text.substr(0, 64), 64) == std::string::npos);
  CHECK(text.find(text.substr(4000, 64), 4064) == std::string::npos);
  CHECK(text.find_first_not_of("abcdefghijklmnopqrstuvwxyz ") == std::string::npos);
}
