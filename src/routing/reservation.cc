#include <algorithm>
#include <utility>

#include "pace.h"
#include "penstock/routing/router.h"

namespace penstock::routing {

Reservation::Reservation(endpoints::EndpointState& endpoint, uint32_t uncached_tokens, uint32_t prompt_tokens,
                         uint32_t output_tokens, Instant now, bool streaming)
    : endpoint_(&endpoint),
      prefill_tokens_(uncached_tokens),
      kv_tokens_(int64_t{prompt_tokens} + output_tokens),
      believed_tokens_(int64_t{prompt_tokens} - uncached_tokens),
      began_(now),
      unseen_(!streaming) {
  endpoints::LoadCounters& load = endpoint.load;
  load.requests.fetch_add(1, std::memory_order_relaxed);
  load.kv_tokens.fetch_add(kv_tokens_, std::memory_order_relaxed);
  load.prefill_tokens.fetch_add(prefill_tokens_, std::memory_order_relaxed);
  if (unseen_) {
    load.unseen.fetch_add(1, std::memory_order_relaxed);
    load.unseen_tokens.fetch_add(prefill_tokens_, std::memory_order_relaxed);
    first_token_ = expect_unseen(endpoint, now, prefill_tokens_);
  }
  load.picks.fetch_add(1, std::memory_order_relaxed);
  load.last_pick_ns.store(now.time_since_epoch().count(), std::memory_order_relaxed);
}

Reservation::Reservation(Reservation&& other) noexcept
    : endpoint_(std::exchange(other.endpoint_, nullptr)),
      prefill_tokens_(std::exchange(other.prefill_tokens_, 0)),
      kv_tokens_(std::exchange(other.kv_tokens_, 0)),
      believed_tokens_(other.believed_tokens_),
      began_(other.began_),
      first_token_(other.first_token_),
      decoding_(std::exchange(other.decoding_, false)),
      unseen_(std::exchange(other.unseen_, false)),
      elsewhere_(std::exchange(other.elsewhere_, false)) {}

Reservation& Reservation::operator=(Reservation&& other) noexcept {
  if (this == &other) return *this;
  release();
  endpoint_ = std::exchange(other.endpoint_, nullptr);
  prefill_tokens_ = std::exchange(other.prefill_tokens_, 0);
  kv_tokens_ = std::exchange(other.kv_tokens_, 0);
  believed_tokens_ = other.believed_tokens_;
  began_ = other.began_;
  first_token_ = other.first_token_;
  decoding_ = std::exchange(other.decoding_, false);
  unseen_ = std::exchange(other.unseen_, false);
  elsewhere_ = std::exchange(other.elsewhere_, false);
  return *this;
}

void Reservation::first_token(Instant now) {
  if (endpoint_ == nullptr || decoding_ || unseen_) return;
  decoding_ = true;
  first_token_ = now;
  if (!elsewhere_) learn_prefill(*endpoint_, began_, now, prefill_tokens_);
  endpoint_->load.decoding.fetch_add(1, std::memory_order_relaxed);
  endpoint_->load.prefill_tokens.fetch_sub(std::exchange(prefill_tokens_, 0), std::memory_order_relaxed);
}

void Reservation::cached(uint32_t tokens) {
  if (endpoint_ != nullptr) learn_cached(*endpoint_, believed_tokens_, tokens);
}

void Reservation::finished(Instant now, uint32_t output_tokens) {
  if (endpoint_ == nullptr) return;
  learn_answer(*endpoint_, decoding_ || unseen_ ? now - first_token_ : Duration::zero(), output_tokens);
}

void Reservation::release() {
  if (endpoint_ == nullptr) return;
  endpoints::LoadCounters& load = std::exchange(endpoint_, nullptr)->load;
  if (std::exchange(decoding_, false)) load.decoding.fetch_sub(1, std::memory_order_relaxed);
  if (std::exchange(unseen_, false)) {
    load.unseen.fetch_sub(1, std::memory_order_relaxed);
    load.unseen_tokens.fetch_sub(prefill_tokens_, std::memory_order_relaxed);
  }
  load.prefill_tokens.fetch_sub(std::exchange(prefill_tokens_, 0), std::memory_order_relaxed);
  load.kv_tokens.fetch_sub(std::exchange(kv_tokens_, 0), std::memory_order_relaxed);
  // Last, and with release: at zero the registry may free the endpoint.
  load.requests.fetch_sub(1, std::memory_order_release);
}

}  // namespace penstock::routing
