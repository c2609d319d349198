#include "penstock/base/memory_budget.h"

#include <doctest/doctest.h>

#include <thread>
#include <vector>

#include "penstock/base/random.h"

namespace penstock {
namespace {

TEST_CASE("a budget gives up to its limit and not a byte more") {
  MemoryBudget budget(100);
  CHECK(budget.try_take(60));
  CHECK_FALSE(budget.try_take(41));
  CHECK(budget.used() == 60);
  CHECK(budget.refusals() == 1);
  CHECK(budget.try_take(40));
  CHECK_FALSE(budget.try_take(1));
  CHECK(budget.try_take(0));
  budget.give_back(100);
  CHECK(budget.used() == 0);
  CHECK(budget.try_take(100));
  budget.give_back(100);
}

TEST_CASE("a limit lowered under what is in use refuses, and takes nothing back") {
  MemoryBudget budget(100);
  REQUIRE(budget.try_take(80));
  budget.set_limit(50);
  CHECK(budget.limit() == 50);
  CHECK(budget.used() == 80);
  CHECK_FALSE(budget.try_take(1));
  budget.set_limit(200);
  CHECK(budget.try_take(100));
  budget.give_back(180);
}

TEST_CASE("threads that take and give together never hold more than the limit, and leave nothing behind") {
  MemoryBudget budget(1000);
  std::atomic<size_t> held{0};
  std::atomic<bool> exceeded{false};
  std::vector<std::thread> threads;
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    threads.emplace_back([&, seed] {
      Random random(seed);
      for (int i = 0; i < 20'000; ++i) {
        const size_t bytes = random.below(600);
        if (!budget.try_take(bytes)) continue;
        if (held.fetch_add(bytes) + bytes > 1000) exceeded = true;
        held.fetch_sub(bytes);
        budget.give_back(bytes);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_FALSE(exceeded);
  CHECK(budget.used() == 0);
}

TEST_CASE("a part takes more than it needs while there is plenty, and keeps nothing once it is unused") {
  constexpr size_t limit = size_t{1} << 30, piece = MemoryBudget::piece_max;
  MemoryBudget whole(limit);
  MemoryBudget part(&whole);
  REQUIRE(part.try_take(1000));
  CHECK(whole.used() == 1000 + piece);
  CHECK(part.used() == 1000);
  REQUIRE(part.try_take(piece));
  CHECK(whole.used() == 1000 + piece);
  REQUIRE(part.try_take(4 * piece));
  CHECK(whole.used() == 1000 + 6 * piece);
  part.give_back(4 * piece);
  CHECK(whole.used() == 1000 + 2 * piece);
  CHECK(part.used() == 1000 + piece);
  part.give_back(1000 + piece);
  CHECK(whole.used() == 0);
}

TEST_CASE("parts share what is left to its last byte, the last eighth for work in progress") {
  constexpr size_t limit = 64 * 1024;
  MemoryBudget whole(limit);
  MemoryBudget one(&whole), two(&whole);
  REQUIRE(one.try_take(limit / 2));
  CHECK(whole.used() == limit / 2);
  CHECK_FALSE(two.try_take_first(limit / 8 * 3 + 1));
  REQUIRE(two.try_take_first(limit / 8 * 3));
  CHECK_FALSE(two.try_take_first(1));
  REQUIRE(one.try_take(limit / 8));
  CHECK(one.used() == limit);
  CHECK_FALSE(two.try_take(1));
  CHECK(whole.refusals() == 3);
  one.give_back(limit / 8 * 5);
  two.give_back(limit / 8 * 3);
  CHECK(whole.used() == 0);
}

TEST_CASE("parts on threads of their own leave nothing behind") {
  MemoryBudget whole(size_t{1} << 24);
  std::vector<std::thread> threads;
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    threads.emplace_back([&whole, seed] {
      MemoryBudget part(&whole);
      Random random(seed);
      std::vector<size_t> taken;
      for (int i = 0; i < 20'000; ++i) {
        const size_t bytes = random.below(100'000);
        if (random.chance(0.5) && part.try_take(bytes)) {
          taken.push_back(bytes);
        } else if (!taken.empty()) {
          part.give_back(taken.back());
          taken.pop_back();
        }
      }
      for (const size_t bytes : taken) part.give_back(bytes);
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(whole.used() == 0);
}

}  // namespace
}  // namespace penstock
