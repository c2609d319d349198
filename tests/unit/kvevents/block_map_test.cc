#include "penstock/kvevents/block_map.h"

#include <doctest/doctest.h>

#include <numeric>

#include "penstock/routing/prefix_hash.h"

using namespace penstock;
using namespace penstock::kvevents;

namespace {

constexpr uint32_t block_tokens = 4;

// The chain of a prompt, as the gateway hashes it.
std::vector<uint64_t> chain_of(const std::vector<uint32_t>& tokens, std::string_view adapter = {}) {
  const std::string_view bytes = routing::bytes_of(tokens);
  std::vector<uint64_t> chain;
  routing::hash_prompt(adapter, {}, {&bytes, 1}, {.block_tokens = block_tokens}, chain);
  return chain;
}

std::vector<uint32_t> prompt(size_t blocks, uint32_t first = 100) {
  std::vector<uint32_t> tokens(blocks * block_tokens);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

StoredBlocks stored(std::vector<uint64_t> hashes, std::vector<uint32_t> tokens) {
  StoredBlocks out;
  out.plain = hashes.size();
  out.hashes = std::move(hashes);
  out.tokens = std::move(tokens);
  out.block_tokens = block_tokens;
  return out;
}

struct Fixture {
  explicit Fixture(uint32_t ranks = 1) : index(1 << 14, ranks) {}
  routing::ToldIndex::Match match(const std::vector<uint64_t>& chain, uint32_t slot = 3,
                                  uint32_t tokens = block_tokens) {
    routing::ToldIndex::Match out;
    routing::ToldIndex::Scratch scratch;
    index.match(chain, tokens, {&slot, 1}, {&out, 1}, scratch);
    return out;
  }
  routing::ToldIndex index;
};

}  // namespace

TEST_CASE("blocks are found by their tokens, whatever the engine calls them") {
  Fixture f;
  BlockMap map(f.index, 3, 0);
  CHECK_FALSE(f.match(chain_of(prompt(4))).told);
  map.tell(true, true);
  CHECK(f.match(chain_of(prompt(4))).complete);  // and holds nothing
  map.store(stored({71, 72}, prompt(2)));
  StoredBlocks more = stored({73}, prompt(3));
  more.tokens.erase(more.tokens.begin(), more.tokens.begin() + 2 * block_tokens);
  more.has_parent = true;
  more.parent = 72;
  map.store(more);
  CHECK(f.match(chain_of(prompt(4))).blocks == 3);
  CHECK(f.match(chain_of(prompt(2))).blocks == 2);
  CHECK(f.match(chain_of(prompt(4, 101))).blocks == 0);
  CHECK(f.match(chain_of(prompt(4)), 2).blocks == 0);  // another endpoint
  // Blocks of another length say nothing about these.
  CHECK_FALSE(f.match(chain_of(prompt(4)), 3, 16).told);

  const uint64_t last[] = {73};
  map.remove(last);
  CHECK(f.match(chain_of(prompt(4))).blocks == 2);
  map.forget();
  CHECK(f.match(chain_of(prompt(4))).blocks == 0);
  CHECK_FALSE(f.match(chain_of(prompt(4))).told);
}

TEST_CASE("a block is gone with its last copy") {
  Fixture f;
  BlockMap map(f.index, 3, 0);
  map.tell(true, true);
  map.store(stored({71}, prompt(1)));
  map.store(stored({71}, prompt(1)));          // computed twice
  StoredBlocks copied = stored({71, 99}, {});  // to another medium; of 99 nobody has heard
  map.store(copied);
  CHECK(map.counts().orphaned == 1);
  const uint64_t hash[] = {71};
  for (int copies = 2; copies >= 0; --copies) {
    CHECK(f.match(chain_of(prompt(1))).blocks == 1);
    map.remove(hash);
  }
  CHECK(f.match(chain_of(prompt(1))).blocks == 0);
  CHECK(map.blocks() == 0);
  map.remove(hash);  // once too often
}

TEST_CASE("the index counts blocks that came to be held and those that ceased to be") {
  Fixture f;
  {
    BlockMap map(f.index, 3, 0);
    map.store(stored({1, 2, 3}, prompt(3)));
    map.store(stored({1}, prompt(1)));  // again: nothing new is held
    CHECK(f.index.admitted() == 3);
    map.remove(std::vector<uint64_t>{3, 99});
    CHECK(f.index.evicted() == 1);
    map.remove(std::vector<uint64_t>{1});  // one of two copies
    CHECK(f.index.evicted() == 1);
  }
  CHECK(f.index.evicted() == 3);  // who has gone holds nothing
  CHECK(f.index.admitted() == 3);
}

TEST_CASE("adapters have chains of their own, and their children follow them") {
  Fixture f;
  BlockMap map(f.index, 3, 0);
  map.tell(true, true);
  StoredBlocks of_adapter = stored({71, 72}, prompt(2));
  of_adapter.adapter = "sql";
  map.store(of_adapter);
  CHECK(f.match(chain_of(prompt(2))).blocks == 0);
  CHECK(f.match(chain_of(prompt(2), "sql")).blocks == 2);
}

TEST_CASE("what cannot be placed is counted and changes nothing") {
  Fixture f;
  BlockMap map(f.index, 3, 0);
  map.tell(true, true);
  StoredBlocks orphan = stored({72}, prompt(1));
  orphan.has_parent = true;
  orphan.parent = 71;
  map.store(orphan);
  CHECK(map.counts().orphaned == 1);
  StoredBlocks unnamed = stored({72}, prompt(1));
  unnamed.adapter_named = false;
  map.store(unnamed);
  CHECK(map.counts().special == 1);
  StoredBlocks media = stored({71, 72, 73}, prompt(3));
  media.plain = 1;
  map.store(media);
  CHECK(map.counts().special == 3);
  CHECK(f.match(chain_of(prompt(3))).blocks == 1);
  for (const uint32_t length : {0u, 3u, 5u, 2048u}) {
    StoredBlocks senseless = stored({74}, prompt(1));
    senseless.block_tokens = length;
    map.store(senseless);
  }
  CHECK(map.counts().senseless == 4);
  CHECK(map.blocks() == 1);
}

TEST_CASE("of several ranks the one counts that holds most, and all is known when each has told all") {
  Fixture f(2);
  BlockMap zero(f.index, 3, 0), one(f.index, 3, 1);
  zero.tell(true, true);
  zero.store(stored({71}, prompt(1)));
  CHECK(f.match(chain_of(prompt(3))).blocks == 1);
  CHECK_FALSE(f.match(chain_of(prompt(3))).complete);
  one.tell(true, true);
  one.store(stored({61, 62}, prompt(2)));
  CHECK(f.match(chain_of(prompt(3))).blocks == 2);
  CHECK(f.match(chain_of(prompt(3))).complete);
  one.forget();
  CHECK(f.match(chain_of(prompt(3))).blocks == 1);
  CHECK_FALSE(f.match(chain_of(prompt(3))).complete);
}

TEST_CASE("what is held for long stays known while others come and go") {
  Fixture f;
  BlockMap map(f.index, 3, 0);
  map.tell(true, true);
  map.store(stored({1}, prompt(1)));
  // Far more blocks than entries are told of after it, and each is evicted soon.
  for (uint32_t i = 0; i < 200'000; ++i) {
    map.store(stored({1000 + i}, prompt(1, 1'000'000 + i)));
    const uint64_t gone[] = {1000 + i};
    map.remove(gone);
  }
  CHECK(f.match(chain_of(prompt(1))).blocks == 1);
  CHECK(map.blocks() == 1);
}
