#include "penstock/downstream/pace.h"

#include <algorithm>

namespace penstock::downstream {

Instant Pace::credit(uint64_t bytes, Instant now, const ServerOptions& options) {
  if (options.min_rate == 0) return deadline_ = Instant::max();
  const Instant most = now + options.rate_grace;
  const double bought = static_cast<double>(bytes) / static_cast<double>(options.min_rate);
  const bool enough = deadline_ == Instant{} || deadline_ > most || bought >= to_seconds(options.rate_grace);
  return deadline_ = enough ? most : std::min(most, deadline_ + from_seconds(bought));
}

void Pace::begin_reading(uint64_t delivered, Instant now, const ServerOptions& options) {
  delivered_ = delivered;
  seen_at_ = now;
  deadline_ = {};
  credit(0, now, options);
}

// What the kernel says may count for more or less than before: progress is never negative.
Pace::Reading Pace::check_reading(uint64_t delivered, Instant now, const ServerOptions& options) {
  const uint64_t progress = delivered > delivered_ ? delivered - delivered_ : 0;
  if (progress == 0 && now - seen_at_ >= options.write_timeout) return Reading::stalled;
  if (now >= credit(progress, now, options)) return Reading::too_slow;
  delivered_ += progress;
  if (progress > 0) seen_at_ = now;
  return Reading::fine;
}

Instant Pace::next_check(Instant now, const ServerOptions& options) const {
  constexpr int checks = 4;  // so often within the write timeout: it is as exact as that
  const Duration pause = options.write_timeout;
  return std::min(pause == Duration::max() ? Instant::max() : now + pause / checks, deadline_);
}

}  // namespace penstock::downstream
