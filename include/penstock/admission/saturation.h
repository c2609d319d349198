// Is there room in a pool? The three detectors of DetectorOptions over endpoints' load counters, which every shard's
// reservations are in at once, and their last scrape. Pure; any thread; no allocation. With late_binding, asking costs
// one look at one endpoint as long as the first one that is asked has room.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "penstock/admission/options.h"
#include "penstock/endpoints/snapshot.h"

namespace penstock::admission {

// What a request needs.
struct Demand {
  std::string_view model;        // an endpoint must serve it; "": any will do
  uint32_t uncached_tokens = 0;  // prompt tokens that are not cached where it would go
  uint32_t max_tokens = 0;       // of its answer; 0: not said
};

struct Room {
  bool any_endpoint = false;  // there is one that could be picked, saturated or not
  uint32_t requests = 0;      // such requests that may go now; 0: saturated
};

// What an endpoint would be rid of if some of its requests were cut off.
struct Relief {
  double requests = 0, kv_tokens = 0;
  double prefill_tokens = 0;  // of those whose first token is still to come, and will be seen
};
using Reliefs = std::vector<Relief>;  // by endpoint slot; of those beyond its end: none

class SaturationDetector {
 public:
  explicit SaturationDetector(const DetectorOptions& options) : options_(options) {}

  // Counts no further than `enough`. With a lower `ceiling` than 1 the pool is full for these requests before it is
  // for others: UsageLimits::ceiling(). With `reliefs`: as it would be without what they say.
  Room room(const endpoints::Pool& pool, const Demand& demand, Instant now, uint32_t enough = 1, double ceiling = 1,
            const Reliefs& reliefs = {}) const;
  // late_binding: of the endpoints that are full and would not be without what `reliefs` says, the least full one.
  // Null: none would make room, or this detector judges the pool as a whole.
  const endpoints::EndpointState* nearest_room(const endpoints::Pool& pool, const Demand& demand, Instant now,
                                               double ceiling, const Reliefs& reliefs) const;
  // What it goes by shows that a request has left this endpoint at `left`.
  bool shows(const endpoints::EndpointView& endpoint, Instant left, Instant now) const;
  // 1 and more: saturated. For people: late_binding says how full the least full endpoint is, the others the mean. 1
  // when there is no endpoint.
  double saturation(const endpoints::Pool& pool, Instant now) const;

 private:
  double fullness(const endpoints::EndpointView& endpoint, const Demand& demand, Instant now,
                  const Relief& relief = {}) const;
  double late_binding(const endpoints::EndpointView& endpoint, const Demand& demand, Instant now,
                      const Relief& relief) const;
  double utilization(const endpoints::EndpointView& endpoint, Instant now, const Relief& relief) const;

  DetectorOptions options_;
};

}  // namespace penstock::admission
