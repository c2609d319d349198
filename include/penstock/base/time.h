// Time as values. Nobody in the product asks the operating system for the time but net::Clock;
// everything else is handed an Instant, so that tests and `penstock replay` own time.
#pragma once

#include <chrono>
#include <cstdint>

namespace penstock {

using Duration = std::chrono::nanoseconds;

// A point on the monotonic clock (CLOCK_MONOTONIC in production, virtual in simulation).
struct MonotonicEpoch {
  using duration = Duration;
};
using Instant = std::chrono::time_point<MonotonicEpoch, Duration>;

using std::chrono::duration_cast;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

inline double to_seconds(Duration d) {
  return std::chrono::duration<double>(d).count();
}
inline Duration from_seconds(double s) {
  return duration_cast<Duration>(std::chrono::duration<double>(s));
}
inline int64_t to_ms(Duration d) {
  return duration_cast<milliseconds>(d).count();
}

}  // namespace penstock
