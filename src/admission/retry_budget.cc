#include "penstock/admission/retry_budget.h"

#include <cmath>

namespace penstock::admission {

void RetryBudget::decay(Instant now) {
  const Duration elapsed = now - decayed_at_;
  if (elapsed < milliseconds(100)) return;  // a step this small changes the counts by under one percent
  const double factor = std::exp(-to_seconds(elapsed) / to_seconds(window));
  requests_ *= factor;
  retries_ *= factor;
  decayed_at_ = now;
}

void RetryBudget::on_request(Instant now) {
  decay(now);
  requests_ += 1;
}

bool RetryBudget::try_take(Instant now) {
  decay(now);
  if (retries_ + 1 > options_.minimum + requests_ * options_.percent / 100) return false;
  retries_ += 1;
  return true;
}

}  // namespace penstock::admission
