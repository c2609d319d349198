#include "penstock/engine/text.h"

#include <doctest/doctest.h>

#include "penstock/base/random.h"
#include "penstock/base/text.h"

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
  for (uint32_t id : {1u, 2u, 3u}) ids.append(bytes_of_token(id).view());
  CHECK(ids.tokens() == 3);
}

TEST_CASE("A prompt as text and as the ids of its tokens is the same prompt, wherever it ends") {
  const std::string prompt = "the same prompt, as text and ids, in two or more blocks of sixteen tokens; é, 日, 😀.";
  for (size_t size = 1; size <= prompt.size(); ++size) {
    CAPTURE(size);
    const std::string_view part = std::string_view(prompt).substr(0, size);
    TokenStream text, ids;
    text.append(part);
    for (size_t at = 0; at < size; at += 4) ids.append(bytes_of_token(token_id_of(part.substr(at, 4))).view());
    CHECK(ids.bytes() == size);
    CHECK(ids.tokens() == text.tokens());
    CHECK(ids.digest() == text.digest());
    // And so is what both are continued with.
    CHECK(generate(ids, 3, 20) == generate(text, 3, 20));
    CHECK(ids.digest() == text.digest());
  }
}

TEST_CASE("Every id is the id of its bytes") {
  Random random(11);
  for (int i = 0; i < 20000; ++i) {
    // Also near the ids of short tokens, which begin at 0xFD000000.
    const auto id = static_cast<uint32_t>(i % 2 == 0 ? random.next() : 0xFC000000u | (random.next() & 0x030000FF));
    CAPTURE(id);
    CHECK(token_id_of(bytes_of_token(id).view()) == id);
  }
  CHECK(bytes_of_token(5).view() == std::string_view("\x05\0\0\0", 4));
  CHECK(bytes_of_token(token_id_of("é")).view() == "é");
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

TEST_CASE("Varied text has whole characters in every token, and is continued like plain text") {
  TokenStream stream;
  stream.append("x");
  std::string text;
  for (int i = 0; i < 2000; ++i) {
    const Piece piece = stream.next(1, TextStyle::varied).piece;
    std::string_view rest(piece.data(), piece.size());
    while (!rest.empty()) {
      const size_t length = utf8_length(rest);
      REQUIRE(length > 0);
      rest.remove_prefix(length);
    }
    text.append(piece.data(), piece.size());
    stream.append(piece);
  }
  TokenStream resumed;
  resumed.append("x" + text.substr(0, 4 * 1999));
  const Piece last = resumed.next(1, TextStyle::varied).piece;
  CHECK(text.substr(4 * 1999) == std::string_view(last.data(), last.size()));
}
