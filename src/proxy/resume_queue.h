// ResumeQueue: the broken streams of one shard that are about to go on at another endpoint. When an endpoint with
// hundreds of streams dies, the others would have to compute the prompts and texts of all of them at once, and the
// streams that they serve would stand still. So only a few do at a time (Options::resume), and the others wait their
// turn, in the order in which they broke. Thread: its shard's. Lifetime: the Gateway's.
#pragma once

#include <cstdint>

#include "penstock/base/intrusive_list.h"
#include "penstock/net/event_loop.h"
#include "penstock/net/timer.h"

namespace penstock::proxy {

struct ResumeTag {};

// A place in the queue. Destroying it gives it up.
class ResumeTurn : public ListNode<ResumeTag> {
 public:
  explicit ResumeTurn(class ResumeQueue& queue) : queue_(queue) {}

 protected:
  ~ResumeTurn();
  virtual void on_turn() = 0;

 private:
  friend class ResumeQueue;
  ResumeQueue& queue_;
  bool has_turn_ = false;
};

class ResumeQueue {
 public:
  // `at_once` may change.
  ResumeQueue(net::EventLoop& loop, const uint32_t& at_once);

  // on_turn() will be called, never from inside this. The turn lasts until leave().
  void wait(ResumeTurn& turn);
  // Ends the wait or the turn, if there is one.
  void leave(ResumeTurn& turn);

 private:
  void grant();

  net::EventLoop& loop_;
  const uint32_t& at_once_;
  uint32_t turns_ = 0;
  IntrusiveList<ResumeTurn, ResumeTag> waiting_;
  net::Timer due_;
};

}  // namespace penstock::proxy
