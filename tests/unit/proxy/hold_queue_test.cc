#include "penstock/proxy/hold_queue.h"

#include <doctest/doctest.h>

#include <deque>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "penstock/routing/router.h"
#include "tests/unit/routing/pool_builder.h"

using namespace penstock;
using namespace penstock::proxy;
using routing::test::PoolBuilder;

namespace {

admission::FlowOptions one_each() {
  admission::FlowOptions options;
  options.enabled = true;
  options.detector.detector = admission::Detector::concurrency;
  options.detector.concurrency = 1;
  options.band.ordering = admission::Ordering::fcfs;
  return options;
}

struct Shard final : HoldShard {
  void wake() override { ++wakes; }
  std::atomic<int> wakes{0};
};

class Observer final : public HoldObserver {
 public:
  void offered(const HeldLabels&, uint64_t, bool in, Duration) override { ++(in ? came : refused); }
  void left(const HeldLabels&, uint64_t, HoldOutcome outcome, Duration) override { ++outcomes[outcome]; }
  void cycle(Duration) override { ++cycles; }
  void evicting(std::string_view, int priority) override { cut_for.push_back(priority); }
  void evicted(std::string_view, Duration) override { ++evicted_count; }
  std::vector<int> cut_for;
  int evicted_count = 0;
  int came = 0, refused = 0, cycles = 0;
  std::map<HoldOutcome, int> outcomes;
};

struct Bench {
  explicit Bench(size_t endpoints = 1, const admission::FlowOptions& options = one_each())
      : builder(endpoints), queue(options, net::system_clock(), &observer) {
    snapshot.pools.push_back(builder.pool);
  }
  HeldRequest& held(std::string_view tenant = "default-flow", int priority = 0) {
    HeldRequest& made = requests.emplace_back();
    made.fairness_id = tenant;
    made.priority = priority;
    made.deadline = Instant::max();
    return made;
  }
  void look() { queue.room_made(snapshot, now); }

  const Instant now = routing::test::at_ms(1);
  PoolBuilder builder;
  endpoints::Snapshot snapshot;
  Observer observer;
  HoldQueue queue;
  std::deque<HeldRequest> requests;
};

}  // namespace

TEST_CASE("a granted request keeps its room until it has left the queue: no second request gets it") {
  Bench bench;
  Shard shard;
  HeldRequest &a = bench.held(), &b = bench.held();
  CHECK_FALSE(bench.queue.occupied());
  CHECK(bench.queue.offer(a, shard, 0));
  CHECK(bench.queue.offer(b, shard, 0));
  CHECK(bench.queue.occupied());
  CHECK(a.queued());
  bench.look();
  bench.look();
  CHECK(shard.wakes == 1);
  CHECK(bench.queue.take_granted(shard) == &a);
  CHECK(bench.queue.take_granted(shard) == nullptr);
  {
    const routing::Reservation reserved(bench.builder.state(0), 10, 10, 10, bench.now);
    bench.queue.leave(a, HoldOutcome::dispatched, bench.now);
    CHECK_FALSE(a.queued());
    bench.look();
    CHECK(bench.queue.take_granted(shard) == nullptr);
  }
  bench.look();
  CHECK(bench.queue.take_granted(shard) == &b);
  CHECK(bench.queue.occupied());  // a new request must not take the room of the granted one
  bench.queue.leave(b, HoldOutcome::dispatched, bench.now);
  CHECK_FALSE(bench.queue.occupied());
  CHECK(bench.observer.came == 2);
  CHECK(bench.observer.outcomes[HoldOutcome::dispatched] == 2);
}

TEST_CASE("a granted request that ends gives its room to the next one, also on another shard, and cannot be taken") {
  Bench bench;
  Shard first, second;
  HeldRequest &a = bench.held(), &b = bench.held();
  CHECK(bench.queue.offer(a, first, 0));
  CHECK(bench.queue.offer(b, second, 0));
  bench.look();
  CHECK(first.wakes == 1);
  bench.queue.leave(a, HoldOutcome::evicted_cancelled, bench.now);
  CHECK(bench.queue.take_granted(first) == nullptr);
  bench.look();
  CHECK(second.wakes == 1);
  CHECK(bench.queue.take_granted(second) == &b);
  bench.queue.leave(b, HoldOutcome::evicted_other, bench.now);
}

TEST_CASE("priority and turns hold across shards") {
  Bench bench(1);
  Shard shards[2];
  std::vector<std::string> order;
  // Tenant a sends all it has through the first shard, b one through each.
  const struct {
    const char* tenant;
    int priority;
    size_t shard;
  } sent[] = {{"a", 0, 0}, {"a", 0, 0}, {"a", 0, 0}, {"b", 0, 1}, {"b", 0, 0}, {"c", 5, 1}};
  for (const auto& one : sent) CHECK(bench.queue.offer(bench.held(one.tenant, one.priority), shards[one.shard], 0));
  for (size_t i = 0; i < std::size(sent); ++i) {
    bench.look();
    for (Shard& shard : shards) {
      if (HeldRequest* const held = bench.queue.take_granted(shard)) {
        order.emplace_back(held->fairness_id);
        bench.queue.leave(*held, HoldOutcome::dispatched, bench.now);
      }
    }
  }
  CHECK(order == std::vector<std::string>{"c", "a", "b", "a", "b", "a"});
}

TEST_CASE("offers are refused at a limit; all requests are granted when the pool is gone or flow control is off") {
  admission::FlowOptions options = one_each();
  options.requests_max = 1;
  Bench bench(1, options);
  Shard shard;
  const routing::Reservation busy(bench.builder.state(0), 10, 10, 10, bench.now);
  HeldRequest &a = bench.held(), &b = bench.held(), &c = bench.held();
  CHECK(bench.queue.offer(a, shard, 0));
  CHECK_FALSE(bench.queue.offer(b, shard, 0));
  CHECK_FALSE(b.queued());
  CHECK(bench.observer.refused == 1);
  CHECK(bench.queue.offer(c, shard, 77));
  bench.look();
  CHECK(bench.queue.take_granted(shard) == &c);
  bench.queue.leave(c, HoldOutcome::evicted_other, bench.now);
  options.enabled = false;
  bench.queue.set_options(options);
  bench.look();
  CHECK(bench.queue.take_granted(shard) == &a);
  bench.queue.leave(a, HoldOutcome::dispatched, bench.now);
  CHECK_FALSE(bench.queue.occupied());
}

TEST_CASE("after close() no request is accepted or granted; those in the queue can leave, and are counted") {
  Bench bench(2);
  Shard shard;
  HeldRequest &on_its_way = bench.held(), &waiting = bench.held(), &late = bench.held();
  routing::Reservation busy(bench.builder.state(0), 10, 10, 10, bench.now);
  CHECK(bench.queue.offer(on_its_way, shard, 0));
  bench.look();
  CHECK(shard.wakes == 1);
  CHECK(bench.queue.offer(waiting, shard, 0));
  CHECK_FALSE(bench.queue.closed());
  bench.queue.close();
  CHECK(bench.queue.closed());
  CHECK(bench.queue.take_granted(shard) == nullptr);
  busy.release();
  bench.look();
  CHECK(shard.wakes == 1);
  admission::FlowOptions off = one_each();
  off.enabled = false;
  bench.queue.set_options(off);
  bench.look();
  CHECK(bench.queue.take_granted(shard) == nullptr);
  CHECK_FALSE(bench.queue.offer(late, shard, 0));
  CHECK_FALSE(late.queued());
  CHECK(bench.observer.refused == 0);  // it was not for lack of capacity
  for (HeldRequest* held : {&on_its_way, &waiting}) {
    CHECK(held->queued());
    bench.queue.leave(*held, HoldOutcome::evicted_other, bench.now);
    bench.look();
  }
  CHECK_FALSE(bench.queue.occupied());
  CHECK(bench.observer.outcomes[HoldOutcome::evicted_other] == 2);
  CHECK(shard.wakes == 1);
}

// ---- eviction ----

namespace {

admission::FlowOptions one_each_evicts() {
  admission::FlowOptions options = one_each();
  options.evicts = true;
  return options;
}

// A running request of negative priority.
struct Batch {
  Batch(Bench& of, HoldShard& home, size_t endpoint = 0, int priority = -1)
      : bench(of), reserved(of.builder.state(endpoint), 10, 10, 10, of.now), running(priority) {
    bench.queue.add_running(
        running, home, 0,
        {.slot = of.builder.state(endpoint).slot, .incarnation = of.builder.state(endpoint).incarnation});
  }
  void end() {
    reserved.release();
    bench.queue.remove_running(running, bench.now);
    bench.look();
  }
  Bench& bench;
  routing::Reservation reserved;
  RunningRequest running;
};

}  // namespace

TEST_CASE("a request running on another shard is evicted for a waiting one, and the next only after it has ended") {
  Bench bench(2, one_each_evicts());
  Shard mine, other;
  Batch a(bench, other, 0), b(bench, other, 1);
  HeldRequest &first = bench.held(), &second = bench.held("default-flow", 4);
  CHECK(bench.queue.take_evicted(other) == nullptr);
  CHECK(bench.queue.offer(first, mine, 0));
  for (int looks = 0; looks < 3; ++looks) bench.look();
  CHECK(other.wakes == 1);
  CHECK(bench.queue.take_evicted(mine) == nullptr);
  CHECK(bench.queue.take_evicted(other) == &b.running);
  CHECK(bench.queue.offer(second, mine, 0));
  for (int looks = 0; looks < 3; ++looks) bench.look();
  CHECK(bench.queue.take_evicted(other) == nullptr);
  b.end();
  CHECK(bench.queue.take_granted(mine) == &second);
  const routing::Reservation runs(bench.builder.state(1), 10, 10, 10, bench.now);
  bench.look();
  CHECK(bench.queue.take_evicted(other) == nullptr);  // `second` counts twice: as granted and in the load
  bench.queue.leave(second, HoldOutcome::dispatched, bench.now);
  bench.look();
  CHECK(bench.queue.take_evicted(other) == &a.running);  // for `first`, which still waits
  a.end();
  CHECK(bench.queue.take_granted(mine) == &first);
  bench.queue.leave(first, HoldOutcome::dispatched, bench.now);
  CHECK(bench.observer.cut_for == std::vector<int>{0, 0});
  CHECK(bench.observer.evicted_count == 2);
}

TEST_CASE("a request chosen for eviction that ends before its shard takes it makes room, and is not taken") {
  Bench bench(1, one_each_evicts());
  Shard shard;
  Batch batch(bench, shard);
  HeldRequest& held = bench.held();
  CHECK(bench.queue.offer(held, shard, 0));
  bench.look();
  batch.end();
  CHECK(bench.queue.take_evicted(shard) == nullptr);
  CHECK(bench.queue.take_granted(shard) == &held);
  bench.queue.leave(held, HoldOutcome::dispatched, bench.now);
  CHECK(bench.observer.evicted_count == 1);
}

TEST_CASE("no request is evicted for another pool, with eviction off, or after close()") {
  Bench bench(1, one_each_evicts());
  Shard shard;
  Batch batch(bench, shard);
  HeldRequest& held = bench.held();
  SUBCASE("another pool") {
    bench.snapshot.pools.push_back(bench.builder.pool);
    bench.snapshot.pools.back().id = 7;
    CHECK(bench.queue.offer(held, shard, 7));
    bench.look();
    CHECK(bench.queue.take_evicted(shard) == nullptr);
  }
  SUBCASE("turned off") {
    bench.queue.set_options(one_each());
    CHECK(bench.queue.offer(held, shard, 0));
    bench.look();
    CHECK(bench.queue.take_evicted(shard) == nullptr);
    bench.queue.set_options(one_each_evicts());
    bench.look();
    CHECK(bench.queue.take_evicted(shard) == &batch.running);
  }
  SUBCASE("closed") {
    CHECK(bench.queue.offer(held, shard, 0));
    bench.look();
    bench.queue.close();
    CHECK(bench.queue.take_evicted(shard) == nullptr);
  }
  batch.end();
  bench.queue.leave(held, HoldOutcome::evicted_other, bench.now);
}

// Threads act as shards: each request waits for the one endpoint, works for a moment and makes room. A lost grant would
// leave the others waiting for ever; a grant too many would be seen as two requests at work.
TEST_CASE("many threads: every request is served, never two at once") {
  Bench bench;
  constexpr int thread_count = 4, rounds = 2000;
  std::atomic<int> at_work{0}, served{0};
  std::atomic<bool> overlap{false};
  const auto run = [&] {
    Shard shard;
    HeldRequest held;
    held.fairness_id = "default-flow";
    held.deadline = Instant::max();
    for (int i = 0; i < rounds; ++i) {
      if (!bench.queue.offer(held, shard, 0)) return;
      bench.look();
      HeldRequest* mine = nullptr;
      while ((mine = bench.queue.take_granted(shard)) == nullptr) std::this_thread::yield();
      routing::Reservation reserved(bench.builder.state(0), 10, 10, 10, bench.now);
      if (at_work.fetch_add(1) != 0) overlap = true;
      bench.queue.leave(*mine, HoldOutcome::dispatched, bench.now);
      at_work.fetch_sub(1);
      ++served;
      reserved.release();
      bench.look();
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < thread_count; ++i) threads.emplace_back(run);
  for (std::thread& thread : threads) thread.join();
  CHECK(served == thread_count * rounds);
  CHECK_FALSE(overlap);
  CHECK_FALSE(bench.queue.occupied());
}

// All threads but one run requests that only an eviction ends; the last thread needs their room again and again.
TEST_CASE("many threads: every waiting request is served, each by one eviction") {
  constexpr int batch_threads = 3, rounds = 500;
  admission::FlowOptions options = one_each_evicts();
  options.detector.concurrency = batch_threads;
  Bench bench(1, options);
  std::atomic<int> at_work{0}, cut{0};
  std::atomic<bool> over{false};
  const auto run_batches = [&] {
    Shard shard;
    while (!over) {
      Batch batch(bench, shard);
      ++at_work;
      bool mine = false;
      while (!over && !(mine = bench.queue.take_evicted(shard) != nullptr)) std::this_thread::yield();
      cut += mine;
      --at_work;
      batch.end();
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < batch_threads; ++i) threads.emplace_back(run_batches);
  Shard shard;
  HeldRequest held;
  held.fairness_id = "default-flow";
  held.deadline = Instant::max();
  for (int i = 0; i < rounds; ++i) {
    while (at_work < batch_threads) std::this_thread::yield();
    REQUIRE(bench.queue.offer(held, shard, 0));
    bench.look();
    while (bench.queue.take_granted(shard) == nullptr) std::this_thread::yield();
    bench.queue.leave(held, HoldOutcome::dispatched, bench.now);
  }
  over = true;
  for (std::thread& thread : threads) thread.join();
  CHECK(cut == rounds);
  CHECK(bench.observer.evicted_count == rounds);
}

// Whatever the threads are doing when the queue closes: no request is granted after that, and all of them can leave.
TEST_CASE("many threads: no request is granted after close()") {
  for (int round = 0; round < 20; ++round) {
    Bench bench;
    std::atomic<bool> closed{false}, late{false};
    std::atomic<int> served{0};
    const auto run = [&] {
      Shard shard;
      HeldRequest held;
      held.fairness_id = "default-flow";
      held.deadline = Instant::max();
      while (bench.queue.offer(held, shard, 0)) {
        bench.look();
        HeldRequest* mine = nullptr;
        bool before_take = false;
        while (mine == nullptr && !before_take) {
          before_take = closed;
          mine = bench.queue.take_granted(shard);
        }
        if (mine != nullptr && before_take) late = true;
        bench.queue.leave(held, mine == nullptr ? HoldOutcome::evicted_other : HoldOutcome::dispatched, bench.now);
        bench.look();
        ++served;
      }
    };
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) threads.emplace_back(run);
    while (served < 50) std::this_thread::yield();
    bench.queue.close();
    closed = true;
    for (std::thread& thread : threads) thread.join();
    CHECK_FALSE(late);
    CHECK_FALSE(bench.queue.occupied());
  }
}
