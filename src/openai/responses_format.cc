// The events of the responses API, each with a number: the response begins, an item of its output and a part of that
// begin, the text grows, and then the text, the part, the item and the response are each said whole. A stream is
// continued in its first item, if that is a message. Our fields have the order in which vLLM sends them.
#include <algorithm>
#include <iterator>
#include <utility>

#include "event_reader.h"
#include "penstock/base/text.h"
#include "stream_format.h"

namespace penstock::openai {
namespace {

namespace ondemand = simdjson::ondemand;

// The fields of a whole object that is written somewhere else than in the event being parsed.
template <typename Visit>
void read_fields(std::string_view object, Visit visit) {
  ondemand::document document;
  ondemand::object parsed;
  if (scratch().open("", object, document) && !document.get_object().get(parsed)) each_field(parsed, visit);
}

class ResponsesReader final : EventReader {
 public:
  ResponsesReader(std::string_view data, Chunk& out) : EventReader(data, out) {}

  bool run() {
    const auto top = [this](std::string_view key, ondemand::value value) { return top_field(key, value); };
    if (!each_top_field(top)) return false;
    judge();
    return true;
  }

 private:
  bool top_field(std::string_view key, ondemand::value value) {
    const std::string_view token = token_of(value);
    if (key == "response") return !token.starts_with('{') || object_in(value, out_.facts);
    if (key == "item") {
      return each_field(value, [this](std::string_view name, ondemand::value inner) {
        if (name == "type") item_ = string_in(token_of(inner));
        if (name == "id") out_.id = in_data(token_of(inner));
        return true;
      });
    }
    if (key == "part") {
      return each_field(value, [this](std::string_view name, ondemand::value inner) {
        if (name == "type") part_ = string_in(token_of(inner));
        if (name == "text") part_has_text_ = token_of(inner) != R"("")";
        return true;
      });
    }
    if (key == "logprobs" && token.starts_with('[')) return logprobs(value);
    // Which of two counts is not certain.
    if ((key == "type" && !type_.empty()) || (key == "sequence_number" && !out_.number.empty())) {
      meet(ResumeObstacle::unknown_event);
    }
    if (key == "type") type_ = string_in(token);
    else if (key == "sequence_number") out_.number = in_data(token);
    else if (key == "output_index" || key == "content_index") first_ = first_ && token == "0";
    else if (key == "delta") delta(token);
    else if (key == "error") out_.error = out_.error || token != "null";
    else if (key != "item_id" && token != "null") out_.extra = true;
    return true;
  }

  bool logprobs(ondemand::value value) {
    ondemand::array array;
    bool none = false;
    if (value.get_array().get(array) || array.is_empty().get(none)) return false;
    if (!none) meet(ResumeObstacle::logprobs);
    return true;
  }

  void delta(std::string_view token) {
    if (out_.has_text || !is_string(token)) meet(ResumeObstacle::unknown_event);
    out_.has_text = is_string(token);
    out_.text = string_in(token);
  }

  // What the event is follows from its type, which may stand behind the rest.
  void judge() {
    using Place = Chunk::Place;
    if (type_ == "response.output_text.delta") {
      out_.place = Place::text;
      out_.choice = true;
      meet_unless(out_.has_text && first_ && !out_.extra, "");
      return;
    }
    out_.has_text = false;
    if (type_ == "response.failed" || type_ == "error") {
      out_.error = true;
    } else if (type_ == "response.created") {
      out_.place = Place::begin;
    } else if (type_ == "response.output_item.added") {
      out_.place = Place::item;
      meet_unless(item_ == "message" && is_string(out_.id) && first_, item_);
    } else if (type_ == "response.content_part.added") {
      out_.place = Place::open;
      meet_unless(part_ == "output_text" && !part_has_text_ && first_, part_);
    } else if (ends_text()) {
      out_.place = Place::close;
      out_.held = true;
      meet_unless(first_, "");
    } else if (type_ == "response.completed" || type_ == "response.incomplete" || type_ == "response.cancelled") {
      out_.place = Place::close;
      out_.choice = true;
      out_.finish_reason = given_up() ? std::string_view("abort") : type_;
    } else {
      meet_unless(type_ == "response.in_progress" || type_ == "response.queued", type_);
    }
  }

  bool ends_text() const {
    return type_ == "response.output_text.done" || type_ == "response.content_part.done" ||
           type_ == "response.output_item.done";
  }

  // As AnswerObserver sees it.
  bool given_up() const {
    bool given_up = false;
    read_fields(out_.facts, [&](std::string_view key, ondemand::value value) {
      const std::string_view token = token_of(value);
      given_up |= key == "status" && token == R"("cancelled")" && type_ == "response.completed";
      return each_field(value, [&](std::string_view name, ondemand::value inner) {
        const std::string_view reason = token_of(inner);
        const bool why = key == "incomplete_details" && name == "reason";
        given_up |= why && (reason == R"("abort")" || reason == R"("error")");
        return true;
      });
    });
    return given_up;
  }

  // `what`: the type of an item, a part or an event.
  void meet_unless(bool fine, std::string_view what) {
    if (fine) return;
    const auto has = [&](std::string_view word) { return what.find(word) != std::string_view::npos; };
    const bool tool = has("_call") || has("tool");
    meet(has("reasoning") ? ResumeObstacle::reasoning : tool ? ResumeObstacle::tools : ResumeObstacle::unknown_event);
  }

  std::string_view type_, item_, part_;
  bool first_ = true, part_has_text_ = false;
};

class ResponsesFormat final : public StreamFormat {
 public:
  bool read(std::string_view data, Chunk& out) const override {
    const bool whole = ResponsesReader(data, out).run();
    scratch().shrink();
    return whole;
  }

  ResumeObstacle note(const Chunk& chunk, StreamState& state) const override {
    using Place = Chunk::Place;
    const std::optional<uint32_t> number = chunk.number == "0" ? 0 : small_number(chunk.number);
    const bool begins = chunk.place == Place::begin;
    if (!number || !fits(chunk.place, state) || (begins && (chunk.facts.empty() || chunk.facts.size() > facts_max))) {
      return ResumeObstacle::unknown_event;
    }
    if (begins) state.head = chunk.facts;
    if (chunk.place == Place::item) state.item = chunk.id;
    state.begun = state.begun || begins;
    state.open = state.open || chunk.place == Place::open;
    if (chunk.place != Place::close) state.next_number = *number + 1;  // what is held back may be said anew
    return ResumeObstacle::none;
  }

  // Each event has another number.
  bool can_repeat(const Chunk& /*chunk*/, const StreamState& /*state*/) const override { return false; }
  bool repeats_text() const override { return true; }
  std::string_view text_lead() const override { return ""; }

  void append_text(std::string& out, StreamState& state, std::string_view escaped) const override {
    if (state.item.empty()) begin_item(out, state);
    if (!std::exchange(state.open, true)) {
      begin(out, "response.content_part.added");
      append_all(out, R"("content_index":0,"item_id":)", state.item, R"(,"output_index":0,"part":)");
      append_part(out, "", "[]");
      end(out, state, "response.content_part.added");
    }
    begin(out, "response.output_text.delta");
    append_all(out, R"("content_index":0,"delta":")", escaped, R"(","item_id":)", state.item,
               R"(,"logprobs":[],"output_index":0)");
    end(out, state, "response.output_text.delta");
  }

  bool says_reason_first() const override { return false; }
  void append_finish(std::string&, const StreamState&, const StreamEnd&) const override {}

  void append_end(std::string& out, StreamState& state, const StreamEnd& ending) const override {
    std::string item;
    if (!state.item.empty()) append_item(item, state, ending.text);
    if (state.open) {
      begin(out, "response.output_text.done");
      append_all(out, R"("content_index":0,"item_id":)", state.item,
                 R"(,"logprobs":[],"output_index":0,"sequence_number":)", std::to_string(state.next_number++),
                 R"(,"text":")", ending.text, "\",\"type\":\"response.output_text.done\"}\n\n");
      begin(out, "response.content_part.done");
      append_all(out, R"("content_index":0,"item_id":)", state.item, R"(,"output_index":0,"part":)");
      append_part(out, ending.text, "null");
      end(out, state, "response.content_part.done");
    }
    if (!item.empty()) {
      begin(out, "response.output_item.done");
      append_all(out, R"("item":)", item, R"(,"output_index":0)");
      end(out, state, "response.output_item.done");
    }
    begin(out, "response.completed");  // also of one that was cut, as from vLLM
    out += R"("response":)";
    append_response(out, state.head, item, ending);
    end(out, state, "response.completed");
  }

  // Behind the event that says all there is nothing.
  void append_last(std::string& /*out*/) const override {}

 private:
  static constexpr size_t facts_max = 64 * 1024;

  static bool fits(Chunk::Place place, const StreamState& state) {
    using Place = Chunk::Place;
    switch (place) {
      case Place::begin:
        return !state.begun;
      case Place::anywhere:  // what becomes of it before there is any output
      case Place::item:
        return state.begun && state.item.empty();
      case Place::open:
        return !state.item.empty() && !state.open;
      case Place::text:
        return state.open;
      case Place::close:
        return state.begun;
    }
    return false;
  }

  static void begin(std::string& out, std::string_view name) { append_all(out, "event: ", name, "\ndata: {"); }
  static void end(std::string& out, StreamState& state, std::string_view name) {
    append_all(out, R"(,"sequence_number":)", std::to_string(state.next_number++), R"(,"type":")", name, "\"}\n\n");
  }

  // The id of an item of ours is that of the response, with another beginning.
  static void begin_item(std::string& out, StreamState& state) {
    std::string_view id = "\"penstock\"";
    read_fields(state.head, [&](std::string_view key, ondemand::value value) {
      const std::string_view token = trim_end(value.raw_json_token());
      if (key == "id" && token.starts_with('"')) id = scratch().original(state.head, token);
      return true;
    });
    id.remove_prefix(id.starts_with("\"resp_") ? 6 : 1);
    state.item = std::string("\"msg_").append(id);
    begin(out, "response.output_item.added");
    append_all(out, R"("item":{"id":)", state.item,
               R"(,"content":[],"role":"assistant","status":"in_progress","type":"message","phase":null},)",
               R"("output_index":0)");
    end(out, state, "response.output_item.added");
  }

  static void append_part(std::string& out, std::string_view text, std::string_view logprobs) {
    append_all(out, R"({"annotations":[],"text":")", text, R"(","type":"output_text","logprobs":)", logprobs, "}");
  }

  static void append_item(std::string& out, const StreamState& state, std::string_view text) {
    append_all(out, R"({"id":)", state.item, R"(,"content":[)");
    if (!text.empty()) append_part(out, text, "null");
    out += R"(],"role":"assistant","status":"completed","type":"message","phase":null})";
  }

  // The response as it began, but for what has become of it.
  static void append_response(std::string& out, std::string_view begun, std::string_view item,
                              const StreamEnd& ending) {
    const bool cut = ending.reason == "length";
    const std::pair<std::string_view, std::string> fresh[] = {
        {"incomplete_details", cut ? R"({"reason":"max_output_tokens"})" : "null"},
        {"output", std::string("[").append(item).append("]")},
        {"status", cut ? R"("incomplete")" : R"("completed")"},
        {"usage", usage_of(ending.usage.value_or(Usage{}))},
    };
    bool said[std::size(fresh)] = {};
    char before = '{';
    const auto add = [&](std::string_view key, std::string_view value) {
      out += std::exchange(before, ',');
      append_json_string(out, key);
      append_all(out, ":", value);
    };
    read_fields(begun, [&](std::string_view key, ondemand::value value) {
      const auto* const at =
          std::find_if(std::begin(fresh), std::end(fresh), [&](const auto& field) { return field.first == key; });
      std::string_view kept;
      if (at == std::end(fresh)) {
        if (!written(value, kept)) return false;
        add(key, kept);
      } else if (!std::exchange(said[at - std::begin(fresh)], true)) {
        add(key, at->second);
      }
      return true;
    });
    for (size_t i = 0; i < std::size(fresh); ++i) {
      if (!said[i]) add(fresh[i].first, fresh[i].second);
    }
    out += '}';
  }

  static std::string usage_of(const Usage& usage) {
    std::string out;
    append_all(out, R"({"input_tokens":)", std::to_string(usage.prompt_tokens),
               R"(,"input_tokens_details":{"cached_tokens":)", std::to_string(usage.cached_tokens.value_or(0)),
               R"(},"output_tokens":)", std::to_string(usage.completion_tokens),
               R"(,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":)",
               std::to_string(uint64_t{usage.prompt_tokens} + usage.completion_tokens), "}");
    return out;
  }
};

constexpr ResponsesFormat format;

}  // namespace

const StreamFormat& responses_format = format;

}  // namespace penstock::openai
