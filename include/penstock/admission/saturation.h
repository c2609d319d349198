// Decides whether a pool has room, by one of the three detectors of DetectorOptions. They use the load counters of the
// endpoints, which include the reservations of all shards, and the last scrape. Pure; any thread; no allocation. With
// late_binding, only one endpoint is examined if the first one has room.
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
  uint32_t max_tokens = 0;       // the request's limit for its answer; 0: none
};

struct Room {
  bool any_endpoint = false;  // some endpoint could be picked, saturated or not
  uint32_t requests = 0;      // how many such requests may go now; 0: saturated
};

// The load that an endpoint would lose if some of its requests were evicted.
struct Relief {
  double requests = 0, kv_tokens = 0;
  double prefill_tokens = 0;  // of requests whose first token is still expected and can be observed
};
using Reliefs = std::vector<Relief>;  // by endpoint slot; slots beyond its end have none

class SaturationDetector {
 public:
  explicit SaturationDetector(const DetectorOptions& options) : options_(options) {}

  // Counts up to `enough`. With a `ceiling` below 1 the pool is full for these requests earlier than for others:
  // UsageLimits::ceiling(). With `reliefs`: the room if this load were gone.
  Room room(const endpoints::Pool& pool, const Demand& demand, Instant now, uint32_t enough = 1, double ceiling = 1,
            const Reliefs& reliefs = {}) const;
  // late_binding: the least full of the endpoints that are full now and would have room without `reliefs`. Null: there
  // is none, or this detector judges the pool as a whole.
  const endpoints::EndpointState* nearest_room(const endpoints::Pool& pool, const Demand& demand, Instant now,
                                               double ceiling, const Reliefs& reliefs) const;
  // The data that this detector uses already reflects that a request has left this endpoint at `left`.
  bool shows(const endpoints::EndpointView& endpoint, Instant left, Instant now) const;
  // For display: 1 and more means saturated. late_binding gives the fullness of the least full endpoint, the other
  // detectors the mean. 1 if there is no endpoint.
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
