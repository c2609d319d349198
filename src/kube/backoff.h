// Growing pauses between attempts: first, doubled up to a maximum, each multiplied by a random factor in [1, 2), and
// from the start again when nothing has failed for a while.
#pragma once

#include <algorithm>

#include "penstock/base/random.h"
#include "penstock/base/time.h"

namespace penstock::kube {

class Backoff {
 public:
  Backoff(Duration first, Duration most, Duration reset) : first_(first), most_(most), reset_(reset), base_(first) {}

  Duration next(Instant now, Random& random) {
    if (now - resume_ >= reset_) base_ = first_;
    const Duration pause = jittered(base_, random);
    base_ = std::min(most_, base_ * 2);
    resume_ = now + pause;
    return pause;
  }
  void clear() { base_ = first_; }

  // Uniform in [base, 2 base).
  static Duration jittered(Duration base, Random& random) {
    return base + Duration(static_cast<int64_t>(static_cast<double>(base.count()) * random.unit()));
  }
  static Duration between(Duration least, Duration most, Random& random) {
    return least + Duration(static_cast<int64_t>(static_cast<double>((most - least).count()) * random.unit()));
  }

 private:
  const Duration first_, most_, reset_;
  Duration base_;
  Instant resume_{};  // the end of the last pause
};

}  // namespace penstock::kube
