// Answers that are relayed with another framing than they came with:
//   - answers that end with the endpoint's connection;
//   - answers in which the client's name for the model is restored, because that changes their length;
//   - refusals (503) that are read before they are relayed.
#include <charconv>

#include "exchange.h"
#include "penstock/base/containers.h"

namespace penstock::proxy {

namespace {

// JSON answers up to this size are gathered, so that they keep a Content-Length; longer ones are sent in chunks.
constexpr uint64_t gathered_bytes_max = 1024 * 1024;
constexpr uint64_t refusal_bytes_max = 4 * 1024;
constexpr size_t piece_bytes_kept = 64 * 1024;  // capacity of the scratch string that is kept

bool is_events(const http::Head& answer) {
  return answer.get(http::Field::content_type).starts_with("text/event-stream");
}
bool is_json(const http::Head& answer) {
  return answer.get(http::Field::content_type).starts_with("application/json");
}

}  // namespace

bool Exchange::restores_model(const http::Head& answer) const {
  if (!model_renamed() || framing_ == Framing::none) return false;
  if (!is_events(answer) && !is_json(answer)) return false;
  if (!has_content_encoding(answer)) return true;
  context_.observer.model_not_restored();
  return false;
}

ReframedAnswer& Exchange::reframed() {
  if (reframed_ == nullptr) reframed_ = std::make_unique<ReframedAnswer>(context_.budget);
  return *reframed_;
}

// A 503 whose body may say that the server is only full.
bool Exchange::can_read_refusal(const http::Head& answer) const {
  return inference_ && !head_request_ && is_json(answer) && !has_content_encoding(answer) &&
         answer.content_length > 0 && answer.content_length <= refusal_bytes_max;
}

void Exchange::begin_gathering(const http::Head& answer) {
  reframed().announced = answer.content_length;
  framing_ = Framing::whole;
}

void Exchange::begin_restoring(const http::Head& answer) {
  const bool events = is_events(answer);
  reframed().restorer.begin(events ? openai::ModelRestorer::Shape::events : openai::ModelRestorer::Shape::json,
                            request_.model);
  if (!events && answer.has_content_length && answer.content_length <= gathered_bytes_max) {
    begin_gathering(answer);
  } else {
    framing_ = client_->client_minor_version() == 0 ? Framing::until_close : Framing::chunked;
  }
}

bool Exchange::relay_reframed(std::string_view decoded) {
  if (restoring_) {
    context_.piece.clear();
    reframed_->restorer.feed(decoded, context_.piece);
    decoded = context_.piece;
    if (decoded.empty()) return true;  // it was only the server's name; an empty chunk would end the answer
  }
  return framing_ == Framing::chunked ? relay_chunk(decoded, "\r\n") : relay({}, decoded, {});
}

// The answer ends here: relays what may still be relayed of the bytes that have just arrived, the last of which are
// `good`. Sets whether the client is then between two chunks. False: the exchange has ended.
bool Exchange::relay_good(std::string_view good, bool* whole_chunks) {
  const char* const chunk = framing_ == Framing::same && attempt_ != nullptr ? attempt_->chunk_begin() : nullptr;
  *whole_chunks = framing_ != Framing::same || chunk != nullptr;
  // Raw bytes in front of a chunk of which not all may pass; or, in the middle of one, all of them up to the good ones.
  std::string_view raw;
  if (chunk != nullptr) raw = attempt_->raw_until(chunk);
  else if (framing_ == Framing::same && !good.empty()) raw = attempt_->raw_until(good.data() + good.size());
  if ((!raw.empty() || !answer_started_) && !relay({}, raw, {})) return false;
  if (good.empty() || !*whole_chunks) return true;
  return framing_ == Framing::same ? relay_chunk(good, "\r\n") : relay_reframed(good);
}

bool Exchange::relay_chunk(std::string_view bytes, std::string_view after) {
  char size_line[20];
  char* end = std::to_chars(size_line, size_line + 16, bytes.size(), 16).ptr;
  *end++ = '\r';
  *end++ = '\n';
  return relay({size_line, static_cast<size_t>(end - size_line)}, bytes, after);
}

void Exchange::gather(std::string_view decoded) {
  if (reframed_->gathered.append(decoded, reframed_->announced)) return;
  context_.observer.limit_hit("memory");
  refuse(ErrorCode::memory_budget_exhausted);
}

bool Exchange::relay_whole() {
  net::BodyBuffer& gathered = reframed_->gathered;
  if (reads_refusal_ && retry_refusal()) return false;
  watch_.feed(gathered.view(), context_.loop.now());
  if (watch_.failure()) {
    answer_failed({});
    return false;
  }
  std::string& piece = context_.piece;
  piece.clear();
  if (restoring_) reframed_->restorer.feed(gathered.view(), piece);
  else piece = gathered.view();
  gathered.reset();
  append_length(answer_head_, piece.size());
  const bool going_on = relay({}, piece, {});
  if (piece.capacity() > piece_bytes_kept) free_memory(piece);
  return going_on;
}

// The endpoint's answer is complete: sends what is still missing of ours. False: the exchange has ended.
bool Exchange::relay_end() {
  if (framing_ == Framing::whole) return relay_whole();
  if (framing_ == Framing::chunked) return relay({}, "0\r\n\r\n", {});
  return answer_started_ || relay({}, {}, {});  // an answer without a body: its head has not gone out yet
}

}  // namespace penstock::proxy
