// How many retries a shard may add to the traffic it sends: a share of recent requests plus a floor, so that a
// failing pool is not hit with several times its load. Retries that add no load (the endpoint died or was full) do not
// use it. Counts decay exponentially over about ten seconds. One thread (its shard's); time is passed in.
#pragma once

#include <cstdint>

#include "penstock/base/time.h"

namespace penstock::admission {

struct RetryBudgetOptions {
  double percent = 20;    // retry.budget_percent: retries per hundred requests
  uint32_t minimum = 10;  // retry.budget_min: retries per window allowed whatever the traffic
};

class RetryBudget {
 public:
  explicit RetryBudget(const RetryBudgetOptions& options) : options_(options) {}
  void set_options(const RetryBudgetOptions& options) { options_ = options; }
  void on_request(Instant now);
  bool try_take(Instant now);  // false: no retry, the failure stands

 private:
  static constexpr Duration window = seconds(10);
  void decay(Instant now);

  RetryBudgetOptions options_;
  Instant decayed_at_{};
  double requests_ = 0, retries_ = 0;  // decayed counts
};

}  // namespace penstock::admission
