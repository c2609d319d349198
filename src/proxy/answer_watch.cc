#include "answer_watch.h"

#include "heads.h"
#include "penstock/openai/response_id.h"

namespace penstock::proxy {

void AnswerWatch::begin(const http::Head& answer, bool inference) {
  mode_ = Mode::ignore;
  wants_response_ = false;
  if (answer.status >= 300 || has_content_encoding(answer)) return;
  const std::string_view type = answer.get(http::Field::content_type);
  if (type.starts_with("text/event-stream")) {
    mode_ = Mode::events;
  } else if (inference && type.starts_with("application/json")) {
    mode_ = Mode::json;
    announced_ = answer.content_length;
  }
}

void AnswerWatch::feed(std::string_view decoded, Instant now) {
  if (mode_ == Mode::events) {
    now_ = now;
    return sse_.feed(decoded);
  }
  if (mode_ != Mode::json) return;
  if (json_.empty() && decoded.size() == announced_) {  // all of it came in one read: no copy needed
    mode_ = Mode::ignore;
    if (wants_response_) find_response(decoded, false);
    return answer_.on_answer(decoded);
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

void AnswerWatch::on_sse_event(std::string_view name, std::string_view data) {
  using Kind = openai::AnswerObserver::Kind;
  if (wants_response_) find_response(data, true);
  const Kind kind = answer_.on_event(name, data);
  if (kind == Kind::done) return;
  error_ = kind == Kind::error;
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

void AnswerWatch::end() {
  if (mode_ != Mode::json) return;
  if (cut_) return answer_.on_tail(json_.view());
  answer_.on_answer(json_.view());
}

void AnswerWatch::reset() {
  mode_ = Mode::ignore;
  gaps_ = nullptr;
  sse_.reset();
  answer_.reset();
  json_.reset();
  chunks_ = 0;
  response_ = 0;
  wants_response_ = error_ = cut_ = false;
}

}  // namespace penstock::proxy
