#include "penstock/routing/prefix_index.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <thread>
#include <vector>

#include "penstock/base/random.h"

using namespace penstock;
using namespace penstock::routing;

namespace {

using Chain = std::vector<uint64_t>;

Chain random_chain(Random& random, size_t size) {
  Chain chain(size);
  for (uint64_t& hash : chain) hash = random.next();
  return chain;
}

uint32_t matched(const PrefixIndex& index, const Chain& chain, uint32_t slot) {
  uint32_t blocks = 0;
  index.match(chain, std::span(&slot, 1), std::span(&blocks, 1));
  return blocks;
}

// What one endpoint really holds: least recently used first, heads younger than tails.
struct ExactCache {
  size_t capacity;
  std::deque<uint64_t> order;  // oldest first

  void record(const Chain& chain) {
    for (size_t i = chain.size(); i-- > 0;) {
      std::erase(order, chain[i]);
      order.push_back(chain[i]);
    }
    while (order.size() > capacity) order.pop_front();
  }
  size_t match(const Chain& chain) const {
    size_t blocks = 0;
    while (blocks < chain.size() && std::find(order.begin(), order.end(), chain[blocks]) != order.end()) ++blocks;
    return blocks;
  }
};

}  // namespace

TEST_CASE("an empty index matches nothing") {
  Random random(1);
  PrefixIndex index(1024);
  CHECK(matched(index, random_chain(random, 10), 0) == 0);
  CHECK(matched(index, {}, 0) == 0);
  CHECK(matched(index, {0, 0}, 0) == 0);
  CHECK(index.size() == 0);
  CHECK(index.bytes() >= 1024 * 8);
}

TEST_CASE("what was recorded for an endpoint matches for it and for no other") {
  Random random(2);
  PrefixIndex index(4096);
  const Chain chain = random_chain(random, 188);
  index.record(chain, 5);
  const std::vector<uint32_t> slots = {4, 5, 6, 4095, 4096, 70000};
  std::vector<uint32_t> blocks(slots.size(), 99);
  index.match(chain, slots, blocks);
  CHECK(blocks == std::vector<uint32_t>{0, 188, 0, 0, 0, 0});
  CHECK(index.size() == 188);
  index.record(chain, 5);
  CHECK(index.size() == 188);
}

TEST_CASE("a block lost in the middle is believed to be there, as those behind it are; at the end it is missed") {
  Random random(3);
  PrefixIndex index(4096);
  Chain chain = random_chain(random, 20);
  index.record(chain, 1);
  index.forget_tail(std::span(chain).subspan(7, 1), 1, 0);
  CHECK(matched(index, chain, 1) == 20);
  index.forget_tail(std::span(chain).subspan(19, 1), 1, 0);
  CHECK(matched(index, chain, 1) == 19);
}

TEST_CASE("matches that end anywhere are found to the block, for many endpoints at once") {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    PrefixIndex index(1 << 20);
    const Chain chain = random_chain(random, 1 + random.below(1000));
    std::vector<uint32_t> slots(1 + random.below(80)), held, blocks(slots.size());
    for (uint32_t i = 0; i < slots.size(); ++i) {
      slots[i] = i * 7;
      held.push_back(static_cast<uint32_t>(random.below(chain.size() + 1)));
      index.record(std::span(chain).first(held.back()), slots[i]);
    }
    index.match(chain, slots, blocks);
    CHECK(blocks == held);
  }
}

TEST_CASE("of a long prompt one block in four has an entry, and matches end there") {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    PrefixIndex index(1 << 20, PrefixIndex::long_prompts);
    const Chain chain = random_chain(random, 1 + random.below(1000));
    std::vector<uint32_t> slots(1 + random.below(80)), wanted, blocks(slots.size());
    for (uint32_t i = 0; i < slots.size(); ++i) {
      slots[i] = i * 7;
      const auto held = static_cast<uint32_t>(random.below(chain.size() + 1));
      index.record(std::span(chain).first(held), slots[i]);
      wanted.push_back(held <= 64 ? held : 64 + (held - 64) / 4 * 4);
    }
    index.match(chain, slots, blocks);
    CHECK(blocks == wanted);
  }
}

TEST_CASE("an entry that speaks for four blocks ages the endpoint's cache by four") {
  Random random(7);
  PrefixIndex index(1 << 16, PrefixIndex::long_prompts);
  index.set_capacity(1, 2000);
  const Chain first = random_chain(random, 1000), second = random_chain(random, 1000),
              third = random_chain(random, 900);
  index.record(first, 1);
  index.record(second, 1);
  CHECK(index.size() == 2 * (64 + 936 / 4));
  CHECK(matched(index, first, 1) == 1000);
  index.record(third, 1);  // pushes out all of the first but its head
  CHECK(matched(index, first, 1) == 100);
  CHECK(matched(index, second, 1) == 1000);
  index.forget_tail(second, 1, 500);
  CHECK(matched(index, second, 1) == 500);
}

TEST_CASE("a chain matches as far as it is equal") {
  Random random(4);
  PrefixIndex index(4096);
  Chain chain = random_chain(random, 100);
  index.record(chain, 1);
  for (size_t i = 60; i < 100; ++i) chain[i] = random.next();
  CHECK(matched(index, chain, 1) == 60);
}

TEST_CASE("the tail can be forgotten, for one endpoint only") {
  Random random(5);
  PrefixIndex index(4096);
  const Chain chain = random_chain(random, 50);
  index.record(chain, 1);
  index.record(chain, 2);
  index.forget_tail(chain, 1, 30);
  CHECK(matched(index, chain, 1) == 30);
  CHECK(matched(index, chain, 2) == 50);
  index.forget_tail(chain, 1, 100);
  CHECK(matched(index, chain, 1) == 30);
  index.forget_tail(chain, 1, 0);
  CHECK(matched(index, chain, 1) == 0);
  CHECK(index.size() == 50);
}

TEST_CASE("a forgotten endpoint holds nothing, also later, and learns again") {
  Random random(6);
  PrefixIndex index(1 << 14);
  const Chain old = random_chain(random, 100);
  const Chain other = random_chain(random, 100);
  index.record(old, 1);
  index.record(other, 2);
  index.forget_endpoint(1);
  CHECK(matched(index, old, 1) == 0);
  CHECK(matched(index, other, 2) == 100);
  const Chain fresh = random_chain(random, 100);
  index.record(fresh, 1);
  CHECK(matched(index, fresh, 1) == 100);
  CHECK(matched(index, old, 1) == 0);
  index.record(old, 1);
  CHECK(matched(index, old, 1) == 100);
}

TEST_CASE("another incarnation of a slot starts empty and without the old one's capacity") {
  Random random(7);
  PrefixIndex index(4096);
  const Chain chain = random_chain(random, 40);
  index.bind(3, 10);
  index.set_capacity(3, 20);
  index.record(chain, 3);
  index.bind(3, 10);
  CHECK(matched(index, chain, 3) == 20);
  index.bind(3, 11);
  CHECK(matched(index, chain, 3) == 0);
  index.record(chain, 3);
  CHECK(matched(index, chain, 3) == 40);
}

TEST_CASE("a chain longer than the capacity keeps its head") {
  Random random(8);
  PrefixIndex index(4096);
  index.set_capacity(1, 100);
  const Chain chain = random_chain(random, 188);
  index.record(chain, 1);
  CHECK(matched(index, chain, 1) == 100);
}

TEST_CASE("the oldest chain goes first when the capacity is reached, tail before head") {
  Random random(9);
  PrefixIndex index(1 << 14);
  index.set_capacity(1, 100);
  const Chain a = random_chain(random, 50), b = random_chain(random, 50), c = random_chain(random, 30);
  index.record(a, 1);
  index.record(b, 1);
  CHECK(matched(index, a, 1) == 50);
  index.record(c, 1);
  CHECK(matched(index, a, 1) == 20);
  CHECK(matched(index, b, 1) == 50);
  CHECK(matched(index, c, 1) == 30);
}

TEST_CASE("a chain in use stays while others pass through the cache") {
  Random random(10);
  PrefixIndex index(1 << 14);
  index.set_capacity(1, 200);
  const Chain system = random_chain(random, 50);
  for (int turn = 0; turn < 100; ++turn) {
    index.record(system, 1);
    index.record(random_chain(random, 60), 1);
    REQUIRE(matched(index, system, 1) == 50);
  }
}

TEST_CASE("prompts that come again and again stay in a table that is full, whatever the endpoints may hold") {
  Random random(23);
  PrefixIndex index(1 << 15);  // their capacities are not known
  constexpr uint32_t endpoints = 4;
  std::vector<std::vector<Chain>> again(endpoints);
  for (auto& chains : again) {
    for (int i = 0; i < 10; ++i) chains.push_back(random_chain(random, 50));
  }
  size_t whole = 0, asked = 0;
  for (int i = 0; i < 20'000; ++i) {
    const uint32_t slot = static_cast<uint32_t>(random.below(endpoints));
    const bool repeated = random.chance(0.05);
    const Chain chain = repeated ? again[slot][random.below(10)] : random_chain(random, 16);
    if (repeated && i > 10'000) {
      ++asked;
      whole += matched(index, chain, slot) == chain.size();
    }
    index.record(chain, slot);
  }
  CHECK(whole > asked * 3 / 4);
}

TEST_CASE("many endpoints may hold the same blocks") {
  Random random(11);
  uint32_t count = 16, apart = 1;
  SUBCASE("few") {}
  SUBCASE("a pool") {
    count = 300;
  }
  SUBCASE("many, far apart") {
    count = 1000;
    apart = 4;
  }
  CAPTURE(count);
  PrefixIndex index(1 << 18);
  const Chain system = random_chain(random, 32);
  std::vector<uint32_t> slots(count);
  for (uint32_t i = 0; i < slots.size(); ++i) slots[i] = i * apart;
  for (const uint32_t slot : slots) index.record(system, slot);
  std::vector<uint32_t> blocks(slots.size());
  index.match(system, slots, blocks);
  for (size_t i = 0; i < slots.size(); ++i) {
    CAPTURE(i);
    CHECK(blocks[i] == 32);
  }
}

TEST_CASE("of many holders one may be forgotten, and comes back") {
  Random random(15);
  PrefixIndex index(1 << 18);
  const Chain system = random_chain(random, 32);
  for (uint32_t slot = 0; slot < 300; ++slot) index.record(system, slot);
  const size_t before = index.size();
  for (const uint32_t slot : {0u, 7u, 100u, 299u}) {
    CAPTURE(slot);
    index.forget_tail(system, slot, 8);
    CHECK(matched(index, system, slot) == 8);
    CHECK(index.size() == before - 24);
    index.record(system, slot);
    CHECK(matched(index, system, slot) == 32);
    CHECK(index.size() == before);
  }
}

TEST_CASE("more holders than the table keeps lose only hits") {
  Random random(12);
  PrefixIndex index(1 << 12);
  const Chain system = random_chain(random, 8);
  std::vector<uint32_t> slots(1000), blocks(1000);
  for (uint32_t i = 0; i < slots.size(); ++i) index.record(system, slots[i] = i);
  index.match(system, slots, blocks);
  CHECK(*std::max_element(blocks.begin(), blocks.end()) == 8);
  CHECK(index.size() <= 1 << 12);
}

TEST_CASE("the table never grows, and the newest of an endpoint survive in a table too small for it") {
  Random random(13);
  PrefixIndex index(1 << 12);
  const size_t bytes = index.bytes();
  for (int i = 0; i < 1000; ++i) index.record(random_chain(random, 100), static_cast<uint32_t>(i % 4));
  CHECK(index.size() <= 1 << 12);
  CHECK(index.size() > 1 << 11);
  CHECK(index.bytes() == bytes);
  const Chain last = random_chain(random, 100);
  index.record(last, 1);
  CHECK(matched(index, last, 1) == 100);
}

TEST_CASE("a table that may grow does so when asked, knows what it knew, and stops at its limit") {
  Random random(31);
  PrefixIndex index({1 << 13, 1 << 15}, PrefixIndex::every_block);
  const size_t bytes = index.bytes();
  std::vector<Chain> chains;
  for (uint32_t slot = 0; slot < 20; ++slot) chains.push_back(random_chain(random, 100));
  const Chain popular = random_chain(random, 20);  // goes into further lines
  for (uint32_t slot = 0; slot < chains.size(); ++slot) {
    index.record(chains[slot], slot);
    index.record(popular, slot);
  }
  CHECK(index.reserve(1 << 13));
  CHECK(index.entries() == 1 << 13);
  for (const size_t wanted : {(1 << 13) + 1, 1 << 15}) {
    CHECK(index.reserve(wanted));
    for (uint32_t slot = 0; slot < chains.size(); ++slot) {
      CHECK(matched(index, chains[slot], slot) == 100);
      CHECK(matched(index, popular, slot) == 20);
      CHECK(matched(index, chains[slot], slot + 1) == 0);
    }
  }
  CHECK(index.entries() == 1 << 15);
  CHECK(index.bytes() == bytes + ((1 << 15) - (1 << 13)) * 8);
  CHECK(index.bytes_most() == index.bytes());
  CHECK_FALSE(index.reserve((1 << 15) + 1));
  CHECK(index.entries() == 1 << 15);
  index.forget_tail(chains[3], 3, 40);
  CHECK(matched(index, chains[3], 3) == 40);
  index.forget_endpoint(4);
  CHECK(matched(index, popular, 4) == 0);
  CHECK(matched(index, popular, 5) == 20);
}

TEST_CASE("a table that has grown holds what the smaller one could not") {
  // Four endpoints of 8,000 blocks each, in a table of 4,096 entries and one that grows from there when it is full.
  constexpr size_t capacity = 8000, length = 100;
  const auto held = [&](PrefixIndex::Room room) {
    Random random(32);
    PrefixIndex index(room, PrefixIndex::every_block);
    for (uint32_t slot = 0; slot < 4; ++slot) index.set_capacity(slot, capacity);
    std::vector<Chain> chains;
    for (size_t i = 0; i < 4 * 2 * capacity / length; ++i) {
      if (i == 100) index.reserve(4 * capacity * 3 / 2);
      chains.push_back(random_chain(random, length));
      index.record(chains.back(), static_cast<uint32_t>(i % 4));
    }
    size_t blocks = 0;
    for (size_t i = 0; i < chains.size(); ++i) blocks += matched(index, chains[i], static_cast<uint32_t>(i % 4));
    return blocks;
  };
  CHECK(held(1 << 12) < 4 * capacity / 6);
  CHECK(held({1 << 12, 1 << 16}) == held(1 << 16));
  CHECK(held({1 << 12, 1 << 16}) > 4 * capacity * 95 / 100);
}

TEST_CASE("a record by many endpoints sweeps no less than what the busiest of them needs") {
  // As below, with a second endpoint that records as much beside the first, in turn.
  PrefixIndex index(1 << 16);
  constexpr uint64_t capacity = 1 << 20;
  for (const uint32_t slot : {1, 2}) index.set_capacity(slot, capacity);
  Random random(33);
  Chain old = random_chain(random, 64);
  for (uint64_t& hash : old) hash |= 1 << 12;
  index.record(old, 1);
  Chain filler(1 << 16);
  uint64_t next = 0;
  size_t wrong = 0;
  for (uint64_t recorded = 0; recorded < (uint64_t{1} << 24) + capacity; recorded += filler.size()) {
    for (const uint32_t slot : {1, 2}) {
      for (uint64_t& hash : filler) {
        ++next;
        hash = next << 36 | (next & 0x3f);
      }
      index.record(filler, slot);
    }
    if (recorded >= capacity) wrong += matched(index, old, 1);
  }
  CHECK(wrong == 0);
}

TEST_CASE("void entries are swept, so their stamps cannot look young when the stamp wraps around") {
  // A stamp has 24 bits: after 2^24 more blocks an old one would look new. The filler stays in a few lines of the
  // table, so that only the sweep can have removed the old chain from its lines.
  PrefixIndex index(1 << 16);
  constexpr uint64_t capacity = 1 << 20;
  index.set_capacity(1, capacity);
  Random random(14);
  Chain old = random_chain(random, 64);
  for (uint64_t& hash : old) hash |= 1 << 12;
  index.record(old, 1);
  const size_t before = index.size();
  Chain filler(1 << 16);
  uint64_t next = 0;
  size_t wrong = 0;
  for (uint64_t recorded = 0; recorded < (uint64_t{1} << 24) + capacity; recorded += filler.size()) {
    for (uint64_t& hash : filler) {
      ++next;
      hash = next << 36 | (next & 0x3f);
    }
    index.record(filler, 1);
    if (recorded >= capacity) wrong += matched(index, old, 1);
  }
  CHECK(wrong == 0);
  CHECK(before == 64);
  CHECK(index.size() <= 64 * 8);
}

TEST_CASE("a match never exceeds what was recorded, and is exact while chains are distinct") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    PrefixIndex index(1 << 16);
    std::map<uint32_t, ExactCache> caches;
    std::vector<Chain> chains;
    for (uint32_t slot = 0; slot < 4; ++slot) {
      caches[slot].capacity = 50 + random.below(300);
      index.set_capacity(slot, caches[slot].capacity);
    }
    for (int step = 0; step < 150; ++step) {
      const auto slot = static_cast<uint32_t>(random.below(4));
      chains.push_back(random_chain(random, 1 + random.below(60)));
      index.record(chains.back(), slot);
      caches[slot].record(chains.back());
      const Chain& any = chains[random.below(chains.size())];
      for (const auto& [s, cache] : caches) REQUIRE(matched(index, any, s) == cache.match(any));
    }
  }
}

TEST_CASE("with chains that grow and repeat, the estimate follows an exact LRU cache closely") {
  double believed = 0, held = 0, both = 0;
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    Random random(seed);
    PrefixIndex index(1 << 16);
    index.set_capacity(0, 1000);
    ExactCache cache{1000, {}};
    std::vector<Chain> sessions(12);
    const Chain system = random_chain(random, 20);
    for (int step = 0; step < 400; ++step) {
      Chain& session = sessions[random.below(sessions.size())];
      if (session.empty() || session.size() > 300) session = system;
      const Chain more = random_chain(random, 1 + random.below(30));
      session.insert(session.end(), more.begin(), more.end());
      const double believes = matched(index, session, 0);
      const auto holds = static_cast<double>(cache.match(session));
      believed += believes;
      held += holds;
      both += std::min(believes, holds);
      index.record(session, 0);
      cache.record(session);
    }
  }
  INFO("believed ", believed, " held ", held, " both ", both);
  CHECK(both / held > 0.9);
  CHECK(both / believed > 0.9);
}

TEST_CASE("threads that record, match and forget at once never see what nobody recorded") {
  PrefixIndex index(1 << 12);
  std::atomic<uint64_t> impossible{0};
  std::atomic<bool> done{false};
  std::vector<std::thread> threads;
  for (uint32_t writer = 0; writer < 2; ++writer) {
    threads.emplace_back([&, writer] {
      Random random(100 + writer);
      std::vector<Chain> chains;
      for (int i = 0; i < 8; ++i) chains.push_back(random_chain(random, 40));
      for (int i = 0; i < 1500; ++i) {
        const Chain& chain = chains[random.below(chains.size())];
        const auto slot = static_cast<uint32_t>(random.below(3) * 2);  // even slots only
        index.record(chain, slot);
        if (i % 50 == 0) index.forget_tail(chain, slot, 10);
        if (i % 211 == 0) index.forget_endpoint(slot);
        if (i % 97 == 0) index.set_capacity(slot, 100 + random.below(1000));
      }
    });
  }
  threads.emplace_back([&] {
    Random same_as_writer(100), stranger(999);
    const Chain known = random_chain(same_as_writer, 40);
    const std::vector<uint32_t> slots = {0, 1, 2, 3, 4, 5};
    std::vector<uint32_t> blocks(slots.size());
    while (!done.load()) {
      index.match(known, slots, blocks);
      if (blocks[1] + blocks[3] + blocks[5] != 0) ++impossible;
      for (const uint32_t count : blocks) impossible += count > known.size() ? 1 : 0;
      index.match(random_chain(stranger, 4), slots, blocks);
      for (const uint32_t count : blocks) impossible += count > 1 ? 1 : 0;  // one tag may collide, not two
      std::this_thread::yield();
    }
  });
  threads[0].join();
  threads[1].join();
  done = true;
  threads[2].join();
  CHECK(impossible == 0);
  CHECK(index.size() <= 1 << 12);
}
