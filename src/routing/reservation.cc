#include <algorithm>
#include <utility>

#include "penstock/routing/router.h"

namespace penstock::routing {

Reservation::Reservation(endpoints::EndpointState& endpoint, uint32_t uncached_tokens, uint32_t prompt_tokens,
                         uint32_t output_tokens, Instant now)
    : endpoint_(&endpoint), prefill_tokens_(uncached_tokens), kv_tokens_(int64_t{prompt_tokens} + output_tokens) {
  endpoints::LoadCounters& load = endpoint.load;
  load.requests.fetch_add(1, std::memory_order_relaxed);
  load.prefill_tokens.fetch_add(prefill_tokens_, std::memory_order_relaxed);
  load.kv_tokens.fetch_add(kv_tokens_, std::memory_order_relaxed);
  load.picks.fetch_add(1, std::memory_order_relaxed);
  load.last_pick_ns.store(now.time_since_epoch().count(), std::memory_order_relaxed);
}

Reservation::Reservation(Reservation&& other) noexcept
    : endpoint_(std::exchange(other.endpoint_, nullptr)),
      prefill_tokens_(std::exchange(other.prefill_tokens_, 0)),
      kv_tokens_(std::exchange(other.kv_tokens_, 0)),
      decoding_(std::exchange(other.decoding_, false)) {}

Reservation& Reservation::operator=(Reservation&& other) noexcept {
  if (this == &other) return *this;
  release();
  endpoint_ = std::exchange(other.endpoint_, nullptr);
  prefill_tokens_ = std::exchange(other.prefill_tokens_, 0);
  kv_tokens_ = std::exchange(other.kv_tokens_, 0);
  decoding_ = std::exchange(other.decoding_, false);
  return *this;
}

void Reservation::first_token() {
  if (endpoint_ == nullptr || decoding_) return;
  decoding_ = true;
  endpoint_->load.decoding.fetch_add(1, std::memory_order_relaxed);
  endpoint_->load.prefill_tokens.fetch_sub(std::exchange(prefill_tokens_, 0), std::memory_order_relaxed);
}

void Reservation::release() {
  if (endpoint_ == nullptr) return;
  endpoints::LoadCounters& load = std::exchange(endpoint_, nullptr)->load;
  if (std::exchange(decoding_, false)) load.decoding.fetch_sub(1, std::memory_order_relaxed);
  load.prefill_tokens.fetch_sub(std::exchange(prefill_tokens_, 0), std::memory_order_relaxed);
  load.kv_tokens.fetch_sub(std::exchange(kv_tokens_, 0), std::memory_order_relaxed);
  // Last, and with release: at zero the registry may free the endpoint.
  load.requests.fetch_sub(1, std::memory_order_release);
}

}  // namespace penstock::routing
