// The process's one queue of requests that wait for room (late binding): admission::FlowController for each pool,
// behind one lock. Order and fairness hold across shards because there is nothing of it in a shard.
//
// Why a lock and not an owner with mailboxes: it is taken only while somebody waits, for some hundred nanoseconds, or
// where there is room some ten microseconds (eight requests are weighed again, more with hundreds of endpoints), once
// for a request that has to wait and once for each end of a prefill or of an answer; a saturated pool has thousands of
// those in a second, not millions. An owner would need the same number of messages, and every one would wait for its
// turn. While nobody waits, all that is done is one atomic load (anybody()).
//
// Nobody looks at the queue from time to time: whoever makes room looks (room_made), that is the shard whose exchange
// saw a first token or an end, and the control thread with each new snapshot. What is let go is told to its shard
// (HoldHome::wake), which routes it there; until it has reserved its load it counts as on its way.
//
// Where FlowOptions::evicts, it also knows the requests of negative priority that run, on whatever shard
// (admission::Sheddables): the lock is taken when one is sent and when it ends. A look that lets nobody go may choose
// one of them, whose shard is told in the same way and cuts it off.
//
// Threads: any, but for what is said to be a home's own.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "penstock/admission/flow_controller.h"
#include "penstock/base/intrusive_list.h"
#include "penstock/endpoints/snapshot.h"
#include "penstock/net/clock.h"

namespace penstock::proxy {

// How a request left the queue, or that it did not come in. The Endpoint Picker's names.
enum class HoldOutcome : uint8_t { dispatched, rejected_capacity, evicted_ttl, evicted_cancelled, evicted_other };
constexpr size_t hold_outcome_count = 5;
const char* to_string(HoldOutcome outcome);

// What statistics may know of a held request.
struct HeldLabels {
  std::string_view fairness_id, pool, model, target_model;
  int priority = 0;
};

// Told of what happens in the queue, under its lock, on any thread: it must be quick. Views are valid during the call.
class HoldObserver {
 public:
  virtual ~HoldObserver() = default;
  // `in`: it waits now. Else it was refused for lack of capacity.
  virtual void offered(const HeldLabels& labels, uint64_t bytes, bool in, Duration cost) = 0;
  virtual void left(const HeldLabels& labels, uint64_t bytes, HoldOutcome outcome, Duration waited) = 0;
  virtual void cycle(Duration cost) = 0;  // one look for requests that may go
  // A request that runs is cut off for one of `priority` that waits; it has ended, so much later.
  virtual void evicting(std::string_view pool, int priority) {}
  virtual void evicted(std::string_view pool, Duration took) {}
};

struct GrantedTag {};

// One request in the queue: a part of its exchange, which takes it out (leave) before it goes.
class Held : public admission::Waiter, public ListNode<GrantedTag> {
 public:
  HeldLabels labels;
  // It waits, or is on its way. For the exchange's own thread.
  bool here() const { return home_ != nullptr; }

 private:
  friend class HoldQueue;
  class HoldHome* home_ = nullptr;
  uint32_t pool_id_ = 0;
};

struct CutTag {};

// One request that runs and may be cut off: a part of its exchange, which says ended() before it goes.
class Running : public admission::Sheddable, public ListNode<CutTag> {
 public:
  using Sheddable::Sheddable;

 private:
  friend class HoldQueue;
  class HoldHome* home_ = nullptr;
  uint32_t pool_id_ = 0;
};

// A shard, as the queue knows it. All the requests that it offered have left when it is destroyed, and those that it
// said run have ended.
class HoldHome {
 public:
  // Under the queue's lock, on any thread: take() or take_cut() has something now.
  virtual void wake() = 0;

 protected:
  ~HoldHome() = default;

 private:
  friend class HoldQueue;
  IntrusiveList<Held, GrantedTag> granted_;
  IntrusiveList<Running, CutTag> cut_;
};

class HoldQueue {
 public:
  // The index outlives the queue; without one requests are not weighed again while they wait.
  HoldQueue(const admission::FlowOptions& options, net::Clock& clock, HoldObserver* observer = nullptr,
            const routing::PrefixIndex* index = nullptr);
  ~HoldQueue();

  // False: nobody waits or is on the way, and there is nothing to do for anyone who makes room. Who asks for room
  // while somebody is on the way must stand behind him: the room may be his.
  bool anybody() const {
    // With the fence in offer(): either we see who waits, or it sees the room that we have made.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    return waiting_.load(std::memory_order_relaxed) != 0;
  }

  // It waits from now on; false: a limit is reached, or closed(). Call room_made() then, for room may have come just
  // before.
  bool offer(Held& held, HoldHome& home, uint32_t pool_id);
  // Load has shrunk, or endpoints have changed. `snapshot` must stay valid during the call.
  void room_made(const endpoints::Snapshot& snapshot, Instant now);
  // The home's own thread: the next of its requests that may go; null: none. Its exchange says leave() when it is gone.
  // Those that it has not taken when the queue closes stay, like those that wait, until they leave.
  Held* take(HoldHome& home);
  // It has reserved its load (dispatched), or has ended, wherever it stood. Then call room_made().
  void leave(Held& held, HoldOutcome outcome, Instant now);

  // ---- requests of negative priority that run, where FlowOptions::evicts ----
  // It has reserved its load, for the first time or on another endpoint.
  void runs(Running& running, HoldHome& home, uint32_t pool_id, const admission::Sheddable::Cost& cost);
  // The home's own thread: the next of its requests to cut off; null: none.
  Running* take_cut(HoldHome& home);
  // It has ended and released its load. Then call room_made().
  void ended(Running& running, Instant now);

  // Control thread. Then call room_made(): more may be allowed to go.
  void set_options(const admission::FlowOptions& options);
  // The process ends, before any shard cuts what it has: the room which that makes is nobody's. From now on nobody
  // comes in, and nobody may go; whoever is in it is for its shard to answer.
  void close();
  bool closed() const { return closed_.load(std::memory_order_relaxed); }

  // What programs have had; null: no band of the options that this was made with goes by it. Any thread, without the
  // lock.
  admission::Programs* programs() { return programs_ ? &*programs_ : nullptr; }
  const admission::Programs* programs() const { return programs_ ? &*programs_ : nullptr; }

 private:
  struct Queue {
    Queue(const admission::FlowOptions& options, const routing::PrefixIndex* index, const admission::Programs* programs)
        : flow(options, index, programs) {}
    admission::FlowController flow;
    uint32_t on_their_way = 0;  // let go, not routed yet
  };

  struct RunningOf {
    admission::Sheddables all;
    std::string pool;  // its name, from the first eviction on
  };

  void let_go(Queue& queue, const endpoints::Pool* pool, Instant now);
  void evict(Queue& queue, const endpoints::Pool& pool, Instant now);
  void drop_if_empty(uint32_t pool_id);

  net::Clock& clock_;
  HoldObserver* const observer_;
  const routing::PrefixIndex* const index_;
  std::optional<admission::Programs> programs_;
  std::atomic<size_t> waiting_{0};   // in all queues, and on their way
  std::atomic<bool> closed_{false};  // set under mutex_, once
  std::mutex mutex_;
  admission::FlowOptions options_;                     // under mutex_
  std::map<uint32_t, std::unique_ptr<Queue>> queues_;  // by pool, while it has any; under mutex_
  std::map<uint32_t, RunningOf> running_;              // likewise
};

}  // namespace penstock::proxy
