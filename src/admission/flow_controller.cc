#include "penstock/admission/flow_controller.h"

#include <algorithm>

#include "penstock/base/assert.h"

namespace penstock::admission {
namespace {

constexpr double slo_ttft_max = 1e6;  // seconds: a header may say anything

}  // namespace

FlowController::FlowController(const FlowOptions& options, const routing::PrefixIndex* index)
    : options_(options), detector_(options.detector) {
  if (index != nullptr) scales_.emplace(*index);
}

FlowController::~FlowController() {
  PENSTOCK_ASSERT(requests_ == 0);
}

void FlowController::set_options(const FlowOptions& options) {
  std::vector<Waiter*> all;
  for (auto& [priority, band] : bands_) {
    for (auto& [id, flow] : band.flows) all.insert(all.end(), flow.waiters.begin(), flow.waiters.end());
  }
  std::sort(all.begin(), all.end(), [](const Waiter* a, const Waiter* b) { return a->number_ < b->number_; });
  for (Waiter* waiter : all) remove(*waiter);
  options_ = options;
  detector_ = SaturationDetector(options.detector);
  for (Waiter* waiter : all) {
    const auto [band, made] = bands_.try_emplace(waiter->priority);
    if (made) band->second.options = options_of(waiter->priority);
    insert(*waiter, band->second);
  }
}

BandOptions FlowController::options_of(int priority) const {
  for (const PriorityBand& band : options_.bands) {
    if (band.priority == priority) return band.options;
  }
  return options_.band;
}

// ---- in ----

bool FlowController::offer(Waiter& waiter) {
  const auto over = [](uint64_t used, uint64_t more, uint64_t limit) { return limit > 0 && used + more > limit; };
  if (over(requests_, 1, options_.requests_max) || over(bytes_, waiter.bytes, options_.bytes_max)) return false;
  const auto found = bands_.find(waiter.priority);
  const BandOptions limits = found == bands_.end() ? options_of(waiter.priority) : found->second.options;
  const size_t requests = found == bands_.end() ? 0 : found->second.requests;
  const uint64_t bytes = found == bands_.end() ? 0 : found->second.bytes;
  if (over(requests, 1, limits.requests_max) || over(bytes, waiter.bytes, limits.bytes_max)) return false;
  Band& band = bands_[waiter.priority];
  band.options = limits;
  waiter.number_ = ++numbers_;
  insert(waiter, band);
  return true;
}

int64_t FlowController::key_of(const Waiter& waiter, Ordering ordering) const {
  const int64_t arrived = waiter.arrived.time_since_epoch().count();
  switch (ordering) {
    case Ordering::least_work: {
      // The same for all at any time: so many seconds later, so much less work. No key changes while it waits.
      const double aging = options_.aging_seconds > 0 ? static_cast<double>(arrived) / options_.aging_seconds : 0;
      return waiter.work.count() + static_cast<int64_t>(aging);
    }
    case Ordering::edf:
      return waiter.deadline.time_since_epoch().count();
    case Ordering::slo_deadline:
      if (waiter.slo_ttft_ms <= 0) return INT64_MAX;
      return arrived + from_seconds(std::min(waiter.slo_ttft_ms / 1000, slo_ttft_max)).count();
    case Ordering::fcfs:
      break;
  }
  return 0;
}

void FlowController::insert(Waiter& waiter, Band& band) {
  PENSTOCK_ASSERT(!waiter.waiting());
  auto flow = band.flows.find(waiter.fairness_id);
  if (flow == band.flows.end()) {
    flow = band.flows.try_emplace(std::string(waiter.fairness_id), band).first;
    flow->second.self = flow;
    band.turns.push_back(flow->second);
  }
  waiter.flow_ = &flow->second;
  waiter.key_ = key_of(waiter, band.options.ordering);
  flow->second.waiters.insert(&waiter);
  weighed_.push_back(waiter);
  ++band.requests;
  ++requests_;
  band.bytes += waiter.bytes;
  bytes_ += waiter.bytes;
}

// ---- out ----

void FlowController::remove(Waiter& waiter) {
  PENSTOCK_ASSERT(waiter.waiting());
  Flow& flow = *waiter.flow_;
  Band& band = flow.band;
  flow.waiters.erase(&waiter);
  static_cast<ListNode<WeighedTag>&>(waiter).unlink();
  waiter.flow_ = nullptr;
  --band.requests;
  --requests_;
  band.bytes -= waiter.bytes;
  bytes_ -= waiter.bytes;
  if (flow.waiters.empty()) band.flows.erase(flow.self);
  if (band.requests == 0) bands_.erase(waiter.priority);
}

Waiter* FlowController::next(const endpoints::Pool* pool, Instant now, uint32_t on_their_way) {
  full_.clear();
  const bool room = pool != nullptr && options_.enabled && requests_ > 1 &&
                    detector_.room(*pool, {}, now, on_their_way + 1).requests > on_their_way;
  if (room && scales_.has_value()) weigh_some(*pool, now);
  for (auto& [priority, band] : bands_) {
    if (Waiter* const waiter = next_of(band, pool, now, on_their_way)) {
      remove(*waiter);
      return waiter;
    }
  }
  return nullptr;
}

void FlowController::weigh_some(const endpoints::Pool& pool, Instant now) {
  for (size_t i = std::min(weighed_again, requests_); i > 0; --i) {
    Waiter& waiter = *weighed_.pop_front();
    weighed_.push_back(waiter);
    const routing::Work work = scales_->of(waiter.prompt, waiter.demand.model, pool, now);
    waiter.demand.uncached_tokens = work.uncached_tokens;
    if (waiter.work == work.prefill) continue;
    Flow& flow = *waiter.flow_;
    flow.waiters.erase(&waiter);
    waiter.work = work.prefill;
    waiter.key_ = key_of(waiter, flow.band.options.ordering);
    flow.waiters.insert(&waiter);
  }
}

// The first flow, by turns or by the best of their heads, whose head may go. A model whose endpoints are full holds up
// nobody who wants another one.
Waiter* FlowController::next_of(Band& band, const endpoints::Pool* pool, Instant now, uint32_t on_their_way) {
  Waiter* chosen = nullptr;
  if (band.options.fairness == Fairness::round_robin) {
    band.turns.for_each([&](Flow& flow) {
      if (chosen == nullptr && may_go(**flow.waiters.begin(), pool, now, on_their_way)) chosen = *flow.waiters.begin();
    });
    if (chosen != nullptr) {
      chosen->flow_->unlink();
      band.turns.push_back(*chosen->flow_);
    }
    return chosen;
  }
  while (true) {
    Waiter* best = nullptr;
    for (auto& [id, flow] : band.flows) {
      Waiter* const head = *flow.waiters.begin();
      if (std::find(full_.begin(), full_.end(), head->demand.model) != full_.end()) continue;
      if (best == nullptr || Earlier()(head, best)) best = head;
    }
    if (best == nullptr || may_go(*best, pool, now, on_their_way)) return best;
  }
}

bool FlowController::may_go(const Waiter& waiter, const endpoints::Pool* pool, Instant now, uint32_t on_their_way) {
  if (pool == nullptr || !options_.enabled) return true;
  if (std::find(full_.begin(), full_.end(), waiter.demand.model) != full_.end()) return false;
  const Room room = detector_.room(*pool, waiter.demand, now, on_their_way + 1);
  if (!room.any_endpoint && options_.no_endpoint_ttl <= Duration::zero()) return true;
  if (room.requests > on_their_way) return true;
  full_.push_back(waiter.demand.model);
  return false;
}

}  // namespace penstock::admission
