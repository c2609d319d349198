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

TEST_CASE("what must be had is counted beyond the limit, and nothing else is given until it is back") {
  MemoryBudget budget(100);
  budget.take_anyway(150);
  CHECK(budget.used() == 150);
  CHECK_FALSE(budget.try_take(1));
  budget.give_back(60);
  CHECK(budget.try_take(10));
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

}  // namespace
}  // namespace penstock
