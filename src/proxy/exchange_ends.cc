// The ways in which an exchange ends. A caller of one of these functions must not touch the exchange afterwards.
#include "exchange.h"
#include "penstock/base/assert.h"
#include "penstock/openai/error_body.h"

namespace penstock::proxy {

// With an answer of the gateway's own. None of an endpoint's has begun.
void Exchange::respond(const OwnAnswer& own) {
  PENSTOCK_ASSERT(!relaying_);
  answer_.reset();
  const bool error = own.error != ErrorCode::none;
  const ForwardedHead& head = intake_->head();
  http::Fields fields = own.fields;
  std::string error_body;
  if (error) {
    append_error(fields, error_body, own.error,
                 {.message = own.message,
                  .param = own.param,
                  .request_id = head.request_id,
                  .endpoint = shown_endpoint(),
                  .shape = openai::error_shape_of(head.target())});
    reason_ = info_of(own.error).name.data();
  } else {
    fields.add("x-request-id", head.request_id);
    change_fields(fields, intake_->answer_changes());
  }
  own_status_ = error ? info_of(own.error).status : own.status;
  const std::string_view body = intake_->is_head() ? std::string_view() : error ? error_body : own.body;
  own_bytes_ = static_cast<uint32_t>(body.size());
  const auto form = intake_->is_head() ? downstream::BodyForm::none : downstream::BodyForm::sized;
  const auto sent = client_->begin({.status = own_status_, .fields = fields, .form = form}, body);
  downstream::Responder& client = let_go_of_client();
  finish(error ? info_of(own.error).outcome : Outcome::ok);
  if (sent == downstream::Sent::lost) client.abandon();
  else client.finish();
}

// The answer reports that its server has failed, or it is over before its own end. If nothing has reached the client,
// another endpoint is tried; but not for an error that the server lays to the request, which the client gets as it is.
void Exchange::answer_failed() {
  AttemptFailure failure = *answer_->failure();
  if (!relaying_ && failure != AttemptFailure::refused_in_stream) {
    if (!try_again(failure)) refuse(placement_->last_failure());
    return;
  }
  // A server that says in the middle of its answer that it is full has failed: it had begun.
  if (failure == AttemptFailure::server_full) failure = AttemptFailure::error_event;
  bool whole_chunks = false;
  const bool sent = heed(answer_->relay_good(under_way() ? &attempt_->connection() : nullptr, &whole_chunks));
  if (sent) break_stream(failure, whole_chunks);
}

// The endpoint failed, or a time limit passed, after the client had begun to receive the answer: another endpoint goes
// on with it, or the client is told that it is broken.
void Exchange::break_stream(AttemptFailure failure, bool whole_chunks) {
  count_break(failure);
  if (!resumes(failure)) break_off(ErrorCode::stream_broken, whole_chunks);
}

void Exchange::count_break(AttemptFailure failure) {
  placement_->penalise(failure);
  context_.observer.attempt_failed(failure, false);
  context_.observer.stream_broken(failure);
  reason_ = to_string(failure);
}

// Ends an answer in the middle, so that the client cannot take it for a complete one.
void Exchange::break_off(ErrorCode why, bool whole_chunks) {
  const bool sent = answer_->say_why(why, whole_chunks || answer_->remembered() != nullptr);
  downstream::Responder& client = let_go_of_client();
  finish(info_of(why).outcome);
  if (sent) client.abort();
  else client.abandon();
}

// The gateway itself ends the request (shutdown, eviction): no attempt has failed, and no endpoint is penalised.
void Exchange::cut_off(ErrorCode why) {
  if (!relaying_) return refuse(why);
  if (tunnel_ != nullptr) return end_tunnel(why);
  reason_ = info_of(why).name.data();
  break_off(why, between_chunks());
}

// Bytes could neither be sent nor queued: the client is gone, or the memory budget is full.
void Exchange::lose_client() {
  downstream::Responder& client = let_go_of_client();
  const bool starved = client.starved();
  client.abandon();
  if (answer_) answer_->count_unsent(client.unsent());
  if (starved) context_.observer.limit_hit("memory");
  reason_ = starved ? info_of(ErrorCode::memory_budget_exhausted).name.data() : "client_gone";
  finish(starved ? Outcome::overloaded : Outcome::client_gone);
}

std::string_view Exchange::shown_endpoint() const {
  const endpoints::EndpointState* const endpoint = placement_->endpoint();
  return intake_->shows_endpoint() && endpoint != nullptr ? std::string_view(endpoint->name) : "";
}

void Exchange::finish(Outcome outcome) {
  PENSTOCK_ASSERT(step_ != Step::free && client_ == nullptr);
  const Instant now = context_.loop.now();
  if (attempt_) attempt_->cancel();
  if (counted_running_) context_.observer.running_ended(running_as_);
  Placement::End end{
      .if_held = outcome == Outcome::client_gone ? HoldOutcome::evicted_cancelled : HoldOutcome::evicted_other,
      .ok = outcome == Outcome::ok && tunnel_ == nullptr,  // a session's length says nothing of answers
      .started = relaying_,
      .usage = {},
      .tokens = 0};
  if (answer_) {
    const AnswerWatch& watch = answer_->watch();
    end.usage = watch.answer().usage();
    // Without usage, each event of a stream counts as one token.
    end.tokens = end.usage.has_value() ? end.usage->completion_tokens : watch.event_stream() ? watch.chunks() : 0;
    learn();
  }
  placement_->finish(end);
  report(outcome, now);
  reset();
  gateway_.room_made();
  gateway_.release(*this);
}

// How many bytes of a text this model takes for a token.
void Exchange::learn() {
  const openai::Request& request = intake_->request();
  const std::optional<openai::Usage>& usage = answer_->watch().answer().usage();
  const bool text =
      intake_->inference() && intake_->model_read() && !request.multimodal && request.prompt_token_ids == 0;
  if (!text || !usage.has_value()) return;
  context_.tokens.learn(intake_->target_model(), request.prompt_bytes, usage->prompt_tokens);
}

void Exchange::report(Outcome outcome, Instant now) {
  const ForwardedHead& head = intake_->head();
  ExchangeRecord record;
  record.started_wall_us =
      context_.loop.wall_time_us() - std::chrono::duration_cast<std::chrono::microseconds>(now - began_).count();
  record.total = now - began_;
  record.stage[static_cast<size_t>(Stage::read)] = request_read_ - began_;
  record.stage[static_cast<size_t>(Stage::connect)] = connect_time_;
  if (relaying_) {
    record.time_to_first_token = first_byte_ - began_;
    // Of the first attempt: of a stream that went on elsewhere it is not known any more.
    if (resume_ == nullptr) record.stage[static_cast<size_t>(Stage::first_byte)] = first_byte_ - attempt_->sent();
    record.stage[static_cast<size_t>(Stage::relay)] = now - first_byte_;
  }
  record.outcome = outcome;
  record.method = head.method;
  record.target = head.path;
  record.client = intake_->client_ip();
  record.protocol = to_string(intake_->protocol());
  record.tls_version = to_string(head.tls);
  if (head.certificate != nullptr) record.certificate = *head.certificate;
  record.request_id = head.request_id;
  record.reason = reason_;
  record.trace_id = head.trace_id();
  record.inference = intake_->inference();
  record.kind = intake_->kind();
  record.kind_number = running_as_;
  if (intake_->model_read()) record.api = openai::to_string(intake_->request().api);
  record.request_bytes = intake_->bytes();
  record.slo_ttft_ms = head.slo_ttft_ms;
  record.slo_tpot_ms = head.slo_tpot_ms;
  record.status = own_status_;
  record.response_bytes = own_bytes_;
  if (tunnel_ != nullptr) {
    record.request_bytes += tunnel_->from_client();
    record.response_bytes = tunnel_->to_client();
  }
  placement_->describe(record, began_);
  if (resume_ != nullptr) record.resumes = resume_->breaks();
  if (answer_) answer_->describe(record);
  context_.observer.finished(record);
}

// The parts are destroyed, in the order in which they depend on each other. Only little memory is kept.
void Exchange::reset() {
  step_ = Step::free;
  ListNode<AttemptTag>::unlink();
  total_deadline_.cancel();
  attempt_deadline_.cancel();
  tunnel_.reset();
  attempt_.reset();
  resume_.reset();
  answer_.reset();
  placement_.reset();
  intake_.reset();
  answer_kept_.recycle();
  attempt_kept_.recycle();
  intake_kept_.recycle();
  relaying_ = counted_running_ = reads_refusal_ = fresh_connection_ = false;
  running_as_ = no_kind;
  own_status_ = 0;
  own_bytes_ = 0;
  tunnel_end_ = ErrorCode::shutting_down;
  reason_ = "";
  connect_time_ = Duration{0};
}

}  // namespace penstock::proxy
