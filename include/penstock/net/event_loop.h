// One thread's event loop: a ring, a timer wheel, deferred work and a mailbox. A turn is:
// read the clock -> mailbox -> timers -> ring events -> deferred work -> flushes -> disposals -> turn hook.
// After a turn of more than 100 ms ring events come before timers too: what came in time is not late because the thread
// had no CPU. The wait is part of the ring's turn. A turn in which the mailbox, a timer or deferred work had something
// to do does not wait, so that its end (disposals, hook) is never far. Time (now()) is constant within a turn, but for
// the wait: after that, ring events see the time at which it ended.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "penstock/base/intrusive_list.h"
#include "penstock/net/clock.h"
#include "penstock/net/ring.h"
#include "penstock/net/timer.h"

namespace penstock::net {

// Anything the loop may destroy later, when no event of it is on the stack any more.
class Disposable {
 public:
  virtual ~Disposable() = default;
};

struct FlushTag {};

// Somebody with bytes to send once this turn's events have been looked at. One send behind the other wakes a peer on
// another core once, where a send after each event would wake it each time: a fifth of a shard's time (perf, wrk with
// 64 connections).
class Flushable : public ListNode<FlushTag> {
 public:
  virtual void flush() = 0;

 protected:
  ~Flushable() = default;
};

class EventLoop {
 public:
  EventLoop(Ring& ring, Clock& clock);
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;

  Ring& ring() { return ring_; }
  Clock& clock() { return clock_; }
  Instant now() const {
    if (waited_) refresh_now();
    return now_;
  }
  // Of the same moment as now(), in microseconds since 1970: read once a turn, by whoever asks first.
  int64_t wall_time_us() const {
    if (const Instant at = now(); at != wall_at_) {
      wall_us_ = clock_.wall_time_us();
      wall_at_ = at;
    }
    return wall_us_;
  }
  // Duration::max() is "never".
  void arm(Timer& timer, Duration after) {
    const Instant from = now();
    timers_.arm(timer, after < Instant::max() - from ? from + after : Instant::max());
  }
  void arm_at(Timer& timer, Instant deadline) { timers_.arm(timer, deadline); }

  // Runs at the end of this turn (or at the start of the next when called outside one). Work deferred by deferred work
  // runs in the same turn, up to 16 generations; what is left then runs at the start of the next turn.
  void defer(std::function<void()> work);
  // Calls flush() once in this turn, behind its events and deferred work, before disposals (outside a turn: in the next
  // one). A Flushable that is destroyed first is forgotten.
  void flush_later(Flushable& sender) {
    if (!sender.linked()) flushes_.push_back(sender);
  }
  // Destroys at the end of this turn, after the work deferred before: the way for a connection to delete itself.
  void dispose(std::unique_ptr<Disposable> object);

  // Any thread: runs `work` on the loop's thread in its next turn. For rare messages (hand-over of a
  // connection, drain, reload), not for requests. After stop() was handled, work is dropped.
  void post(std::function<void()> work);

  // Called once at the end of each turn, before waiting: quiescence and gauges.
  void set_turn_hook(std::function<void()> hook) { turn_hook_ = std::move(hook); }

  void run();                        // until stop()
  void run_turn(Duration max_wait);  // one turn; tests and run()
  void stop();                       // any thread

 private:
  using Work = std::vector<std::function<void()>>;

  bool run_mailbox();  // true: there was something
  void run_deferred_once();
  void run_deferred();
  void run_flushes();
  void run_disposals();
  size_t turn_ring(Duration wait);  // ring events and what they leave to do; how many there were
  void catch_up();
  void destroy_queued();
  void refresh_now() const;

  Ring& ring_;
  Clock& clock_;
  mutable Instant now_;
  mutable Instant wall_at_ = Instant::max();  // now() when wall_us_ was read
  mutable int64_t wall_us_ = 0;
  mutable bool waited_ = false;  // the ring may have waited since now_ was read
  bool in_turn_ = false;
  TimerWheel timers_;
  Work deferred_, running_;  // running_ keeps its capacity from turn to turn
  IntrusiveList<Flushable, FlushTag> flushes_;
  std::vector<std::unique_ptr<Disposable>> disposed_, disposing_;
  std::vector<std::unique_ptr<Disposable>> disposed_earlier_;  // left by a turn that had too much deferred work
  std::function<void()> turn_hook_;
  std::atomic<bool> stop_requested_{false};
  std::atomic<bool> mailbox_filled_{false};
  std::mutex mailbox_mutex_;
  bool mailbox_closed_ = false;  // the loop has ended; under mailbox_mutex_
  Work mailbox_;                 // under mailbox_mutex_
  Work delivering_;
};

}  // namespace penstock::net
