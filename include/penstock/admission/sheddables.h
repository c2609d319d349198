// The running requests of one pool that may be evicted: those of negative priority. This class decides which of them is
// evicted; FlowController decides for which waiting request. Pure; one caller at a time (proxy::HoldQueue has the
// lock), except for Sheddable::prefilled().
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <set>
#include <vector>

#include "penstock/admission/saturation.h"
#include "penstock/base/time.h"
#include "penstock/endpoints/snapshot.h"

namespace penstock::admission {

// One such request. A part of its owner, which must remove it before destroying it.
class Sheddable {
 public:
  // What it occupies.
  struct Cost {
    uint32_t slot = 0, incarnation = 0;  // of its endpoint
    uint32_t prefill_tokens = 0;         // to be computed there before its first token; 0 if that cannot be observed
    uint32_t kv_tokens = 0;
  };
  explicit Sheddable(int priority) : priority_(priority) {}
  // Its first token has come. The owner's thread, without the lock.
  void prefilled() { prefill_tokens_.store(0, std::memory_order_relaxed); }

 private:
  friend class Sheddables;
  friend struct CutEarlier;
  const int priority_;
  Cost cost_;
  std::atomic<uint32_t> prefill_tokens_{0};
  uint64_t number_ = 0;  // in the order of sending; 0: it is not running
};

// The order of eviction: the lowest priority first; among equals the newest, which has cost the least so far.
struct CutEarlier {
  bool operator()(const Sheddable* a, const Sheddable* b) const;
};

class Sheddables {
 public:
  // The request is sent to an endpoint, for the first time or to another one.
  void put(Sheddable& one, const Sheddable::Cost& cost);
  // The request has ended and released its load. Returns the time since it was chosen for eviction, if it was.
  std::optional<Duration> remove(Sheddable& one, Instant now);
  bool empty() const { return all_.empty(); }

  // What a waiting request needs.
  struct Wanted {
    const endpoints::Pool* pool;
    const SaturationDetector* detector;
    Demand demand;
    int priority = 0;
    double ceiling = 1;  // of its priority
  };
  // The request to evict for it. Null: no request of lower priority runs where it could go, it does not wait because of
  // load, or evicting all such requests would not make room for it.
  Sheddable* choose(const Wanted& wanted, Instant now);
  // Marks it as being evicted, until remove().
  void cut(Sheddable& one, Instant now);
  // No eviction is in progress, and the room that the last one left is visible to the detector.
  bool settled(const SaturationDetector& detector, const endpoints::Pool& pool, Instant now) const;
  // The lowest priority of all. Must not be empty.
  int lowest_priority() const { return (*all_.begin())->priority_; }

 private:
  void find_places(const Wanted& wanted, Instant now);
  const endpoints::EndpointState* place_of(const Sheddable& one) const;

  std::set<Sheddable*, CutEarlier> all_;
  uint64_t numbers_ = 0;
  const Sheddable* cut_ = nullptr;
  Instant cut_at_{}, left_at_{};
  Sheddable::Cost left_;  // what the last evicted request occupied; left_at_: when it ended
  std::vector<const endpoints::EndpointState*> places_;  // scratch, by slot: where the request could go
  Reliefs reliefs_;                                      // scratch, by slot: what those that may be evicted occupy
};

}  // namespace penstock::admission
