// Which flow is next by what its program has had, and how full the pool may be for which priority.
#include <doctest/doctest.h>

#include <deque>
#include <string>

#include "penstock/admission/flow_controller.h"
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

struct Bench {
  explicit Bench(const FlowOptions& options, uint32_t concurrency = 1)
      : programs(options.programs), flow(filled(options, concurrency), &index, &programs) {}
  ~Bench() {
    for (Named& waiter : waiters) {
      if (waiter.waiting()) flow.remove(waiter);
    }
  }
  static FlowOptions filled(FlowOptions options, uint32_t concurrency) {
    options.enabled = true;
    options.detector.detector = Detector::concurrency;
    options.detector.concurrency = concurrency;
    return options;
  }
  Named& add(const std::string& name, std::string_view program, int64_t arrived_ms, int priority = 0) {
    Named& made = waiters.emplace_back();
    made.name = name;
    made.fairness_id = program;
    made.priority = priority;
    made.arrived = at_ms(arrived_ms);
    made.deadline = Instant::max();
    CHECK(flow.offer(made));
    return made;
  }
  void served(std::string_view program, double tokens, int times = 1) {
    const Programs::Key key = Programs::key_of(program);
    for (int i = 0; i < times; ++i) programs.finished(programs.started(key, at_ms(1)), tokens, at_ms(1));
  }
  void occupy(uint32_t requests) {
    while (requests-- > 0) busy.emplace_back(builder.state(0), 10, 10, 10, at_ms(1));
  }
  std::string next(int64_t now_ms = 1000) {
    Waiter* const waiter = flow.next(&builder.pool, at_ms(now_ms), 0);
    return waiter == nullptr ? "" : static_cast<Named*>(waiter)->name;
  }
  std::string order(int64_t now_ms = 1000) {
    std::string names, name;
    while (!(name = next(now_ms)).empty()) names += (names.empty() ? "" : " ") + name;
    return names;
  }

  Programs programs;
  std::deque<Named> waiters;
  PoolBuilder builder{1};
  routing::PrefixIndex index{1024};
  FlowController flow;
  std::deque<routing::Reservation> busy;
};

FlowOptions by(Fairness fairness) {
  FlowOptions options;
  options.band.ordering = Ordering::fcfs;
  options.band.fairness = fairness;
  return options;
}

FlowOptions limited(UsageLimit kind, double least = 0, double most = 1) {
  FlowOptions options;
  options.band.ordering = Ordering::fcfs;
  options.usage = {.kind = kind, .least = least, .most = most, .listed = {}};
  options.bands = {{.priority = 10, .options = options.band},
                   {.priority = 0, .options = options.band},
                   {.priority = -10, .options = options.band}};
  return options;
}

}  // namespace

TEST_CASE("least service: who has had the fewest tokens is next, whoever came first") {
  Bench bench(by(Fairness::least_service));
  bench.served("much", 1000);
  bench.served("some", 400);
  bench.add("much1", "much", 1);
  bench.add("some1", "some", 2);
  bench.add("new1", "new", 3);
  bench.add("new2", "new", 4);
  CHECK(bench.order() == "new1 new2 some1 much1");
}

TEST_CASE("least service: waiting counts by its weight; of equals the first one") {
  FlowOptions options = by(Fairness::least_service);
  options.programs.service_weight = 0.2;
  options.programs.wait_weight = 0.8;
  Bench bench(options);
  bench.served("much", 1000);
  bench.add("much1", "much", 1);
  bench.add("new1", "new", 500);
  CHECK(bench.order() == "much1 new1");
  bench.add("x", "x", 900);
  bench.add("y", "y", 900);
  CHECK(bench.order() == "x y");
}

TEST_CASE("turn priority: the deepest session first, until another one has waited long enough") {
  Bench bench(by(Fairness::turn_priority));
  bench.served("deep", 1, 10);
  bench.served("shallow", 1, 3);
  bench.add("new", "new", 1);
  bench.add("shallow", "shallow", 2);
  bench.add("deep", "deep", 3);
  CHECK(bench.order() == "deep shallow new");
  // Turn 11 against turn 1 and 0.5 for each second: 20 seconds.
  bench.add("new", "new", 0);
  bench.add("deep", "deep", 19'000);
  CHECK(bench.next(19'500) == "deep");
  bench.add("deep", "deep", 21'000);
  CHECK(bench.order(21'000) == "new deep");
}

TEST_CASE("turn priority: requests without a fairness id are nobody's session") {
  Bench bench(by(Fairness::turn_priority));
  bench.served(default_flow, 1, 100);
  bench.served("second", 1, 1);
  bench.add("default", default_flow, 1);
  bench.add("second", "second", 2);
  CHECK(bench.order() == "second default");
}

TEST_CASE("a program whose model has no room holds up no other one") {
  Bench bench(by(Fairness::least_service));
  bench.served("much", 1000);
  bench.occupy(1);
  bench.add("new", "new", 1);
  bench.add("much", "much", 2);
  CHECK(bench.next().empty());
  bench.busy.clear();
  CHECK(bench.order() == "new much");
}

TEST_CASE("ceilings by rank and by value, of the priorities that there are") {
  FlowOptions options = limited(UsageLimit::by_rank, 0.4, 1);
  CHECK(options.usage.ceiling(10, options.rank_of(10)) == doctest::Approx(1));
  CHECK(options.usage.ceiling(0, options.rank_of(0)) == doctest::Approx(0.7));
  CHECK(options.usage.ceiling(-10, options.rank_of(-10)) == doctest::Approx(0.4));
  CHECK(options.usage.ceiling(5, options.rank_of(5)) == doctest::Approx(0.8));  // a fourth one
  options.usage.kind = UsageLimit::by_value;
  CHECK(options.usage.ceiling(0, options.rank_of(0)) == doctest::Approx(0.7));
  CHECK(options.usage.ceiling(5, options.rank_of(5)) == doctest::Approx(0.85));
  CHECK(options.usage.ceiling(30, options.rank_of(30)) == doctest::Approx(1));
  options.usage = {.kind = UsageLimit::listed, .listed = {{10, 0.9}, {-10, 0.1}}};
  CHECK(options.usage.ceiling(10, options.rank_of(10)) == doctest::Approx(0.9));
  CHECK(options.usage.ceiling(0, options.rank_of(0)) == 0);
  options.bands.clear();
  options.usage = {.kind = UsageLimit::by_rank, .least = 0.1, .most = 0.8, .listed = {}};
  CHECK(options.usage.ceiling(3, options.rank_of(3)) == doctest::Approx(0.8));  // alone
}

TEST_CASE("what is above its ceiling waits; what has a higher one goes on") {
  Bench bench(limited(UsageLimit::by_rank, 0.5, 1), 10);  // 10, 7.5 and 5 requests
  bench.occupy(5);
  bench.add("low", "a", 1, -10);
  CHECK(bench.next().empty());
  bench.add("middle", "a", 2, 0);
  CHECK(bench.next() == "middle");
  bench.add("middle", "a", 3, 0);
  bench.occupy(3);
  CHECK(bench.next().empty());
  bench.add("high", "a", 4, 10);
  CHECK(bench.next() == "high");
  bench.busy.resize(4);
  CHECK(bench.order() == "middle low");
}

TEST_CASE("a priority without a ceiling in the list never goes, and holds up none below it") {
  FlowOptions options = limited(UsageLimit::listed);
  options.usage.listed = {{10, 1}, {-10, 0.5}};
  Bench bench(options, 10);
  bench.add("middle", "a", 1, 0);
  bench.add("low", "a", 2, -10);
  CHECK(bench.order() == "low");
}

TEST_CASE("reflective: open below its ceiling, then one look of so many, shut when the pool is full") {
  Bench bench(limited(UsageLimit::reflective), 20);  // open below 1, 2/3 and 1/2
  for (int i = 0; i < 9; ++i) bench.add("low", "a", i, -10);
  bench.occupy(9);
  CHECK(bench.next() == "low");
  bench.occupy(6);  // 15 of 20: one look of three
  std::string looks;
  for (int i = 0; i < 6; ++i) looks += bench.next().empty() ? '-' : '+';
  CHECK(looks == "--+--+");
  bench.add("middle", "a", 50, 0);
  CHECK(bench.next().empty());
  bench.add("high", "a", 51, 10);
  CHECK(bench.next() == "high");
  bench.occupy(5);
  bench.add("high", "a", 52, 10);
  for (int i = 0; i < 6; ++i) CHECK(bench.next().empty());
}
