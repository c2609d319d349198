// The requests of one pool that wait for room, and which of them is next: bands by priority, strictly the highest
// first; in a band one flow for each fairness id; in a flow the order that its ordering policy says. Capacity by count
// and bytes. Pure: time is passed in, one caller at a time (proxy::HoldQueue has the lock; `penstock replay` needs
// none).
//
// Late binding: a waiting request has no endpoint. It leaves the queue when the detector sees room for it, and is
// routed then.
//
// What a request costs changes while it waits: other turns of its conversation are answered, or its beginning is
// evicted. So whenever there is room a few of those that wait are weighed again, those first that were so longest ago.
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
// One waiting request: a part of its owner, who fills it in, must not change it while it waits, and removes it from the
// controller before it goes.
struct Waiter : ListNode<WeighedTag> {
  std::string_view fairness_id;
  int priority = 0;
  uint64_t bytes = 0;      // what holding it costs
  Demand demand;           // what it needs
  routing::Prompt prompt;  // of which that is said
  Duration work{0};        // seconds of prefill that it will cost where it is best off: least_work
  Instant arrived{};       // least_work, slo_deadline
  Instant deadline{};      // end of its time to live, Instant::max() without: edf. The owner keeps the time
  double slo_ttft_ms{};    // slo_deadline; 0: none
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
// What one fairness id has waiting at one priority; gone when that is nothing.
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
  uint32_t looks = 0;  // UsageLimit::reflective: looks at it while it was above its ceiling
  std::map<std::string, Flow, std::less<>> flows;
  IntrusiveList<Flow, TurnTag> turns;  // whose turn is next at the front
};

class FlowController {
 public:
  // Of those that wait, so many are weighed again when there is room.
  static constexpr size_t weighed_again = 8;

  // Without an index requests cost what they did when they came; without programs none has had anything.
  explicit FlowController(const FlowOptions& options, const routing::PrefixIndex* index = nullptr,
                          const Programs* programs = nullptr);
  ~FlowController();
  FlowController(const FlowController&) = delete;

  // Who waits goes on waiting, in the new order, also beyond new limits.
  void set_options(const FlowOptions& options);

  // False: a limit is reached, and it does not wait.
  bool offer(Waiter& waiter);
  // Takes the next one that may go out of the queue; null: none may. `on_their_way` were taken before and have not
  // reserved their load yet: each is taken to need the room of one. Without a pool (null: it is gone) and with flow
  // control off everyone may go: the router knows what to say.
  Waiter* next(const endpoints::Pool* pool, Instant now, uint32_t on_their_way);
  // When nobody may go and nobody is on the way: who of those that run is to be cut off for one that waits, the first
  // in order for whom that makes room; `for_priority` is its priority. Null: nobody, or not yet: the last one that was
  // cut off must have had its effect.
  Sheddable* to_cut(Sheddables& running, const endpoints::Pool& pool, Instant now, int* for_priority);
  // It does not wait any more: it timed out, or its client left.
  void remove(Waiter& waiter);

  size_t requests() const { return requests_; }
  uint64_t bytes() const { return bytes_; }

 private:
  using Bands = std::map<int, Band, std::greater<>>;  // highest first

  // What next() looks at a band with.
  struct Look {
    const endpoints::Pool* pool;
    Instant now;
    uint32_t on_their_way;
    double ceiling = 1;  // of the band
  };
  // A flow that may be next, by what its program has had.
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
  IntrusiveList<Waiter, WeighedTag> weighed_;  // all; whose weight is oldest at the front
  size_t requests_ = 0;
  uint64_t bytes_ = 0, numbers_ = 0;
  std::vector<std::string_view> full_;  // scratch: models that the pool has no room for
  std::vector<Contender> contenders_;   // scratch
};

}  // namespace penstock::admission
