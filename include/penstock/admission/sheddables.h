// The requests of one pool that run and may be cut off for others: those of negative priority. Which of them goes is
// decided here; FlowController says for whom. Pure; one caller at a time (proxy::HoldQueue has the lock), but for
// Sheddable::prefilled().
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

// One of them: a part of its owner, who removes it before it goes.
class Sheddable {
 public:
  // What it occupies.
  struct Cost {
    uint32_t slot = 0, incarnation = 0;  // of its endpoint
    uint32_t prefill_tokens = 0;         // to compute there before a first token that will be seen
    uint32_t kv_tokens = 0;
  };
  explicit Sheddable(int priority) : priority_(priority) {}
  // The owner's thread, without the lock: its first token has come.
  void prefilled() { prefill_tokens_.store(0, std::memory_order_relaxed); }

 private:
  friend class Sheddables;
  friend struct CutEarlier;
  const int priority_;
  Cost cost_;
  std::atomic<uint32_t> prefill_tokens_{0};
  uint64_t number_ = 0;  // in the order in which they were sent; 0: it does not run
};

// Who is cut off first: the lowest priority; of equals the newest, which has cost the least yet.
struct CutEarlier {
  bool operator()(const Sheddable* a, const Sheddable* b) const;
};

class Sheddables {
 public:
  // Sent to an endpoint now, for the first time or another one.
  void put(Sheddable& one, const Sheddable::Cost& cost);
  // It has ended, and its load is released. The time since it was cut off, if it was.
  std::optional<Duration> remove(Sheddable& one, Instant now);
  bool empty() const { return all_.empty(); }

  // What a request that waits asks for.
  struct Wanted {
    const endpoints::Pool* pool;
    const SaturationDetector* detector;
    Demand demand;
    int priority = 0;
    double ceiling = 1;  // of its priority
  };
  // The one to cut off for it. Null: nobody of lower priority runs where it could go, it is not the pool's load that it
  // waits for, or there would be no room for it if all of them were gone.
  Sheddable* choose(const Wanted& wanted, Instant now);
  void cut(Sheddable& one, Instant now);
  // Nobody is being cut off, and what the last one has left shows.
  bool settled(const SaturationDetector& detector, const endpoints::Pool& pool, Instant now) const;
  // Of all; when there are any.
  int lowest_priority() const { return (*all_.begin())->priority_; }

 private:
  void find_places(const Wanted& wanted, Instant now);
  const endpoints::EndpointState* place_of(const Sheddable& one) const;

  std::set<Sheddable*, CutEarlier> all_;
  uint64_t numbers_ = 0;
  const Sheddable* cut_ = nullptr;
  Instant cut_at_{}, left_at_{};
  Sheddable::Cost left_;  // what the last one that was cut off had; left_at_: when it ended
  std::vector<const endpoints::EndpointState*> places_;  // scratch, by slot: where the request could go
  Reliefs reliefs_;                                      // scratch: what those that may be cut off have there
};

}  // namespace penstock::admission
