#include "penstock/kvevents/event_stream.h"

#include <doctest/doctest.h>

#include <optional>
#include <string>

#include "batch.h"

using namespace penstock;
using namespace penstock::kvevents;
using namespace penstock::kvevents::test;

namespace {

// A batch that says of one block that it is stored.
std::string block(uint64_t hash) {
  return batch({stored({hash}, std::nullopt, {hash, hash, hash, hash}, 4)});
}

struct Fixture final : StreamEvents {
  explicit Fixture(bool can_replay) : stream(index, 0, 0, can_replay, scratch, *this) {}
  void on_cache_emptied() override { ++emptied; }
  // The batches that a server has kept, from the number that is asked for.
  void replay(uint64_t first_kept, uint64_t end, uint64_t first_hash = 100) {
    const std::optional<uint64_t> from = stream.replay_from();
    REQUIRE(from.has_value());
    stream.replay_began();
    for (uint64_t number = std::max(*from, first_kept); number < end; ++number)
      stream.on_replayed(number, block(first_hash + number));
    stream.replay_ended(true);
  }
  void live(uint64_t number) { stream.on_batch(number, block(100 + number)); }
  size_t blocks() const { return stream.blocks().blocks(); }

  routing::ToldIndex index{1 << 12, 1};
  StoredBlocks scratch;
  int emptied = 0;
  EventStream stream;
};

}  // namespace

TEST_CASE("from the first batch on all is known") {
  Fixture f(false);
  f.stream.connected();
  CHECK_FALSE(f.stream.complete());
  CHECK_FALSE(f.stream.replay_from().has_value());
  for (uint64_t number = 0; number < 3; ++number) f.live(number);
  CHECK(f.stream.complete());
  CHECK(f.blocks() == 3);
}

TEST_CASE("who comes later knows a part, until the cache is cleared") {
  Fixture f(false);
  f.stream.connected();
  f.live(7);
  CHECK_FALSE(f.stream.complete());
  CHECK(f.blocks() == 1);
  f.stream.on_batch(8, batch({cleared()}));
  CHECK(f.stream.complete());
  CHECK(f.blocks() == 0);
  CHECK(f.emptied == 1);
}

TEST_CASE("without a replay a gap voids what was known") {
  Fixture f(false);
  f.stream.connected();
  f.live(0);
  f.live(1);
  f.live(3);
  CHECK(f.stream.counts().gaps == 1);
  CHECK(f.stream.counts().given_up == 1);
  CHECK_FALSE(f.stream.complete());
  CHECK(f.blocks() == 1);
  CHECK(f.emptied == 0);  // the engine's cache is as it was
  f.live(4);
  CHECK(f.blocks() == 2);
}

TEST_CASE("a replay at the beginning tells all that there was before") {
  Fixture f(true);
  f.stream.connected();
  CHECK(f.stream.replay_from() == 0);
  f.replay(0, 5);
  CHECK(f.stream.complete());
  CHECK(f.blocks() == 5);
  f.live(4);  // it was under way while the replay was made
  CHECK(f.stream.counts().duplicates == 1);
  f.live(5);
  CHECK(f.blocks() == 6);
  CHECK(f.stream.complete());
}

TEST_CASE("a server that has forgotten its beginning tells a part") {
  Fixture f(true);
  f.stream.connected();
  f.replay(/*first_kept=*/3, 5);
  CHECK_FALSE(f.stream.complete());
  CHECK(f.blocks() == 2);
}

TEST_CASE("a server that has never published is known to hold nothing") {
  Fixture f(true);
  f.stream.connected();
  f.replay(0, 0);
  CHECK(f.stream.complete());
  f.live(0);
  CHECK(f.blocks() == 1);
}

TEST_CASE("a gap is filled, with what comes meanwhile") {
  Fixture f(true);
  f.stream.connected();
  f.replay(0, 2);
  f.live(2);
  f.live(5);
  CHECK(f.stream.counts().gaps == 1);
  CHECK(f.stream.replay_from() == 3);
  CHECK_FALSE(f.stream.complete());
  CHECK(f.blocks() == 3);  // likely there still
  f.stream.replay_began();
  f.live(6);
  for (const uint64_t number : {3, 4, 5}) f.stream.on_replayed(number, block(100 + number));
  f.stream.replay_ended(true);
  CHECK(f.stream.replay_from() == 6);  // the replay was made before that
  f.replay(0, 7);
  CHECK_FALSE(f.stream.replay_from().has_value());
  CHECK(f.stream.complete());
  CHECK(f.blocks() == 7);
  CHECK(f.stream.counts().batches == 7);
}

TEST_CASE("a replay that fails, or lacks what is missing, voids what was known; and is not asked for again and again") {
  Fixture f(true);
  f.stream.connected();
  f.replay(0, 2);
  f.live(4);
  f.stream.replay_began();
  f.stream.replay_ended(/*whole=*/false);
  CHECK(f.blocks() == 0);
  CHECK_FALSE(f.stream.complete());
  CHECK_FALSE(f.stream.replay_from().has_value());
  f.live(5);
  f.live(7);
  CHECK_FALSE(f.stream.replay_from().has_value());
  CHECK(f.blocks() == 1);
  f.stream.disconnected();
  f.stream.connected();
  CHECK(f.stream.replay_from() == 7);  // anew, from the last that we have

  Fixture none(true);
  none.stream.connected();
  none.replay(0, 2);
  none.live(9);
  for (int i = 0; none.stream.replay_from().has_value() && i < 100; ++i) none.replay(99, 99);
  CHECK_FALSE(none.stream.replay_from().has_value());
  CHECK(none.blocks() == 0);
}

TEST_CASE("an engine that was restarted begins anew") {
  for (const bool can_replay : {false, true}) {
    Fixture f(can_replay);
    f.stream.connected();
    if (can_replay) f.replay(0, 4);
    else
      for (uint64_t number = 0; number < 4; ++number) f.live(number);
    f.stream.disconnected();
    CHECK_FALSE(f.stream.complete());
    CHECK(f.blocks() == 4);  // maybe only the connection was lost
    f.stream.connected();
    if (can_replay) {
      CHECK(f.stream.replay_from() == 3);
      f.replay(0, 1);  // it has no number 3
      f.replay(0, 1);
    } else {
      f.live(0);
    }
    CHECK(f.stream.counts().restarts == 1);
    CHECK(f.emptied == 1);
    CHECK(f.stream.complete());
    CHECK(f.blocks() == 1);
  }
}

TEST_CASE("a restarted engine that has published as much again does not pass for the old one") {
  Fixture f(true);
  f.stream.connected();
  f.replay(0, 4);
  CHECK(f.blocks() == 4);
  f.stream.disconnected();
  f.stream.connected();
  f.replay(0, 6, /*first_hash=*/500);  // from number 3 on: a batch 3 it has, but another
  CHECK(f.stream.counts().restarts == 1);
  CHECK(f.emptied == 1);
  CHECK(f.blocks() == 0);
  CHECK_FALSE(f.stream.complete());
  f.replay(0, 6, 500);
  CHECK(f.blocks() == 6);
  CHECK(f.stream.complete());
  CHECK(f.stream.counts().restarts == 1);
}

TEST_CASE("a connection that was lost and nothing else changes nothing") {
  for (const bool can_replay : {false, true}) {
    Fixture f(can_replay);
    f.stream.connected();
    if (can_replay) f.replay(0, 4);
    else
      for (uint64_t number = 0; number < 4; ++number) f.live(number);
    f.stream.disconnected();
    f.stream.connected();
    if (can_replay) f.replay(0, 4);
    f.live(4);
    CHECK(f.stream.complete());
    CHECK(f.blocks() == 5);
    CHECK(f.stream.counts().given_up == 0);
    CHECK(f.stream.counts().restarts == 0);
  }
}

TEST_CASE("a batch that cannot be read voids what was known") {
  Fixture f(false);
  f.stream.connected();
  f.live(0);
  f.stream.on_batch(1, "\x93\x01");
  CHECK(f.stream.counts().malformed == 1);
  CHECK(f.blocks() == 0);
  CHECK_FALSE(f.stream.complete());
  f.live(2);
  CHECK(f.blocks() == 1);
}
