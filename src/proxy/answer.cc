#include "answer.h"

#include <algorithm>
#include <utility>

#include "penstock/base/containers.h"
#include "penstock/http/writer.h"
#include "penstock/openai/error_body.h"
#include "resume.h"

namespace penstock::proxy {

namespace {

using downstream::BodyForm;
using downstream::Sent;
using openai::ResumeObstacle;

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
  context_.pieces_of = nullptr;  // of an answer that had the same place
  if (head.reason != "OK" && head.reason != http::reason_of(head.status))
    reason_ = std::make_unique<std::string>(head.reason);
  form_ = form_for(head);
  restores_ = restores(head);
  if (restores_) begin_restoring(head);
  else if (gathers) gather(head);
  obstacle_ = obstacle_in(head);
  if (obstacle_ == ResumeObstacle::none) {
    watch_.remember(std::make_unique<RememberedStream>(context_.budget, intake_.request().api,
                                                       context_.options.resume.text_bytes_max,
                                                       /*keeps_ids=*/intake_.wants_token_ids()));
  }
  kept_.fields.clear();
  append_answer_fields(kept_.fields, head, !gathers_ && form_ != BodyForm::open, shown);
  if (!intake_.answer_changes().empty()) change_fields(kept_.fields, intake_.answer_changes());
  waits_for_all_ = can_wait_for_all(head);
  if (waits_for_all_) announced_ = static_cast<uint32_t>(head.content_length);
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
  announced_ = static_cast<uint32_t>(head.content_length);
  gathered_ = std::make_unique<net::BodyBuffer>(context_.budget);
}

// Whoever does not stream cannot use a part of the answer. If its endpoint fails before the end, another one is asked.
bool Answer::can_wait_for_all(const http::Head& head) const {
  return form_ == BodyForm::sized && !gathers_ && intake_.inference() && is_json(head) &&
         head.content_length <= gathered_bytes_max;
}

bool Answer::restores(const http::Head& head) const {
  const bool ids = intake_.wants_token_ids() && is_events(head);
  const bool model = intake_.model_renamed() && (is_events(head) || is_json(head));
  if ((!ids && !model) || form_ == BodyForm::none) return false;
  if (!has_content_encoding(head)) return true;
  context_.observer.model_not_restored();
  return false;
}

// What is known of it before it has begun; the request's other fields are read when it breaks.
ResumeObstacle Answer::obstacle_in(const http::Head& head) const {
  const openai::Request& request = intake_.request();
  if (!request.stream || head.status != 200 || form_ == BodyForm::none) return ResumeObstacle::not_streamed;
  if (!context_.options.resume.enabled || intake_.head().never_resume) return ResumeObstacle::off;
  if (!intake_.inference() || !openai::ResumeRequest::knows(request.api)) return ResumeObstacle::api;
  if (!is_events(head) || has_content_encoding(head) || head.has_content_length) return ResumeObstacle::not_streamed;
  if (!Resume::knows_path(intake_.head().target())) return ResumeObstacle::path;
  if (request.has_tools) return ResumeObstacle::tools;
  if (request.multimodal) return ResumeObstacle::media;
  if (request.n > 1) return ResumeObstacle::several_choices;
  if (request.continuous_usage) return ResumeObstacle::usage_in_chunks;
  if (intake_.body().size() > context_.options.resume.request_bytes_max) return ResumeObstacle::too_long;
  // Remembering must not take the room that new requests need.
  const bool room = context_.budget.used() < context_.budget.limit() / 2;
  return room ? ResumeObstacle::none : ResumeObstacle::memory;
}

// What the client gets is of another length.
void Answer::begin_restoring(const http::Head& head) {
  const bool events = is_events(head);
  restorer_ = std::make_unique<openai::AnswerRestorer>();
  restorer_->begin(events ? openai::AnswerRestorer::Shape::events : openai::AnswerRestorer::Shape::json,
                   {.model = intake_.model_renamed() ? std::string_view(intake_.request().model) : "",
                    .token_ids = intake_.wants_token_ids()});
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
  if (waits_for_all_ && (gathered_ != nullptr || decoded.size() < announced_)) return wait_for_all(decoded);
  watch_.feed(decoded, context_.loop.now());
  if (watch_.failure()) {
    context_.good_piece = decoded.substr(0, watch_.good_bytes());
    if (remembered() != nullptr) remembered()->keep_error(decoded.substr(watch_.good_bytes(), watch_.withheld_bytes()));
    return Relayed::failed;
  }
  if (remembers_chunks()) keep_piece(decoded);
  if (form_ != BodyForm::open) return Relayed::nothing;
  return remembered() != nullptr ? relay_whole_events(decoded) : relay_open(decoded);
}

// The last bytes of an answer are its proper end, as far as HTTP can tell: they are withheld if it is none.
Relayed Answer::take_raw(std::string_view raw, bool whole, bool last) {
  if (gathers_ || gathered_ != nullptr || form_ == BodyForm::none || (form_ == BodyForm::open && started_))
    return Relayed::nothing;
  if (last) watch_.end();
  context_.good_piece = {};
  if (watch_.failure()) return Relayed::failed;
  if (remembers_chunks()) return relay_remembered(raw, whole || last, last);
  if (form_ != BodyForm::open) return relay(raw);
  return std::exchange(holds_, false) ? relay_piece() : Relayed::nothing;
}

Relayed Answer::end(std::string_view trailers) {
  if (gathers_) return relay_gathered();
  if (gathered_ != nullptr && relay_waited() == Relayed::lost) return Relayed::lost;
  watch_.end();
  context_.good_piece = {};
  if (watch_.failure()) return Relayed::failed;
  if (remembered() != nullptr && relay_beginning() == Relayed::lost) return Relayed::lost;
  if (!started_ && relay({}) == Relayed::lost) return Relayed::lost;  // without a body its head has not gone out yet
  if (remembers_chunks() && !terminated_) {
    const Sent sent = client_.send(trailers.empty() ? "0\r\n\r\n" : "0\r\n");
    if (sent == Sent::lost || (!trailers.empty() && client_.send(trailers) == Sent::lost)) return Relayed::lost;
  }
  return relayed(client_.end(trailers));
}

Relayed Answer::relay_gathered() {
  watch_.feed(gathered_->view(), context_.loop.now());
  context_.good_piece = {};
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

// Where there is no room for all of it, its pieces are relayed as they come after all.
Relayed Answer::wait_for_all(std::string_view decoded) {
  if (gathered_ == nullptr) gathered_ = std::make_unique<net::BodyBuffer>(context_.budget);
  if (gathered_->append(decoded, announced_)) return Relayed::nothing;
  waits_for_all_ = false;
  const Relayed result = relay_waited();
  watch_.feed(decoded, context_.loop.now());
  return result;
}

Relayed Answer::relay_waited() {
  watch_.feed(gathered_->view(), context_.loop.now());
  const Relayed result = watch_.failure() ? Relayed::nothing : relay(gathered_->view());
  gathered_.reset();
  return result;
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

// So that another endpoint can go on behind what the client has, if this one fails.
Relayed Answer::relay_whole_events(std::string_view decoded) {
  net::BodyBuffer& beginning = remembered()->beginning();
  const size_t whole = watch_.incomplete_from(decoded.size());
  const std::string_view rest = decoded.substr(whole);
  if (beginning.empty() && (rest.empty() || !remembered()->relays_whole_events())) return relay_open(decoded);
  Relayed result = whole > 0 ? relay_beginning() : Relayed::nothing;
  if (whole > 0 && result != Relayed::lost) result = relay_open(decoded.substr(0, whole));
  if (rest.empty() || result == Relayed::lost || remembered()->keep(rest)) return result;
  if (relay_beginning() == Relayed::lost) return Relayed::lost;
  return relay_open(rest);
}

Relayed Answer::relay_beginning() {
  net::BodyBuffer& beginning = remembered()->beginning();
  if (beginning.empty()) return Relayed::nothing;
  const bool chunks = form_ == BodyForm::chunked;  // then the client has had some
  const Relayed result = chunks ? relayed(client_.insert(beginning.view())) : relay_open(beginning.view());
  beginning.reset();
  return result;
}

void Answer::keep_piece(std::string_view decoded) {
  if (std::exchange(context_.pieces_of, this) != this) context_.pieces.clear();
  context_.pieces.push_back({decoded, watch_.incomplete_from(decoded.size())});
}

// Chunks are relayed as they come while what is read ends with a whole chunk and a whole event, as it nearly always
// does. Otherwise the whole events are, in chunks of our own, until both are in step again.
Relayed Answer::relay_remembered(std::string_view raw, bool whole, bool last) {
  const bool ends_whole = whole && watch_.between_events();
  if (in_step_ && ends_whole) {
    context_.pieces_of = nullptr;
    terminated_ = last;
    return relay(raw);
  }
  std::string& out = context_.piece;
  out.clear();
  if (std::exchange(context_.pieces_of, nullptr) == this) {
    for (const Context::Piece& piece : context_.pieces) append_whole_events(piece, out);
  }
  in_step_ = ends_whole;
  return out.empty() ? Relayed::nothing : relay_piece();
}

void Answer::append_whole_events(const Context::Piece& piece, std::string& out) {
  net::BodyBuffer& beginning = remembered()->beginning();
  const std::string_view rest = piece.bytes.substr(piece.whole);
  const auto append_beginning = [&] {
    if (!beginning.empty()) http::append_chunk(out, beginning.view());
    beginning.reset();
  };
  if (piece.whole > 0) {
    append_beginning();
    http::append_chunk(out, piece.bytes.substr(0, piece.whole));
  }
  if (rest.empty() || remembered()->keep(rest)) return;
  append_beginning();
  http::append_chunk(out, rest);
}

// Of what was read last: the pieces in front of the one that failed, and what is good of that.
Relayed Answer::relay_good_events() {
  std::string& out = context_.piece;
  out.clear();
  if (std::exchange(context_.pieces_of, nullptr) == this) {
    for (const Context::Piece& piece : context_.pieces) append_whole_events(piece, out);
  }
  if (!context_.good_piece.empty()) append_whole_events({context_.good_piece, context_.good_piece.size()}, out);
  return out.empty() && started_ ? Relayed::some : relay_piece();
}

Relayed Answer::relayed(Sent sent) {
  congested_ |= sent == Sent::congested;
  return sent == Sent::lost ? Relayed::lost : Relayed::some;
}

void Answer::first_byte_relayed() {
  if (watch_.event_stream()) free_memory(kept_.fields.storage());
  else kept_.recycle();
}

// ---- another endpoint that goes on with it ----

ResumeObstacle Answer::resume_obstacle() const {
  return remembered() != nullptr ? remembered()->obstacle() : obstacle_;
}

bool Answer::said_all() const {
  return remembered() != nullptr && remembered()->relays_whole_events() && watch_.answer().saw_done();
}

void Answer::go_on() {
  remembered()->beginning().reset();
  watch_.go_on();
  terminated_ = false;
}

Relayed Answer::take_events(std::string_view events) {
  bytes_ += events.size();
  watch_.feed(events, context_.loop.now());
  return form_ == BodyForm::chunked ? relayed(client_.insert(events)) : relay_open(events);
}

// ---- the end of an answer that has failed ----

Relayed Answer::relay_good(const upstream::Connection* from, bool* whole_chunks) {
  if (remembers_chunks()) {
    *whole_chunks = true;
    return relay_good_events();
  }
  const char* const chunk = is_raw() && from != nullptr ? from->chunk_begin() : nullptr;
  *whole_chunks = !is_raw() || chunk != nullptr;
  // Raw bytes in front of a chunk of which not all may pass; or, in the middle of one, all of them up to the good ones.
  std::string_view raw;
  if (std::exchange(holds_, false)) raw = context_.piece;
  else if (chunk != nullptr) raw = from->raw_until(chunk);
  else if (is_raw() && !context_.good_piece.empty())
    raw = from->raw_until(context_.good_piece.data() + context_.good_piece.size());
  if ((!raw.empty() || !started_) && relay(raw) == Relayed::lost) return Relayed::lost;
  if (remembered() != nullptr && !context_.good_piece.empty() && relay_beginning() == Relayed::lost)
    return Relayed::lost;
  if (context_.good_piece.empty() || !*whole_chunks) return Relayed::some;
  return is_raw() ? relayed(client_.insert(context_.good_piece)) : relay_open(context_.good_piece);
}

// A stream at an event boundary gets an error event, which clients raise; unless the server has just sent one itself,
// or has said that it was done.
bool Answer::say_why(ErrorCode why, bool whole_chunks) {
  const bool can_insert = form_ == BodyForm::open || (form_ == BodyForm::chunked && whole_chunks);
  const bool whole_events = remembered() != nullptr && remembered()->relays_whole_events();
  if (!can_insert || (!whole_events && !watch_.between_events()) || watch_.ends_in_error() ||
      watch_.answer().saw_done())
    return true;
  const std::string theirs = remembered() != nullptr ? remembered()->error() : "";
  return client_.insert(theirs.empty() ? error_event(why) : theirs) != Sent::lost;
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
                             watch_.relayed_chunks());
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
