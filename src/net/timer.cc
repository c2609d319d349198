#include "penstock/net/timer.h"

#include <algorithm>
#include <bit>

namespace penstock::net {

namespace {
constexpr int64_t tick_ns = 1'000'000;
}

// How the wheel works: write a timer's tick and the current tick in base 64. The highest digit in which they differ is
// the timer's level, and its value there the slot. So everything in a lower level comes before everything in a higher
// one, within a level slots come in the order of their numbers, and moving the current tick forward, but never past a
// slot that holds something, leaves every timer where it belongs.

TimerWheel::TimerWheel(Instant now) : start_(now) {
  PENSTOCK_ASSERT(now >= Instant{});
}

void TimerWheel::arm(Timer& timer, Instant deadline) {
  timer.unlink();
  timer.deadline_ = deadline;
  const int64_t tick = tick_of(deadline);
  if (tick <= tick_) {
    due_.push_back(timer);
  } else {
    place(timer, tick);
  }
}

size_t TimerWheel::advance(Instant now) {
  size_t fired = 0;
  if (!due_.empty()) {
    Slot batch;  // what a callback arms for the past waits for the next advance(): no endless loop
    batch.take_all(due_);
    fired += fire(batch);
  }
  const int64_t target = now <= start_ ? 0 : (now - start_).count() / tick_ns;
  if (target <= tick_) return fired;
  for (;;) {
    const Next found = next();
    if (found.slot == nullptr || found.tick > target) break;
    tick_ = found.tick;
    if (found.level == 0) {
      fired += fire(*found.slot);
    } else {
      cascade(*found.slot);
    }
  }
  tick_ = target;
  return fired;
}

Duration TimerWheel::until_next(Instant now) const {
  if (!due_.empty()) return Duration{0};
  const Next found = next();
  if (found.slot == nullptr) return Duration{-1};
  return std::max(Duration{0}, start_ + Duration{found.tick * tick_ns} - now);
}

int64_t TimerWheel::tick_of(Instant t) const {
  if (t <= start_) return 0;
  // Instant::max() is a legitimate "never": the end of its tick must remain an Instant.
  const int64_t last = (Instant::max() - start_).count() / tick_ns;
  const int64_t ns = (t - start_).count();
  return std::min(last, ns / tick_ns + (ns % tick_ns != 0 ? 1 : 0));
}

void TimerWheel::place(Timer& timer, int64_t tick) {
  const auto difference = static_cast<uint64_t>(tick ^ tick_);
  const int level = difference == 0 ? 0 : (std::bit_width(difference) - 1) / slot_bits;
  if (level >= levels) return far_.push_back(timer);
  const auto slot = static_cast<size_t>(tick >> (level * slot_bits)) % slots;
  wheel_[level][slot].push_back(timer);
  occupied_[level] |= uint64_t{1} << slot;
}

TimerWheel::Next TimerWheel::next() const {
  for (int level = 0; level < levels; ++level) {
    while (occupied_[level] != 0) {
      const int number = std::countr_zero(occupied_[level]);
      Slot& slot = wheel_[level][number];
      if (slot.empty()) {
        occupied_[level] &= occupied_[level] - 1;
        continue;
      }
      const int shift = level * slot_bits;
      const int64_t lap = tick_ >> (shift + slot_bits) << (shift + slot_bits);
      return {lap + (static_cast<int64_t>(number) << shift), &slot, level};
    }
  }
  if (far_.empty()) return {0, nullptr, 0};
  return {((tick_ >> wheel_bits) + 1) << wheel_bits, &far_, levels};
}

size_t TimerWheel::fire(Slot& slot) {
  size_t fired = 0;
  // One at a time: a callback may cancel or destroy any other timer, of this slot too. None can join this slot now.
  while (Timer* timer = slot.pop_front()) {
    ++fired;
    timer->callback_(timer->context_);
  }
  return fired;
}

void TimerWheel::cascade(Slot& slot) {
  Slot batch;
  batch.take_all(slot);
  while (Timer* timer = batch.pop_front()) place(*timer, tick_of(timer->deadline_));
}

}  // namespace penstock::net
