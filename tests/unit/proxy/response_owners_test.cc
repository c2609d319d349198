#include "penstock/proxy/response_owners.h"

#include <doctest/doctest.h>

#include <atomic>
#include <thread>
#include <vector>

using namespace penstock;
using namespace penstock::proxy;

namespace {

constexpr Instant start{seconds(1000)};

uint32_t slot_at(const ResponseOwners& owners, uint64_t key, Instant now) {
  const auto owner = owners.find(key, now);
  return owner ? owner->slot : ~0u;
}

}  // namespace

TEST_CASE("an endpoint is remembered for its time") {
  ResponseOwners owners(100, seconds(60));
  CHECK(owners.capacity() == 128);
  CHECK_FALSE(owners.find(1, start));
  owners.remember(1, {7, 3}, start);
  owners.remember(2, {8, 4}, start + seconds(1));
  REQUIRE(owners.find(1, start + seconds(60)));
  CHECK(owners.find(1, start + seconds(60))->slot == 7);
  CHECK(owners.find(1, start + seconds(60))->incarnation == 3);
  CHECK_FALSE(owners.find(1, start + seconds(61)));
  CHECK(slot_at(owners, 2, start + seconds(61)) == 8);
  owners.set_ttl(seconds(90));
  CHECK(slot_at(owners, 1, start + seconds(61)) == 7);
  owners.remember(1, {9, 1}, start + seconds(5));
  CHECK(slot_at(owners, 1, start + seconds(95)) == 9);
  CHECK(owners.size() == 2);
  CHECK(owners.displaced() == 0);
}

TEST_CASE("where there is no room the oldest is forgotten, and those that are too old do not count as displaced") {
  ResponseOwners owners(8, seconds(60));  // one bucket
  for (uint64_t key = 1; key <= 8; ++key) owners.remember(key, {static_cast<uint32_t>(key), 0}, start + seconds(key));
  CHECK(owners.size() == 8);
  owners.remember(9, {9, 0}, start + seconds(9));
  CHECK(owners.displaced() == 1);
  CHECK(slot_at(owners, 1, start + seconds(10)) == ~0u);
  for (uint64_t key = 2; key <= 9; ++key) CHECK(slot_at(owners, key, start + seconds(10)) == key);
  owners.remember(10, {10, 0}, start + seconds(63));  // in the place of the second, which is too old
  CHECK(owners.displaced() == 1);
  CHECK(owners.size() == 8);
}

TEST_CASE("with no room at all nothing is remembered") {
  ResponseOwners owners(0, seconds(60));
  owners.remember(1, {1, 1}, start);
  CHECK_FALSE(owners.find(1, start));
  CHECK(owners.capacity() == 0);
}

TEST_CASE("threads that remember and look up never see another response's endpoint") {
  ResponseOwners owners(1024, seconds(60));
  std::atomic<int> wrong{0}, right{0};
  const auto work = [&](uint64_t first) {
    for (uint64_t i = 0; i < 20'000; ++i) {
      const uint64_t key = first + i % 3000 + 1;
      owners.remember(key, {static_cast<uint32_t>(key), static_cast<uint32_t>(key * 7)}, start);
      const uint64_t other = (key * 31) % 6000 + 1;
      if (const auto owner = owners.find(other, start)) {
        const bool same = owner->slot == other && owner->incarnation == static_cast<uint32_t>(other * 7);
        ++(same ? right : wrong);
      }
    }
  };
  std::vector<std::thread> threads;
  for (uint64_t i = 0; i < 3; ++i) threads.emplace_back(work, i * 1500);
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK(right > 0);
}
