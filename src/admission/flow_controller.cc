#include "penstock/admission/flow_controller.h"

#include <algorithm>
#include <cmath>

#include "penstock/admission/awaiting.h"
#include "penstock/base/assert.h"

namespace penstock::admission {
namespace {

constexpr double slo_ttft_max = 1e6;  // seconds: a header may say anything

}  // namespace

FlowController::FlowController(const FlowOptions& options, const routing::PrefixIndex* index, const Programs* programs)
    : options_(options), detector_(options.detector), programs_(programs) {
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
    if (made) band->second.options = options_.options_of(waiter->priority);
    insert(*waiter, band->second);
  }
}

// ---- in ----

bool FlowController::offer(Waiter& waiter) {
  const auto over = [](uint64_t used, uint64_t more, uint64_t limit) { return limit > 0 && used + more > limit; };
  if (over(requests_, 1, options_.requests_max) || over(bytes_, waiter.bytes, options_.bytes_max)) return false;
  const auto found = bands_.find(waiter.priority);
  const BandOptions limits = found == bands_.end() ? options_.options_of(waiter.priority) : found->second.options;
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
      // Waiting lowers the key of all requests at the same rate, so the order does not depend on the time of
      // comparison.
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
    flow->second.program = Programs::key_of(waiter.fairness_id);
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
    if (options_.usage.kind != UsageLimit::same) full_.clear();  // a ceiling of its own
    const double ceiling = ceiling_of(priority, band, pool, now);
    if (Waiter* const waiter = next_of(band, {pool, now, on_their_way, ceiling})) {
      remove(*waiter);
      return waiter;
    }
  }
  return nullptr;
}

// Examines waiting requests in the order in which next() would, one for each model, because later requests for the same
// model could not go before it.
Sheddable* FlowController::to_cut(Sheddables& running, const endpoints::Pool& pool, Instant now, int* for_priority) {
  if (!options_.enabled || !options_.evicts || running.empty() || !running.settled(detector_, pool, now))
    return nullptr;
  full_.clear();
  const bool own_ceilings = options_.usage.kind != UsageLimit::same;
  for (auto& [priority, band] : bands_) {
    if (priority <= running.lowest_priority()) return nullptr;
    if (own_ceilings) full_.clear();
    *for_priority = priority;
    const double ceiling = own_ceilings ? options_.usage.ceiling(priority, rank_of(priority)) : 1;
    if (ceiling <= 0) continue;  // this priority never gets room
    Sheddable* chosen = nullptr;
    first_of(band, now, [&, priority = priority](const Waiter& waiter) {
      if (is_full(waiter)) return false;
      chosen = running.choose({&pool, &detector_, waiter.demand, priority, ceiling}, now);
      if (chosen == nullptr) full_.push_back(waiter.demand.model);
      return chosen != nullptr;
    });
    if (chosen != nullptr) return chosen;
  }
  return nullptr;
}

// The rank among the priorities that are configured and those that wait.
Rank FlowController::rank_of(int priority) const {
  Rank rank = options_.rank_of(priority);
  for (const auto& [other, waiting] : bands_) {
    const bool told = std::any_of(options_.bands.begin(), options_.bands.end(),
                                  [other = other](const PriorityBand& one) { return one.priority == other; });
    if (!told) rank.meet(priority, other);
  }
  return rank;
}

// A reflective ceiling that is reached still lets a request pass now and then, the more rarely the fuller the pool is.
double FlowController::ceiling_of(int priority, Band& band, const endpoints::Pool* pool, Instant now) {
  if (options_.usage.kind == UsageLimit::same) return 1;
  const Rank rank = rank_of(priority);
  const double ceiling = options_.usage.ceiling(priority, rank);
  if (options_.usage.kind != UsageLimit::reflective || pool == nullptr || rank.above == 0) return ceiling;
  const double saturation = detector_.saturation(*pool, now);
  if (saturation < ceiling || saturation >= 1) return ceiling;
  const auto period = static_cast<uint32_t>(std::max(1.0, std::round(std::min(saturation / (1 - saturation), 1e6))));
  return ++band.looks % period == 0 ? 1 : ceiling;
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

// The first request of the first flow, in the band's fairness order, that may go. A model whose endpoints are full does
// not hold up requests for other models.
Waiter* FlowController::next_of(Band& band, const Look& look) {
  Waiter* const chosen = first_of(band, look.now, [&](const Waiter& waiter) { return may_go(waiter, look); });
  if (chosen != nullptr && band.options.fairness == Fairness::round_robin) {
    chosen->flow_->unlink();
    band.turns.push_back(*chosen->flow_);
  }
  return chosen;
}

// The first request of a flow, in the band's fairness order, that is accepted. accept(waiter) must add the model of a
// request that it does not accept to full_.
template <typename Accept>
Waiter* FlowController::first_of(Band& band, Instant now, const Accept& accept) {
  if (band.options.fairness == Fairness::round_robin) {
    Waiter* chosen = nullptr;
    band.turns.for_each([&](Flow& flow) {
      if (chosen == nullptr && accept(**flow.waiters.begin())) chosen = *flow.waiters.begin();
    });
    return chosen;
  }
  while (true) {
    Waiter* const best = band.options.fairness == Fairness::global_strict ? best_of(band) : neediest(band, now);
    if (best == nullptr || accept(*best)) return best;
  }
}

Waiter* FlowController::best_of(const Band& band) {
  Waiter* best = nullptr;
  for (const auto& [id, flow] : band.flows) {
    Waiter* const head = *flow.waiters.begin();
    if (!is_full(*head) && (best == nullptr || Earlier()(head, best))) best = head;
  }
  return best;
}

// Requests without a fairness id belong to no session: each of them counts as a first turn.
FlowController::Contender FlowController::contender(const Flow& flow, Fairness fairness, Instant now) const {
  Waiter* const head = *flow.waiters.begin();
  Contender out{.head = head, .had = 0, .waited = std::max(to_seconds(now - head->arrived), 0.0)};
  if (fairness == Fairness::least_service) {
    if (programs_ != nullptr) out.had = programs_->service(flow.program, now);
  } else {
    out.had = programs_ == nullptr || flow.self->first == default_flow
                  ? 1
                  : programs_->turn(flow.program, head->arrived, now);
  }
  return out;
}

// The flow that is next by the use of programs. least_service: a weighted sum of service received and waiting time,
// both scaled to 0..1 among the waiting flows. turn_priority: the highest number of turns, waiting time included. Among
// equals, the request that came first.
Waiter* FlowController::neediest(const Band& band, Instant now) {
  const Fairness fairness = band.options.fairness;
  const ProgramOptions& by = options_.programs;
  contenders_.clear();
  double had[2] = {INFINITY, 0}, waited[2] = {INFINITY, 0};  // the least and the most
  for (const auto& [id, flow] : band.flows) {
    if (is_full(**flow.waiters.begin())) continue;
    const Contender& one = contenders_.emplace_back(contender(flow, fairness, now));
    had[0] = std::min(had[0], one.had), had[1] = std::max(had[1], one.had);
    waited[0] = std::min(waited[0], one.waited), waited[1] = std::max(waited[1], one.waited);
  }
  const auto within = [](double value, const double(&range)[2]) {
    return range[1] > range[0] ? (value - range[0]) / (range[1] - range[0]) : 0;
  };
  Waiter* best = nullptr;
  double most = -INFINITY;
  for (const Contender& one : contenders_) {
    const double score = fairness == Fairness::turn_priority ? one.had + by.wait_turns * one.waited
                                                             : by.service_weight * (1 - within(one.had, had)) +
                                                                   by.wait_weight * within(one.waited, waited);
    if (score < most || (score == most && one.head->number_ > best->number_)) continue;
    best = one.head;
    most = score;
  }
  return best;
}

bool FlowController::is_full(const Waiter& waiter) const {
  return std::find(full_.begin(), full_.end(), waiter.demand.model) != full_.end();
}

bool FlowController::may_go(const Waiter& waiter, const Look& look) {
  if (look.pool == nullptr || !options_.enabled) return true;
  if (is_full(waiter)) return false;
  const Room room = detector_.room(*look.pool, waiter.demand, look.now, look.on_their_way + 1, look.ceiling);
  if (!room.any_endpoint &&
      !awaited_until(*look.pool, waiter.demand.model, waiter.arrived, look.now, options_.no_endpoint_ttl)) {
    return true;  // so that it is refused
  }
  if (room.requests > look.on_their_way) return true;
  full_.push_back(waiter.demand.model);
  return false;
}

}  // namespace penstock::admission
