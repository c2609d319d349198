// Snapshot: everything the control thread knows, immutable, behind one atomic pointer. Shards read it once per loop
// turn; the control thread builds the next one, swaps the pointer and frees the old one when every shard has moved
// on (quiescent-state-based reclamation).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "penstock/base/time.h"
#include "penstock/endpoints/endpoint.h"
#include "penstock/objects/desired.h"

namespace penstock::endpoints {

struct Pool {
  uint32_t id = 0;  // the same from snapshot to snapshot; never given to another pool
  // Set when the snapshot is published.
  uint64_t version = 0;       // its number; 0: not published, it may change
  bool models_alike = false;  // all endpoints list the same models
  std::string name;           // label `name` of the inference_pool_* metrics
  std::vector<EndpointView> endpoints;
  std::shared_ptr<const objects::Rewrites> rewrites;      // null: none
  std::shared_ptr<const objects::Objectives> objectives;  // null: none
  size_t ready_count() const;                             // readiness == ready
};

struct Snapshot {
  uint64_t version = 0;
  std::vector<Pool> pools;
  // Which pool answers a request; null: pools[0] answers all of them (static endpoints).
  std::shared_ptr<const objects::RouteTable> routes;
  // route_pools[i]: index in `pools` of what the table calls pool i.
  std::vector<uint32_t> route_pools;
};

// Publication and reclamation. One writer (control thread), `readers` shards.
//
// Rule: a snapshot is freed when every reader has announced a later version, or none. A reader announces the version
// before it loads the pointer, so what it then loads is at least as new as its announcement.
class SnapshotPublisher {
 public:
  explicit SnapshotPublisher(size_t readers);
  ~SnapshotPublisher();

  // Control thread. Gives the snapshot the next version number, takes it over, makes it current and frees those that no
  // shard can still see. Never blocks.
  void publish(std::unique_ptr<Snapshot> next);
  // Control thread: frees what has become free since; returns the oldest version that may still be in use.
  uint64_t reclaim();
  // Control thread: the last one published; null before the first. (Shards use acquire().)
  const Snapshot* current() const { return current_.load(std::memory_order_acquire); }
  // Control thread: snapshots kept for a shard that has not moved on.
  size_t retired() const { return retired_.size(); }

  // Shard `reader`, once per loop turn: the snapshot to use for this turn (null before the first publication). Valid
  // until the next call.
  const Snapshot* acquire(size_t reader);
  // Shard `reader`, before sleeping without limit and when it ends: uses no snapshot until the next acquire().
  void release(size_t reader);

 private:
  struct alignas(64) Reader {
    std::atomic<uint64_t> version_in_use{0};  // 0: none
  };
  std::atomic<const Snapshot*> current_{nullptr};
  std::atomic<uint64_t> current_version_{0};  // stored after current_: never ahead of it
  std::vector<Reader> readers_;
  std::vector<std::unique_ptr<const Snapshot>> retired_;  // oldest first
  std::unique_ptr<const Snapshot> owned_current_;
};

// Owns every EndpointState. Control thread only.
class EndpointRegistry {
 public:
  // The living state of this endpoint, or a new one. Who it is: the uid and the address, or the name and the address
  // where there is no uid. A state that was marked as gone does not come back: the process behind the address may be
  // another one. `ns`: namespace of its pod. `tls_name` and `tls_trust` as in EndpointState: with others it is another
  // endpoint.
  EndpointState& find_or_add(const std::string& name, const std::string& url, const std::string& address,
                             const std::string& host_header, const std::string& uid = "", const std::string& ns = "",
                             const std::optional<std::string>& tls_name = std::nullopt,
                             const std::string& tls_trust = "");
  // Marks all states not in `snapshot` as gone; frees those that nobody refers to, given that versions below
  // `oldest_version_in_use` are no longer used. `snapshot` is the published one (it has its version).
  void collect(const Snapshot& snapshot, uint64_t oldest_version_in_use);
  // States that are not gone.
  size_t living() const { return living_.size(); }
  // States gone but still referred to by an exchange, a connection or a snapshot in use.
  size_t lingering() const { return entries_.size() - living_.size(); }

 private:
  struct Entry {
    std::unique_ptr<EndpointState> state;
    uint64_t gone_since_version = 0;  // first version that does not list it; 0: living
  };
  std::vector<Entry> entries_;
  std::unordered_map<std::string, EndpointState*> living_;  // by who it is
  std::vector<uint32_t> free_slots_;
  uint32_t next_slot_ = 0, next_incarnation_ = 1;
};

}  // namespace penstock::endpoints
