#include "penstock/admission/sheddables.h"

#include <algorithm>

#include "penstock/base/assert.h"
#include "penstock/routing/backlog.h"

namespace penstock::admission {

bool CutEarlier::operator()(const Sheddable* a, const Sheddable* b) const {
  return a->priority_ != b->priority_ ? a->priority_ < b->priority_ : a->number_ > b->number_;
}

void Sheddables::put(Sheddable& one, const Sheddable::Cost& cost) {
  if (one.number_ != 0) all_.erase(&one);
  one.number_ = ++numbers_;
  one.cost_ = cost;
  one.prefill_tokens_.store(cost.prefill_tokens, std::memory_order_relaxed);
  all_.insert(&one);
}

std::optional<Duration> Sheddables::remove(Sheddable& one, Instant now) {
  PENSTOCK_ASSERT(one.number_ != 0);
  all_.erase(&one);
  one.number_ = 0;
  if (&one != cut_) return std::nullopt;
  cut_ = nullptr;
  left_ = one.cost_;
  left_at_ = now;
  return now - cut_at_;
}

void Sheddables::cut(Sheddable& one, Instant now) {
  PENSTOCK_ASSERT(cut_ == nullptr && one.number_ != 0);
  cut_ = &one;
  cut_at_ = now;
}

bool Sheddables::settled(const SaturationDetector& detector, const endpoints::Pool& pool, Instant now) const {
  if (cut_ != nullptr) return false;
  if (left_at_ == Instant{}) return true;
  const auto at = std::find_if(pool.endpoints.begin(), pool.endpoints.end(), [&](const endpoints::EndpointView& view) {
    return view.state->slot == left_.slot && view.state->incarnation == left_.incarnation;
  });
  return at == pool.endpoints.end() || detector.shows(*at, left_at_, now);
}

Sheddable* Sheddables::choose(const Wanted& wanted, Instant now) {
  const auto room = [&](const Reliefs& reliefs) {
    return wanted.detector->room(*wanted.pool, wanted.demand, now, 1, wanted.ceiling, reliefs);
  };
  const Room present = room({});
  if (!present.any_endpoint || present.requests > 0) return nullptr;
  find_places(wanted, now);
  if (room(reliefs_).requests == 0) return nullptr;
  const auto* const nearest = wanted.detector->nearest_room(*wanted.pool, wanted.demand, now, wanted.ceiling, reliefs_);
  // If it waits because of queued prefill, evicting a request whose own prefill is over does not help.
  for (Relief& relief : reliefs_) relief.prefill_tokens = 0;
  const bool by_prefill = room(reliefs_).requests == 0;
  Sheddable* first = nullptr;
  for (Sheddable* const one : all_) {
    if (one->priority_ >= wanted.priority) break;
    const endpoints::EndpointState* const at = place_of(*one);
    if (at == nullptr || (nearest != nullptr && at != nearest)) continue;
    if (!by_prefill || one->prefill_tokens_.load(std::memory_order_relaxed) > 0) return one;
    if (first == nullptr) first = one;
  }
  return first;
}

// Fills places_ and reliefs_.
void Sheddables::find_places(const Wanted& wanted, Instant now) {
  places_.clear();
  for (const endpoints::EndpointView& view : wanted.pool->endpoints) {
    if (!routing::usable(view, wanted.demand.model, now)) continue;
    if (places_.size() <= view.state->slot) places_.resize(view.state->slot + 1);
    places_[view.state->slot] = view.state;
  }
  reliefs_.assign(places_.size(), {});
  for (const Sheddable* const one : all_) {
    if (one->priority_ >= wanted.priority) break;
    if (place_of(*one) == nullptr) continue;
    Relief& relief = reliefs_[one->cost_.slot];
    relief.requests += 1;
    relief.kv_tokens += one->cost_.kv_tokens;
    relief.prefill_tokens += one->prefill_tokens_.load(std::memory_order_relaxed);
  }
}

// The endpoint on which it runs, if the waiting request could go there; otherwise null.
const endpoints::EndpointState* Sheddables::place_of(const Sheddable& one) const {
  if (one.cost_.slot >= places_.size()) return nullptr;
  const endpoints::EndpointState* const at = places_[one.cost_.slot];
  return at != nullptr && at->incarnation == one.cost_.incarnation ? at : nullptr;
}

}  // namespace penstock::admission
