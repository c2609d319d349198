#include "penstock/admission/sheddables.h"

#include <doctest/doctest.h>

#include <deque>
#include <vector>

#include "penstock/admission/flow_controller.h"
#include "penstock/routing/router.h"
#include "tests/unit/routing/pool_builder.h"

using namespace penstock;
using namespace penstock::admission;
using routing::test::at_ms;
using routing::test::PoolBuilder;

namespace {

const Instant now = at_ms(10);

// Requests that run on endpoints which take one each, or as `options` says.
struct Bench {
  explicit Bench(size_t endpoints = 1, DetectorOptions options = one_each()) : builder(endpoints), detector(options) {}
  ~Bench() {
    for (Sheddable* one : registered) running.remove(*one, now);
  }
  static DetectorOptions one_each() {
    DetectorOptions options;
    options.detector = Detector::concurrency;
    options.concurrency = 1;
    return options;
  }
  static DetectorOptions by(Detector detector) {
    DetectorOptions options;
    options.detector = detector;
    options.hold = milliseconds(250);  // 2500 tokens, with the pace that nobody has taught yet
    return options;
  }

  // One that runs. Of negative priority it may be cut off.
  Sheddable& runs(int priority, size_t endpoint = 0, uint32_t tokens = 100, bool streaming = true) {
    reserved.emplace_back(builder.state(endpoint), tokens, tokens, 100, now, streaming);
    Sheddable& one = all.emplace_back(priority);
    if (priority < 0) put(one, endpoint);
    return one;
  }
  // Four run at the first endpoint, whose KV cache is nearly full of them. The one that may be cut off.
  Sheddable& nearly_full() {
    endpoints::EngineMetrics& metrics = builder.view(0).metrics;
    metrics.block_size = 16;
    metrics.kv_blocks = 1000;
    metrics.kv_usage = 0.95;
    metrics.running = 4;
    Sheddable& one = runs(-1, 0, 100, /*streaming=*/false);
    for (int i = 0; i < 3; ++i) runs(0, 0, 0);
    return one;
  }
  void put(Sheddable& one, size_t endpoint) {
    const endpoints::EndpointState& at = builder.state(endpoint);
    const routing::Reservation& load = reserved.back();
    running.put(one, {.slot = at.slot,
                      .incarnation = at.incarnation,
                      .prefill_tokens = static_cast<uint32_t>(load.seen_prefill_tokens()),
                      .kv_tokens = static_cast<uint32_t>(load.kv_tokens())});
    registered.insert(&one);
  }
  void end(Sheddable& one) {
    running.remove(one, now);
    registered.erase(&one);
  }
  // Whom a request of this priority would be given the room of.
  Sheddable* choose(int priority = 0, const Demand& demand = {}) {
    return running.choose({.pool = &builder.pool, .detector = &detector, .demand = demand, .priority = priority}, now);
  }

  PoolBuilder builder;
  SaturationDetector detector;
  Sheddables running;
  std::deque<Sheddable> all;
  std::deque<routing::Reservation> reserved;
  std::set<Sheddable*> registered;
};

}  // namespace

TEST_CASE("the lowest priority is cut off first, of equals the one that was sent last") {
  Bench bench(5);
  Sheddable &old = bench.runs(-1, 0), &lowest = bench.runs(-7, 1), &newer = bench.runs(-1, 2),
            &high = bench.runs(-1, 3);
  bench.runs(3, 4);
  CHECK(bench.running.lowest_priority() == -7);
  CHECK(bench.choose() == &lowest);
  bench.end(lowest);
  CHECK(bench.choose() == &high);
  bench.put(newer, 0);  // an attempt failed, and it was sent again
  CHECK(bench.choose() == &newer);
  bench.end(newer);
  bench.end(high);
  CHECK(bench.choose() == &old);
  CHECK(bench.choose(-1) == nullptr);  // its own priority is no reason
  CHECK(bench.choose(5) == &old);
  bench.end(old);
  CHECK(bench.running.empty());
  CHECK(bench.choose(5) == nullptr);  // who is not sheddable stays
}

TEST_CASE("nobody is cut off who would make no room") {
  Bench bench(2);
  SUBCASE("there is room") {
    bench.runs(-1, 0);
    CHECK(bench.choose() == nullptr);
  }
  SUBCASE("the others alone are too many") {
    for (int i = 0; i < 2; ++i) bench.runs(0, 0);
    bench.runs(-1, 1);
    CHECK(bench.choose() == nullptr);
    bench.reserved.pop_front();
    CHECK(bench.choose() != nullptr);
  }
  SUBCASE("the model is served elsewhere") {
    bench.builder.view(0).models = {"a"};
    bench.builder.view(1).models = {"b"};
    Sheddable& one = bench.runs(-1, 0);
    bench.runs(0, 1);
    CHECK(bench.choose(0, {.model = "b"}) == nullptr);
    CHECK(bench.choose(0, {.model = "a"}) == &one);
    CHECK(bench.choose(0, {.model = "c"}) == nullptr);
  }
  SUBCASE("its endpoint takes nobody") {
    bench.runs(-1, 0);
    bench.runs(0, 1);
    CHECK(bench.choose() != nullptr);
    bench.builder.view(0).readiness = endpoints::Readiness::draining;
    CHECK(bench.choose() == nullptr);
  }
  SUBCASE("its endpoint is another one by now, of the same slot") {
    bench.runs(-1, 0);
    bench.runs(0, 1);
    bench.builder.state(0).incarnation += 1;
    CHECK(bench.choose() == nullptr);
  }
}

TEST_CASE("late binding: for prefill that is before it, only who is still in prefill; where the least is missing") {
  Bench bench(2, Bench::by(Detector::late_binding));
  // Both are full, the second one with less.
  Sheddable& far = bench.runs(-1, 0, 2000);
  bench.runs(0, 0, 1000);
  bench.runs(0, 1, 1000);
  Sheddable& near = bench.runs(-1, 1, 1600);
  bench.runs(-1, 0, 900);  // the newest
  CHECK(bench.choose() == &near);
  SUBCASE("its first token has come") {
    bench.reserved[3].first_token(now + milliseconds(160));  // as fast as nobody has taught yet
    near.prefilled();
    CHECK(bench.choose() == nullptr);  // the second endpoint has room
    bench.runs(0, 1, 1600);
    CHECK(bench.choose() != &near);
    CHECK(bench.choose() != nullptr);
  }
  SUBCASE("who is past his prefill is passed over, and who does not stream") {
    bench.runs(-9, 1, 100).prefilled();
    bench.runs(-2, 1, 100, /*streaming=*/false);
    CHECK(bench.choose() == &near);
  }
  SUBCASE("not even all of them would make room on the first") {
    bench.end(near);
    bench.runs(0, 0, 3000);
    CHECK(bench.choose() == nullptr);
    bench.end(far);
    CHECK(bench.choose() == nullptr);
  }
}

TEST_CASE("late binding: for room in the KV cache, who decodes goes, too, and those that do not stream") {
  Bench bench(1, Bench::by(Detector::late_binding));
  Sheddable& one = bench.nearly_full();
  CHECK(bench.choose() == &one);
  bench.builder.view(0).metrics.running = 100;  // a hundredth of what is taken
  CHECK(bench.choose() == nullptr);
}

TEST_CASE("utilization: by what waits and by what of the KV cache is taken") {
  Bench bench(1, Bench::by(Detector::utilization));
  endpoints::EngineMetrics& metrics = bench.builder.view(0).metrics;
  metrics.running = 10;
  metrics.requests_at_scrape = 2;
  bench.runs(0, 0);
  Sheddable& one = bench.runs(-1, 0);
  metrics.kv_usage = 0.85;
  CHECK(bench.choose() == &one);
  metrics.kv_usage = 0.95;  // a tenth less would be above 0.8
  CHECK(bench.choose() == nullptr);
  metrics.kv_usage = 0;
  metrics.waiting = 5;
  CHECK(bench.choose() == &one);
  metrics.waiting = 6;
  CHECK(bench.choose() == nullptr);
}

TEST_CASE("one at a time: until it has ended, and what the detector goes by shows that") {
  const auto settled = [](Bench& bench, Instant at) {
    return bench.running.settled(bench.detector, bench.builder.pool, at);
  };
  SUBCASE("what we count ourselves shows it at once") {
    Bench bench(2);
    Sheddable &one = bench.runs(-1, 0), &other = bench.runs(-1, 1);
    CHECK(settled(bench, now));
    bench.running.cut(one, now);
    CHECK_FALSE(settled(bench, now));
    CHECK_FALSE(bench.running.remove(other, now).has_value());
    bench.registered.erase(&other);
    CHECK_FALSE(settled(bench, now));
    CHECK(bench.running.remove(one, now + milliseconds(3)) == milliseconds(3));
    bench.registered.erase(&one);
    CHECK(settled(bench, now));
  }
  SUBCASE("a scrape does when the engine had the time to give it up") {
    Bench bench(1, Bench::by(Detector::utilization));
    Sheddable& one = bench.runs(-1);
    bench.running.cut(one, now);
    bench.end(one);
    endpoints::EndpointView& view = bench.builder.view(0);
    view.metrics.scraped_at = now + milliseconds(100);
    CHECK_FALSE(settled(bench, now + seconds(1)));
    CHECK(settled(bench, now + seconds(3)));  // nobody looks any more: we count
    view.metrics.scraped_at = now + milliseconds(200);
    CHECK(settled(bench, now + milliseconds(250)));
    view.metrics.scraped_at = now;
    view.state->incarnation += 1;  // it is gone
    CHECK(settled(bench, now + milliseconds(250)));
  }
}

TEST_CASE("it is for the highest that waits and that has a ceiling, and not when it is off") {
  Bench bench(2);
  Sheddable &low = bench.runs(-2, 0), &lower = bench.runs(-3, 1);
  FlowOptions options;
  options.enabled = options.evicts = true;
  options.detector = Bench::one_each();
  options.bands = {{.priority = 9}, {.priority = 5}, {.priority = -2}};
  options.usage.kind = UsageLimit::listed;
  options.usage.listed = {{5, 1}, {-2, 1}};  // of priority 9 nobody ever goes
  std::deque<Waiter> waiters(3);
  for (const int priority : {9, -2, 5}) {
    Waiter& waiter = waiters[priority == 9 ? 0 : priority == 5 ? 1 : 2];
    waiter.fairness_id = default_flow;
    waiter.priority = priority;
    waiter.deadline = Instant::max();
  }
  int whom = 0;
  FlowController flow(options);
  const auto to_cut = [&] { return flow.to_cut(bench.running, bench.builder.pool, now, &whom); };
  CHECK(flow.offer(waiters[0]));
  CHECK(to_cut() == nullptr);
  CHECK(flow.offer(waiters[2]));
  CHECK(to_cut() == &lower);
  CHECK(whom == -2);
  CHECK(flow.offer(waiters[1]));
  CHECK(to_cut() == &lower);
  CHECK(whom == 5);
  bench.running.cut(lower, now);
  CHECK(to_cut() == nullptr);
  bench.end(lower);
  CHECK(to_cut() == &low);
  CHECK(flow.next(&bench.builder.pool, now, 0) == nullptr);
  flow.remove(waiters[1]);
  CHECK(to_cut() == nullptr);  // -2 is no reason for -2
  CHECK(flow.offer(waiters[1]));
  for (bool FlowOptions::*const part : {&FlowOptions::evicts, &FlowOptions::enabled}) {
    FlowOptions off = options;
    off.*part = false;
    flow.set_options(off);
    CHECK(to_cut() == nullptr);
  }
  for (Waiter& waiter : waiters) {
    if (waiter.waiting()) flow.remove(waiter);
  }
}

TEST_CASE("nobody is cut off for who could not go before another that waits for the same model") {
  Bench bench(1, Bench::by(Detector::late_binding));
  Sheddable& one = bench.nearly_full();
  FlowOptions options;
  options.enabled = options.evicts = true;
  options.detector = Bench::by(Detector::late_binding);
  std::deque<Waiter> waiters(2);
  waiters[0].demand.uncached_tokens = 15'000;  // more than one of them would leave
  for (Waiter& waiter : waiters) {
    waiter.fairness_id = &waiter == &waiters[0] ? "z" : "a";
    waiter.deadline = Instant::max();
  }
  SUBCASE("of another priority") {
    waiters[0].priority = 10;
  }
  SUBCASE("of the same, which is next") {}
  int whom = 0;
  FlowController flow(options);
  const auto to_cut = [&] { return flow.to_cut(bench.running, bench.builder.pool, now, &whom); };
  for (Waiter& waiter : waiters) CHECK(flow.offer(waiter));
  CHECK(flow.next(&bench.builder.pool, now, 0) == nullptr);
  CHECK(to_cut() == nullptr);
  flow.remove(waiters[0]);
  CHECK(to_cut() == &one);
  CHECK(whom == 0);
  flow.remove(waiters[1]);
}
