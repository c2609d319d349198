// Timers of one event loop: a hierarchical timer wheel with intrusive nodes. Arming and cancelling
// cost a few nanoseconds and allocate nothing. Granularity 1 ms: a timer fires at or up to one tick
// after its deadline, never before. One thread.
#pragma once

#include <cstddef>
#include <cstdint>

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
  TimerWheel(const TimerWheel&) = delete;
  // Arms or re-arms. Any deadline: past ones fire in the next advance().
  void arm(Timer& timer, Instant deadline);
  // Fires every timer whose tick has come at `now`: first those armed with a deadline already past, in the order of
  // arming, then the others in the order of their ticks. Returns how many.
  size_t advance(Instant now);
  // How long until the next timer may fire: never later than the true next deadline rounded up to its tick (it may be
  // earlier: the next slot to look at). Negative: no timer armed.
  Duration until_next(Instant now) const;

 private:
  static constexpr int slot_bits = 6, levels = 6;  // 64^6 ms are in the wheel; what is later waits in far_
  static constexpr int slots = 1 << slot_bits;
  static constexpr int wheel_bits = slot_bits * levels;
  using Slot = IntrusiveList<Timer, TimerTag>;

  // The next slot to look at, and the tick at which to do so.
  struct Next {
    int64_t tick;
    Slot* slot;  // nullptr: nothing armed
    int level;   // `levels`: far_
  };

  int64_t tick_of(Instant t) const;  // the first tick at which t is past
  void place(Timer& timer, int64_t tick);
  Next next() const;
  size_t fire(Slot& slot);
  void cascade(Slot& slot);

  Instant start_;
  int64_t tick_ = 0;  // every tick up to this one has been handled
  // A bit per slot that may hold a timer: set by place(), cleared by whoever finds the slot empty, because a timer
  // that is cancelled or destroyed does not know its slot.
  mutable uint64_t occupied_[levels] = {};
  mutable Slot wheel_[levels][slots];
  mutable Slot far_;
  Slot due_;  // armed for a tick that had already been handled
};

}  // namespace penstock::net
