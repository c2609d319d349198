#include "src/net/starved_sockets.h"

#include <doctest/doctest.h>

namespace penstock::net {
namespace {

void push(StarvedSockets& starved, uint32_t from, uint32_t to, bool answer, bool fed) {
  for (uint32_t slot = from; slot < to; ++slot) starved.push({slot, 1}, answer, fed);
}

// The slots of those who try in a turn with this many buffers.
std::vector<uint32_t> turn(StarvedSockets& starved, size_t buffers) {
  std::vector<uint32_t> slots;
  starved.begin_turn(buffers);
  for (SocketId id = starved.next(); id; id = starved.next()) slots.push_back(id.slot);
  return slots;
}

TEST_CASE("those that had no buffer go first, answers before clients, and each kind in order") {
  StarvedSockets starved;
  push(starved, 10, 12, false, true);
  push(starved, 20, 22, false, false);
  push(starved, 30, 32, true, true);
  push(starved, 40, 42, true, false);
  CHECK(turn(starved, 32) == std::vector<uint32_t>{40, 41, 20, 21, 30, 31, 10, 11});
  CHECK(turn(starved, 32).empty());
}

TEST_CASE("answers without end leave every fourth turn to clients") {
  StarvedSockets starved;
  CHECK(starved.empty());
  push(starved, 0, 26, true, false);
  push(starved, 100, 104, false, false);
  CHECK(turn(starved, 8) == std::vector<uint32_t>{0, 1, 2, 3, 4, 5, 6, 7});
  CHECK(turn(starved, 8) == std::vector<uint32_t>{8, 9, 10, 11, 12, 13, 14, 15});
  CHECK(turn(starved, 8) == std::vector<uint32_t>{16, 17, 18, 19, 20, 21, 22, 23});
  CHECK(turn(starved, 8) == std::vector<uint32_t>{100, 101, 102, 103, 24, 25});
  CHECK(starved.empty());
}

TEST_CASE("answers that had buffers go behind clients that had none") {
  StarvedSockets starved;
  push(starved, 0, 20, true, true);
  push(starved, 100, 104, false, false);
  CHECK(turn(starved, 8) == std::vector<uint32_t>{100, 101, 102, 103, 0, 1, 2, 3});
  CHECK_FALSE(starved.empty());
}

TEST_CASE("one that is starved again in the same turn waits for the next") {
  StarvedSockets starved;
  push(starved, 0, 2, false, false);
  starved.begin_turn(8);
  REQUIRE(starved.next().slot == 0);
  push(starved, 0, 1, false, false);
  CHECK(starved.next().slot == 1);
  CHECK_FALSE(starved.next());
  CHECK(turn(starved, 8) == std::vector<uint32_t>{0});
}

}  // namespace
}  // namespace penstock::net
