#include "exchange.h"

#include "penstock/base/assert.h"
#include "penstock/openai/error_body.h"
#include "penstock/routing/session_token.h"

namespace penstock::proxy {

Exchange::Exchange(Gateway& gateway, Context& context)
    : gateway_(gateway),
      context_(context),
      total_deadline_(net::Timer::of<&Exchange::on_total_deadline>(this)),
      attempt_deadline_(net::Timer::of<&Exchange::on_attempt_deadline>(this)) {
  static_assert(sizeof(Exchange) <= 2048,
                "the allocator's next size class is a quarter larger, and every stream would pay for it");
}

Exchange::~Exchange() {
  PENSTOCK_ASSERT(step_ == Step::free);
}

// ---- the journey ----

bool Exchange::begin(downstream::Responder& client, const http::Head& head) {
  PENSTOCK_ASSERT(step_ == Step::free);
  step_ = Step::read_body;
  client_ = &client;
  began_ = request_read_ = context_.loop.now();
  context_.observer.exchange_started();
  intake_.emplace(context_, intake_kept_);
  placement_.emplace(gateway_, context_, *intake_, static_cast<PlacementEvents&>(*this));
  const Verdict verdict = intake_->begin(client, head);
  if (verdict.own_answer() != nullptr) {
    respond(*verdict.own_answer());
    return false;
  }
  if (context_.options.total_timeout > Duration{0}) context_.loop.arm(total_deadline_, context_.options.total_timeout);
  return true;
}

// One step after the other, until one must wait for an event, which then calls this again, or answers the request
// itself.
void Exchange::advance() {
  while (true) {
    const Verdict verdict = perform(step_);
    if (verdict.waits()) return;
    if (verdict.own_answer() != nullptr) return respond(*verdict.own_answer());
    step_ = static_cast<Step>(static_cast<uint8_t>(step_) + 1);
  }
}

// The journey. If an attempt fails before its first body byte, and another endpoint may do better, it goes back to
// `route` (go_elsewhere()). Cancellation: on_gone() may come at any step.
Verdict Exchange::perform(Step step) {
  switch (step) {
    case Step::read_body:  // whole, within limits: it is hashed, and needed for retries
      return intake_->is_complete() ? Verdict::go_on() : Verdict::wait();
    case Step::choose_rule:  // if there are routes; applies the rule's changes to the head
      return choose_rule();
    case Step::parse:  // model, prompt, stream ... if the path is known and the body is JSON
      return intake_->parse();
    case Step::choose_pool:  // by rule or by model; then the model gets the name that this pool uses
      return intake_->choose_pool();
    case Step::admit:  // waits while every endpoint is saturated, if flow control is on
      return placement_->admit();
    case Step::route:  // reserves load on the endpoint in the same instant
      return placement_->route();
    case Step::connect:  // and sends
      return connect();
    case Step::relay:  // on_response_head() ... on_response_end(); or, after a 101, on_tunnel_over()
      return Verdict::wait();
    case Step::free:
      break;
  }
  PENSTOCK_ASSERT(false);
  return Verdict::wait();
}

Verdict Exchange::choose_rule() {
  Verdict verdict = intake_->choose_rule();
  const Duration limit = intake_->time_limit();
  if (limit != context_.options.total_timeout) context_.loop.arm_at(total_deadline_, began_ + limit);
  return verdict;
}

Verdict Exchange::connect() {
  if (under_way()) return Verdict::go_on();  // on_connected() was called
  if (!ListNode<AttemptTag>::linked()) gateway_.unanswered_.push_back(*this);
  if (!counted_running_) {
    counted_running_ = true;
    running_as_ = context_.observer.running_began(intake_->counted_kind());
  }
  if (intake_->attempt_limit() > Duration{0}) context_.loop.arm(attempt_deadline_, intake_->attempt_limit());
  endpoints::EndpointState& endpoint = *placement_->endpoint();
  const Attempt::To to{.target = gateway_.target_of(endpoint),
                       .host_header = endpoint.host_header,
                       .stage_fields = placement_->stage_fields(),
                       .fresh = fresh_connection_ || (resume_ != nullptr && resume_->first()),
                       .instead = resume_ != nullptr ? std::optional(resume_->request()) : std::nullopt};
  upstream::ResponseSink& sink = resume_ != nullptr ? resume_->sink() : static_cast<upstream::ResponseSink&>(*this);
  attempt_.emplace(context_, *intake_, to, attempt_kept_, sink);
  return attempt_->connection().reused() ? Verdict::go_on() : Verdict::wait();
}

// ---- what the client does ----

void Exchange::on_body(std::string_view bytes) {
  const Verdict verdict = intake_->take_body(bytes);
  if (verdict.own_answer() != nullptr) respond(*verdict.own_answer());
}

void Exchange::on_request_end() {
  intake_->complete();
  request_read_ = context_.loop.now();
  advance();
}

void Exchange::on_request_failed(const downstream::RequestFailure& failure) {
  if (failure.no_memory) context_.observer.limit_hit("memory");
  refuse(error_of(failure));
}

void Exchange::on_drained() {
  if (answer_) answer_->drained();
  if (under_way()) attempt_->connection().resume();
}

void Exchange::on_gone(downstream::Gone why) {
  using downstream::Gone;
  if (answer_) answer_->count_unsent(client_->unsent());
  client_ = nullptr;
  // Counts as a success of the endpoint: if clients stop most streams early, few streams come to their end.
  const bool left = why == Gone::closed || why == Gone::reset;
  if (left && relaying_ && answer_->good()) placement_->succeeded();
  const bool slow = why == Gone::write_timeout || why == Gone::too_slow;
  reason_ = why == Gone::write_timeout ? "write_timeout"
            : why == Gone::too_slow    ? "read_too_slow"
            : why == Gone::cut         ? "cut"
                                       : "client_gone";
  finish(slow ? Outcome::timed_out_client : why == Gone::cut ? Outcome::draining : Outcome::client_gone);
}

// The process ends. The connection is cut in the next turn.
void Exchange::on_ending() {
  cut_off(ErrorCode::shutting_down);
}

// ---- what the endpoint does ----

void Exchange::on_connected() {
  attempt_->connected(context_.loop.now());
  connect_time_ += attempt_->connecting();
  advance();
}

void Exchange::on_response_head(http::Head& head) {
  context_.observer.endpoint_answered(*placement_->endpoint(), head.status);
  if (head.status == 101) return begin_tunnel(head);
  if (tried_elsewhere(head)) return;
  step_ = Step::relay;
  begin_answer(head);
}

// True: what the head says is no answer for the client, and another endpoint has been asked.
bool Exchange::tried_elsewhere(const http::Head& head) {
  if (intake_->inference() && head.status < 400) placement_->answered_well(attempt_->sent());
  if (intake_->inference() && head.status >= 400 && head.status < 500 && placement_->refused(head)) {
    go_elsewhere(/*load_stays=*/false);
    return true;
  }
  const std::optional<AttemptFailure> failure = failure_by_status(head);
  if (!failure && head.status >= 500) placement_->penalise(Blame::soft, "status_" + std::to_string(head.status));
  reads_refusal_ = failure == AttemptFailure::status_503 && Answer::can_gather(*intake_, head);
  if (!failure || reads_refusal_) return false;
  if (failure == AttemptFailure::server_full) placement_->heed_retry_after(head);
  return try_again(*failure);
}

// The failure that this head reports, if another endpoint may do better. A server whose engine has died answers its
// pending requests with 500, so a first 500 is retried; if a second server also answers 500, the request is at fault.
std::optional<AttemptFailure> Exchange::failure_by_status(const http::Head& head) const {
  const uint16_t status = head.status;
  if (status == 500 && intake_->inference() && placement_->attempts_spent() == 1) return AttemptFailure::status_500;
  if (status == 502) return AttemptFailure::status_502;
  if (status == 503 && !head.get(http::Field::retry_after).empty()) return AttemptFailure::server_full;
  if (status == 503) return AttemptFailure::status_503;
  if (status == 504) return AttemptFailure::status_504;
  return std::nullopt;
}

void Exchange::begin_answer(const http::Head& head) {
  answer_.emplace(context_, *intake_, *client_, answer_kept_);
  answer_->begin(head, answer_context(), reads_refusal_);
}

// Valid until the next call on this shard.
AnswerContext Exchange::answer_context() const {
  std::string& session_token = context_.piece;
  session_token.clear();
  if (context_.gives_session_tokens) routing::append_session_token(session_token, placement_->endpoint()->name);
  const std::string* const explanation = placement_->explanation();
  return {.endpoint = shown_endpoint(),
          .request_id = intake_->head().request_id,
          .explanation = explanation != nullptr ? std::string_view(*explanation) : "",
          .session_token = session_token};
}

void Exchange::on_response_data(std::string_view decoded) {
  const Relayed relayed = answer_->take(decoded);
  remember_response();
  static_cast<void>(heed(relayed));
}

void Exchange::on_response_raw(std::string_view raw) {
  static_cast<void>(heed(answer_->take_raw(raw, between_chunks(), attempt_->connection().ends_here())));
}

void Exchange::on_response_end(std::string_view trailers) {
  end_attempt();
  if (reads_refusal_) {
    const bool full = openai::says_full(answer_->gathered());
    if (try_again(full ? AttemptFailure::server_full : AttemptFailure::status_503)) return;
  }
  end_answer(trailers);
}

void Exchange::end_answer(std::string_view trailers) {
  if (!heed(answer_->end(trailers))) return;
  remember_response();
  // Only now, not at the head: an endpoint whose streams all break also sends good heads.
  if (answer_->good()) placement_->succeeded();
  downstream::Responder& client = let_go_of_client();
  finish(answer_->status() >= 500 ? Outcome::endpoint_error : answer_->refused() ? Outcome::endpoint_4xx : Outcome::ok);
  client.finish();
}

void Exchange::on_response_failed(upstream::Failure failure, bool received, bool reused) {
  const bool whole_chunks = between_chunks();
  end_attempt();
  const bool silent = !received && (failure == upstream::Failure::reset || failure == upstream::Failure::closed);
  if (reused && silent && !relaying_) {
    // The endpoint closed an idle connection just as it was reused, so it has not seen the request. Sending it again to
    // the same endpoint, on a fresh connection, does not count as a retry.
    context_.observer.attempt_failed(AttemptFailure::reuse_race, true);
    fresh_connection_ = true;
    step_ = Step::connect;
    return advance();
  }
  const AttemptFailure reason = attempt_failure_of(failure, relaying_);
  if (relaying_) return break_stream(reason, whole_chunks);
  if (info_of(reason).error == ErrorCode::connect_failed) gateway_.report_unreachable(*placement_->endpoint());
  if (reason == AttemptFailure::no_socket) context_.observer.limit_hit("descriptors");
  if (!try_again(reason)) refuse(placement_->last_failure());
}

void Exchange::end_attempt() {
  attempt_->ended();
  attempt_deadline_.cancel();
}

void Exchange::remember_response() {
  AnswerWatch& watch = answer_->watch();
  if (watch.has_response()) placement_->stored_response(watch.take_response());
}

// What follows from what became of a piece of the answer. False: the exchange has ended, or goes elsewhere.
bool Exchange::heed(Relayed relayed) {
  switch (relayed) {
    case Relayed::nothing:
      return true;
    case Relayed::some:
      if (!relaying_) first_byte_relayed();
      if (answer_->congested() && under_way()) attempt_->connection().pause();
      return true;
    case Relayed::failed:
      answer_failed();
      return false;
    case Relayed::lost:
      lose_client();
      return false;
    case Relayed::no_memory:
      context_.observer.limit_hit("memory");
      refuse(ErrorCode::memory_budget_exhausted);
      return false;
  }
  return false;
}

void Exchange::begin_relaying(bool good) {
  relaying_ = true;
  ListNode<AttemptTag>::unlink();
  if (under_way() || tunnel_ != nullptr) gateway_.relays(*this);
  first_byte_ = context_.loop.now();
  placement_->first_byte(first_byte_, good);
}

// From here on no retry is possible, so the memory that was kept for one is freed.
void Exchange::first_byte_relayed() {
  begin_relaying(answer_->good());
  answer_->first_byte_relayed();
  if (attempt_->request_sent() && answer_->remembered() == nullptr) intake_->drop_body();
  attempt_->first_byte_relayed(answer_->event_stream());
  if (answer_->remembered() != nullptr) limit_pauses();
}

// ---- another endpoint ----

// An attempt failed before the first body byte: moves to the next-best endpoint if attempts and budget allow, or waits
// where there is none but one may be ready soon. True: the exchange continues, or has ended. False: it may not; the
// endpoint is penalised, and the attempt is left as it is.
bool Exchange::try_again(AttemptFailure failure) {
  placement_->penalise(failure);
  const bool elsewhere = placement_->claim(failure);
  const std::optional<Duration> pause = elsewhere ? std::nullopt : placement_->await_endpoint(failure);
  context_.observer.attempt_failed(failure, elsewhere || pause);
  if (elsewhere) go_elsewhere(info_of(failure).has_answered);
  else if (pause) go_back(*pause);
  return elsewhere || pause;
}

// The pause gives the probe, which the failure has caused, the time to find out.
void Exchange::go_back(Duration pause) {
  attempt_.reset();
  answer_.reset();
  fresh_connection_ = false;
  step_ = Step::admit;
  context_.loop.arm(attempt_deadline_, pause);
}

// `load_stays`: the endpoint has answered, only not well.
void Exchange::go_elsewhere(bool load_stays) {
  attempt_.reset();
  answer_.reset();
  attempt_deadline_.cancel();
  placement_->leave_endpoint(load_stays);
  fresh_connection_ = false;
  step_ = Step::route;
  advance();
}

bool Exchange::waits_for(uint32_t slot, uint32_t incarnation) const {
  if (!under_way() && tunnel_ == nullptr) return false;
  const endpoints::EndpointState& endpoint = *placement_->endpoint();
  return endpoint.slot == slot && endpoint.incarnation == incarnation;
}

// Without a penalty: the health probe that took the endpoint out also brings it back. If no other endpoint is left, the
// exchange keeps waiting for this one.
void Exchange::on_silent(uint32_t slot, uint32_t incarnation) {
  if (!waits_for(slot, incarnation) || !placement_->claim(AttemptFailure::probe_failed)) return;
  context_.observer.attempt_failed(AttemptFailure::probe_failed, true);
  go_elsewhere(/*load_stays=*/false);
}

// A stream that still brings something is left alone, however slow the probes are; so is one that is not read because
// its client is slow.
void Exchange::on_silent_stream(uint32_t slot, uint32_t incarnation, Instant since) {
  if (!waits_for(slot, incarnation)) return;
  const Duration limit = context_.options.unresponsive_timeout;
  const Instant heard = tunnel_ != nullptr ? tunnel_->heard_at() : attempt_->connection().heard_at();
  if (limit == Duration{0} || heard >= since || context_.loop.now() - heard < limit) return;
  if (tunnel_ != nullptr) return break_tunnel(AttemptFailure::probe_failed);
  break_stream(AttemptFailure::probe_failed, between_chunks());
}

void Exchange::report_silence(SlowEndpoints& to) const {
  const bool reads = under_way() && tunnel_ == nullptr && (resume_ == nullptr || resume_->on());
  if (!reads || !intake_->inference() || !answer_->event_stream() || !intake_->pool_id()) return;
  const Instant heard = attempt_->connection().heard_at(), now = context_.loop.now();
  if (heard > now) return;  // it is not read
  const endpoints::EndpointState& endpoint = *placement_->endpoint();
  to.saw(*intake_->pool_id(), endpoint.slot, endpoint.incarnation, now - heard);
}

// What cannot go on elsewhere stays.
void Exchange::on_slow(uint32_t slot, uint32_t incarnation) {
  if (!waits_for(slot, incarnation) || tunnel_ != nullptr) return;
  if (!relaying_) {
    if (!placement_->claim(AttemptFailure::too_slow)) return;
    context_.observer.attempt_failed(AttemptFailure::too_slow, true);
    return go_elsewhere(/*load_stays=*/false);
  }
  const bool asks = resume_ != nullptr && !resume_->on();
  if (asks || answer_->remembered() == nullptr || prepare_resume() != openai::ResumeObstacle::none) return;
  break_stream(AttemptFailure::too_slow, between_chunks());
}

void Exchange::on_total_deadline() {
  if (relaying_) return break_stream(AttemptFailure::total_timeout, between_chunks());
  refuse(intake_->is_complete() ? ErrorCode::endpoint_timeout : ErrorCode::request_timeout);
}

// A route's limit for one attempt has passed. If nothing has reached the client, another endpoint may be faster. Or
// there is no attempt, and a pause is over.
void Exchange::on_attempt_deadline() {
  if (step_ == Step::admit) return advance();
  if (relaying_) return break_stream(AttemptFailure::attempt_timeout, between_chunks());
  if (!try_again(AttemptFailure::attempt_timeout)) refuse(placement_->last_failure());
}

}  // namespace penstock::proxy
