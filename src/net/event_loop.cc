#include "penstock/net/event_loop.h"

#include <algorithm>
#include <utility>

namespace penstock::net {

namespace {
constexpr int generations_max = 16;
// A turn that took longer was kept from its CPU, or had very much to do.
constexpr Duration held_up_after = milliseconds(100);

// Of two waits where a negative one has no limit.
Duration shorter(Duration a, Duration b) {
  if (a < Duration{0}) return b;
  if (b < Duration{0}) return a;
  return std::min(a, b);
}
}  // namespace

EventLoop::EventLoop(Ring& ring, Clock& clock) : ring_(ring), clock_(clock), now_(clock.now()), timers_(now_) {}

EventLoop::~EventLoop() {
  PENSTOCK_ASSERT(!in_turn_);
  destroy_queued();
}

void EventLoop::defer(std::function<void()> work) {
  deferred_.push_back(std::move(work));
}

void EventLoop::dispose(std::unique_ptr<Disposable> object) {
  disposed_.push_back(std::move(object));
}

void EventLoop::post(std::function<void()> work) {
  const std::lock_guard lock(mailbox_mutex_);
  if (mailbox_closed_) return;
  mailbox_.push_back(std::move(work));
  // Under the lock: the loop's thread takes it when run() ends, so the ring is still there.
  if (!mailbox_filled_.exchange(true, std::memory_order_acq_rel)) ring_.wake();
}

void EventLoop::run() {
  while (!stop_requested_.load(std::memory_order_acquire)) run_turn(Duration{-1});
  destroy_queued();
}

void EventLoop::run_turn(Duration max_wait) {
  PENSTOCK_ASSERT(!in_turn_);
  in_turn_ = true;
  const bool timed = !waited_;  // now_ is when the last turn began to work, not when it began to wait
  const Instant before = now_;
  refresh_now();
  const bool held_up = timed && now_ - before > held_up_after;
  bool busy = !deferred_.empty();
  if (busy) run_deferred_once();
  if (run_mailbox()) busy = true;
  if (held_up) catch_up();
  if (timers_.advance(now_) > 0) busy = true;
  busy = busy || !deferred_.empty() || !flushes_.empty() || !disposed_.empty() ||
         stop_requested_.load(std::memory_order_acquire);
  turn_ring(busy || held_up ? Duration{0} : shorter(max_wait, timers_.until_next(now_)));
  if (turn_hook_) turn_hook_();
  in_turn_ = false;
}

// What came while the thread could not run came in time: a connection that is there must not meet its time limit. One
// turn of the ring handles a limited number of events, so there may be several. `now_` stays: time is called by it.
void EventLoop::catch_up() {
  const Instant enough = clock_.now() + held_up_after;
  while (turn_ring(Duration{0}) > 0 && clock_.now() < enough) {
  }
}

size_t EventLoop::turn_ring(Duration wait) {
  waited_ = wait != Duration{0};
  const size_t events = ring_.turn(wait);
  run_deferred();
  run_flushes();
  run_disposals();
  return events;
}

void EventLoop::stop() {
  const std::lock_guard lock(mailbox_mutex_);  // as in post()
  stop_requested_.store(true, std::memory_order_release);
  ring_.wake();
}

void EventLoop::refresh_now() const {
  now_ = std::max(now_, clock_.now());
  waited_ = false;
}

bool EventLoop::run_mailbox() {
  if (!mailbox_filled_.load(std::memory_order_acquire)) return false;
  {
    const std::lock_guard lock(mailbox_mutex_);
    delivering_.swap(mailbox_);
    mailbox_filled_.store(false, std::memory_order_release);
  }
  for (auto& work : delivering_) work();
  delivering_.clear();
  return true;
}

void EventLoop::run_deferred_once() {
  running_.swap(deferred_);
  for (auto& work : running_) work();
  running_.clear();
}

void EventLoop::run_deferred() {
  for (int i = 0; i < generations_max && !deferred_.empty(); ++i) run_deferred_once();
}

// A flush may end a connection, whose end may write to another and defer work; what that leaves waits for the next
// turn, which does not sleep.
void EventLoop::run_flushes() {
  IntrusiveList<Flushable, FlushTag> now;
  now.take_all(flushes_);
  while (Flushable* sender = now.pop_front()) sender->flush();
}

// An object may still be known to work that was deferred before it was disposed of. When this turn could not run all
// of that, the objects wait one turn more: the next one starts with that work.
void EventLoop::run_disposals() {
  disposed_earlier_.clear();
  if (!deferred_.empty()) return disposed_earlier_.swap(disposed_);
  while (!disposed_.empty()) {  // a destructor may dispose of others
    disposing_.swap(disposed_);
    disposing_.clear();
  }
}

void EventLoop::destroy_queued() {
  {
    const std::lock_guard lock(mailbox_mutex_);
    mailbox_closed_ = true;
  }
  // Destructors may queue more of each kind.
  while (!mailbox_.empty() || !deferred_.empty() || !disposed_.empty() || !disposed_earlier_.empty()) {
    std::exchange(mailbox_, {}).clear();
    std::exchange(deferred_, {}).clear();
    std::exchange(disposed_, {}).clear();
    std::exchange(disposed_earlier_, {}).clear();
  }
}

}  // namespace penstock::net
