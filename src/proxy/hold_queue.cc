#include "penstock/proxy/hold_queue.h"

#include <algorithm>

#include "penstock/base/assert.h"

namespace penstock::proxy {

const char* to_string(HoldOutcome outcome) {
  switch (outcome) {
    case HoldOutcome::dispatched:
      return "Dispatched";
    case HoldOutcome::rejected_capacity:
      return "RejectedCapacity";
    case HoldOutcome::evicted_ttl:
      return "EvictedTTL";
    case HoldOutcome::evicted_cancelled:
      return "EvictedContextCancelled";
    case HoldOutcome::evicted_other:
      return "EvictedOther";
  }
  return "EvictedOther";
}

HoldQueue::HoldQueue(const admission::FlowOptions& options, net::Clock& clock, HoldObserver* observer,
                     const routing::PrefixIndex* index)
    : clock_(clock), observer_(observer), index_(index), options_(options) {
  if (options.counts_programs()) programs_.emplace(options.programs);
}

HoldQueue::~HoldQueue() {
  PENSTOCK_ASSERT(queues_.empty() && running_.empty());
}

bool HoldQueue::offer(HeldRequest& held, HoldShard& shard, uint32_t pool_id) {
  PENSTOCK_ASSERT(!held.queued());
  const std::lock_guard lock(mutex_);
  if (closed()) return false;
  const Instant before = clock_.now();
  std::unique_ptr<Queue>& queue = queues_[pool_id];
  if (queue == nullptr) queue = std::make_unique<Queue>(options_, index_, programs());
  const bool accepted = queue->flow.offer(held);
  if (accepted) {
    held.shard_ = &shard;
    held.pool_id_ = pool_id;
    waiting_.fetch_add(1, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);  // pairs with the fence in occupied()
  } else {
    drop_if_empty(pool_id);
  }
  if (observer_ != nullptr) observer_->offered(held.labels, held.bytes, accepted, clock_.now() - before);
  return accepted;
}

void HoldQueue::room_made(const endpoints::Snapshot& snapshot, Instant now) {
  if (!occupied()) return;
  const std::lock_guard lock(mutex_);
  if (closed()) return;
  const Instant before = clock_.now();
  for (auto& [id, queue] : queues_) {
    const auto pool = std::find_if(snapshot.pools.begin(), snapshot.pools.end(),
                                   [id = id](const endpoints::Pool& one) { return one.id == id; });
    grant(*queue, pool == snapshot.pools.end() ? nullptr : &*pool, now);
    if (options_.evicts && pool != snapshot.pools.end()) evict(*queue, *pool, now);
  }
  if (observer_ != nullptr) observer_->cycle(clock_.now() - before);
}

void HoldQueue::grant(Queue& queue, const endpoints::Pool* pool, Instant now) {
  while (admission::Waiter* const waiter = queue.flow.next(pool, now, queue.granted)) {
    auto& held = static_cast<HeldRequest&>(*waiter);
    ++queue.granted;
    const bool first = held.shard_->granted_.empty();
    held.shard_->granted_.push_back(held);
    if (first) held.shard_->wake();
  }
}

// Called when no waiting request may go: evicts one running request if that makes room. Does nothing while a granted
// request has not left the queue: for a moment it may count twice, as granted and in the load.
void HoldQueue::evict(Queue& queue, const endpoints::Pool& pool, Instant now) {
  if (queue.granted > 0) return;
  const auto found = running_.find(pool.id);
  if (found == running_.end()) return;
  int for_priority = 0;
  admission::Sheddable* const chosen = queue.flow.to_cut(found->second.all, pool, now, &for_priority);
  if (chosen == nullptr) return;
  found->second.all.cut(*chosen, now);
  found->second.pool = pool.name;
  auto& running = static_cast<RunningRequest&>(*chosen);
  const bool first = running.shard_->evicted_.empty();
  running.shard_->evicted_.push_back(running);
  if (first) running.shard_->wake();
  if (observer_ != nullptr) observer_->evicting(pool.name, for_priority);
}

void HoldQueue::add_running(RunningRequest& running, HoldShard& shard, uint32_t pool_id,
                            const admission::Sheddable::Cost& cost) {
  const std::lock_guard lock(mutex_);
  running.shard_ = &shard;
  running.pool_id_ = pool_id;
  running_[pool_id].all.put(running, cost);
}

RunningRequest* HoldQueue::take_evicted(HoldShard& shard) {
  const std::lock_guard lock(mutex_);
  return closed() ? nullptr : shard.evicted_.pop_front();
}

void HoldQueue::remove_running(RunningRequest& running, Instant now) {
  const std::lock_guard lock(mutex_);
  const auto of = running_.find(running.pool_id_);
  static_cast<ListNode<EvictedTag>&>(running).unlink();
  const std::optional<Duration> took = of->second.all.remove(running, now);
  if (took.has_value() && observer_ != nullptr) observer_->evicted(of->second.pool, *took);
  if (of->second.all.empty() && !queues_.contains(running.pool_id_)) running_.erase(of);
}

HeldRequest* HoldQueue::take_granted(HoldShard& shard) {
  const std::lock_guard lock(mutex_);
  return closed() ? nullptr : shard.granted_.pop_front();
}

void HoldQueue::leave(HeldRequest& held, HoldOutcome outcome, Instant now) {
  PENSTOCK_ASSERT(held.queued());
  const std::lock_guard lock(mutex_);
  Queue& queue = *queues_.at(held.pool_id_);
  waiting_.fetch_sub(1, std::memory_order_relaxed);
  if (held.waiting()) {
    queue.flow.remove(held);
  } else {
    --queue.granted;
    static_cast<ListNode<GrantedTag>&>(held).unlink();
  }
  held.shard_ = nullptr;
  drop_if_empty(held.pool_id_);
  if (observer_ != nullptr) observer_->left(held.labels, held.bytes, outcome, now - held.arrived);
}

void HoldQueue::drop_if_empty(uint32_t pool_id) {
  const auto queue = queues_.find(pool_id);
  if (queue->second->flow.requests() > 0 || queue->second->granted > 0) return;
  queues_.erase(queue);
  const auto running = running_.find(pool_id);
  if (running != running_.end() && running->second.all.empty()) running_.erase(running);
}

void HoldQueue::close() {
  const std::lock_guard lock(mutex_);
  closed_.store(true, std::memory_order_relaxed);
}

void HoldQueue::set_options(const admission::FlowOptions& options) {
  const std::lock_guard lock(mutex_);
  options_ = options;
  for (auto& [id, queue] : queues_) queue->flow.set_options(options);
}

}  // namespace penstock::proxy
