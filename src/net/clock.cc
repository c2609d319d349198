#include "penstock/net/clock.h"

#include <ctime>

namespace penstock::net {
namespace {

int64_t read_ns(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

class SystemClock final : public Clock {
 public:
  Instant now() override { return Instant(Duration(read_ns(CLOCK_MONOTONIC))); }
  int64_t wall_time_us() override { return read_ns(CLOCK_REALTIME) / 1000; }
};

}  // namespace

Clock& system_clock() {
  static SystemClock clock;
  return clock;
}

}  // namespace penstock::net
