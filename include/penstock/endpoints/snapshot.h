// Snapshot: everything the control thread knows, immutable, behind one atomic pointer. Shards read it once per loop
// turn; the control thread builds the next one, swaps the pointer and frees the old one when every shard has moved
// on (quiescent-state-based reclamation).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "penstock/base/time.h"
#include "penstock/endpoints/endpoint.h"

namespace penstock::endpoints {

struct Pool {
  std::string name;                            // label `name` of the inference_pool_* metrics
  std::vector<EndpointView> endpoints;
  size_t ready_count() const;                  // readiness == ready
};

struct Snapshot {
  uint64_t version = 0;
  std::vector<Pool> pools;                     // routes, rewrites and objectives come with the Kubernetes issue
};

// Publication and reclamation. One writer (control thread), `readers` shards.
class SnapshotPublisher {
 public:
  explicit SnapshotPublisher(size_t readers);
  ~SnapshotPublisher();

  // Control thread. Takes the snapshot over, makes it current and frees those that no shard can still see.
  // Never blocks.
  void publish(std::unique_ptr<Snapshot> next);
  // Control thread: frees what has become free since; returns the oldest version that may still be in use.
  uint64_t reclaim();
  const Snapshot* current() const { return current_.load(std::memory_order_acquire); }

  // Shard `reader`, once per loop turn: the snapshot to use for this turn. Valid until the next call.
  const Snapshot* acquire(size_t reader);
  // Shard `reader`, before sleeping without limit and when it ends: uses no snapshot until the next acquire().
  void release(size_t reader);

 private:
  struct alignas(64) Reader { std::atomic<uint64_t> version_in_use{0}; };  // 0: none
  std::atomic<const Snapshot*> current_{nullptr};
  std::vector<Reader> readers_;
  std::vector<std::unique_ptr<const Snapshot>> retired_;
  std::unique_ptr<const Snapshot> owned_current_;
};

// Owns every EndpointState. Control thread only.
class EndpointRegistry {
 public:
  // The living state with this name and address, or a new one.
  EndpointState& find_or_add(const std::string& name, const std::string& url, const std::string& address,
                             const std::string& host_header);
  // Marks all states not in `snapshot` as gone; frees those that nobody refers to, given that versions below
  // `oldest_version_in_use` are no longer used.
  void collect(const Snapshot& snapshot, uint64_t oldest_version_in_use);
  size_t living() const;

 private:
  struct Entry { std::unique_ptr<EndpointState> state; uint64_t gone_since_version = 0; };
  std::vector<Entry> entries_;
  std::vector<uint32_t> free_slots_;
  uint32_t next_slot_ = 0, next_incarnation_ = 1;
};

}  // namespace penstock::endpoints
