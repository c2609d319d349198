// Answers with a 4xx status: which of them are tried elsewhere before the client sees them, and what the two answers
// together say about the endpoint (routing/refusals.h).
#include <charconv>

#include "exchange.h"
#include "penstock/base/log.h"

namespace penstock::proxy {

namespace {

// In seconds; a date, which no model server sends, counts as not said.
Duration retry_after_of(const http::Head& answer) {
  constexpr uint32_t most = 24 * 3600;
  const std::string_view text = answer.get(http::Field::retry_after);
  uint32_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return Duration{0};
  return seconds(std::min(number, most));
}

}  // namespace

uint64_t Exchange::request_kind() const {
  return inference_ ? routing::kind_of(target_model_, static_cast<uint32_t>(request_.api)) : 0;
}

// The head of an answer says how the endpoint took the request. True: it refused it, and another one is asked.
bool Exchange::consider_refusal(const http::Head& answer) {
  if (!inference_ || answer.status >= 500) return false;
  if (answer.status < 400) {
    accepted();
    return false;
  }
  routing::report_refusal(*endpoint_);
  forget_prompt();
  // An adapter may live on one endpoint alone: a model that two do not have is looked for on the others as well.
  const bool looking = opinion_ == Opinion::asked && answer.status == 404 && first_answer_->refusal.status == 404;
  if ((opinion_ == Opinion::none || looking) && ask_elsewhere(answer)) return true;
  if (opinion_ != Opinion::asked) return false;
  // Others refuse it, too: the request is at fault.
  opinion_ = Opinion::given;
  first_answer_->reservation.release();
  return false;
}

void Exchange::keep_reservation() {
  if (first_answer_ == nullptr) first_answer_ = std::make_unique<FirstAnswer>();
  first_answer_->reservation = std::move(reservation_);
}

// The endpoint has not computed the prompt, so it holds no more of it than before.
void Exchange::forget_prompt() {
  if (!context_.hash_prompts || prompt_blocks_ == 0) return;
  const routing::Features of = features();
  if (of.blocks.size() > matched_blocks_) context_.index.forget_tail(of.blocks, endpoint_->slot, matched_blocks_);
}

bool Exchange::ask_elsewhere(const http::Head& answer) {
  if (attempts_spent() >= attempts_max_) return false;
  mark_tried();
  if (next_endpoint() != Next::ready) return false;
  const Instant now = context_.loop.now();
  if (!routing::take_second_opinion(*endpoint_, now, context_.options.second_opinions)) {
    context_.observer.limit_hit("second_opinions");
    return false;
  }
  if (opinion_ == Opinion::none) {
    keep_reservation();
    first_answer_->refusal = {.kind = request_kind(), .status = answer.status, .retry_after = retry_after_of(answer)};
  }
  opinion_ = Opinion::asked;
  const bool full = answer.status == 429;
  last_failure_ = ErrorCode::endpoints_unavailable;
  context_.observer.attempt_failed(full ? AttemptFailure::status_429 : AttemptFailure::status_4xx, true);
  go_elsewhere(/*load_stays=*/false);
  return true;
}

// The endpoint answers well. If another one has refused the same request, that is evidence against it.
void Exchange::accepted() {
  const Instant now = context_.loop.now();
  routing::report_acceptance(*endpoint_, request_kind(), attempt_sent_, now, context_.options.ejection);
  if (opinion_ != Opinion::asked) return;
  opinion_ = Opinion::given;
  endpoints::EndpointState& refuser = *first_answer_->reservation.endpoint();
  const routing::Verdict verdict =
      routing::report_pair(refuser, first_answer_->refusal, now, context_.options.ejection);
  if (verdict != routing::Verdict::none) announce(verdict, refuser);
}

// Each ejection is logged once.
void Exchange::announce(routing::Verdict verdict, endpoints::EndpointState& refuser) {
  const int64_t now_ns = context_.loop.now().time_since_epoch().count();
  const auto for_ms = [now_ns](int64_t until_ns) { return (until_ns - now_ns) / 1'000'000; };
  const routing::Refusal& refusal = first_answer_->refusal;
  const std::string failure = "status_" + std::to_string(refusal.status);
  switch (verdict) {
    case routing::Verdict::ejected:
      log::warn("endpoint is ejected", {{"endpoint", refuser.name},
                                        {"url", refuser.url},
                                        {"last_failure", failure},
                                        {"answered_well_by", endpoint_->name},
                                        {"for_ms", for_ms(refuser.health.ejected_until_ns)}});
      context_.observer.endpoint_ejected(refuser, Ejection::refuses_all);
      return;
    case routing::Verdict::ejected_for_kind:
      log::warn("endpoint is ejected for one kind of request",
                {{"endpoint", refuser.name},
                 {"url", refuser.url},
                 {"model", std::string_view(target_model_)},
                 {"api", openai::to_string(request_.api)},
                 {"last_failure", failure},
                 {"answered_well_by", endpoint_->name},
                 {"for_ms", for_ms(routing::refuses_until_ns(refuser, refusal.kind, context_.loop.now()))}});
      context_.observer.endpoint_ejected(refuser, Ejection::refuses_kind);
      return;
    case routing::Verdict::busy:
      log::info(
          "endpoint is busy",
          {{"endpoint", refuser.name}, {"last_failure", failure}, {"for_ms", for_ms(refuser.health.busy_until_ns)}});
      return;
    case routing::Verdict::none:
      return;
  }
}

// A server that is full says how long it wants to be left alone.
void Exchange::heed_retry_after(const http::Head& answer) {
  const Duration wait = retry_after_of(answer);
  if (wait > Duration{0}) routing::report_busy(*endpoint_, wait, context_.loop.now(), context_.options.ejection);
}

// Whoever was asked after a refusal has failed, and nobody else is left: the endpoint that refused the request is asked
// again, so that its client gets that refusal and not an error of ours.
bool Exchange::return_to_refuser() {
  if (opinion_ != Opinion::asked) return false;
  opinion_ = Opinion::given;
  planned_.front() = first_answer_->reservation.endpoint();
  std::erase(tried_, planned_.front());
  planned_count_ = 1;
  return true;
}

}  // namespace penstock::proxy
