// The second half of an Exchange: from what the engine has said to what the connection is sent, and failing on purpose.
#include <algorithm>

#include "penstock/base/text.h"
#include "penstock/http/writer.h"
#include "sim/exchange.h"
#include "sim/pages.h"
#include "sim/server.h"

namespace penstock::sim {
namespace {

using downstream::After;

// How much of a stream is formatted before it is offered to the connection.
constexpr size_t kFlushBytes = 128 * 1024;
constexpr std::string_view kJson = "application/json";

bool ends_with_character(std::string_view text) {
  for (size_t size = 1; size <= std::min<size_t>(text.size(), 4); ++size) {
    if (utf8_length(text.substr(text.size() - size)) == size) return true;
  }
  return false;
}

size_t tokens_of(std::string_view text) {
  return (text.size() + bytes_per_token - 1) / bytes_per_token;
}

}  // namespace

// ---- from the engine to the connection ----

void Exchange::on_drained() {
  flush();
}

void Exchange::flush() {
  while (connection_ != nullptr && !held_ && !connection_->congested()) {
    if (break_is_due()) {
      if (fault_.kind != Fault::Kind::abort_after_tokens) return strike();
      break_off();
    }
    std::string& out = server_.scratch();
    out.clear();
    size_t head_size = 0;
    const bool complete = format(out, head_size);
    if (out.empty() || !transmit(out, head_size)) return;
    if (complete) return finish(After::keep_alive);
  }
}

// Appends what can be sent now; true when that ends the answer.
bool Exchange::format(std::string& out, size_t& head_size) {
  if (!stream_) {
    if (unfinished_ > 0) return false;
    std::string& body = server_.scratch_body();
    body.clear();
    format_whole(body);
    const size_t length = body.size();
    append_head(out, 200, kJson, &length);
    head_size = out.size();
    out += body;
    return true;
  }
  if (!head_sent_) {
    append_head(out, 200, "text/event-stream; charset=utf-8", nullptr);
    head_size = out.size();
    head_sent_ = true;
  }
  return format_stream(out);
}

bool Exchange::format_stream(std::string& out) {
  if (!opened_) {
    const auto has_text = [](const auto& choice) { return !choice->text.empty() || choice->ended; };
    if (std::none_of(choices_.begin(), choices_.begin() + static_cast<ptrdiff_t>(choice_count_), has_text))
      return false;
    writer_.open(out, static_cast<uint32_t>(choice_count_), tally());
    opened_ = true;
  }
  for (size_t i = 0; i < choice_count_; ++i) {
    if (!format_choice(out, *choices_[i])) return false;
  }
  for (size_t i = 0; i < choice_count_; ++i) {
    if (!choices_[i]->end_sent) return false;
  }
  std::string escaped;
  writer_.close(out, tally(), json_text(choices_[0]->text, escaped), ending_of(*choices_[0]));
  return true;
}

// False when there is enough to send for now. Chunks end with a token, but for the last one.
bool Exchange::format_choice(std::string& out, Choice& choice) {
  if (choice.end_sent || (choice.text.empty() && !choice.ended)) return true;
  if (!choice.echo.empty() && !choice.echo_sent) writer_.echo(out, choice.index, choice.echo);
  choice.echo_sent = true;
  if (writer_.shape().token_ids || server_.options().engine.text == TextStyle::broken)
    return format_tokens(out, choice);
  const size_t chunk = writer_.shape().chunk_bytes;
  Tally so_far = writer_.shape().continuous_usage ? tally() : Tally{};
  std::string escaped;
  while (true) {
    const std::string_view rest = unsent(choice);
    const bool breaks = strikes_at_token(fault_.kind) && tokens_of(rest) >= fault_.value;
    const bool last = choice.ended && rest.size() <= chunk && !breaks;
    const size_t wanted = breaks ? std::min<size_t>(chunk, fault_.value * bytes_per_token) : chunk;
    if (!last && !breaks && rest.size() < wanted) return true;
    const std::string_view text = rest.substr(0, wanted);
    if (text.empty() && !last) return true;  // the place to break has come
    choice.sent += text.size();
    if (strikes_at_token(fault_.kind)) fault_.value -= tokens_of(text);
    so_far.completion_tokens =
        last ? choice.tokens_told() : static_cast<uint32_t>(tokens_of({choice.text.data(), choice.sent}));
    if (last) {
      writer_.end_choice(out, choice.index, json_text(text, escaped), ending_of(choice), so_far);
      choice.end_sent = true;
      return true;
    }
    writer_.text(out, choice.index, json_text(text, escaped), so_far);
    if (out.size() > kFlushBytes) return false;
  }
}

// As vLLM does: each token is an event, with the text that can be sent once it is there, which may be none. Where that
// ends with a part of a character, nothing of the token is sent until the text ends well again.
bool Exchange::format_tokens(std::string& out, Choice& choice) {
  while (out.size() <= kFlushBytes) {
    const size_t end = (choice.tokens_sent + 1) * bytes_per_token;
    const bool breaks = strikes_at_token(fault_.kind) && fault_.value <= 1;
    if (strikes_at_token(fault_.kind) && fault_.value == 0) return true;  // the place to break has come
    if (end > choice.text.size() && !choice.ended) return true;
    format_token(out, choice, std::min(end, choice.text.size()), choice.ended && end >= choice.text.size() && !breaks);
    if (choice.end_sent) return true;
  }
  return false;
}

// The one whose bytes end there. A stop string may have cut the text in front of it.
void Exchange::format_token(std::string& out, Choice& choice, size_t end, bool last) {
  const std::string_view text = choice.text;
  const size_t begin = std::min(choice.tokens_sent * bytes_per_token, end);
  const bool whole = ends_with_character(text.substr(0, end));
  const size_t until = std::max(choice.sent, last ? end : whole ? sendable(text.substr(0, end)) : 0);
  const std::string_view piece = text.substr(std::min(choice.sent, end), until - std::min(choice.sent, end));
  std::string escaped;
  if (begin < end) writer_.made(token_id_of(text.substr(begin, end - begin)));
  choice.sent = until;
  ++choice.tokens_sent;
  if (strikes_at_token(fault_.kind)) --fault_.value;
  Tally so_far = writer_.shape().continuous_usage ? tally() : Tally{};
  so_far.completion_tokens = last ? choice.tokens_told() : static_cast<uint32_t>(choice.tokens_sent);
  if (last) writer_.end_choice(out, choice.index, json_text(piece, escaped), ending_of(choice), so_far);
  else writer_.text(out, choice.index, json_text(piece, escaped), so_far);
  choice.end_sent = last;
}

// As vLLM does, a running answer keeps back what may turn out to be the beginning of a stop string, and no part of a
// character goes without the rest.
std::string_view Exchange::unsent(const Choice& choice) const {
  const std::string_view rest = std::string_view(choice.text).substr(choice.sent);
  if (choice.ended) return rest;
  return rest.substr(0, sendable(rest));
}

size_t Exchange::sendable(std::string_view text) const {
  size_t size = text.size() - std::min(text.size(), kept_back_);
  for (size_t back = 1; back <= std::min<size_t>(size, 3); ++back) {
    const auto byte = static_cast<unsigned char>(text[size - back]);
    const size_t character = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
    if (byte >= 0xC0) return character > back ? size - back : size;
    if (byte < 0x80) return size;
  }
  return size;
}

// In `escaped`, or the text itself where there is nothing to escape.
std::string_view Exchange::json_text(std::string_view text, std::string& escaped) const {
  if (server_.options().engine.text == TextStyle::plain) return text;
  escaped.clear();
  append_json_text(escaped, text, server_.options().ascii);
  return escaped;
}

void Exchange::format_whole(std::string& out) {
  const Tally tally = this->tally();
  if (generates(route_.api)) {
    std::vector<ChoiceView> views;
    std::vector<std::string> escaped(choice_count_);
    views.reserve(choice_count_);
    for (size_t i = 0; i < choice_count_; ++i) {
      const Choice& choice = *choices_[i];
      views.push_back({choice.echo, json_text(choice.text, escaped[i]), ending_of(choice)});
    }
    return writer_.whole(out, views, tally);
  }
  std::vector<uint64_t> digests;
  for (size_t i = 0; i < choice_count_; ++i) digests.push_back(choices_[i]->stream.digest());
  if (route_.api == Api::embeddings)
    return append_embeddings(out, writer_.shape(), digests, {dimensions_, base64_}, tally);
  if (route_.api == Api::rerank) return append_rerank(out, writer_.shape(), digests, documents_, top_n_, tally);
  append_scores(out, writer_.shape(), digests, tally);
}

Ending Exchange::ending_of(const Choice& choice) const {
  return {choice.reason, choice.stop < stop_.size() ? std::string_view(stop_[choice.stop]) : std::string_view()};
}

// A prompt counts once, however many answers it gets.
Tally Exchange::tally() const {
  Tally tally;
  for (size_t i = 0; i < choice_count_; ++i) {
    tally.completion_tokens += choices_[i]->tokens_told();
    if (i % n_ != 0) continue;
    tally.prompt_tokens += choices_[i]->prompt_tokens();
    tally.cached_tokens += choices_[i]->cached_tokens();
  }
  return tally;
}

void Exchange::append_head(std::string& out, uint16_t status, std::string_view content_type, const size_t* length) {
  http::HeadWriter head(out);
  head.status_line(status);
  head.field("date", server_.date());
  head.field("server", "uvicorn");
  if (length != nullptr) head.field("content-length", *length);
  if (!content_type.empty()) head.field("content-type", content_type);
  head.field("x-request-id", request_id_);
  if (!server_.options().name.empty()) head.field("x-sim-name", server_.options().name);
  const bool framed = length != nullptr || connection_->client_minor_version() >= 1;
  if (length == nullptr && framed) head.field("transfer-encoding", "chunked");
  if (!connection_->can_keep_alive() || !framed) head.field("connection", "close");
  else if (connection_->client_minor_version() == 0) head.field("connection", "keep-alive");
  head.end();
}

// ---- sending, and failing on purpose ----

// False when the exchange has ended or nothing more may be sent.
bool Exchange::transmit(std::string_view bytes, size_t head_size) {
  const Fault::Kind kind = fault_.kind;
  if (kind == Fault::Kind::reset_after || kind == Fault::Kind::stall_after || kind == Fault::Kind::truncate_chunk) {
    return transmit_faulty(bytes, head_size);
  }
  if (connection_->send_raw(bytes)) return true;
  die();
  return false;
}

bool Exchange::transmit_faulty(std::string_view bytes, size_t head_size) {
  const size_t body = bytes.size() - head_size;
  size_t taken = static_cast<size_t>(std::min<uint64_t>(body, fault_.value));
  bool now = fault_.kind != Fault::Kind::truncate_chunk && taken == fault_.value;
  if (fault_.kind == Fault::Kind::truncate_chunk) {
    // In the middle of what there is, but not between two chunks.
    now = body > 0;
    taken = (body + 1) / 2;
    if (taken > 4 && bytes.substr(0, head_size + taken).ends_with("\r\n")) taken -= 4;
  } else {
    fault_.value -= taken;
  }
  if (!connection_->send_raw(bytes.substr(0, head_size + taken))) {
    die();
    return false;
  }
  if (now) strike();
  return !now;
}

// Whether as many tokens have been sent as there may be before the answer breaks; of a whole answer, which is sent at
// its end: generated.
bool Exchange::break_is_due() const {
  if (!strikes_at_token(fault_.kind)) return false;
  if (stream_) return opened_ && fault_.value == 0;
  uint64_t generated = 0;
  for (size_t i = 0; i < choice_count_; ++i) generated += choices_[i]->generated();
  return generated >= fault_.value;
}

// Most often the last thing that is done for an answer.
void Exchange::strike() {
  switch (fault_.kind) {
    case Fault::Kind::truncate_chunk:
      return finish(After::close);
    case Fault::Kind::end_after_tokens:
    case Fault::Kind::error_after_tokens:
      return end_badly();
    default:
      break;
  }
  held_ = true;
  if (fault_.kind == Fault::Kind::stall_after || fault_.kind == Fault::Kind::stall_after_tokens) return;
  resetting_ = true;
  on_delay();
}

// With a proper end of what is not a proper answer. A whole answer has not begun: it becomes an error, or nothing at
// all.
void Exchange::end_badly() {
  constexpr std::string_view message = "The engine has lost this answer, as was asked for.";
  const bool error = fault_.kind == Fault::Kind::error_after_tokens;
  if (!stream_) return error ? reply_error(500, message) : finish(After::close);
  std::string& out = server_.scratch();
  out.clear();
  if (error) writer_.fail(out, message);
  else writer_.end_body(out);
  if (!out.empty() && !connection_->send_raw(out)) return die();
  finish(After::keep_alive);
}

// The answers end with what has been sent of them, or would have been by now, and with the reason "abort".
void Exchange::break_off() {
  for (size_t i = 0; i < choice_count_; ++i) {
    Choice& choice = *choices_[i];
    if (choice.end_sent) continue;
    if (!stream_) {
      choice.sent = std::min<size_t>(choice.text.size(), fault_.value * bytes_per_token);
      fault_.value -= tokens_of({choice.text.data(), choice.sent});
    }
    server_.engine().abort(choice);
    choice.text.resize(choice.sent);
    choice.cut_to = static_cast<uint32_t>(tokens_of(choice.text));
    choice.stop = SIZE_MAX;
    if (!choice.ended) on_finished(choice, FinishReason::abort);
    choice.reason = FinishReason::abort;
  }
  fault_ = {};
}

void Exchange::on_delay() {
  if (!resetting_) {  // the head was slow enough
    held_ = false;
    return flush();
  }
  // A reset would destroy what the client has not been sent yet.
  if (connection_->queued() > 0) return server_.loop().arm(delay_, milliseconds(1));
  die();
}

}  // namespace penstock::sim
