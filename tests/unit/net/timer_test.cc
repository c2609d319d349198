#include "penstock/net/timer.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "penstock/base/random.h"

namespace penstock::net {
namespace {

constexpr Instant kStart{seconds(5)};

// A timer that calls a function: tests need more than production's plain callbacks.
struct TestTimer {
  TestTimer() : timer(Timer::of<&TestTimer::fire>(this)) {}
  void fire() {
    ++fired;
    if (on_fire) on_fire();
  }
  Timer timer;
  int fired = 0;
  std::function<void()> on_fire;
};

Instant ms(int64_t n) {
  return kStart + milliseconds(n);
}

// The first instant at which the wheel may see a deadline as passed.
Instant tick_end(Instant deadline) {
  if (deadline <= kStart) return kStart;
  const int64_t ns = (deadline - kStart).count();
  return kStart + milliseconds((ns + 999'999) / 1'000'000);
}

TEST_CASE("with nothing armed there is nothing to wait for") {
  TimerWheel wheel(kStart);
  CHECK(wheel.until_next(kStart) < Duration{0});
  CHECK(wheel.advance(ms(100'000'000)) == 0);
  CHECK(wheel.until_next(ms(100'000'000)) < Duration{0});
}

TEST_CASE("each single distance fires exactly once, never early, and at most a tick late") {
  // Every distance around the boundaries of slots and levels, from starting points at awkward places of the wheel.
  std::vector<int64_t> distances;
  for (int64_t d = 0; d <= 4200; ++d) distances.push_back(d);
  for (const int64_t power : {int64_t{1} << 12, int64_t{1} << 18, int64_t{1} << 24, int64_t{1} << 30}) {
    for (int64_t d = power - 70; d <= power + 70; ++d) distances.push_back(d);
    distances.push_back(power * 63);
    distances.push_back(power * 64 - 1);
    distances.push_back(power * 64 + 1);
  }
  for (const int64_t offset :
       {int64_t{0}, int64_t{1}, int64_t{63}, int64_t{64}, int64_t{4095}, (int64_t{1} << 24) - 1}) {
    TimerWheel wheel(kStart);
    Instant now = ms(offset);
    wheel.advance(now);
    for (const int64_t distance : distances) {
      TestTimer t;
      const Instant deadline = now + milliseconds(distance);
      wheel.arm(t.timer, deadline);
      int looks = 0;
      while (t.fired == 0) {
        const Duration wait = wheel.until_next(now);
        REQUIRE(wait >= Duration{0});
        REQUIRE(now + wait <= deadline);  // on a tick, so not even rounded up
        now += wait;
        wheel.advance(now);
        REQUIRE(++looks <= 8);  // one look per level, not one per tick
      }
      REQUIRE(now == deadline);
      REQUIRE_FALSE(t.timer.armed());
      REQUIRE(wheel.until_next(now) < Duration{0});
    }
  }
}

TEST_CASE("deadlines between ticks round up, and past ones fire in the next advance") {
  TimerWheel wheel(kStart);
  TestTimer t;
  wheel.arm(t.timer, ms(1) + Duration{1});
  CHECK(wheel.until_next(kStart) == milliseconds(2));
  CHECK(wheel.advance(ms(1) + Duration{999'999}) == 0);
  CHECK(wheel.advance(ms(2)) == 1);
  for (const Instant past : {ms(2), ms(1), kStart, Instant{}, Instant::min()}) {
    wheel.arm(t.timer, past);
    CHECK(t.timer.armed());
    CHECK(wheel.until_next(ms(2)) == Duration{0});
    CHECK(wheel.advance(ms(2)) == 1);
  }
}

TEST_CASE("time that jumps far, or goes back, loses no timer") {
  TimerWheel wheel(kStart);
  std::deque<TestTimer> timers(100);
  for (size_t i = 0; i < timers.size(); ++i) wheel.arm(timers[i].timer, ms(static_cast<int64_t>(i * i * i)));
  CHECK(wheel.advance(kStart - seconds(1)) == 1);  // i == 0 was already past
  CHECK(wheel.advance(ms(2'000'000)) == 99);
  for (const TestTimer& t : timers) CHECK(t.fired == 1);
}

TEST_CASE("deadlines beyond the wheel, up to never, are kept") {
  TimerWheel wheel(kStart);
  TestTimer never, years, soon;
  const Instant far = ms(int64_t{3} << 36);
  wheel.arm(never.timer, Instant::max());
  wheel.arm(years.timer, far);
  wheel.arm(soon.timer, ms(7));
  Instant now = kStart;
  int looks = 0;
  while (years.fired == 0) {
    const Duration wait = wheel.until_next(now);
    REQUIRE(wait >= Duration{0});
    now += wait;
    wheel.advance(now);
    REQUIRE(++looks < 40);
  }
  CHECK(now == far);
  CHECK(soon.fired == 1);
  CHECK(never.fired == 0);
  CHECK(never.timer.armed());
  CHECK(wheel.until_next(now) > Duration{0});
}

TEST_CASE("a timer that is cancelled or destroyed leaves nothing behind") {
  TimerWheel wheel(kStart);
  TestTimer kept;
  auto destroyed = std::make_unique<TestTimer>();
  wheel.arm(kept.timer, ms(10));
  wheel.arm(destroyed->timer, ms(10));
  destroyed.reset();
  kept.timer.cancel();
  CHECK(wheel.until_next(kStart) < Duration{0});
  CHECK(wheel.advance(ms(100)) == 0);
  kept.timer.cancel();  // again does no harm
}

TEST_CASE("a timer may outlive its wheel") {
  TestTimer t;
  {
    TimerWheel wheel(kStart);
    wheel.arm(t.timer, ms(10));
  }
  CHECK_FALSE(t.timer.armed());
}

TEST_CASE("a callback may re-arm its timer, and destroy or cancel others that are due with it") {
  TimerWheel wheel(kStart);
  TestTimer first, cancelled;
  auto destroyed = std::make_unique<TestTimer>();
  first.on_fire = [&] {
    destroyed.reset();
    cancelled.timer.cancel();
    if (first.fired < 3) wheel.arm(first.timer, ms(5 * (first.fired + 1)));
  };
  wheel.arm(first.timer, ms(5));
  wheel.arm(destroyed->timer, ms(5));
  wheel.arm(cancelled.timer, ms(5));
  CHECK(wheel.advance(ms(5)) == 1);
  CHECK(wheel.advance(ms(100)) == 2);  // those armed within the time passed fire in the same advance
  CHECK(first.fired == 3);
  CHECK(cancelled.fired == 0);
}

TEST_CASE("a timer that arms itself for now fires once per advance") {
  TimerWheel wheel(kStart);
  TestTimer t;
  t.on_fire = [&] { wheel.arm(t.timer, ms(1)); };
  wheel.arm(t.timer, ms(1));
  CHECK(wheel.advance(ms(1)) == 1);
  CHECK(wheel.until_next(ms(1)) == Duration{0});
  CHECK(wheel.advance(ms(1)) == 1);
  CHECK(wheel.advance(ms(2)) == 1);
}

TEST_CASE("a timer may destroy itself in its callback") {
  TimerWheel wheel(kStart);
  auto t = std::make_unique<TestTimer>();
  t->on_fire = [&] { t.reset(); };
  wheel.arm(t->timer, ms(1));
  CHECK(wheel.advance(ms(1)) == 1);
  CHECK(t == nullptr);
}

// The model: a list of deadlines, searched through at every step.
TEST_CASE("random schedules agree with a plain list of deadlines") {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    TimerWheel wheel(kStart);
    std::deque<TestTimer> timers(50);
    std::vector<std::optional<Instant>> model(timers.size());
    Instant now = kStart;
    Instant last_fired = kStart;
    for (size_t i = 0; i < timers.size(); ++i) {
      timers[i].on_fire = [&, i] {
        REQUIRE(model[i].has_value());
        REQUIRE(tick_end(*model[i]) <= now);
        REQUIRE(tick_end(*model[i]) >= last_fired);
        last_fired = tick_end(*model[i]);
        model[i].reset();
      };
    }
    const int scale_bits = 10 + static_cast<int>(random.below(38));  // from microseconds to days
    for (int step = 0; step < 500; ++step) {
      const size_t i = random.below(timers.size());
      switch (random.below(4)) {
        case 0:
        case 1: {
          const auto distance = static_cast<int64_t>(random.below(uint64_t{1} << scale_bits));
          model[i] = now + Duration{distance + 1};
          wheel.arm(timers[i].timer, *model[i]);
          break;
        }
        case 2:
          timers[i].timer.cancel();
          model[i].reset();
          break;
        default: {
          const Duration wait = wheel.until_next(now);
          std::optional<Instant> next;
          for (const auto& deadline : model) {
            if (deadline && (!next || *deadline < *next)) next = deadline;
          }
          REQUIRE((wait >= Duration{0}) == next.has_value());
          if (next) REQUIRE(now + wait <= tick_end(*next));
          const auto jump = static_cast<int64_t>(random.below(uint64_t{1} << scale_bits)) / 20;
          now += random.chance(0.5) && next ? wait : Duration{jump};
          // Within an advance the order is that of the ticks; those armed meanwhile start a new round.
          last_fired = kStart;
          wheel.advance(now);
          for (const auto& deadline : model) {
            // A deadline in the tick under way stays for the next one: late by less than a tick.
            if (deadline) REQUIRE(tick_end(*deadline) > now);
          }
        }
      }
      for (size_t k = 0; k < timers.size(); ++k) REQUIRE(timers[k].timer.armed() == model[k].has_value());
    }
  }
}

}  // namespace
}  // namespace penstock::net
