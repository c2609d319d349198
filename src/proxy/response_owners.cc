#include "penstock/proxy/response_owners.h"

#include <algorithm>
#include <bit>

#include "penstock/base/assert.h"

namespace penstock::proxy {

ResponseOwners::ResponseOwners(size_t entries, Duration ttl)
    : buckets_(entries == 0 ? 0 : std::bit_ceil((entries + ways - 1) / ways)), ttl_ns_(ttl.count()) {}

bool ResponseOwners::expired(const Entry& entry, Instant now) const {
  return now.time_since_epoch().count() - entry.made_ns > ttl_ns_.load(std::memory_order_relaxed);
}

// In the place of the same response, else in a free one or that of a response that is too old, else of the oldest.
void ResponseOwners::remember(uint64_t key, Owner owner, Instant now) {
  if (buckets_ == 0) return;
  PENSTOCK_ASSERT(key != 0);
  std::call_once(allocated_, [this] {
    entries_ = std::make_unique<Entry[]>(buckets_ * ways);
    ready_.store(true, std::memory_order_release);
  });
  const std::lock_guard lock(lock_of(key));
  Entry* const first = bucket(key);
  Entry* const last = first + ways;
  Entry* place = std::find_if(first, last, [key](const Entry& entry) { return entry.key == key; });
  if (place == last) {
    // A free place is older than all.
    place = std::min_element(first, last, [](const Entry& a, const Entry& b) {
      return a.key == 0 ? b.key != 0 : b.key != 0 && a.made_ns < b.made_ns;
    });
    if (place->key == 0) used_.fetch_add(1, std::memory_order_relaxed);
    else if (!expired(*place, now)) displaced_.fetch_add(1, std::memory_order_relaxed);
  }
  *place = {key, owner, now.time_since_epoch().count()};
}

std::optional<ResponseOwners::Owner> ResponseOwners::find(uint64_t key, Instant now) const {
  if (!ready_.load(std::memory_order_acquire)) return std::nullopt;
  const std::lock_guard lock(lock_of(key));
  const Entry* const first = bucket(key);
  const Entry* const place = std::find_if(first, first + ways, [key](const Entry& entry) { return entry.key == key; });
  if (place == first + ways || expired(*place, now)) return std::nullopt;
  return place->owner;
}

const char* to_string(ResponseOwners::Lookup lookup) {
  switch (lookup) {
    case ResponseOwners::Lookup::found:
      return "found";
    case ResponseOwners::Lookup::unknown:
      return "unknown";
    case ResponseOwners::Lookup::gone:
      return "gone";
  }
  return "unknown";
}

}  // namespace penstock::proxy
