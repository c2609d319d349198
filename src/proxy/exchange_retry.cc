// Attempts that fail: which failures are retried, when another endpoint is tried, and which endpoint is penalised.
#include "exchange.h"
#include "failures.h"
#include "penstock/base/assert.h"
#include "penstock/base/log.h"

namespace penstock::proxy {

// The failure that this head reports, if another endpoint may do better. A server whose engine has died answers its
// pending requests with 500, so a first 500 is retried; if a second server also answers 500, the request is at fault.
std::optional<AttemptFailure> Exchange::failure_by_status(const http::Head& answer) const {
  const uint16_t status = answer.status;
  if (status == 500 && inference_ && attempts_spent() == 1) return AttemptFailure::status_500;
  if (status == 502) return AttemptFailure::status_502;
  if (status == 503 && !answer.get(http::Field::retry_after).empty()) return AttemptFailure::server_full;
  if (status == 503) return AttemptFailure::status_503;
  if (status == 504) return AttemptFailure::status_504;
  return std::nullopt;
}

void Exchange::on_response_failed(upstream::Failure failure, bool received, bool reused) {
  const bool whole_chunks = attempt_->between_chunks();
  attempt_ = nullptr;
  attempt_deadline_.cancel();
  const bool silent = !received && (failure == upstream::Failure::reset || failure == upstream::Failure::closed);
  if (reused && silent && !answer_started_) {
    // The endpoint closed an idle connection just as it was reused, so it has not seen the request. Sending it again to
    // the same endpoint, on a fresh connection, does not count as a retry.
    context_.observer.attempt_failed(AttemptFailure::reuse_race, true);
    fresh_connection_ = true;
    step_ = Step::connect;
    return advance();
  }
  const AttemptFailure reason = attempt_failure_of(failure, answer_started_);
  if (answer_started_) return break_stream(reason, whole_chunks);
  if (error_of(reason) == ErrorCode::connect_failed) gateway_.report_unreachable(*endpoint_);
  if (reason == AttemptFailure::no_socket) context_.observer.limit_hit("descriptors");
  if (try_again(reason)) return;
  refuse(last_failure_);
}

// The answer reports that its server has failed, or it is over before its own end. `good`: what may still be relayed of
// the piece that has just arrived. If nothing has reached the client, another endpoint is tried; but not for an error
// that the server lays to the request, which the client gets as it is.
void Exchange::answer_failed(std::string_view good) {
  AttemptFailure failure = *watch_.failure();
  if (!answer_started_ && failure != AttemptFailure::refused_in_stream) {
    if (!try_again(failure)) refuse(last_failure_);
    return;
  }
  // A server that says in the middle of its answer that it is full has failed: it had begun.
  if (failure == AttemptFailure::server_full) failure = AttemptFailure::error_event;
  bool whole_chunks = false;
  if (relay_good(good, &whole_chunks)) break_stream(failure, whole_chunks);
}

// A 503, all of which has been gathered: its body says whether the server is only full.
bool Exchange::retry_refusal() {
  return try_again(openai::says_full(reframed_->gathered.view()) ? AttemptFailure::server_full
                                                                 : AttemptFailure::status_503);
}

void Exchange::penalise(routing::FailureKind kind, std::string_view reason) {
  const Instant now = context_.loop.now();
  if (!routing::report_failure(*endpoint_, kind, now, context_.options.ejection)) return;
  const int64_t until_ns = endpoint_->health.ejected_until_ns.load(std::memory_order_relaxed);
  log::warn("endpoint is ejected", {{"endpoint", endpoint_->name},
                                    {"url", endpoint_->url},
                                    {"last_failure", reason},
                                    {"for_ms", (until_ns - now.time_since_epoch().count()) / 1'000'000}});
  context_.client.drop_idle(endpoint_->slot);
  context_.observer.endpoint_ejected(*endpoint_, Ejection::fails);
}

void Exchange::mark_tried() {
  // The same endpoint may fail twice: by its status, with no other endpoint left, and then before its body.
  if (tried_.empty() || tried_.back() != endpoint_) tried_.push_back(endpoint_);
}

// Where this request could go next.
Exchange::Next Exchange::next_endpoint() {
  routing::Features any;
  any.model = routed_model();
  any.kind = request_kind();
  any.header_fields = head_.fields;
  any.test_endpoints = head_.test_endpoints;
  const Instant now = context_.loop.now();
  const endpoints::EndpointState* const endpoint = decide(any, now, nullptr).endpoint;
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
bool Exchange::claim_retry(AttemptFailure failure) {
  mark_tried();
  const Next next = next_endpoint();
  if (next == Next::ready && nothing_was_sent(failure)) {
    ++attempts_unsent_;
    return true;
  }
  if (next == Next::none || attempts_spent() >= attempts_max_) return return_to_refuser();
  if (attempts_spent() == 1 && work_has_stopped(failure)) return true;
  return context_.retries.try_take(context_.loop.now()) || return_to_refuser();
}

// `load_stays`: the endpoint has answered, only not well (see FirstAnswer).
void Exchange::go_elsewhere(bool load_stays) {
  if (attempt_ != nullptr) attempt_->cancel();
  attempt_ = nullptr;
  attempt_deadline_.cancel();
  if (load_stays && opinion_ == Opinion::none) keep_reservation();
  reservation_.release();
  prefill_reservation_.release();
  gateway_.room_made();
  fresh_connection_ = false;
  recycle(answer_head_);
  watch_.reset();
  if (reframed_ != nullptr) reframed_->gathered.reset();
  response_bytes_ = 0;
  step_ = Step::route;
  advance();
}

// An attempt failed before the first body byte: moves to the next-best endpoint if attempts and budget allow.
// True: the exchange continues there, or has ended. False: it may not move; the endpoint is penalised, and the attempt
// is left as it is.
bool Exchange::try_again(AttemptFailure failure) {
  if (blames_endpoint(failure)) penalise(kind_of(failure), to_string(failure));
  last_failure_ = error_of(failure);
  const bool again = claim_retry(failure);
  context_.observer.attempt_failed(failure, again);
  if (again) go_elsewhere(has_answered(failure));
  return again;
}

// Without a penalty: the health probe that took the endpoint out also brings it back. If no other endpoint is left, the
// exchange keeps waiting for this one.
void Exchange::on_silent(uint32_t slot, uint32_t incarnation) {
  if (attempt_ == nullptr || endpoint_->slot != slot || endpoint_->incarnation != incarnation) return;
  if (!claim_retry(AttemptFailure::probe_failed)) return;
  last_failure_ = error_of(AttemptFailure::probe_failed);
  context_.observer.attempt_failed(AttemptFailure::probe_failed, true);
  go_elsewhere(/*load_stays=*/false);
}

// A stream that still brings something is left alone, however slow the probes are; so is one that is not read because
// its client is slow.
void Exchange::on_silent_stream(uint32_t slot, uint32_t incarnation, Instant since) {
  if (attempt_ == nullptr || endpoint_->slot != slot || endpoint_->incarnation != incarnation) return;
  const Duration limit = context_.options.unresponsive_timeout;
  const Instant heard = attempt_->heard_at();
  if (limit == Duration{0} || heard >= since || context_.loop.now() - heard < limit) return;
  break_stream(AttemptFailure::probe_failed, attempt_->between_chunks());
}

}  // namespace penstock::proxy
