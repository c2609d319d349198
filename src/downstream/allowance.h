// So many at once, and a tenth of that each second. Plain values; one thread.
#pragma once

#include <algorithm>
#include <cstdint>

#include "penstock/base/time.h"

namespace penstock::downstream {

class Allowance {
 public:
  Allowance(uint32_t burst, Instant now) : burst_(burst), left_(burst), at_(now) {}
  // False: it is used up.
  bool take(Instant now) {
    if (left_ < 1) {
      add(to_seconds(now - at_) * burst_ / 10);
      at_ = now;
    }
    if (left_ < 1) return false;
    left_ -= 1;
    return true;
  }
  void add(double more) { left_ = std::min(burst_, left_ + more); }

 private:
  double burst_, left_;
  Instant at_;  // when it was filled up last
};

}  // namespace penstock::downstream
