#include "answer_watch.h"

#include "heads.h"
#include "penstock/openai/response_id.h"

namespace penstock::proxy {

using std::string_view_literals::operator""sv;  // a literal's length need not be counted

void AnswerWatch::begin(const http::Head& answer, openai::Api api, uint32_t choices) {
  mode_ = Mode::ignore;
  wants_response_ = false;
  if (answer.status >= 300 || has_content_encoding(answer)) return;
  end_.expect(api, choices);
  end_.expect_close(!answer.chunked && !answer.has_content_length);
  const std::string_view type = answer.get(http::Field::content_type);
  if (type.starts_with("text/event-stream"sv)) {
    mode_ = Mode::events;
    events_ = true;
  } else if (api != openai::Api::other && type.starts_with("application/json"sv)) {
    mode_ = Mode::json;
    announced_ = answer.content_length;
  }
}

void AnswerWatch::feed(std::string_view decoded, Instant now) {
  if (mode_ == Mode::events) {
    now_ = now;
    if (holds_) remembered_->held_at(0);
    sse_.feed(decoded);
    if (failure_) stream_failed();
    return;
  }
  if (mode_ != Mode::json) return;
  if (json_.empty() && decoded.size() == announced_) {  // all of it came in one read: no copy needed
    mode_ = Mode::ignore;
    if (wants_response_) find_response(decoded, false);
    failure_ = end_.of_json(answer_, answer_.on_answer(decoded));
    return;
  }
  if (json_.size() + decoded.size() > openai::AnswerObserver::answer_bytes_max) {
    cut_ = true;
    json_.keep_last(openai::AnswerObserver::tail_bytes);
  }
  if (json_.append(decoded, 0)) {
    if (wants_response_) find_response(json_.view(), false);
    return;
  }
  mode_ = Mode::ignore;
  json_.reset();
}

// Behind its own end a stream is not judged any more. One that begins with an error that the server lays to the request
// is no broken answer, but a refusal: it is relayed as it is.
void AnswerWatch::on_sse_event(std::string_view name, std::string_view data) {
  using Kind = openai::AnswerObserver::Kind;
  if (mode_ == Mode::ignore) return;
  if (remembered_ != nullptr && !goes_on_) {
    if (remembered_->take(data)) return count_event();
    hold(name);
  }
  if (wants_response_) find_response(data, true);
  const bool over = answer_.saw_done();
  const Kind kind = answer_.on_event(name, data);
  if (answer_.bad() && !over) {
    failure_ = end_.reported(answer_);
    if (failure_ == AttemptFailure::refused_in_stream && chunks_ == 0) {
      failure_.reset();
      ends_in_error_ = true;
      mode_ = Mode::ignore;
    }
    if (failure_) return sse_.stop();
  }
  if (kind != Kind::done) return count_event();
  holds_ = false;
}

// Where an event without a name begins is not known, and clients of the APIs that need this pass over it.
void AnswerWatch::hold(std::string_view name) {
  const bool holds = remembered_->delivered().holds();
  if (holds && !holds_ && name.empty()) return remembered_->delivered().give_up(openai::ResumeObstacle::unknown_event);
  if (holds && !holds_) {
    remembered_->held_at(sse_.event_begin());
    remembered_->held_behind(chunks_);
  }
  holds_ = holds;
}

void AnswerWatch::count_event() {
  if (chunks_++ > 0 && gaps_ != nullptr) gaps_->gap(now_ - last_chunk_);
  last_chunk_ = now_;
}

// Of a stream the first event tells it (response.created), of a whole answer the first fields.
void AnswerWatch::find_response(std::string_view beginning, bool event) {
  constexpr size_t looked_at = 16 * 1024;
  const std::string_view id = openai::response_id(beginning.substr(0, looked_at), event);
  if (!id.empty()) response_ = openai::response_key(id);
  if (!id.empty() || event || beginning.size() >= looked_at) wants_response_ = false;
}

// An error event that clients understand is left to them: it says more than ours would. But if another endpoint may go
// on with the stream, they must not see it.
void AnswerWatch::stream_failed() {
  const http::SseScanner::Place place = sse_.stopped_at();
  mode_ = Mode::ignore;
  ends_in_error_ = failure_ != AttemptFailure::aborted && !can_go_on() && error_in_shape();
  at_boundary_ = ends_in_error_ || place.whole;
  good_bytes_ = ends_in_error_ ? place.end : holds_ ? remembered_->held_from() : place.begin;
  const bool withheld =
      failure_ != AttemptFailure::aborted && !ends_in_error_ && place.whole && !holds_ && error_in_shape();
  withheld_bytes_ = withheld ? place.end - place.begin : 0;
}

bool AnswerWatch::can_go_on() const {
  return remembered_ != nullptr && failure_ != AttemptFailure::refused_in_stream &&
         remembered_->obstacle() == openai::ResumeObstacle::none;
}

void AnswerWatch::go_on() {
  chunks_ = relayed_chunks();
  mode_ = Mode::events;
  failure_.reset();
  sse_.reset();
  answer_.reset();
  goes_on_ = true;
  holds_ = false;
}

bool AnswerWatch::error_in_shape() const {
  switch (end_.api()) {
    case openai::Api::responses:
      return answer_.error_named();
    case openai::Api::messages:
      return answer_.error_named() && answer_.error_object();
    default:
      return answer_.error_object();
  }
}

void AnswerWatch::end() {
  const Mode mode = mode_;
  mode_ = Mode::ignore;
  if (mode == Mode::json) {
    const bool whole = cut_ ? answer_.on_tail(json_.view()) : answer_.on_answer(json_.view());
    failure_ = end_.of_json(answer_, whole);
  }
  if (mode != Mode::events) return;
  at_boundary_ = sse_.at_boundary();
  failure_ = end_.of_stream(answer_, sse_.truncated() == 0);
}

}  // namespace penstock::proxy
