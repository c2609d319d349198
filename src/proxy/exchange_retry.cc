// What becomes of an attempt that failed: whose fault it is, and whether another endpoint may do better.
#include "exchange.h"
#include "failures.h"
#include "penstock/base/assert.h"
#include "penstock/base/log.h"

namespace penstock::proxy {

// A server whose engine has died answers all that it had with 500. Another one may do better, but a request that fails
// there, too, is to blame itself.
std::optional<AttemptFailure> Exchange::worth_another(const http::Head& answer) const {
  const uint16_t status = answer.status;
  if (status == 500 && inference_ && attempts_ == 1) return AttemptFailure::status_500;
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
    // The endpoint closed an idle connection just as we used it. It has not seen the request: the same endpoint, on a
    // fresh connection, is no second attempt.
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

// What the answer says of itself: that the server has failed, or that its engine, which is being stopped, has ended the
// request before its time.
std::optional<AttemptFailure> Exchange::given_up() const {
  if (!inference_) return std::nullopt;  // what passes unread may mean something else by it
  if (watch_.answer().server_busy()) return AttemptFailure::server_full;  // its head had to be sent before it knew
  if (watch_.answer().server_failed()) return AttemptFailure::error_event;
  if (watch_.answer().finish_reason() == "abort") return AttemptFailure::aborted;
  return std::nullopt;
}

// Nothing of the answer has reached the client yet. True: the exchange goes on elsewhere, or has ended.
bool Exchange::leave_given_up() {
  const std::optional<AttemptFailure> failure = given_up();
  if (!failure || given_up_) return false;
  if (try_again(*failure)) return true;
  given_up_ = true;
  return false;
}

// The whole of a 503 is here, and nothing of it has reached the client. As leave_given_up().
bool Exchange::leave_refusal() {
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
  context_.observer.endpoint_ejected(*endpoint_);
}

bool Exchange::anybody_left() {
  routing::Features any;
  any.model = routed_model();
  any.header_fields = head_.fields;
  any.test_endpoints = head_.test_endpoints;
  return decide(any, context_.loop.now(), nullptr).endpoint != nullptr;
}

// Marks the endpoint as tried, and takes what another one costs of the retry budget. False, and nothing is taken:
// attempts or budget are used up, or nobody else is left.
// The budget is for pools that fail under their load. An endpoint that died has left its requests to the others in any
// case, and one that is full has done nothing for them: the first retry of each is free, however many there are at
// once.
bool Exchange::claim_retry(AttemptFailure failure) {
  // It may fail twice: by its status, which was good enough for want of another endpoint, and then before its body.
  if (tried_count_ == 0 || tried_[tried_count_ - 1] != endpoint_) {
    PENSTOCK_ASSERT(tried_count_ < tried_.size());
    tried_[tried_count_++] = endpoint_;
  }
  if (attempts_ >= attempts_max_ || !anybody_left()) return false;
  return (attempts_ == 1 && left_by(failure)) || context_.retries.try_take(context_.loop.now());
}

void Exchange::go_elsewhere() {
  if (attempt_ != nullptr) attempt_->cancel();
  attempt_ = nullptr;
  attempt_deadline_.cancel();
  reservation_.release();
  prefill_reservation_.release();
  gateway_.room_made();
  fresh_connection_ = false;
  empty(answer_head_);
  watch_.reset();
  if (reframed_ != nullptr) reframed_->gathered.reset();
  given_up_ = false;
  response_bytes_ = 0;
  step_ = Step::route;
  advance();
}

// An attempt failed before the first body byte: moves to the next-best endpoint if attempts and budget allow.
// False: it may not, and nothing of the attempt was undone but its penalty. True: the exchange goes on or has ended.
bool Exchange::try_again(AttemptFailure failure) {
  if (blames_endpoint(failure)) penalise(kind_of(failure), to_string(failure));
  last_failure_ = error_of(failure);
  const bool again = claim_retry(failure);
  context_.observer.attempt_failed(failure, again);
  if (again) go_elsewhere();
  return again;
}

// No penalty: the probe that took the endpoint out also brings it back. Where nobody else may answer, it is waited for.
void Exchange::on_silent(uint32_t slot, uint32_t incarnation) {
  if (attempt_ == nullptr || endpoint_->slot != slot || endpoint_->incarnation != incarnation) return;
  if (!claim_retry(AttemptFailure::probe_failed)) return;
  last_failure_ = error_of(AttemptFailure::probe_failed);
  context_.observer.attempt_failed(AttemptFailure::probe_failed, true);
  go_elsewhere();
}

}  // namespace penstock::proxy
