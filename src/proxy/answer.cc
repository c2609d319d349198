#include "answer.h"

#include <algorithm>
#include <utility>

#include "penstock/base/containers.h"
#include "penstock/http/writer.h"
#include "penstock/openai/error_body.h"

namespace penstock::proxy {

namespace {

using downstream::BodyForm;
using downstream::Sent;

// JSON answers up to this size are gathered, so that they keep a Content-Length; longer ones are sent as they come.
constexpr uint64_t gathered_bytes_max = 1024 * 1024;
constexpr uint64_t refusal_bytes_max = 4 * 1024;
constexpr size_t piece_bytes_kept = 64 * 1024;  // capacity of the scratch string that is kept
constexpr size_t client_cache_lines = 10;       // that a piece touches at most

bool is_events(const http::Head& answer) {
  return answer.get(http::Field::content_type).starts_with("text/event-stream");
}
bool is_json(const http::Head& answer) {
  return answer.get(http::Field::content_type).starts_with("application/json");
}

}  // namespace

void Answer::Kept::recycle() {
  proxy::recycle(fields);
}

Answer::Answer(Context& context, const Intake& intake, downstream::Responder& client, Kept& kept)
    : context_(context), intake_(intake), client_(client), watch_(context.budget), kept_(kept) {}

// ---- the head ----

void Answer::begin(const http::Head& head, const AnswerContext& shown, bool gathers) {
  status_ = head.status;
  if (head.reason != "OK" && head.reason != http::reason_of(head.status))
    reason_ = std::make_unique<std::string>(head.reason);
  form_ = form_for(head);
  restores_ = restores_model(head);
  if (restores_) begin_restoring(head);
  else if (gathers) gather(head);
  kept_.fields.clear();
  append_answer_fields(kept_.fields, head, !gathers_ && form_ != BodyForm::open, shown);
  if (!intake_.answer_changes().empty()) change_fields(kept_.fields, intake_.answer_changes());
  if (form_ == BodyForm::none) return;
  const openai::Request& request = intake_.request();
  watch_.begin(head, intake_.inference() ? request.api : openai::Api::other, request.n);
  if (request.api == openai::Api::responses && context_.responses != nullptr) watch_.look_for_response();
  if (watch_.event_stream()) watch_.report_gaps(context_.observer.stream_began(intake_.kind()));
}

BodyForm Answer::form_for(const http::Head& head) const {
  if (intake_.is_head() || head.status == 204 || head.status == 304) return BodyForm::none;
  if (head.has_content_length) return BodyForm::sized;
  return head.chunked && client_.takes_chunks() ? BodyForm::chunked : BodyForm::open;
}

bool Answer::can_gather(const Intake& intake, const http::Head& head) {
  return intake.inference() && !intake.is_head() && is_json(head) && !has_content_encoding(head) &&
         head.content_length > 0 && head.content_length <= refusal_bytes_max;
}

void Answer::gather(const http::Head& head) {
  gathers_ = true;
  announced_ = head.content_length;
  gathered_ = std::make_unique<net::BodyBuffer>(context_.budget);
}

bool Answer::restores_model(const http::Head& head) const {
  if (!intake_.model_renamed() || form_ == BodyForm::none) return false;
  if (!is_events(head) && !is_json(head)) return false;
  if (!has_content_encoding(head)) return true;
  context_.observer.model_not_restored();
  return false;
}

// The client's name for the model is of another length than the endpoint's.
void Answer::begin_restoring(const http::Head& head) {
  const bool events = is_events(head);
  restorer_ = std::make_unique<openai::ModelRestorer>();
  restorer_->begin(events ? openai::ModelRestorer::Shape::events : openai::ModelRestorer::Shape::json,
                   intake_.request().model);
  if (!events && head.has_content_length && head.content_length <= gathered_bytes_max) gather(head);
  else form_ = BodyForm::open;
}

// ---- the body ----

Relayed Answer::take(std::string_view decoded) {
  bytes_ += decoded.size();
  // Prefetch what relay() will write to, while this piece is examined.
  for (size_t line = 0; line < client_cache_lines; ++line) {
    __builtin_prefetch(reinterpret_cast<const char*>(&client_) + line * 64, 1);
  }
  if (gathers_) return gathered_->append(decoded, announced_) ? Relayed::nothing : Relayed::no_memory;
  watch_.feed(decoded, context_.loop.now());
  if (watch_.failure()) {
    good_ = decoded.substr(0, watch_.good_bytes());
    return Relayed::failed;
  }
  return form_ == BodyForm::open ? relay_open(decoded) : Relayed::nothing;
}

// The last bytes of an answer are its proper end, as far as HTTP can tell: they are withheld if it is none.
Relayed Answer::take_raw(std::string_view raw, bool last) {
  if (gathers_ || form_ == BodyForm::none || (form_ == BodyForm::open && started_)) return Relayed::nothing;
  if (last) watch_.end();
  good_ = {};
  if (watch_.failure()) return Relayed::failed;
  if (form_ != BodyForm::open) return relay(raw);
  return std::exchange(holds_, false) ? relay_piece() : Relayed::nothing;
}

Relayed Answer::end(std::string_view trailers) {
  if (gathers_) return relay_gathered();
  watch_.end();
  good_ = {};
  if (watch_.failure()) return Relayed::failed;
  if (!started_ && relay({}) == Relayed::lost) return Relayed::lost;  // without a body its head has not gone out yet
  return relayed(client_.end(trailers));
}

Relayed Answer::relay_gathered() {
  watch_.feed(gathered_->view(), context_.loop.now());
  good_ = {};
  if (watch_.failure()) return Relayed::failed;
  std::string& piece = context_.piece;
  piece.clear();
  if (restores_) restorer_->feed(gathered_->view(), piece);
  else piece = gathered_->view();
  gathered_->reset();
  kept_.fields.add("content-length", piece.size());
  form_ = BodyForm::sized;
  return relay_piece();
}

Relayed Answer::relay_piece() {
  std::string& piece = context_.piece;
  const Relayed result = relay(piece);
  if (piece.capacity() > piece_bytes_kept) free_memory(piece);
  return result;
}

// Sends a piece; the head goes in front of the first one.
Relayed Answer::relay(std::string_view piece) {
  if (started_) return relayed(client_.send(piece));
  const Sent sent = client_.begin(
      {.status = status_, .reason = reason_ ? std::string_view(*reason_) : "", .fields = kept_.fields, .form = form_},
      piece);
  started_ = sent != Sent::lost;
  return relayed(sent);
}

// The first piece waits for all that was read together with it: if that shows a failure, nothing has been sent.
Relayed Answer::relay_open(std::string_view decoded) {
  if (started_ && !restores_) return relay(decoded);
  std::string& piece = context_.piece;
  if (!holds_) piece.clear();
  if (restores_) restorer_->feed(decoded, piece);
  else piece.append(decoded);
  if (started_) return piece.empty() ? Relayed::nothing : relay(piece);  // empty: it was only the server's name
  holds_ = !piece.empty();
  return Relayed::nothing;
}

Relayed Answer::relayed(Sent sent) {
  congested_ |= sent == Sent::congested;
  return sent == Sent::lost ? Relayed::lost : Relayed::some;
}

void Answer::first_byte_relayed() {
  if (watch_.event_stream()) free_memory(kept_.fields.storage());
  else kept_.recycle();
}

// ---- the end of an answer that has failed ----

Relayed Answer::relay_good(const upstream::Connection* from, bool* whole_chunks) {
  const char* const chunk = is_raw() && from != nullptr ? from->chunk_begin() : nullptr;
  *whole_chunks = !is_raw() || chunk != nullptr;
  // Raw bytes in front of a chunk of which not all may pass; or, in the middle of one, all of them up to the good ones.
  std::string_view raw;
  if (std::exchange(holds_, false)) raw = context_.piece;
  else if (chunk != nullptr) raw = from->raw_until(chunk);
  else if (is_raw() && !good_.empty()) raw = from->raw_until(good_.data() + good_.size());
  if ((!raw.empty() || !started_) && relay(raw) == Relayed::lost) return Relayed::lost;
  if (good_.empty() || !*whole_chunks) return Relayed::some;
  return is_raw() ? relayed(client_.insert(good_)) : relay_open(good_);
}

// A stream at an event boundary gets an error event, which clients raise; unless the server has just sent one itself,
// or has said that it was done.
bool Answer::say_why(ErrorCode why, bool whole_chunks) {
  const bool can_insert = form_ == BodyForm::open || (form_ == BodyForm::chunked && whole_chunks);
  if (!can_insert || !watch_.between_events() || watch_.ends_in_error() || watch_.answer().saw_done()) return true;
  return client_.insert(error_event(why)) != Sent::lost;
}

std::string Answer::error_event(ErrorCode why) const {
  const ErrorInfo& info = info_of(why);
  std::string event;
  openai::append_error_event(event, openai::error_shape_of(intake_.head().target()),
                             {.status = info.status,
                              .message = info.message,
                              .type = info.type,
                              .code = info.name,
                              .request_id = intake_.head().request_id},
                             watch_.chunks());
  return event;
}

// The queue towards the client may hold other bytes than the body's.
void Answer::count_unsent(uint64_t unsent) {
  bytes_ -= std::min(bytes_, unsent);
}

void Answer::describe(ExchangeRecord& record) const {
  record.status = status_;
  record.response_bytes = bytes_;
  record.streaming = watch_.event_stream();
  record.chunks = watch_.chunks();
  record.finish_reason = watch_.answer().finish_reason();
  const std::optional<openai::Usage>& usage = watch_.answer().usage();
  if (!usage.has_value()) return;
  record.has_usage = true;
  record.prompt_tokens = usage->prompt_tokens;
  record.completion_tokens = usage->completion_tokens;
  record.cached_tokens = usage->cached_tokens;
}

}  // namespace penstock::proxy
