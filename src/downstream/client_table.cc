#include "penstock/downstream/client_table.h"

#include "penstock/base/assert.h"

namespace penstock::downstream {

// Neighbouring addresses are common (one office, one cloud), so the bits are mixed before a stripe is chosen.
ClientTable::Stripe& ClientTable::stripe_of(uint64_t client) {
  constexpr uint64_t odd = 0x9e3779b97f4a7c15;  // 2^64 divided by the golden ratio
  return stripes_[(client * odd) >> 58];
  static_assert(stripes == 64);
}

bool ClientTable::try_enter(uint64_t client, uint32_t most) {
  Stripe& stripe = stripe_of(client);
  const std::lock_guard lock(stripe.mutex);
  const auto [entry, fresh] = stripe.counts.try_emplace(client, 0);
  if (entry->second >= most) {
    if (fresh) stripe.counts.erase(entry);
    return false;
  }
  ++entry->second;
  return true;
}

void ClientTable::leave(uint64_t client) {
  Stripe& stripe = stripe_of(client);
  const std::lock_guard lock(stripe.mutex);
  const auto entry = stripe.counts.find(client);
  PENSTOCK_ASSERT(entry != stripe.counts.end());
  if (--entry->second == 0) stripe.counts.erase(entry);
}

size_t ClientTable::clients() const {
  size_t sum = 0;
  for (const Stripe& stripe : stripes_) {
    const std::lock_guard lock(stripe.mutex);
    sum += stripe.counts.size();
  }
  return sum;
}

}  // namespace penstock::downstream
