// The admission step of an exchange: does it continue now, wait for room, or get refused? Also eviction, and the
// accounting of programs (fairness ids).
#include <utility>

#include "exchange.h"

namespace penstock::proxy {

Exchange::Progress Exchange::admit() {
  if (held_ != nullptr) return Progress::ready;  // it has waited, and was granted
  if (gateway_.in_flight() > context_.options.requests_max) {
    context_.observer.limit_hit("requests_per_shard");
    return refused(ErrorCode::too_many_requests);
  }
  if (context_.budget.used() - body_.capacity() > context_.budget.first_limit()) {
    context_.observer.limit_hit("memory");
    return refused(ErrorCode::memory_budget_exhausted);
  }
  context_.retries.on_request(context_.loop.now());
  return find_room();
}

// The usual case is cheap: no request waits, and the first endpoint that is asked has room. Requests that cost a model
// server next to nothing never wait. The work of those that were not read is guessed from their size.
Exchange::Progress Exchange::find_room() {
  const admission::FlowOptions& flow = context_.options.flow;
  const bool sheddable = priority_ < 0 && !flow.may_wait(priority_);
  if (!costs_work_ || context_.hold == nullptr || (!flow.enabled && !sheddable)) return Progress::ready;
  const endpoints::Pool* const pool = pool_id_.has_value() ? gateway_.pool(*pool_id_) : nullptr;
  if (pool == nullptr) return Progress::ready;  // route() refuses it

  const Instant now = context_.loop.now();
  const admission::SaturationDetector detector(flow.detector);
  admission::Demand demand = {
      .model = routed_model(), .uncached_tokens = prompt_tokens_, .max_tokens = request_.max_tokens.value_or(0)};
  const double ceiling = flow.enabled ? flow.usage.ceiling(priority_, flow.rank_of(priority_)) : 1;
  admission::Room room = detector.room(*pool, demand, now, 1, ceiling);
  const bool others_wait = flow.enabled && context_.hold->occupied();
  if (room.requests > 0 && !others_wait) return Progress::ready;
  // It may need less than its whole prompt: part of that may be cached.
  const routing::Features wanted = features();
  const routing::Prompt prompt{wanted.blocks, wanted.block_tokens, prompt_tokens_};
  const routing::Work work = context_.least_work.of(prompt, demand.model, *pool, now);
  demand.uncached_tokens = work.uncached_tokens;
  room = detector.room(*pool, demand, now, 1, ceiling);
  if (room.requests > 0 && !others_wait) return Progress::ready;
  if (!room.any_endpoint && flow.no_endpoint_ttl <= Duration{0}) return Progress::ready;  // route() refuses it
  if (sheddable && room.requests == 0) {
    context_.observer.limit_hit("saturation");
    if (flow.enabled) context_.observer.did_not_wait(pool->name, priority_, HoldOutcome::rejected_capacity);
    return refused(ErrorCode::saturated);
  }
  if (!flow.enabled) return Progress::ready;
  held_ = std::make_unique<HeldExchange>(*this);
  held_->demand = demand;
  held_->work = work.prefill;
  held_->chain.assign(prompt.blocks.begin(), prompt.blocks.end());
  held_->prompt = {held_->chain, prompt.block_tokens, prompt.tokens};
  return wait_for_room(*pool, room.any_endpoint ? flow.ttl_of(priority_) : flow.no_endpoint_ttl);
}

Exchange::Progress Exchange::wait_for_room(const endpoints::Pool& pool, Duration time_to_live) {
  HeldExchange& held = *held_;
  held.fairness_id = fairness_id();
  held.priority = priority_;
  held.bytes = body_.view().size() + held.chain.size() * sizeof(uint64_t);
  held.arrived = context_.loop.now();
  held.deadline = time_to_live > Duration{0} ? held.arrived + time_to_live : Instant::max();
  held.slo_ttft_ms = head_.slo_ttft_ms;
  held.pool = pool.name;
  held.labels = {.fairness_id = held.fairness_id,
                 .pool = held.pool,
                 .model = counted_model(),
                 .target_model = routed_model(),
                 .priority = priority_};
  if (!context_.hold->offer(held, gateway_, *pool_id_)) {
    held_.reset();
    if (context_.hold->closed()) return refused(ErrorCode::shutting_down);
    context_.observer.limit_hit("flow_control");
    return refused(ErrorCode::queue_full);
  }
  if (time_to_live > Duration{0}) context_.loop.arm_at(hold_deadline_, held.deadline);
  gateway_.room_made();
  return Progress::pending;
}

std::string_view Exchange::fairness_id() const {
  return head_.fairness_id.empty() ? admission::default_flow : std::string_view(head_.fairness_id);
}

RequestKind Exchange::kind() const {
  if (!model_read_) return {.fairness_id = fairness_id(), .priority = priority_};
  return {request_.model, target_model_, fairness_id(), priority_};
}

RequestKind Exchange::counted_kind() const {
  return {counted_model(), target_model_, fairness_id(), priority_};
}

// Called when the exchange is routed for the first time.
void Exchange::count_program(Instant now) {
  admission::Programs* const programs = context_.hold == nullptr || !costs_work_ ? nullptr : context_.hold->programs();
  if (programs != nullptr) program_ = programs->started(admission::Programs::key_of(fairness_id()), now);
}

// Charges the request to its program. An answer token costs as much as two prompt tokens. Without usage both counts are
// estimated. A request without an answer costs nothing.
void Exchange::charge_program(const std::optional<openai::Usage>& usage, uint64_t answer_tokens, Instant now) {
  if (program_.key == 0) return;
  const uint64_t prompt = usage.has_value() ? usage->prompt_tokens : prompt_tokens_;
  const double cost = answer_started_ ? static_cast<double>(prompt) + 2.0 * static_cast<double>(answer_tokens) : 0;
  context_.hold->programs()->finished(std::exchange(program_, {}), cost, now);
}

// Called when its load is reserved and its priority is negative. Only requests under flow control can be evicted.
// Also while eviction is off: a reload may turn it on.
void Exchange::make_evictable() {
  if (!costs_work_ || context_.hold == nullptr) return;
  if (evictable_ == nullptr) evictable_ = std::make_unique<EvictableExchange>(*this, priority_);
  context_.hold->add_running(*evictable_, gateway_, *pool_id_,
                             {.slot = endpoint_->slot,
                              .incarnation = endpoint_->incarnation,
                              .prefill_tokens = static_cast<uint32_t>(reservation_.seen_prefill_tokens()),
                              .kv_tokens = static_cast<uint32_t>(reservation_.kv_tokens())});
}

void Exchange::on_hold_deadline() {
  const endpoints::Pool* const pool = gateway_.pool(*pool_id_);
  const admission::SaturationDetector detector(context_.options.flow.detector);
  const bool no_endpoint =
      pool == nullptr || !detector.room(*pool, {.model = routed_model()}, context_.loop.now()).any_endpoint;
  leave_queue(HoldOutcome::evicted_ttl);
  context_.observer.limit_hit("flow_control_ttl");
  refuse(no_endpoint ? ErrorCode::no_endpoint : ErrorCode::queue_timeout);
}

// Also called for requests that did not have to wait. A request that leaves without having reserved its load leaves its
// room to the next one.
void Exchange::leave_queue(HoldOutcome outcome) {
  if (outcome == HoldOutcome::dispatched && attempts_ == 0) {
    count_program(context_.loop.now());
    if (held_ == nullptr && costs_work_ && context_.options.flow.enabled) {
      const endpoints::Pool* const pool = gateway_.pool(*pool_id_);
      if (pool != nullptr) context_.observer.did_not_wait(pool->name, priority_, outcome);
    }
  }
  if (held_ == nullptr) return;
  hold_deadline_.cancel();
  hold_time_ = context_.loop.now() - held_->arrived;
  context_.hold->leave(*held_, outcome, context_.loop.now());
  held_.reset();
  gateway_.room_made();
}

}  // namespace penstock::proxy
