#include "penstock/openai/continuation.h"

#include <algorithm>
#include <utility>

#include "chunk.h"
#include "json_string.h"
#include "penstock/base/text.h"

namespace penstock::openai {

// Stop strings across the seam

// The borders are those of Knuth, Morris and Pratt: each byte is looked at once, however long the client's strings are.
Continuation::Watch::Watch(const std::string& text) : stop(text), borders(text.size()) {
  for (size_t end = 1, border = 0; end < stop.size(); ++end) {
    while (border > 0 && stop[border] != stop[end]) border = borders[border - 1];
    if (stop[border] == stop[end]) ++border;
    borders[end] = static_cast<uint32_t>(border);
  }
}

void Continuation::Watch::advance(char c) {
  while (matched > 0 && stop[matched] != c) matched = borders[matched - 1];
  if (stop[matched] == c) ++matched;
}

Continuation::Continuation(Delivered& delivered, const std::vector<std::string>& stops, bool include_stop_in_output,
                           std::string_view gap)
    : delivered_(delivered), include_stop_(include_stop_in_output), held_(gap) {
  if (stops.empty()) return;
  std::string text;
  decode_string(delivered.text(), text);
  decode_string(gap, text);
  for (const std::string& stop : stops) {
    if (stop.size() < 2) continue;
    Watch watch(stop);
    const size_t tail = std::min(text.size(), stop.size() - 1);  // too short for all of it
    for (const char c : text.substr(text.size() - tail)) watch.advance(c);
    if (watch.matched > 0) watches_.push_back(std::move(watch));
  }
}

// New text while a stop string that began in the text delivered may still be completed. The first one to be complete
// ends the answer; of those complete at the same byte the first of the request does, as in the server.
void Continuation::look(std::string_view escaped, std::string& out) {
  std::string text;
  decode_string(escaped, text);
  for (size_t at = 0; at < text.size() && !watches_.empty(); ++at) {
    ++looked_at_;
    for (Watch& watch : watches_) {
      watch.advance(text[at]);
      if (watch.complete()) return cut_at(watch, std::string_view(text).substr(0, at + 1), out);
    }
    // What matches now began in the new text: the endpoint sees that itself.
    std::erase_if(watches_, [this](const Watch& watch) { return watch.matched <= looked_at_; });
  }
  held_ += escaped;
  if (!watches_.empty()) return;
  send(held_, out);
  held_.clear();
}

// `text` is the new text up to the end of the stop string, behind what was held back. Of a beginning that was delivered
// nothing can be taken back.
void Continuation::cut_at(const Watch& watch, std::string_view text, std::string& out) {
  std::string all;
  decode_string(held_, all);
  all += text;
  if (!include_stop_) all.resize(all.size() - std::min(all.size(), watch.stop.size()));
  held_.clear();
  encode_string(all, held_);
  send(held_, out);
  std::string stop_reason;
  append_json_string(stop_reason, watch.stop);
  watches_.clear();
  held_.clear();
  cut_ = true;
  finish("stop", stop_reason, out);
}

// Events

void Continuation::send(std::string_view escaped, std::string& out) {
  if (escaped.empty()) return;
  delivered_.append_text_event(out, escaped);
  delivered_.add(escaped);
}

void Continuation::finish(std::string_view reason, std::string_view stop_reason_json, std::string& out) {
  send(held_, out);
  held_.clear();
  delivered_.append_finish_event(out, reason, stop_reason_json);
  delivered_.finish(reason, stop_reason_json);
  state_ = State::finished;
}

void Continuation::take_text(std::string_view escaped, std::string& out) {
  ++events_;
  if (!watches_.empty()) return look(escaped, out);
  if (held_.empty()) return send(escaped, out);
  send(held_.append(escaped), out);
  held_.clear();
}

Continuation::State Continuation::take(std::string_view data, std::string& out) {
  if (state_ == State::failed || state_ == State::over) return state_;
  const AnswerObserver::Kind kind = observer_.on_event("", data);
  if (kind == AnswerObserver::Kind::done) return end(state_ == State::finished ? State::over : State::failed);
  if (cut_ || !data.starts_with('{')) return state_;
  Chunk chunk;
  const bool good = kind != AnswerObserver::Kind::error && !observer_.gave_up() &&
                    read_chunk(/*chat=*/false, data, chunk) && chunk.obstacle == ResumeObstacle::none;
  if (!good) return end(State::failed);
  if (!chunk.choice || state_ == State::finished) return state_;
  delivered_.add_ids(chunk);
  if (chunk.has_text && !(chunk.text.empty() && !chunk.finish_reason.empty())) take_text(chunk.text, out);
  if (state_ == State::going && !chunk.finish_reason.empty()) finish(chunk.finish_reason, chunk.stop_reason, out);
  return state_;
}

}  // namespace penstock::openai
