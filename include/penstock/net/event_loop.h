// One thread's event loop: a ring, a timer wheel, deferred work and a mailbox. A turn is:
// read the clock once -> mailbox -> timers -> ring events -> deferred work -> turn hook.
// Time (now()) is constant within a turn.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "penstock/net/clock.h"
#include "penstock/net/ring.h"
#include "penstock/net/timer.h"

namespace penstock::net {

// Anything the loop may destroy later, when no event of it is on the stack any more.
class Disposable {
 public:
  virtual ~Disposable() = default;
};

class EventLoop {
 public:
  EventLoop(Ring& ring, Clock& clock);
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;

  Ring& ring() { return ring_; }
  Clock& clock() { return clock_; }
  Instant now() const { return now_; }
  void arm(Timer& timer, Duration after) { timers_.arm(timer, now_ + after); }
  void arm_at(Timer& timer, Instant deadline) { timers_.arm(timer, deadline); }

  // Runs at the end of this turn (or at the start of the next when called outside one).
  void defer(std::function<void()> work);
  // Destroys at the end of this turn: the way for a connection to delete itself.
  void dispose(std::unique_ptr<Disposable> object);

  // Any thread: runs `work` on the loop's thread in its next turn. For rare messages (hand-over of a
  // connection, drain, reload), not for requests. After stop() was handled, work is dropped.
  void post(std::function<void()> work);

  // Called once at the end of each turn, before waiting: quiescence and gauges.
  void set_turn_hook(std::function<void()> hook) { turn_hook_ = std::move(hook); }

  void run();                                  // until stop()
  void run_turn(Duration max_wait);            // one turn; tests and run()
  void stop();                                 // any thread

 private:
  void run_mailbox();
  void run_deferred();

  Ring& ring_;
  Clock& clock_;
  Instant now_;
  TimerWheel timers_;
  std::vector<std::function<void()>> deferred_;
  std::vector<std::unique_ptr<Disposable>> disposed_;
  std::function<void()> turn_hook_;
  std::atomic<bool> stop_requested_{false};
  std::atomic<bool> mailbox_filled_{false};
  std::mutex mailbox_mutex_;
  std::vector<std::function<void()>> mailbox_;
};

}  // namespace penstock::net
