#include "penstock/routing/prefix_hash.h"

#include <doctest/doctest.h>

#include <string>

#include "penstock/base/random.h"

using namespace penstock;
using namespace penstock::routing;

namespace {

using Chain = std::vector<uint64_t>;

Chain chain_of(std::vector<std::string_view> pieces, std::string_view model = "m", std::string_view salt = "",
               PrefixHashOptions options = {}) {
  Chain chain = {1, 2, 3};  // left over from another prompt
  hash_prompt(model, salt, pieces, options, chain);
  return chain;
}

std::string random_text(Random& random, size_t size) {
  std::string text(size, '\0');
  for (char& c : text) c = static_cast<char>(random.next());
  return text;
}

}  // namespace

TEST_CASE("one hash for each whole block, none for the tail") {
  const std::string text(64 * 3, 'x');
  CHECK(chain_of({}).empty());
  CHECK(chain_of({""}).empty());
  CHECK(chain_of({std::string_view(text).substr(0, 63)}).empty());
  CHECK(chain_of({std::string_view(text).substr(0, 64)}).size() == 1);
  CHECK(chain_of({std::string_view(text).substr(0, 191)}).size() == 2);
  CHECK(chain_of({text}).size() == 3);
}

TEST_CASE("equal blocks at different depths hash differently") {
  const std::string text(64 * 3, 'x');
  const Chain chain = chain_of({text});
  CHECK(chain[0] != chain[1]);
  CHECK(chain[1] != chain[2]);
}

TEST_CASE("prompts share the hashes of their common prefix and none after it") {
  Random random(11);
  const std::string common = random_text(random, 64 * 5 + 10);
  const Chain a = chain_of({common + random_text(random, 300)});
  const Chain b = chain_of({common + random_text(random, 300)});
  REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) CHECK((a[i] == b[i]) == (i < 5));
}

TEST_CASE("model and cache salt separate caches, also where their concatenation is equal") {
  const std::string text(64, 'x');
  const Chain base = chain_of({text}, "ab", "c");
  CHECK(base == chain_of({text}, "ab", "c"));
  CHECK(base != chain_of({text}, "a", "bc"));
  CHECK(base != chain_of({text}, "abc", ""));
  CHECK(base != chain_of({text}, "ab", ""));
}

// h1 = XXH64(block, h0), h2 = XXH64(block, h1), of blocks of 64 bytes: what `xxhsum -H1` says of these bytes.
TEST_CASE("with XXH64 a chain is that of the Endpoint Picker") {
  const std::string text(128, 'x');
  const Chain chain = chain_of({text}, "model", "salt", {.hash = ChainHash::xxh64});
  REQUIRE(chain.size() == 2);
  CHECK(chain[0] == 0x5bd62cbde458bdebull);
  CHECK(chain[1] == 0x94bdfb268a944dcbull);
  CHECK(chain == chain_of({std::string_view(text).substr(0, 30), std::string_view(text).substr(30)}, "models", "alt",
                          {.hash = ChainHash::xxh64}));
}

TEST_CASE("how the prompt is cut into pieces does not matter") {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    PrefixHashOptions options;
    options.block_tokens = static_cast<uint32_t>(1 + random.below(80));
    options.blocks_max = random.chance(0.2) ? 5 : 8192;
    options.hash = random.chance(0.5) ? ChainHash::xxh64 : ChainHash::xxh3;
    const std::string text = random_text(random, random.below(4000));
    std::vector<std::string_view> pieces;
    for (std::string_view rest = text; !rest.empty();) {
      const size_t size = random.chance(0.1) ? 0 : std::min<size_t>(rest.size(), 1 + random.below(400));
      pieces.push_back(rest.substr(0, size));
      rest.remove_prefix(size);
    }
    CHECK(chain_of(pieces, "m", "s", options) == chain_of({text}, "m", "s", options));
  }
}

TEST_CASE("the chain ends at the reach") {
  PrefixHashOptions options;
  options.blocks_max = 2;
  const std::string text(64 * 10, 'x');
  const Chain cut = chain_of({text}, "m", "", options);
  const Chain whole = chain_of({text});
  CHECK(cut == Chain(whole.begin(), whole.begin() + 2));
  CHECK(PrefixHashOptions{}.blocks_max * PrefixHashOptions{}.block_tokens >= 128 * 1024);
}

TEST_CASE("a chain is the same in every build, so that several gateways agree") {
  const std::string text(128, 'x');
  const Chain chain = chain_of({text}, "model", "salt");
  REQUIRE(chain.size() == 2);
  CHECK(chain[0] == 0xbcd72baa288652b3ull);
  CHECK(chain[1] == 0xe35fc1aa2b707281ull);
}
