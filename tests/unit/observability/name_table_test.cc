#include "penstock/observability/name_table.h"

#include <doctest/doctest.h>

#include <thread>

using namespace penstock::observability;

TEST_CASE("a name keeps its number, and different parts make different names") {
  NameTable table(10);
  const uint32_t one = table.index_of("a", "b");
  CHECK(one != NameTable::other);
  CHECK(table.index_of("a", "b") == one);
  CHECK(table.index_of("ab", "") != one);
  CHECK(table.index_of("", "ab") != table.index_of("ab", ""));
  CHECK(table.index_of("a", "b", "c") != one);
  CHECK(table.name(one).parts[1] == "b");
  CHECK(table.size() == 4);
}

TEST_CASE("who remembers the last name gets the same numbers") {
  NameTable table(2);
  NameTable::Recent recent;
  const uint32_t one = table.index_of(recent, "a", "b");
  CHECK(one == table.index_of("a", "b"));
  CHECK(table.index_of(recent, "a", "b") == one);
  const uint32_t two = table.index_of(recent, "a", "bc");
  CHECK(two != one);
  CHECK(table.index_of(recent, "a", "bc") == two);
  CHECK(table.index_of(recent, "a", "b", "c") == NameTable::other);  // full
  CHECK(table.index_of(recent, "a", "bc") == two);
  CHECK(table.index_of(recent, "a", "b") == one);
}

TEST_CASE("names beyond the limit are other, those within it stay") {
  NameTable table(1000);
  for (int i = 0; i < 5000; ++i) table.index_of("model-" + std::to_string(i));
  CHECK(table.size() <= 1000);
  CHECK(table.size() >= 990);  // a crowded place in the table may cost a name or two
  CHECK(table.index_of("one more") == NameTable::other);
  CHECK(table.name(table.index_of("model-0")).parts[0] == "model-0");
  CHECK(table.name(NameTable::other).parts[0] == "other");
}

TEST_CASE("what cannot be a label is other and takes no place") {
  NameTable table(10);
  CHECK(table.index_of(std::string(257, 'x')) == NameTable::other);
  CHECK(table.index_of("a\nb") == NameTable::other);
  CHECK(table.index_of("\xff") == NameTable::other);
  CHECK(table.index_of("\xc0\x80") == NameTable::other);
  CHECK(table.size() == 0);
  CHECK(table.index_of("\xe6\xa8\xa1\xe5\x9e\x8b") == 1);
}

TEST_CASE("shards that meet new names at once agree on their numbers") {
  NameTable table(200);
  constexpr int names = 300;
  uint32_t seen[4][names];
  std::vector<std::thread> threads;
  for (auto& mine : seen) {
    threads.emplace_back([&mine, &table] {
      for (int i = 0; i < names; ++i) mine[i] = table.index_of("m" + std::to_string(i % 250));
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(table.size() <= 200);
  for (int i = 0; i < names; ++i) {
    const uint32_t settled = table.index_of("m" + std::to_string(i % 250));
    for (const auto& mine : seen) {
      INFO(i);
      CHECK(mine[i] == settled);
    }
    if (settled != NameTable::other) CHECK(table.name(settled).parts[0] == "m" + std::to_string(i % 250));
  }
}
