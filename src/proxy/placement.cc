#include "placement.h"

#include <algorithm>
#include <utility>

#include "penstock/admission/awaiting.h"
#include "penstock/base/log.h"
#include "penstock/base/text.h"
#include "pool_choice.h"
#include "prompt_chain.h"

namespace penstock::proxy {

HeldPlacement::HeldPlacement(Placement& placement, PlacementEvents& to)
    : events(to), time_limit(net::Timer::of<&Placement::on_hold_deadline>(&placement)) {}

Placement::Placement(Gateway& gateway, Context& context, const Intake& intake, PlacementEvents& events)
    : gateway_(gateway), context_(context), intake_(intake), events_(events) {}

// The load is released before the entry among the running requests: who is told of that finds the room.
Placement::~Placement() {
  leave_queue(HoldOutcome::evicted_other);
  reservation_.release();
  prefill_reservation_.release();
  opinion_.reset();
  if (has_tunnel_) --gateway_.tunnels_;
  if (evictable_ != nullptr) context_.hold->remove_running(*evictable_, context_.loop.now());
}

const endpoints::Pool* Placement::pool() const {
  return intake_.pool_id().has_value() ? gateway_.pool(*intake_.pool_id()) : nullptr;
}

// ---- admit: does the request go on now, wait for room, or get refused? ----

Verdict Placement::admit() {
  if (held_ != nullptr) return Verdict::go_on();  // it has waited, and was granted
  if (attempts_ > 0) return find_room();          // see await_endpoint()
  if (gateway_.in_flight() > context_.options.requests_max) {
    context_.observer.limit_hit("requests_per_shard");
    return Verdict::refuse(ErrorCode::too_many_requests);
  }
  if (context_.budget.used() - intake_.body().capacity() > context_.budget.first_limit()) {
    context_.observer.limit_hit("memory");
    return Verdict::refuse(ErrorCode::memory_budget_exhausted);
  }
  if (intake_.head().websocket && !take_tunnel()) return Verdict::refuse(ErrorCode::too_many_tunnels);
  context_.retries.on_request(context_.loop.now());
  return find_room();
}

// Sessions last: without a limit of their own they could come to be all requests that the shard may have.
bool Placement::take_tunnel() {
  has_tunnel_ = gateway_.tunnels_ < context_.options.tunnels_max;
  if (has_tunnel_) ++gateway_.tunnels_;
  else context_.observer.limit_hit("tunnels_per_shard");
  return has_tunnel_;
}

// The usual case is cheap: no request waits, and the first endpoint that is asked has room. Requests that cost a model
// server next to nothing never wait. The work of those that were not read is guessed from their size.
Verdict Placement::find_room() {
  const admission::FlowOptions& flow = context_.options.flow;
  const int priority = intake_.priority();
  const bool sheddable = priority < 0 && !flow.may_wait(priority);
  if (!intake_.costs_work() || context_.hold == nullptr || (!flow.enabled && !sheddable)) return Verdict::go_on();
  const endpoints::Pool* const pool = this->pool();
  if (pool == nullptr) return Verdict::go_on();  // route() refuses it

  const Instant now = context_.loop.now();
  const admission::SaturationDetector detector(flow.detector);
  admission::Demand demand = {.model = intake_.routed_model(),
                              .uncached_tokens = intake_.prompt_tokens(),
                              .max_tokens = intake_.request().max_tokens.value_or(0)};
  const double ceiling = flow.enabled ? flow.usage.ceiling(priority, flow.rank_of(priority)) : 1;
  admission::Room room = detector.room(*pool, demand, now, 1, ceiling);
  const bool others_wait = flow.enabled && context_.hold->occupied();
  if (room.requests > 0 && !others_wait) return Verdict::go_on();
  // It may need less than its whole prompt: part of that may be cached.
  const routing::Features wanted = features(pool);
  const routing::Prompt prompt{wanted.blocks, wanted.block_tokens, intake_.prompt_tokens()};
  const routing::Work work = context_.least_work.of(prompt, demand.model, *pool, now);
  demand.uncached_tokens = work.uncached_tokens;
  room = detector.room(*pool, demand, now, 1, ceiling);
  if (room.requests > 0 && !others_wait) return Verdict::go_on();
  std::optional<Instant> awaited;
  if (!room.any_endpoint) {
    awaited = admission::awaited_until(*pool, demand.model, now, now, flow.no_endpoint_ttl);
    if (!awaited || sheddable) return Verdict::go_on();  // route() refuses it, or finds one that is no good
  }
  if (sheddable && room.requests == 0) {
    context_.observer.limit_hit("saturation");
    if (flow.enabled) context_.observer.did_not_wait(pool->name, priority, HoldOutcome::rejected_capacity);
    return Verdict::refuse(ErrorCode::saturated);
  }
  if (!flow.enabled) return Verdict::go_on();
  held_ = std::make_unique<HeldPlacement>(*this, events_);
  held_->demand = demand;
  held_->work = work.prefill;
  held_->chain.assign(prompt.blocks.begin(), prompt.blocks.end());
  held_->prompt = {held_->chain, prompt.block_tokens, prompt.tokens};
  const Duration time_to_live = flow.ttl_of(priority);
  return wait_for_room(*pool, awaited ? *awaited : time_to_live > Duration{0} ? now + time_to_live : Instant::max());
}

Verdict Placement::wait_for_room(const endpoints::Pool& pool, Instant deadline) {
  HeldPlacement& held = *held_;
  held.fairness_id = intake_.fairness_id();
  held.priority = intake_.priority();
  held.bytes = intake_.body().view().size() + held.chain.size() * sizeof(uint64_t);
  held.arrived = context_.loop.now();
  held.deadline = deadline;
  held.slo_ttft_ms = intake_.head().slo_ttft_ms;
  held.pool = pool.name;
  held.labels = {.fairness_id = held.fairness_id,
                 .pool = held.pool,
                 .model = intake_.counted_model(),
                 .target_model = intake_.routed_model(),
                 .priority = held.priority};
  if (!context_.hold->offer(held, gateway_, *intake_.pool_id())) {
    held_.reset();
    if (context_.hold->closed()) return Verdict::refuse(ErrorCode::shutting_down);
    context_.observer.limit_hit("flow_control");
    return Verdict::refuse(ErrorCode::queue_full);
  }
  if (deadline != Instant::max()) context_.loop.arm_at(held.time_limit, deadline);
  gateway_.room_made();
  return Verdict::wait();
}

void Placement::on_hold_deadline() {
  const endpoints::Pool* const pool = this->pool();
  const admission::SaturationDetector detector(context_.options.flow.detector);
  const bool no_endpoint =
      pool == nullptr || !detector.room(*pool, {.model = intake_.routed_model()}, context_.loop.now()).any_endpoint;
  leave_queue(HoldOutcome::evicted_ttl);
  context_.observer.limit_hit("flow_control_ttl");
  events_.on_held_too_long(no_endpoint ? ErrorCode::no_endpoint : ErrorCode::queue_timeout);
}

// Also called for requests that did not have to wait. A request that leaves without having reserved its load leaves its
// room to the next one.
void Placement::leave_queue(HoldOutcome outcome) {
  if (outcome == HoldOutcome::dispatched && attempts_ == 0) {
    count_program(context_.loop.now());
    if (held_ == nullptr && intake_.costs_work() && context_.options.flow.enabled) {
      const endpoints::Pool* const pool = this->pool();
      if (pool != nullptr) context_.observer.did_not_wait(pool->name, intake_.priority(), outcome);
    }
  }
  if (held_ == nullptr) return;
  hold_time_ += context_.loop.now() - held_->arrived;
  context_.hold->leave(*held_, outcome, context_.loop.now());
  held_.reset();
  gateway_.room_made();
}

// Called when its load is reserved and its priority is negative. Only requests under flow control can be evicted.
// Also while eviction is off: a reload may turn it on.
void Placement::make_evictable() {
  if (!intake_.costs_work() || context_.hold == nullptr) return;
  if (evictable_ == nullptr) evictable_ = std::make_unique<EvictablePlacement>(events_, intake_.priority());
  context_.hold->add_running(*evictable_, gateway_, *intake_.pool_id(),
                             {.slot = endpoint_->slot,
                              .incarnation = endpoint_->incarnation,
                              .prefill_tokens = static_cast<uint32_t>(reservation_.seen_prefill_tokens()),
                              .kv_tokens = static_cast<uint32_t>(reservation_.kv_tokens())});
}

// Called when the request is routed for the first time.
void Placement::count_program(Instant now) {
  const bool counts = context_.hold != nullptr && intake_.costs_work();
  admission::Programs* const programs = counts ? context_.hold->programs() : nullptr;
  if (programs != nullptr) program_ = programs->started(admission::Programs::key_of(intake_.fairness_id()), now);
}

// Charges the request to its program. An answer token costs as much as two prompt tokens. Without usage both counts are
// estimated. A request without an answer costs nothing.
void Placement::charge_program(const End& end, Instant now) {
  if (program_.key == 0) return;
  const uint64_t prompt = end.usage.has_value() ? end.usage->prompt_tokens : intake_.prompt_tokens();
  const double cost = end.started ? static_cast<double>(prompt) + 2.0 * static_cast<double>(end.tokens) : 0;
  context_.hold->programs()->finished(std::exchange(program_, {}), cost, now);
}

// ---- route: which endpoint? ----

routing::Features Placement::features(const endpoints::Pool* pool) {
  const ForwardedHead& head = intake_.head();
  const openai::Request& request = intake_.request();
  routing::Features features;
  features.model = intake_.routed_model();
  features.kind = intake_.kind_number();
  features.session = intake_.session();
  features.fairness_id = head.fairness_id;
  features.priority = intake_.priority();
  features.streaming = request.stream;
  features.multimodal = request.multimodal;
  features.media = request.media;
  features.header_fields = head.fields.lines();
  features.test_endpoints = head.test_endpoints;
  features.planned = planned_;
  features.prompt_tokens = intake_.prompt_tokens();
  features.max_tokens = request.max_tokens.value_or(0);
  features.slo_ttft_ms = head.slo_ttft_ms;
  features.slo_tpot_ms = head.slo_tpot_ms;
  features.block_tokens = block_tokens(context_, pool);
  if (!intake_.inference() || !context_.hash_prompts) return features;
  if (held_ != nullptr && !context_.hash_told) {
    features.blocks = held_->chain;
    features.block_tokens = held_->prompt.block_tokens;  // the engines' own may have become known since
    return features;
  }
  hash_prompt(context_, intake_, pool, features);
  return features;
}

routing::Decision Placement::decide(const routing::Features& wanted, const endpoints::Pool* pool, Instant now,
                                    routing::Explanation* why) {
  if (pool == nullptr) return {.why_none = routing::NoEndpoint::pool_empty};
  return context_.router.decide(wanted, *pool, now, tried_, why);
}

Verdict Placement::route() {
  return choose(/*resumes=*/false);
}

Verdict Placement::choose(bool resumes) {
  net::Clock& clock = context_.loop.clock();
  const Instant before = clock.now(), now = context_.loop.now();
  if (attempts_ == 0) follow_response();
  const endpoints::Pool* const pool = this->pool();
  const routing::Features wanted = features(pool);
  routing::Explanation* const why = context_.observer.explanation_slot(now, intake_.explains() || resumes);
  const routing::Decision decision = decide(wanted, pool, now, why);
  if (why != nullptr) why->attempt = attempts_ + 1, why->resumes = resumes;
  if (decision.told_blocks.has_value()) context_.observer.told_index_asked(*decision.told_blocks);
  if (decision.endpoint != nullptr) {
    take(decision, wanted, now);
    if (intake_.explains() && why != nullptr) {
      explanation_ = std::make_unique<std::string>(why->to_header());  // before the observer takes it back
    }
  }
  const Duration cost = clock.now() - before;
  route_cost_ += cost;
  context_.observer.decision_made(cost, decision.endpoint != nullptr, decision.endpoint, intake_.routed_model());
  if (decision.endpoint == nullptr) return refuse_unrouted(decision.why_none);
  ++attempts_;
  return Verdict::go_on();
}

// Before the first decision: the only endpoint planned is the one that made the stored response that the request names.
// If that is gone, is ejected or has failed, the request goes by load, and the server that gets it says that it has no
// such response.
void Placement::follow_response() {
  if (context_.responses == nullptr || !intake_.pool_id() || intake_.named_response() == 0) return;
  const endpoints::Pool* const pool = this->pool();
  const auto owner = context_.responses->find(intake_.named_response(), context_.loop.now());
  const endpoints::EndpointView* const view =
      owner && pool != nullptr ? endpoint_at(*pool, owner->slot, owner->incarnation) : nullptr;
  using Lookup = ResponseOwners::Lookup;
  context_.responses->count(view != nullptr ? Lookup::found : owner ? Lookup::gone : Lookup::unknown);
  if (view == nullptr) return;
  planned_.assign(1, view->state);
}

void Placement::take(const routing::Decision& decision, const routing::Features& wanted, Instant now) {
  endpoint_ = decision.endpoint;
  predicted_ = decision.predicted;
  predicted_at_ = now;
  reserve(decision, wanted, now);
  if (intake_.priority() < 0) make_evictable();
  keep_plan(decision);
  context_.router.picked(wanted, decision, now);
  if (const auto& shadow = decision.shadow; shadow.has_value()) {
    context_.observer.shadow_decided(shadow->agrees, shadow->gain_seconds);
  }
  if (decision.split.has_value()) context_.observer.split_decided(*decision.split, intake_.routed_model());
  leave_queue(HoldOutcome::dispatched);
}

// Reserves the request's load on the chosen endpoint at once, so that every shard sees it.
void Placement::reserve(const routing::Decision& decision, const routing::Features& wanted, Instant now) {
  matched_blocks_ = decision.matched_blocks;
  prompt_blocks_ = static_cast<uint32_t>(wanted.blocks.size());
  prompt_block_tokens_ = wanted.block_tokens;
  const uint32_t prompt_tokens = intake_.prompt_tokens();
  const auto uncached = [&](uint32_t matched_blocks) {
    return prompt_tokens - std::min(prompt_tokens, matched_blocks * wanted.block_tokens);
  };
  const uint32_t output = intake_.request().max_tokens.value_or(context_.options.output_tokens_guess);
  const bool elsewhere = decision.prefill != nullptr;
  // Nothing is learnt of the pace from work that is only guessed.
  const bool observed = intake_.inference() && intake_.request().stream;
  reservation_ =
      routing::Reservation(*endpoint_, elsewhere ? 0 : uncached(matched_blocks_), prompt_tokens, output, now, observed);
  if (elsewhere) {
    reservation_.prefilled_elsewhere();
    prefill_reservation_ = routing::Reservation(*decision.prefill, uncached(decision.prefill_matched_blocks),
                                                prompt_tokens, 0, now, observed);
  }
  if (wanted.blocks.empty()) return;
  context_.index.record(wanted.blocks, endpoint_->slot);
  if (elsewhere) context_.index.record(wanted.blocks, decision.prefill->slot);
}

// Keeps what the decision says beside the endpoint: the endpoints to try next if this one fails, and header fields that
// tell it which servers prefill and encode.
void Placement::keep_plan(const routing::Decision& decision) {
  if (!decision.next.empty()) planned_.assign(decision.next.begin(), decision.next.end());
  stage_fields_.clear();
  if (decision.prefill != nullptr) {
    append_all(stage_fields_, "x-prefiller-host-port: ", decision.prefill->address, "\r\n");
  }
  if (decision.kv_source != nullptr) {
    append_all(stage_fields_, "x-kv-cache-source-host-port: ", decision.kv_source->address, "\r\n");
  }
  if (decision.encode.empty()) return;
  stage_fields_ += "x-encoder-hosts-ports: ";
  for (const endpoints::EndpointState* const encoder : decision.encode) {
    if (encoder != decision.encode.front()) stage_fields_ += ',';
    stage_fields_ += encoder->address;
  }
  stage_fields_ += "\r\n";
}

// There is nobody to ask, or nobody left. If others are ready, it is because of the model.
Verdict Placement::refuse_unrouted(routing::NoEndpoint why) const {
  if (!tried_.empty()) return Verdict::refuse(last_failure_);
  const endpoints::Pool* const pool = this->pool();
  const auto ready = [](const endpoints::EndpointView& view) { return view.readiness == endpoints::Readiness::ready; };
  const bool others = why == routing::NoEndpoint::none_ready && pool != nullptr &&
                      std::any_of(pool->endpoints.begin(), pool->endpoints.end(), ready);
  if (!others) return Verdict::refuse(error_of(why));
  return Verdict::refuse(
      error_of(why), "No model server that is ready serves the model " + cited_model(intake_.request().model) + ".");
}

// ---- how the endpoint answers ----

void Placement::answered_well(Instant sent) {
  routing::report_acceptance(*endpoint_, intake_.kind_number(), sent, context_.loop.now(), context_.options.ejection);
  if (opinion_ == nullptr) return;
  opinion_->contradicted(*endpoint_, intake_.target_model(), openai::to_string(intake_.request().api));
}

bool Placement::refused(const http::Head& answer) {
  routing::report_refusal(*endpoint_);
  forget_prompt();
  if (opinion().may_ask(answer.status) && ask_elsewhere(answer)) return true;
  opinion().refused_again();
  return false;
}

bool Placement::ask_elsewhere(const http::Head& answer) {
  if (attempts_spent() >= intake_.attempts_max()) return false;
  mark_tried();
  if (next_endpoint() != Next::ready) return false;
  const routing::Refusal refusal{
      .kind = intake_.kind_number(), .status = answer.status, .retry_after = retry_after_of(answer)};
  if (!opinion().ask(*endpoint_, refusal, reservation_)) return false;
  last_failure_ = ErrorCode::endpoints_unavailable;
  context_.observer.attempt_failed(answer.status == 429 ? AttemptFailure::status_429 : AttemptFailure::status_4xx,
                                   true);
  return true;
}

SecondOpinion& Placement::opinion() {
  if (opinion_ == nullptr) opinion_ = std::make_unique<SecondOpinion>(context_);
  return *opinion_;
}

// The endpoint has not computed the prompt, so it holds no more of it than before.
void Placement::forget_prompt() {
  if (!context_.hash_prompts || prompt_blocks_ == 0) return;
  const routing::Features of = features(pool());
  if (of.blocks.size() > matched_blocks_) context_.index.forget_tail(of.blocks, endpoint_->slot, matched_blocks_);
}

void Placement::heed_retry_after(const http::Head& answer) {
  const Duration wait = retry_after_of(answer);
  if (wait > Duration{0}) routing::report_busy(*endpoint_, wait, context_.loop.now(), context_.options.ejection);
}

void Placement::first_byte(Instant now, bool good) {
  if (good) {
    reservation_.first_token(now);
    prefill_reservation_.first_token(now);
    if (evictable_ != nullptr) evictable_->prefilled();
    gateway_.room_made();
  }
  prefill_reservation_.release();
}

void Placement::succeeded() {
  routing::report_success(*endpoint_, context_.loop.now(), context_.options.ejection);
}

void Placement::stored_response(uint64_t key) {
  if (context_.responses == nullptr) return;
  context_.responses->remember(key, {endpoint_->slot, endpoint_->incarnation}, context_.loop.now());
}

void Placement::penalise(Blame blame, std::string_view reason) {
  if (blame == Blame::none) return;
  const Instant now = context_.loop.now();
  const auto kind = blame == Blame::hard ? routing::FailureKind::hard : routing::FailureKind::soft;
  if (!routing::report_failure(*endpoint_, kind, now, context_.options.ejection)) return;
  const int64_t until_ns = endpoint_->health.ejected_until_ns.load(std::memory_order_relaxed);
  log::warn("endpoint is ejected", {{"endpoint", endpoint_->name},
                                    {"url", endpoint_->url},
                                    {"last_failure", reason},
                                    {"for_ms", (until_ns - now.time_since_epoch().count()) / 1'000'000}});
  context_.client.drop_idle(endpoint_->slot);
  context_.observer.endpoint_ejected(*endpoint_, Ejection::fails);
}

// ---- another endpoint ----

void Placement::mark_tried() {
  // The same endpoint may fail twice: by its status, with no other endpoint left, and then before its body.
  if (tried_.empty() || tried_.back() != endpoint_) tried_.push_back(endpoint_);
}

// Where this request could go next.
Placement::Next Placement::next_endpoint() {
  routing::Features any;
  any.model = intake_.routed_model();
  any.kind = intake_.kind_number();
  any.header_fields = intake_.head().fields.lines();
  any.test_endpoints = intake_.head().test_endpoints;
  const Instant now = context_.loop.now();
  const endpoints::EndpointState* const endpoint = decide(any, pool(), now, nullptr).endpoint;
  if (endpoint == nullptr) return Next::none;
  const bool out = routing::ejected(*endpoint, now) || routing::refuses_until_ns(*endpoint, any.kind, now) > 0;
  return out ? Next::ejected : Next::ready;
}

// Marks the endpoint as tried and takes one retry from the retry budget. False, and nothing is taken: the attempts or
// the budget are used up, or no other endpoint is left.
//
// An endpoint to which no connection could be made has seen nothing of the request. Such an attempt uses up neither
// attempts nor budget while an endpoint that is ready was not tried: at most as many follow as the pool has endpoints.
//
// The budget protects pools that fail under load. The first retry of a request is free if its endpoint does no more
// work for it (the endpoint died or was full): moving the request then adds no load, however many requests move at
// once.
bool Placement::claim(AttemptFailure failure) {
  const FailureInfo& info = info_of(failure);
  mark_tried();
  const Next next = next_endpoint();
  if (next == Next::ready && info.nothing_was_sent) {
    ++attempts_unsent_;
    last_failure_ = info.error;
    return true;
  }
  const bool spent = next == Next::none || attempts_spent() >= intake_.attempts_max();
  const bool free = !spent && attempts_spent() == 1 && info.work_has_stopped;
  const bool again = free || (!spent && context_.retries.try_take(context_.loop.now())) || return_to_refuser();
  if (again || failure != AttemptFailure::probe_failed) last_failure_ = info.error;
  return again;
}

// The servers are gone with what they did for the request: it is as if it had not been sent. What was sent counts
// towards the attempts all the same, for it may be the request that kills them.
std::optional<Duration> Placement::await_endpoint(AttemptFailure failure) {
  constexpr Duration first_pause = milliseconds(100), longest_pause = seconds(1);
  const FailureInfo& info = info_of(failure);
  const admission::FlowOptions& flow = context_.options.flow;
  if (info.blame != Blame::hard || !intake_.costs_work() || context_.hold == nullptr || !flow.enabled) return {};
  if (intake_.priority() < 0 && !flow.may_wait(intake_.priority())) return {};
  if (next_endpoint() != Next::none) return {};
  Duration pause = first_pause, paused{0};
  for (uint8_t i = 0; i < returns_; ++i) paused += pause, pause = std::min(2 * pause, longest_pause);
  if (paused >= flow.no_endpoint_ttl || returns_ == UINT8_MAX) return {};
  if (!info.nothing_was_sent) {
    if (!info.work_has_stopped || attempts_spent() >= intake_.attempts_max()) return {};
    if (attempts_spent() > 1 && !context_.retries.try_take(context_.loop.now())) return {};
  } else {
    ++attempts_unsent_;
  }
  ++returns_;
  leave_endpoint(/*load_stays=*/false);
  endpoint_ = nullptr;  // nothing keeps it any more
  opinion_.reset();
  tried_.clear();
  planned_.clear();
  return pause;
}

bool Placement::route_on() {
  planned_.clear();
  tried_.assign(1, endpoint_);
  if (next_endpoint() != Next::ready) tried_.clear();
  if (choose(/*resumes=*/true).own_answer() != nullptr) return false;
  gateway_.room_made();  // the load on the endpoint before is released
  return true;
}

bool Placement::return_to_refuser() {
  endpoints::EndpointState* const refuser = opinion_ == nullptr ? nullptr : opinion_->take_refuser();
  if (refuser == nullptr) return false;
  std::erase(tried_, refuser);
  planned_.assign(1, refuser);
  return true;
}

void Placement::leave_endpoint(bool load_stays) {
  if (load_stays) opinion().keep(reservation_);
  reservation_.release();
  prefill_reservation_.release();
  gateway_.room_made();
}

// ---- the end ----

void Placement::finish(const End& end) {
  const Instant now = context_.loop.now();
  leave_queue(end.if_held);
  if (end.usage.has_value() && end.usage->cached_tokens.has_value()) reservation_.cached(*end.usage->cached_tokens);
  charge_program(end, now);
  if (end.ok) reservation_.finished(now, static_cast<uint32_t>(end.tokens));
}

void Placement::describe(ExchangeRecord& record, Instant began) const {
  record.stage[static_cast<size_t>(Stage::route)] = route_cost_;
  record.stage[static_cast<size_t>(Stage::hold)] = hold_time_;
  record.endpoint = endpoint_;
  record.attempts = attempts_;
  record.matched_blocks = matched_blocks_;
  record.prompt_blocks = prompt_blocks_;
  record.block_bytes = prompt_block_tokens_ * context_.options.prefix.bytes_per_token;
  if (!predicted_.known) return;
  record.predicted_first_token = predicted_at_ - began + from_seconds(predicted_.first_token);
  record.predicted_per_token = predicted_.per_token;
}

}  // namespace penstock::proxy
