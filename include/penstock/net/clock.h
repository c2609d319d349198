// The clock seam: the only place where the product reads time. Tests pass a virtual clock.
#pragma once

#include <cstdint>

#include "penstock/base/time.h"

namespace penstock::net {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual Instant now() = 0;           // monotonic
  virtual int64_t wall_time_us() = 0;  // microseconds since the Unix epoch, for logs and dates
};

// CLOCK_MONOTONIC and CLOCK_REALTIME. Stateless; any thread.
Clock& system_clock();

}  // namespace penstock::net
