#include "penstock/admission/flow_controller.h"

#include <doctest/doctest.h>

#include <deque>

#include "penstock/base/random.h"
#include "penstock/routing/backlog.h"
#include "penstock/routing/router.h"
#include "tests/unit/routing/pool_builder.h"

using namespace penstock;
using namespace penstock::admission;
using routing::test::at_ms;
using routing::test::PoolBuilder;

namespace {

struct Named : Waiter {
  std::string name;
};

// One endpoint that takes one request at a time.
struct Bench {
  explicit Bench(FlowOptions options = {}) : flow(filled(options), &index) {}
  ~Bench() {
    for (Named& waiter : waiters) {
      if (waiter.waiting()) flow.remove(waiter);
    }
  }
  static FlowOptions filled(FlowOptions options) {
    options.enabled = true;
    options.detector.detector = Detector::concurrency;
    options.detector.concurrency = 1;
    return options;
  }

  Named& waiter(const std::string& name) {
    Named& made = waiters.emplace_back();
    made.name = name;
    made.fairness_id = "default-flow";
    made.arrived = at_ms(static_cast<int64_t>(waiters.size()));
    made.deadline = Instant::max();
    return made;
  }
  Named& add(const std::string& name, int priority = 0, std::string_view fairness_id = "default-flow",
             Duration work = {}) {
    Named& made = waiter(name);
    made.priority = priority;
    made.fairness_id = fairness_id;
    made.work = work;
    made.prompt.tokens = tokens_of(work);
    CHECK(flow.offer(made));
    return made;
  }
  // A prompt that costs so much, so that to weigh it again changes nothing.
  uint32_t tokens_of(Duration work) {
    return static_cast<uint32_t>(to_seconds(work) / routing::prefill_seconds(builder.state(0), 1));
  }
  // Names of all, in the order in which they go as room appears.
  std::string order() {
    std::string names;
    while (Waiter* const next = flow.next(&builder.pool, at_ms(1000), 0)) {
      if (!names.empty()) names += ' ';
      names += static_cast<Named*>(next)->name;
    }
    return names;
  }

  std::deque<Named> waiters;
  PoolBuilder builder{1};
  routing::PrefixIndex index{1024};
  FlowController flow;
};

FlowOptions ordered(Ordering ordering, Fairness fairness = Fairness::round_robin) {
  FlowOptions options;
  options.band.ordering = ordering;
  options.band.fairness = fairness;
  return options;
}

}  // namespace

TEST_CASE("nobody goes while the pool is full; as many go as there is room, those on their way counted") {
  Bench bench;
  bench.add("a");
  bench.add("b");
  const Instant now = at_ms(1);
  routing::Reservation busy(bench.builder.state(0), 10, 10, 10, now);
  CHECK(bench.flow.next(&bench.builder.pool, now, 0) == nullptr);
  busy.release();
  CHECK(bench.flow.next(&bench.builder.pool, now, 1) == nullptr);
  Waiter* const first = bench.flow.next(&bench.builder.pool, now, 0);
  REQUIRE(first != nullptr);
  CHECK_FALSE(first->waiting());
  CHECK(bench.flow.requests() == 1);
  CHECK(bench.flow.next(&bench.builder.pool, now, 1) == nullptr);
}

TEST_CASE("the highest priority goes first, whatever came first") {
  Bench bench(ordered(Ordering::fcfs));
  bench.add("low", -5);
  bench.add("middle");
  bench.add("high", 10);
  bench.add("middle2");
  bench.add("high2", 10);
  CHECK(bench.order() == "high high2 middle middle2 low");
}

TEST_CASE("first come, first served") {
  Bench bench(ordered(Ordering::fcfs));
  bench.add("a", 0, "default-flow", seconds(9));
  bench.add("b", 0, "default-flow", seconds(1));
  CHECK(bench.order() == "a b");
}

TEST_CASE("least work first; waiting counts as aging says, so that nobody starves") {
  FlowOptions options = ordered(Ordering::least_work);
  options.aging_seconds = 20;
  Bench bench(options);
  bench.add("long", 0, "default-flow", seconds(2));
  bench.add("short", 0, "default-flow", milliseconds(500));
  Named& late = bench.waiter("late");
  late.work = milliseconds(600);
  late.prompt.tokens = bench.tokens_of(late.work);
  late.arrived = at_ms(0) + seconds(29);  // 29 s later: 1.45 s more
  CHECK(bench.flow.offer(late));
  Named& later = bench.waiter("later");
  later.work = milliseconds(600);
  later.prompt.tokens = bench.tokens_of(later.work);
  later.arrived = at_ms(0) + seconds(27);
  CHECK(bench.flow.offer(later));
  CHECK(bench.order() == "short later long late");
}

TEST_CASE("what is cached while it waits lets a request go earlier, what is evicted later") {
  Bench bench(ordered(Ordering::least_work));
  std::vector<uint64_t> chain(100);
  for (size_t i = 0; i < chain.size(); ++i) chain[i] = (i + 1) * 0x9e3779b97f4a7c15;
  bench.add("short", 0, "default-flow", milliseconds(100));
  Named& turn = bench.add("turn", 0, "default-flow", milliseconds(200));
  turn.prompt = {chain, turn.prompt.tokens / 100 + 1, turn.prompt.tokens};
  bench.index.record(chain, bench.builder.state(0).slot);
  SUBCASE("cached") {
    CHECK(bench.order() == "turn short");
  }
  SUBCASE("evicted") {
    bench.index.forget_endpoint(bench.builder.state(0).slot);
    CHECK(bench.order() == "short turn");
  }
  SUBCASE("of many that wait a few are weighed at a time") {
    for (size_t i = 0; i < 3 * FlowController::weighed_again; ++i) {
      bench.add("x", 0, "default-flow", milliseconds(300));
    }
    const std::string order = bench.order();
    CHECK(order.starts_with("turn short x"));
    CHECK(order.ends_with("x"));
  }
}

TEST_CASE("earliest deadline first; without one, last") {
  Bench bench(ordered(Ordering::edf));
  bench.add("none");
  for (const int64_t ms : {300, 100, 200}) {
    Named& waiter = bench.waiter(std::to_string(ms));
    waiter.deadline = at_ms(ms);
    CHECK(bench.flow.offer(waiter));
  }
  CHECK(bench.order() == "100 200 300 none");
}

TEST_CASE("the deadline of the time to first token: arrival and x-slo-ttft-ms") {
  Bench bench(ordered(Ordering::slo_deadline));
  bench.add("none");
  const auto add = [&](const char* name, int64_t arrived, double slo) {
    Named& waiter = bench.waiter(name);
    waiter.arrived = at_ms(arrived);
    waiter.slo_ttft_ms = slo;
    CHECK(bench.flow.offer(waiter));
  };
  add("350", 50, 300);
  add("210", 200, 10);
  add("340", 300, 40);
  CHECK(bench.order() == "210 340 350 none");
}

TEST_CASE("round robin: each flow in turn, however much one of them sends; within a flow, its order") {
  Bench bench(ordered(Ordering::fcfs));
  for (const char* name : {"a1", "a2", "a3", "a4"}) bench.add(name, 0, "tenant-a");
  bench.add("b1", 0, "tenant-b");
  bench.add("b2", 0, "tenant-b");
  bench.add("c1", 0, "tenant-c");
  CHECK(bench.order() == "a1 b1 c1 a2 b2 a3 a4");
}

TEST_CASE("global strict: the best head of all flows") {
  Bench bench(ordered(Ordering::least_work, Fairness::global_strict));
  bench.add("a", 0, "tenant-a", seconds(3));
  bench.add("b", 0, "tenant-b", seconds(1));
  bench.add("a2", 0, "tenant-a", seconds(2));
  CHECK(bench.order() == "b a2 a");
}

TEST_CASE("limits by count and bytes, of all and of a priority") {
  FlowOptions options;
  options.requests_max = 3;
  options.bytes_max = 1000;
  options.band.requests_max = 2;
  options.band.bytes_max = 600;
  options.bands = {{.priority = 7, .options = {.requests_max = 1}}};
  Bench bench(options);
  const auto offer = [&](int priority, uint64_t bytes) {
    Named& waiter = bench.waiter("w");
    waiter.priority = priority;
    waiter.bytes = bytes;
    return bench.flow.offer(waiter);
  };
  CHECK_FALSE(offer(0, 601));
  CHECK(offer(0, 500));
  CHECK_FALSE(offer(0, 101));
  CHECK(offer(0, 100));
  CHECK_FALSE(offer(0, 0));  // two of one priority
  CHECK_FALSE(offer(1, 401));
  CHECK(offer(7, 400));
  CHECK_FALSE(offer(1, 0));  // three in all
  CHECK(bench.flow.requests() == 3);
  CHECK(bench.flow.bytes() == 1000);
  bench.flow.remove(bench.waiters[1]);
  CHECK(bench.flow.bytes() == 500);
  CHECK_FALSE(offer(7, 0));  // its own limit of one
  CHECK(offer(1, 500));
}

TEST_CASE("a model whose endpoints are full holds up nobody who wants another one") {
  for (const Fairness fairness : {Fairness::round_robin, Fairness::global_strict}) {
    Bench bench(ordered(Ordering::fcfs, fairness));
    bench.builder.view(0).models = {"m"};
    bench.builder.add("b").models = {"n"};
    const auto add = [&](const char* model, const char* tenant, int priority) {
      Named& waiter = bench.waiter(model);
      waiter.demand.model = model;
      waiter.fairness_id = tenant;
      waiter.priority = priority;
      CHECK(bench.flow.offer(waiter));
    };
    add("m", "tenant-a", 1);
    add("m", "tenant-b", 0);
    add("n", "tenant-c", 0);
    routing::Reservation busy(bench.builder.state(0), 10, 10, 10, at_ms(1));
    CHECK(bench.order() == "n");
    busy.release();
    CHECK(bench.order() == "m m");
  }
}

TEST_CASE("without a pool, without endpoints and with flow control off everybody goes; scaled to zero they may stay") {
  {
    Bench bench;
    bench.add("a");
    CHECK(bench.flow.next(nullptr, at_ms(1), 9) != nullptr);
  }
  FlowOptions options;
  for (const Duration ttl : {Duration{0}, Duration{seconds(5)}}) {
    options.no_endpoint_ttl = ttl;
    Bench bench(options);
    bench.builder.view(0).readiness = endpoints::Readiness::not_ready;
    bench.add("a");
    CHECK((bench.order() == "a") == (ttl == Duration{0}));
  }
  Bench bench;
  bench.add("a");
  routing::Reservation busy(bench.builder.state(0), 10, 10, 10, at_ms(1));
  CHECK(bench.order() == "");
  bench.flow.set_options({.enabled = false});
  CHECK(bench.order() == "a");
}

TEST_CASE("new options: who waits stays, in the new order") {
  Bench bench(ordered(Ordering::fcfs));
  bench.add("a", 0, "tenant-a", seconds(3));
  bench.add("b", 0, "tenant-b", seconds(2));
  bench.add("c", 1, "tenant-a", seconds(1));
  FlowOptions next = Bench::filled(ordered(Ordering::least_work, Fairness::global_strict));
  next.requests_max = 1;  // those that wait already go on waiting
  bench.flow.set_options(next);
  CHECK(bench.flow.requests() == 3);
  CHECK(bench.order() == "c b a");
}

TEST_CASE("any sequence of offers, ends and grants: counts add up, order holds, nothing is left") {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    Random random(seed);
    Bench bench(ordered(static_cast<Ordering>(random.below(4)), static_cast<Fairness>(random.below(2))));
    size_t waiting = 0;
    uint64_t bytes = 0;
    for (int step = 0; step < 200; ++step) {
      if (random.chance(0.5)) {
        static constexpr std::string_view tenants[] = {"a", "b", "c"};
        Named& waiter = bench.waiter("w");
        waiter.priority = static_cast<int>(random.below(3));
        waiter.fairness_id = tenants[random.below(3)];
        waiter.work = milliseconds(random.below(50));
        waiter.deadline = at_ms(static_cast<int64_t>(random.below(1000)));
        waiter.bytes = random.below(100);
        CHECK(bench.flow.offer(waiter));
        ++waiting;
        bytes += waiter.bytes;
      } else if (random.chance(0.3)) {
        if (bench.waiters.empty()) continue;
        Named& any = bench.waiters[random.below(bench.waiters.size())];
        if (!any.waiting()) continue;
        bench.flow.remove(any);
        --waiting;
        bytes -= any.bytes;
      } else if (Waiter* const next = bench.flow.next(&bench.builder.pool, at_ms(1), 0)) {
        --waiting;
        bytes -= next->bytes;
        for (const Named& other : bench.waiters) {
          if (other.waiting()) CHECK(other.priority <= next->priority);
        }
      }
      REQUIRE(bench.flow.requests() == waiting);
      REQUIRE(bench.flow.bytes() == bytes);
    }
    static_cast<void>(bench.order());
    CHECK(bench.flow.requests() == 0);
    CHECK(bench.flow.bytes() == 0);
  }
}
