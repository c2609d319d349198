// Timers of one event loop: a hierarchical timer wheel with intrusive nodes. Arming and cancelling
// cost a few nanoseconds and allocate nothing. Granularity 1 ms: a timer fires at or up to one tick
// after its deadline, never before. One thread.
#pragma once

#include "penstock/base/intrusive_list.h"
#include "penstock/base/time.h"

namespace penstock::net {

struct TimerTag {};
class TimerWheel;

// Embedded in its owner. Destroying it cancels it. The callback may re-arm or destroy the timer.
class Timer : public ListNode<TimerTag> {
 public:
  using Callback = void (*)(void* context);
  Timer(Callback callback, void* context) : callback_(callback), context_(context) {}
  // Timer t = Timer::of<&Owner::on_deadline>(this)
  template <auto Method, typename Owner>
  static Timer of(Owner* owner) {
    return Timer([](void* context) { (static_cast<Owner*>(context)->*Method)(); }, owner);
  }

  bool armed() const { return linked(); }
  Instant deadline() const { return deadline_; }
  void cancel() { unlink(); }

 private:
  friend class TimerWheel;
  Callback callback_;
  void* context_;
  Instant deadline_{};
};

class TimerWheel {
 public:
  explicit TimerWheel(Instant now);
  // Arms or re-arms. Any deadline: past ones fire in the next advance().
  void arm(Timer& timer, Instant deadline);
  // Fires every timer whose deadline is not after `now`, in order of their ticks.
  void advance(Instant now);
  // How long until the next timer may fire: never later than the true next deadline (it may be
  // earlier: the next slot to look at). Negative: no timer armed.
  Duration until_next(Instant now) const;

 private:
  static constexpr int slot_bits = 6, levels = 6;  // 64^6 ms: longer deadlines are clamped and re-armed
  static constexpr int slots = 1 << slot_bits;
  using Slot = IntrusiveList<Timer, TimerTag>;

  int64_t tick_of(Instant t) const;
  void place(Timer& timer);
  void cascade(int level);

  Instant start_;
  int64_t tick_ = 0;                           // ticks handled so far
  Slot wheel_[levels][slots];
};

}  // namespace penstock::net
