#include "penstock/endpoints/snapshot.h"

#include <algorithm>

#include "penstock/base/assert.h"

namespace penstock::endpoints {

size_t Pool::ready_count() const {
  return static_cast<size_t>(std::count_if(
      endpoints.begin(), endpoints.end(), [](const EndpointView& view) { return view.readiness == Readiness::ready; }));
}

SnapshotPublisher::SnapshotPublisher(size_t readers) : readers_(readers) {}

SnapshotPublisher::~SnapshotPublisher() = default;

void SnapshotPublisher::publish(std::unique_ptr<Snapshot> next) {
  PENSTOCK_ASSERT(next != nullptr);
  const uint64_t version = current_version_.load(std::memory_order_relaxed) + 1;
  next->version = version;
  for (Pool& pool : next->pools) {
    pool.version = version;
    pool.models_alike = std::ranges::all_of(
        pool.endpoints, [&](const EndpointView& view) { return view.models == pool.endpoints.front().models; });
  }
  if (owned_current_) retired_.push_back(std::move(owned_current_));
  owned_current_ = std::move(next);
  // Sequentially consistent, as the announcement in acquire() is: either reclaim() below sees a reader's announcement,
  // or that reader loads the new pointer.
  current_.store(owned_current_.get(), std::memory_order_seq_cst);
  current_version_.store(version, std::memory_order_release);
  reclaim();
}

uint64_t SnapshotPublisher::reclaim() {
  uint64_t oldest = current_version_.load(std::memory_order_relaxed);
  for (const Reader& reader : readers_) {
    const uint64_t in_use = reader.version_in_use.load(std::memory_order_seq_cst);
    if (in_use != 0) oldest = std::min(oldest, in_use);
  }
  const auto still_used = std::find_if(retired_.begin(), retired_.end(),
                                       [oldest](const auto& snapshot) { return snapshot->version >= oldest; });
  retired_.erase(retired_.begin(), still_used);
  return oldest;
}

const Snapshot* SnapshotPublisher::acquire(size_t reader) {
  PENSTOCK_ASSERT(reader < readers_.size());
  std::atomic<uint64_t>& announced = readers_[reader].version_in_use;
  const uint64_t version = current_version_.load(std::memory_order_acquire);
  if (version == 0) return nullptr;  // an announcement of 0 would protect nothing
  // Nothing new: the announcement stands and no fence is needed, which is what nearly every loop turn sees.
  if (announced.load(std::memory_order_relaxed) != version) announced.store(version, std::memory_order_seq_cst);
  return current_.load(std::memory_order_seq_cst);
}

void SnapshotPublisher::release(size_t reader) {
  PENSTOCK_ASSERT(reader < readers_.size());
  readers_[reader].version_in_use.store(0, std::memory_order_release);
}

}  // namespace penstock::endpoints
