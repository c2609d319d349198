#include "slow_endpoints.h"

#include <algorithm>

#include "penstock/base/assert.h"

namespace penstock::proxy {

void SlowEndpoints::begin() {
  for (auto& [key, seen] : seen_) seen.now = {}, seen.listed = false;
}

void SlowEndpoints::saw(uint32_t pool, uint32_t slot, uint32_t incarnation, Duration silent_for) {
  PENSTOCK_ASSERT(silent_for >= Duration{0});
  Seen& seen = seen_[{pool, {slot, incarnation}}];
  seen.listed = true;
  ++seen.now.streams;
  seen.now.sum += silent_for;
  seen.now.least = std::min(seen.now.least, silent_for);
}

const std::vector<SlowEndpoints::Found>& SlowEndpoints::end() {
  found_.clear();
  std::erase_if(seen_, [](const auto& entry) { return !entry.second.listed; });
  for (auto& [key, seen] : seen_) {
    if (seen.now.streams < streams_min) seen.count = 0;
    else seen.last[seen.count++ % looks] = seen.now;
  }
  for (auto first = seen_.begin(); first != seen_.end();) {
    auto last = first;
    while (last != seen_.end() && last->first.first == first->first.first) ++last;
    judge(first, last);
    first = last;
  }
  return found_;
}

// The endpoints of one pool.
void SlowEndpoints::judge(Place first, Place last) {
  for (Place place = first; place != last; ++place) {
    Seen& seen = place->second;
    const bool stands = wedged(seen, first, last);
    if (!stands && !slow(seen, first, last)) continue;
    const auto& [pool, endpoint] = place->first;
    found_.push_back({.pool = pool,
                      .slot = endpoint.first,
                      .incarnation = endpoint.second,
                      .wedged = stands,
                      .pause = stands ? seen.now.sum / seen.now.streams : seen.mean()});
    seen.count = 0;  // what follows needs new evidence
    return;
  }
}

// Where nothing moves at any endpoint, it is not the endpoint.
bool SlowEndpoints::wedged(const Seen& seen, Place first, Place last) const {
  if (options_.wedged == Duration{0} || seen.now.streams < streams_min || seen.now.least < options_.wedged)
    return false;
  return std::any_of(first, last, [](const auto& other) { return other.second.now.least < period; });
}

bool SlowEndpoints::slow(const Seen& seen, Place first, Place last) {
  if (options_.factor == 0 || seen.count < looks || seen.mean() < pause_min) return false;
  means_.clear();
  for (Place place = first; place != last; ++place) {
    if (&place->second != &seen && place->second.count >= looks) means_.push_back(place->second.mean());
  }
  if (means_.empty()) return false;
  const auto middle = means_.begin() + static_cast<std::ptrdiff_t>(means_.size() / 2);
  std::nth_element(means_.begin(), middle, means_.end());
  return to_seconds(seen.mean()) > options_.factor * to_seconds(*middle);
}

Duration SlowEndpoints::Seen::mean() const {
  Duration sum{0};
  int64_t streams = 0;
  for (const Look& look : last) sum += look.sum, streams += look.streams;
  return streams > 0 ? sum / streams : Duration{0};
}

}  // namespace penstock::proxy
