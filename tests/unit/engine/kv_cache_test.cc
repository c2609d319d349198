#include "penstock/engine/kv_cache.h"

#include <doctest/doctest.h>

using namespace penstock::engine;

namespace {

// Takes fresh blocks for all keys that are not cached yet and publishes them, as the engine does.
KvCache::Table fill(KvCache& cache, const BlockKeys& keys) {
  KvCache::Table table;
  const size_t hits = cache.find_prefix(keys, keys.size());
  REQUIRE(cache.take(table, keys, hits, keys.size() - hits));
  for (size_t i = hits; i < keys.size(); ++i) cache.publish(table[i], keys[i]);
  return table;
}

}  // namespace

TEST_CASE("A released prefix is found again and shared by reference") {
  KvCache cache(8, true);
  const uint64_t chain[] = {11, 22, 33};
  const BlockKeys keys{chain};
  KvCache::Table first = fill(cache, keys);
  CHECK(cache.free_blocks() == 5);
  KvCache::Table second = fill(cache, keys);
  CHECK(second == first);
  CHECK(cache.free_blocks() == 5);
  cache.release(first);
  CHECK(cache.free_blocks() == 5);
  cache.release(second);
  CHECK(cache.free_blocks() == 8);
  CHECK(cache.usage() == doctest::Approx(0));
  CHECK(cache.find_prefix(keys, 3) == 3);
  CHECK(cache.find_prefix(keys, 2) == 2);
}

TEST_CASE("Another salt or a gap in the chain is a miss") {
  KvCache cache(8, true);
  const uint64_t chain[] = {11, 22};
  KvCache::Table table = fill(cache, {chain});
  const uint64_t gap[] = {11, 99, 22};
  CHECK(cache.find_prefix({gap}, 3) == 1);
  CHECK(cache.find_prefix({.chain = chain, .salt = 5}, 2) == 0);
  cache.release(table);
}

TEST_CASE("Eviction takes the least recently used sequence first, its tail before its head") {
  KvCache cache(6, true);
  const uint64_t old_chain[] = {1, 2, 3}, young_chain[] = {11, 12, 13};
  KvCache::Table old_table = fill(cache, {old_chain}), young_table = fill(cache, {young_chain});
  cache.release(old_table);
  cache.release(young_table);

  KvCache::Table other;
  REQUIRE(cache.take(other, {}, 0, 2));
  CHECK(cache.find_prefix({old_chain}, 3) == 1);
  CHECK(cache.find_prefix({young_chain}, 3) == 3);
  REQUIRE(cache.take(other, {}, 0, 2));
  CHECK(cache.find_prefix({old_chain}, 3) == 0);
  CHECK(cache.find_prefix({young_chain}, 3) == 2);
  cache.release(other);
}

TEST_CASE("Using a cached block makes it young again") {
  KvCache cache(4, true);
  const uint64_t a[] = {1}, b[] = {2};
  KvCache::Table ta = fill(cache, {a}), tb = fill(cache, {b});
  cache.release(ta);
  cache.release(tb);
  ta = fill(cache, {a});
  cache.release(ta);
  KvCache::Table other;
  REQUIRE(cache.take(other, {}, 0, 3));  // two that were never used, and the oldest
  CHECK(cache.find_prefix({a}, 1) == 1);
  CHECK(cache.find_prefix({b}, 1) == 0);
  cache.release(other);
}

TEST_CASE("Without room nothing is taken, and cached blocks about to be shared do not count as room") {
  KvCache cache(4, true);
  const uint64_t chain[] = {1, 2, 3};
  KvCache::Table table = fill(cache, {chain});
  cache.release(table);
  CHECK_FALSE(cache.take(table, {chain}, 3, 2));
  CHECK(table.empty());
  CHECK(cache.free_blocks() == 4);
  CHECK(cache.take(table, {chain}, 3, 1));
  CHECK(cache.free_blocks() == 0);
  cache.release(table);
}

TEST_CASE("Blocks computed twice are evicted one by one") {
  KvCache cache(2, true);
  const uint64_t chain[] = {7};
  KvCache::Table first, second;
  REQUIRE(cache.take(first, {}, 0, 1));
  REQUIRE(cache.take(second, {}, 0, 1));
  cache.publish(first[0], 7);
  cache.publish(second[0], 7);
  CHECK(cache.cached_blocks() == 2);
  cache.release(first);
  cache.release(second);
  KvCache::Table other;
  REQUIRE(cache.take(other, {}, 0, 1));
  CHECK(cache.find_prefix({chain}, 1) == 1);
  REQUIRE(cache.take(other, {}, 0, 1));
  CHECK(cache.find_prefix({chain}, 1) == 0);
  cache.release(other);
}

TEST_CASE("With prefix caching off nothing is found") {
  KvCache cache(2, false);
  const uint64_t chain[] = {7};
  KvCache::Table table = fill(cache, {chain});
  CHECK(cache.find_prefix({chain}, 1) == 0);
  CHECK(cache.cached_blocks() == 0);
  cache.release(table);
}
