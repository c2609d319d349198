// The waiting requests of one pool, and which of them is next. Priorities are bands, strictly the highest first; a band
// has one flow for each fairness id; the ordering policy decides within a flow. Capacity is limited by count and bytes.
// Pure: time is passed in. One caller at a time (proxy::HoldQueue has a lock; `penstock replay` needs none).
//
// Late binding: a waiting request has no endpoint. It leaves the queue when the detector sees room for it, and is
// routed then.
//
// The cost of a request changes while it waits: other turns of its conversation are answered, or the beginning of its
// prompt is evicted from a cache. So whenever there is room, the costs of a few waiting requests are computed again,
// the oldest first.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/admission/options.h"
#include "penstock/admission/programs.h"
#include "penstock/admission/saturation.h"
#include "penstock/admission/sheddables.h"
#include "penstock/base/intrusive_list.h"
#include "penstock/routing/least_work.h"

namespace penstock::admission {

struct Band;
struct Flow;

// The fairness id of requests that bring none.
constexpr std::string_view default_flow = "default-flow";

struct WeighedTag {};
// One waiting request. A part of its owner, which fills it in, must not change it while it waits, and must remove it
// from the controller before destroying it.
struct Waiter : ListNode<WeighedTag> {
  std::string_view fairness_id;
  int priority = 0;
  uint64_t bytes = 0;      // memory that holding it costs
  Demand demand;           // what it needs of an endpoint
  routing::Prompt prompt;  // its prompt, from which demand and work are computed again
  Duration work{0};        // for least_work: prefill time on the endpoint where that is shortest
  Instant arrived{};       // for least_work and slo_deadline
  Instant deadline{};      // for edf: end of its time to live, Instant::max() without one. The owner enforces it
  double slo_ttft_ms{};    // for slo_deadline; 0: none
  bool waiting() const { return flow_ != nullptr; }

 private:
  friend class FlowController;
  friend struct Earlier;
  Flow* flow_ = nullptr;
  int64_t key_ = 0;      // its place by the ordering policy
  uint64_t number_ = 0;  // among equals: first come, first served
};

struct Earlier {
  bool operator()(const Waiter* a, const Waiter* b) const {
    return a->key_ != b->key_ ? a->key_ < b->key_ : a->number_ < b->number_;
  }
};

struct TurnTag {};
// The waiting requests of one fairness id at one priority. Exists while there are any.
struct Flow : ListNode<TurnTag> {
  explicit Flow(Band& of) : band(of) {}
  Band& band;
  Programs::Key program = 0;
  std::map<std::string, Flow, std::less<>>::iterator self;
  std::set<Waiter*, Earlier> waiters;
};
struct Band {
  BandOptions options;
  size_t requests = 0;
  uint64_t bytes = 0;
  uint32_t looks = 0;  // for UsageLimit::reflective: how often it was examined while above its ceiling
  std::map<std::string, Flow, std::less<>> flows;
  IntrusiveList<Flow, TurnTag> turns;  // for round_robin: the next flow is at the front
};

class FlowController {
 public:
  // How many waiting requests have their cost computed again when there is room.
  static constexpr size_t weighed_again = 8;

  // Without `index` the cost of a request never changes. Without `programs` all programs count as unused.
  explicit FlowController(const FlowOptions& options, const routing::PrefixIndex* index = nullptr,
                          const Programs* programs = nullptr);
  ~FlowController();
  FlowController(const FlowController&) = delete;

  // Requests that wait keep waiting, in the new order, even beyond new limits.
  void set_options(const FlowOptions& options);

  // False: a limit is reached, and the request was not added.
  bool offer(Waiter& waiter);
  // Removes the next request that may go from the queue and returns it; null: none may. `on_their_way`: requests that
  // were returned before and have not reserved their load yet; each counts as the room of one request. If the pool is
  // gone (null), or flow control is off, every request may go: the router decides what becomes of it.
  Waiter* next(const endpoints::Pool* pool, Instant now, uint32_t on_their_way);
  // For when no request may go and none is on its way: the running request to evict for the first waiting request that
  // this helps; `for_priority` becomes the priority of the latter. Null: no eviction helps, or the effect of the last
  // one is not visible yet.
  Sheddable* to_cut(Sheddables& running, const endpoints::Pool& pool, Instant now, int* for_priority);
  // Removes a request that has timed out or whose client has left.
  void remove(Waiter& waiter);

  size_t requests() const { return requests_; }
  uint64_t bytes() const { return bytes_; }

 private:
  using Bands = std::map<int, Band, std::greater<>>;  // highest first

  // What next() knows when it examines a band.
  struct Look {
    const endpoints::Pool* pool;
    Instant now;
    uint32_t on_their_way;
    double ceiling = 1;  // of the band
  };
  // A flow that may be next, and the use of its program.
  struct Contender {
    Waiter* head;
    double had, waited;  // tokens or turns; seconds
  };

  int64_t key_of(const Waiter& waiter, Ordering ordering) const;
  void insert(Waiter& waiter, Band& band);
  Rank rank_of(int priority) const;
  double ceiling_of(int priority, Band& band, const endpoints::Pool* pool, Instant now);
  Waiter* next_of(Band& band, const Look& look);
  template <typename Accept>
  Waiter* first_of(Band& band, Instant now, const Accept& accept);
  Waiter* best_of(const Band& band);
  Contender contender(const Flow& flow, Fairness fairness, Instant now) const;
  Waiter* neediest(const Band& band, Instant now);
  bool is_full(const Waiter& waiter) const;
  void weigh_some(const endpoints::Pool& pool, Instant now);
  bool may_go(const Waiter& waiter, const Look& look);

  FlowOptions options_;
  SaturationDetector detector_;
  const Programs* const programs_;
  std::optional<routing::LeastWork> scales_;
  Bands bands_;
  IntrusiveList<Waiter, WeighedTag> weighed_;  // all waiting requests; the one with the oldest cost at the front
  size_t requests_ = 0;
  uint64_t bytes_ = 0, numbers_ = 0;
  std::vector<std::string_view> full_;  // scratch: models that the pool has no room for
  std::vector<Contender> contenders_;   // scratch
};

}  // namespace penstock::admission
