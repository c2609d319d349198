// The process's single queue of requests that wait for a saturated pool: one admission::FlowController per pool, behind
// one lock. Priority order and fairness hold across all shards, because no shard keeps a queue of its own.
//
// Why a lock instead of an owner thread with a mailbox: the lock is taken only while some request waits, once when a
// request joins the queue and once at each end of a prefill or of an answer. It is held for a few hundred nanoseconds,
// or about ten microseconds when there is room (eight waiting requests are then weighed again; more with hundreds of
// endpoints). A saturated pool causes thousands of these events per second, not millions. An owner thread would need as
// many messages, and each would wait for that thread's next turn. While no request waits, the cost is one atomic load
// (occupied()).
//
// The queue has no timer. Whoever makes room calls room_made(): the shard whose exchange saw a first token or an end,
// and the control thread with each new snapshot. A request that may go is *granted*: its shard is woken
// (HoldShard::wake) and routes it. Until the request has reserved its load, it counts as granted, so that its room is
// not given to a second request.
//
// The queue also knows the running requests of negative priority on all shards (admission::Sheddables): the lock is
// taken when such a request is sent and when it ends. With FlowOptions::evicts a call of room_made() that can grant
// nothing may choose one of them; its shard is woken in the same way and cuts it off.
//
// Threads: any, except for functions marked as belonging to a shard's own thread.
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

// How a request left the queue, or why it was not accepted. The Endpoint Picker's names.
enum class HoldOutcome : uint8_t { dispatched, rejected_capacity, evicted_ttl, evicted_cancelled, evicted_other };
constexpr size_t hold_outcome_count = 5;
const char* to_string(HoldOutcome outcome);

// The metric labels of a held request.
struct HeldLabels {
  std::string_view fairness_id, pool, model, target_model;
  int priority = 0;
};

// Receives what happens in the queue. Called under the queue's lock, on any thread, so it must be quick. Views are
// valid during the call.
class HoldObserver {
 public:
  virtual ~HoldObserver() = default;
  // `accepted`: the request waits now. Otherwise it was refused for lack of capacity.
  virtual void offered(const HeldLabels& labels, uint64_t bytes, bool accepted, Duration cost) = 0;
  virtual void left(const HeldLabels& labels, uint64_t bytes, HoldOutcome outcome, Duration waited) = 0;
  virtual void cycle(Duration cost) = 0;  // one search for requests that may go
  // A running request was chosen for eviction, in favour of a waiting one of `priority`.
  virtual void evicting(std::string_view pool, int priority) {}
  // It has ended, `took` after it was chosen.
  virtual void evicted(std::string_view pool, Duration took) {}
};

struct GrantedTag {};

// One request in the queue. A part of its exchange, which must call leave() before it destroys this.
class HeldRequest : public admission::Waiter, public ListNode<GrantedTag> {
 public:
  HeldLabels labels;
  // It waits or is granted. Only for the exchange's own thread.
  bool queued() const { return shard_ != nullptr; }

 private:
  friend class HoldQueue;
  class HoldShard* shard_ = nullptr;
  uint32_t pool_id_ = 0;
};

struct EvictedTag {};

// One running request that may be evicted. A part of its exchange, which must call remove_running() before it destroys
// this.
class RunningRequest : public admission::Sheddable, public ListNode<EvictedTag> {
 public:
  using Sheddable::Sheddable;

 private:
  friend class HoldQueue;
  class HoldShard* shard_ = nullptr;
  uint32_t pool_id_ = 0;
};

// A shard as the queue sees it. Must outlive all requests that it has offered and all running ones that it has added.
class HoldShard {
 public:
  // Called under the queue's lock, on any thread: take_granted() or take_evicted() now has something to return.
  virtual void wake() = 0;

 protected:
  ~HoldShard() = default;

 private:
  friend class HoldQueue;
  IntrusiveList<HeldRequest, GrantedTag> granted_;
  IntrusiveList<RunningRequest, EvictedTag> evicted_;
};

class HoldQueue {
 public:
  // `index` outlives the queue. Without it, waiting requests are not weighed again.
  HoldQueue(const admission::FlowOptions& options, net::Clock& clock, HoldObserver* observer = nullptr,
            const routing::PrefixIndex* index = nullptr);
  ~HoldQueue();

  // Some request waits or is granted. If false, whoever makes room has nothing to do. If true, a new request must join
  // the queue even if there is room, because that room may belong to a granted request.
  bool occupied() const {
    // Pairs with the fence in offer(): either we see the waiting request, or it sees the room that we have made.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    return waiting_.load(std::memory_order_relaxed) != 0;
  }

  // Adds a request. False: a limit is reached, or closed(). The caller must then call room_made(), because room may
  // have been made just before.
  bool offer(HeldRequest& held, HoldShard& shard, uint32_t pool_id);
  // Grants requests. Call it when load has shrunk or endpoints have changed. `snapshot` must stay valid during the
  // call.
  void room_made(const endpoints::Snapshot& snapshot, Instant now);
  // The shard's own thread: its next granted request, or null. The exchange must call leave() for it. After close()
  // this returns null; granted requests then stay in the queue, like waiting ones, until they leave.
  HeldRequest* take_granted(HoldShard& shard);
  // The request has reserved its load (dispatched), or it has ended, whether waiting or granted. Then call room_made().
  void leave(HeldRequest& held, HoldOutcome outcome, Instant now);

  // ---- running requests of negative priority ----
  // The request has reserved its load, for the first time or on another endpoint.
  void add_running(RunningRequest& running, HoldShard& shard, uint32_t pool_id, const admission::Sheddable::Cost& cost);
  // The shard's own thread: its next request to cut off, or null.
  RunningRequest* take_evicted(HoldShard& shard);
  // The request has ended and released its load. Then call room_made().
  void remove_running(RunningRequest& running, Instant now);

  // Control thread. Then call room_made(): the new options may let more requests go.
  void set_options(const admission::FlowOptions& options);
  // Control thread, before any shard cuts its requests, so that the room they leave is not given to others. From now on
  // no request is accepted or granted. Requests in the queue stay until their shard answers them.
  void close();
  bool closed() const { return closed_.load(std::memory_order_relaxed); }

  // What each program has used; null if no priority band of the initial options needs it. Any thread, without the lock.
  admission::Programs* programs() { return programs_ ? &*programs_ : nullptr; }
  const admission::Programs* programs() const { return programs_ ? &*programs_ : nullptr; }

 private:
  struct Queue {
    Queue(const admission::FlowOptions& options, const routing::PrefixIndex* index, const admission::Programs* programs)
        : flow(options, index, programs) {}
    admission::FlowController flow;
    uint32_t granted = 0;  // granted, but their load is not reserved yet
  };

  struct RunningOf {
    admission::Sheddables all;
    std::string pool;  // its name, from the first eviction on
  };

  void grant(Queue& queue, const endpoints::Pool* pool, Instant now);
  void evict(Queue& queue, const endpoints::Pool& pool, Instant now);
  void drop_if_empty(uint32_t pool_id);

  net::Clock& clock_;
  HoldObserver* const observer_;
  const routing::PrefixIndex* const index_;
  std::optional<admission::Programs> programs_;
  std::atomic<size_t> waiting_{0};   // waiting or granted, in all pools' queues
  std::atomic<bool> closed_{false};  // set once, under mutex_
  std::mutex mutex_;
  admission::FlowOptions options_;                     // under mutex_
  std::map<uint32_t, std::unique_ptr<Queue>> queues_;  // by pool id, while it has requests; under mutex_
  std::map<uint32_t, RunningOf> running_;              // likewise
};

}  // namespace penstock::proxy
