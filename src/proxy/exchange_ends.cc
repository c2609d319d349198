// The ways in which an exchange ends. A caller of one of these functions must not touch the exchange afterwards.
#include <algorithm>

#include "exchange.h"
#include "failures.h"
#include "penstock/base/assert.h"
#include "penstock/http/writer.h"
#include "penstock/openai/error_body.h"

namespace penstock::proxy {

void Exchange::answer_json(std::string_view body) {
  std::string answer;
  http::HeadWriter head(answer);
  head.status_line(200);
  head.field("content-type", "application/json");
  head.field("content-length", body.size());
  send_own_answer(answer, 200, body);
}

// The answer of a route rule that redirects.
void Exchange::redirect(const objects::Redirect& to) {
  const std::string location = to.location(head_.host, head_.path);
  if (location.empty()) return refuse(ErrorCode::malformed_request, "The request names no host to redirect to.");
  std::string answer;
  http::HeadWriter head(answer);
  head.status_line(to.status);
  head.field("location", location);
  head.field("content-length", 0);
  send_own_answer(answer, to.status, {});
}

// Sends an answer of our own that is not an error. `answer` is its head so far; the common fields are added.
void Exchange::send_own_answer(std::string& answer, uint16_t status, std::string_view body) {
  const bool keep_alive = client_->can_keep_alive();
  http::HeadWriter head(answer);
  head.field("x-request-id", head_.request_id);
  head.field("connection", keep_alive ? "keep-alive" : "close");
  head.end();
  if (!answer_changes_.empty()) change_answer_head(answer, answer_changes_);
  if (head_request_) body = {};
  answer += body;
  response_bytes_ = body.size();
  status_ = status;
  if (!client_->send(answer)) return lose_client();
  downstream::Connection& client = *client_;
  client_ = nullptr;
  finish(Outcome::ok);
  client.finish_response(keep_alive ? downstream::After::keep_alive : downstream::After::close);
}

// The endpoint failed, or a time limit passed, after the client had begun to receive the answer.
void Exchange::break_stream(AttemptFailure failure, bool whole_chunks) {
  if (blames_endpoint(failure)) penalise(routing::FailureKind::soft, to_string(failure));
  context_.observer.attempt_failed(failure, false);
  context_.observer.stream_broken(failure);
  reason_ = to_string(failure);
  break_off(ErrorCode::stream_broken, whole_chunks);
}

// Ends an answer in the middle, so that the client cannot take it for a complete one. A stream at an event boundary
// also gets an error event, which clients raise; unless the server has just sent one itself, or has said that it was
// done. If the end of the connection marks the end of the answer, only a reset shows that the answer is incomplete.
void Exchange::break_off(ErrorCode why, bool whole_chunks) {
  const bool until_close = framing_ == Framing::until_close;
  const bool can_insert = framing_ == Framing::same ? whole_chunks : framing_ != Framing::none;
  const bool says_why = can_insert && watch_.between_events() && !watch_.ends_in_error() && !watch_.answer().saw_done();
  const bool sent = !says_why || client_->send(error_event(why));
  downstream::Connection& client = *client_;
  client_ = nullptr;
  finish(info_of(why).outcome);
  if (!sent) return client.abandon();
  client.finish_response(until_close ? downstream::After::reset : downstream::After::close);
}

// The process ends. The connection is cut in the next turn.
void Exchange::on_ending() {
  cut_off(ErrorCode::shutting_down);
}

// The gateway itself ends the request (shutdown, eviction): no attempt has failed, and no endpoint is penalised.
void Exchange::cut_off(ErrorCode why) {
  if (!answer_started_) return refuse(why);
  reason_ = info_of(why).name;
  break_off(why, attempt_->between_chunks());
}

std::string Exchange::error_event(ErrorCode why) const {
  const ErrorInfo& info = info_of(why);
  std::string event;
  openai::append_error_event(event, openai::error_shape_of(head_.target()),
                             {.status = info.status,
                              .message = info.message,
                              .type = info.type,
                              .code = info.name,
                              .request_id = head_.request_id},
                             watch_.chunks());
  if (framing_ == Framing::until_close) return event;
  std::string chunk;
  http::append_chunk(chunk, event);
  return chunk;
}

void Exchange::on_gone(downstream::Gone why) {
  using downstream::Gone;
  count_unsent(client_->unsent());
  client_ = nullptr;
  // Counts as a success of the endpoint: if clients stop most streams early, few streams come to their end.
  const bool left = why == downstream::Gone::closed || why == downstream::Gone::reset;
  if (left && answer_started_ && status_ < 400) {
    routing::report_success(*endpoint_, context_.loop.now(), context_.options.ejection);
  }
  const bool slow = why == Gone::write_timeout || why == Gone::too_slow;
  reason_ = why == Gone::write_timeout ? "write_timeout"
            : why == Gone::too_slow    ? "read_too_slow"
            : why == Gone::cut         ? "cut"
                                       : "client_gone";
  finish(slow ? Outcome::timed_out_client : why == Gone::cut ? Outcome::draining : Outcome::client_gone);
}

// Bytes could neither be sent nor queued: the client is gone, or the memory budget is full.
void Exchange::lose_client() {
  const bool starved = client_->starved();
  client_->abandon();
  count_unsent(client_->unsent());
  client_ = nullptr;
  if (starved) context_.observer.limit_hit("memory");
  reason_ = starved ? info_of(ErrorCode::memory_budget_exhausted).name : "client_gone";
  finish(starved ? Outcome::overloaded : Outcome::client_gone);
}

// What was still queued for a client when it left has not been sent. (The queue may hold other bytes than the body's.)
void Exchange::count_unsent(uint64_t unsent) {
  response_bytes_ -= std::min(response_bytes_, unsent);
}

std::string_view Exchange::shown_endpoint() const {
  return shows_endpoint_ && endpoint_ != nullptr ? std::string_view(endpoint_->name) : "";
}

void Exchange::on_total_deadline() {
  if (!answer_started_) return refuse(request_complete_ ? ErrorCode::endpoint_timeout : ErrorCode::request_timeout);
  break_stream(AttemptFailure::total_timeout, attempt_->between_chunks());
}

// A route's limit for one attempt has passed. If nothing has reached the client, another endpoint may be faster.
void Exchange::on_attempt_deadline() {
  if (answer_started_) return break_stream(AttemptFailure::attempt_timeout, attempt_->between_chunks());
  if (!try_again(AttemptFailure::attempt_timeout)) refuse(last_failure_);
}

// ---- the ends ----

void Exchange::refuse(ErrorCode code, std::string_view message, std::string_view param) {
  PENSTOCK_ASSERT(!answer_started_);
  const ErrorInfo& info = info_of(code);
  status_ = info.status;
  reason_ = info.name;
  const bool keep_alive = client_->can_keep_alive();
  const bool sent = client_->send(error_answer(code, {.message = message,
                                                      .param = param,
                                                      .request_id = head_.request_id,
                                                      .endpoint = shown_endpoint(),
                                                      .shape = openai::error_shape_of(head_.target()),
                                                      .keep_alive = keep_alive,
                                                      .head_only = head_request_}));
  downstream::Connection& client = *client_;
  client_ = nullptr;
  finish(info.outcome);
  if (!sent) return client.abandon();
  client.finish_response(keep_alive ? downstream::After::keep_alive : downstream::After::close);
}

void Exchange::finish(Outcome outcome) {
  PENSTOCK_ASSERT(step_ != Step::free && client_ == nullptr);
  const Instant now = context_.loop.now();
  if (attempt_ != nullptr) attempt_->cancel();
  attempt_ = nullptr;
  leave_queue(outcome == Outcome::client_gone ? HoldOutcome::evicted_cancelled : HoldOutcome::evicted_other);
  if (counted_running_) context_.observer.running_ended(running_as_);
  const std::optional<openai::Usage>& usage = watch_.answer().usage();
  const bool text = inference_ && model_read_ && !request_.multimodal && request_.prompt_token_ids == 0;
  if (text && usage.has_value()) context_.tokens.learn(target_model_, request_.prompt_bytes, usage->prompt_tokens);
  // Without usage, each event of a stream counts as one token.
  const uint64_t tokens = usage.has_value() ? usage->completion_tokens : watch_.event_stream() ? watch_.chunks() : 0;
  if (usage.has_value() && usage->cached_tokens.has_value()) reservation_.cached(*usage->cached_tokens);
  charge_program(usage, tokens, now);
  if (outcome == Outcome::ok) reservation_.finished(now, static_cast<uint32_t>(tokens));
  report(outcome, now);
  reset();
  if (evictable_ != nullptr) context_.hold->remove_running(*evictable_, now);
  evictable_.reset();
  gateway_.room_made();
  gateway_.release(*this);
}

void Exchange::report(Outcome outcome, Instant now) {
  ExchangeRecord record;
  record.started_wall_us = began_wall_us_;
  record.total = now - began_;
  if (answer_started_) record.time_to_first_token = first_byte_ - began_;
  record.stage[static_cast<size_t>(Stage::read)] = request_read_ - began_;
  record.stage[static_cast<size_t>(Stage::route)] = route_cost_;
  record.stage[static_cast<size_t>(Stage::connect)] = connect_time_;
  record.stage[static_cast<size_t>(Stage::hold)] = hold_time_;
  if (answer_started_) {
    record.stage[static_cast<size_t>(Stage::first_byte)] = first_byte_ - attempt_sent_;
    record.stage[static_cast<size_t>(Stage::relay)] = now - first_byte_;
  }
  record.outcome = outcome;
  record.status = status_;
  record.method = head_.method;
  record.target = head_.path;
  record.client = client_ip_;
  record.request_id = head_.request_id;
  record.reason = reason_;
  record.trace_id = head_.trace_id();
  record.inference = inference_;
  record.streaming = watch_.event_stream();
  record.kind = kind();
  record.kind_number = running_as_;
  if (model_read_) record.api = openai::to_string(request_.api);
  record.endpoint = endpoint_;
  record.attempts = attempts_;
  record.request_bytes = request_bytes_;
  record.response_bytes = response_bytes_;
  if (const auto& usage = watch_.answer().usage(); usage.has_value()) {
    record.has_usage = true;
    record.prompt_tokens = usage->prompt_tokens;
    record.completion_tokens = usage->completion_tokens;
    record.cached_tokens = usage->cached_tokens;
  }
  record.chunks = watch_.chunks();
  record.finish_reason = watch_.answer().finish_reason();
  record.matched_blocks = matched_blocks_;
  record.prompt_blocks = prompt_blocks_;
  record.slo_ttft_ms = head_.slo_ttft_ms;
  record.slo_tpot_ms = head_.slo_tpot_ms;
  if (predicted_.known) record.predicted_first_token = predicted_at_ - began_ + from_seconds(predicted_.first_token);
  record.predicted_per_token = predicted_.known ? predicted_.per_token : 0;
  record.block_bytes = prompt_block_tokens_ * context_.options.prefix.bytes_per_token;
  context_.observer.finished(record);
}

// Undoes parse().
void Exchange::forget_parsed() {
  inference_ = costs_work_ = model_read_ = false;
  recycle(target_model_);
  request_.clear();
}

// Back to the state of a new exchange. Only little memory is kept.
void Exchange::reset() {
  step_ = Step::free;
  ListNode<AttemptTag>::unlink();
  total_deadline_.cancel();
  attempt_deadline_.cancel();
  reservation_.release();
  prefill_reservation_.release();
  if (first_answer_ != nullptr) first_answer_->reservation.release();
  opinion_ = Opinion::none;
  tried_.clear();
  body_.reset();
  head_.clear();
  forget_parsed();
  watch_.reset();
  recycle_all(spliced_model_, answer_head_, attempt_head_, client_ip_, stage_fields_);
  explanation_.reset();
  shows_endpoint_ = true;
  request_head_ = nullptr;
  rule_ = nullptr;
  pool_id_.reset();
  route_table_.reset();
  answer_changes_ = {};
  if (reframed_ != nullptr) reframed_->gathered.reset();
  priority_ = 0;
  path_named_ = path_allowed_ = false;
  head_request_ = request_complete_ = fresh_connection_ = model_listed_ = starved_ = false;
  running_as_ = no_kind;
  answer_started_ = answer_keep_alive_ = counted_running_ = restoring_ = false;
  endpoint_ = nullptr;
  attempts_ = attempts_unsent_ = planned_count_ = prompt_tokens_ = matched_blocks_ = prompt_blocks_ =
      prompt_block_tokens_ = 0;
  predicted_ = {};
  announced_body_ = request_bytes_ = response_bytes_ = 0;
  last_failure_ = ErrorCode::no_endpoint;
  framing_ = Framing::same;
  status_ = 0;
  reason_ = {};
  route_cost_ = connect_time_ = hold_time_ = attempt_limit_ = Duration{0};
}

}  // namespace penstock::proxy
