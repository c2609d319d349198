// The events of the messages API: the message begins, its blocks of content begin, grow and end, then its delta says
// why it ended and what it used. A stream is continued in its first block, if that is text.
#include <utility>

#include "event_reader.h"
#include "penstock/base/text.h"
#include "stream_format.h"

namespace penstock::openai {
namespace {

namespace ondemand = simdjson::ondemand;

constexpr std::string_view stop_event = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

class MessagesReader final : EventReader {
 public:
  MessagesReader(std::string_view data, Chunk& out) : EventReader(data, out) {}

  bool run() {
    const auto top = [this](std::string_view key, ondemand::value value) { return top_field(key, value); };
    if (!each_top_field(top)) return false;
    judge();
    return true;
  }

 private:
  bool top_field(std::string_view key, ondemand::value value) {
    if (key == "delta") {
      return each_field(value,
                        [this](std::string_view name, ondemand::value inner) { return delta_field(name, inner); });
    }
    if (key == "content_block") {
      return each_field(value,
                        [this](std::string_view name, ondemand::value inner) { return block_field(name, inner); });
    }
    if (key == "message") {
      return each_field(value,
                        [this](std::string_view name, ondemand::value inner) { return message_field(name, inner); });
    }
    const std::string_view token = token_of(value);
    if (key == "type") type_ = string_in(token);
    if (key == "index") first_block_ = token == "0";
    if (key == "error") out_.error = out_.error || token != "null";
    return true;
  }

  // Of the message that begins the usage is kept, as it is written.
  bool message_field(std::string_view key, ondemand::value value) {
    return key != "usage" || !token_of(value).starts_with('{') || object_in(value, out_.facts);
  }

  bool block_field(std::string_view key, ondemand::value value) {
    const std::string_view token = token_of(value);
    if (key == "type") block_ = string_in(token);
    if (key == "text") block_has_text_ = token != R"("")" && token != "null";
    return true;
  }

  bool delta_field(std::string_view key, ondemand::value value) {
    const std::string_view token = token_of(value);
    if (key == "type") {
      delta_ = string_in(token);
    } else if (key == "text") {
      if (out_.has_text || !is_string(token)) meet(ResumeObstacle::unknown_event);
      else out_.text = string_in(token);
      out_.has_text = is_string(token);
    } else if (key == "stop_reason") {
      out_.finish_reason = string_in(token);
    } else if (key == "stop_sequence") {
      out_.stop_reason = in_data(token);
    } else if (token != "null") {
      out_.extra = true;
    }
    return true;
  }

  // What the event is follows from its type, which may stand behind the rest.
  void judge() {
    using Place = Chunk::Place;
    if (type_ == "content_block_delta") return judge_text();
    if (type_ == "message_start") {
      out_.place = Place::begin;
    } else if (type_ == "content_block_start") {
      out_.place = Place::open;
      meet_unless(block_ == "text" && !block_has_text_ && first_block_, block_);
    } else if (type_ == "content_block_stop") {
      out_.place = Place::close;
      out_.held = true;
    } else if (type_ == "message_delta") {
      out_.place = Place::close;
      out_.choice = !out_.finish_reason.empty();
      out_.held = !out_.choice;
    } else if (type_ == "error") {
      out_.error = true;
    } else if (type_ != "ping" && type_ != "message_stop") {
      meet(ResumeObstacle::unknown_event);
    }
    out_.has_text = false;
  }

  void judge_text() {
    out_.place = Chunk::Place::text;
    out_.choice = true;
    meet_unless(delta_ == "text_delta" && out_.has_text && first_block_ && !out_.extra, delta_);
    if (!out_.finish_reason.empty()) meet(ResumeObstacle::unknown_event);
  }

  // `what`: the type of a block, or of a piece of one.
  void meet_unless(bool fine, std::string_view what) {
    if (fine) return;
    const bool reasoning = what.find("thinking") != std::string_view::npos || what == "signature_delta";
    const bool tool = what.find("tool_use") != std::string_view::npos || what == "input_json_delta";
    meet(reasoning ? ResumeObstacle::reasoning : tool ? ResumeObstacle::tools : ResumeObstacle::unknown_event);
  }

  std::string_view type_, block_, delta_;
  bool first_block_ = false, block_has_text_ = false;
};

class MessagesFormat final : public StreamFormat {
 public:
  bool read(std::string_view data, Chunk& out) const override {
    const bool whole = MessagesReader(data, out).run();
    scratch().shrink();
    return whole;
  }

  ResumeObstacle note(const Chunk& chunk, StreamState& state) const override {
    using Place = Chunk::Place;
    const bool begins = chunk.place == Place::begin, opens = chunk.place == Place::open;
    const bool fits = chunk.place == Place::anywhere || (begins ? !state.begun : state.begun);
    const bool open_fits = opens ? !state.open : chunk.place != Place::text || state.open;
    if (!fits || !open_fits || chunk.facts.size() > facts_max) return ResumeObstacle::unknown_event;
    if (begins) state.head = chunk.facts;
    state.begun = state.begun || begins;
    state.open = state.open || opens;
    return ResumeObstacle::none;
  }

  bool can_repeat(const Chunk& /*chunk*/, const StreamState& /*state*/) const override { return true; }
  bool repeats_text() const override { return false; }
  std::string_view text_lead() const override { return "event: content_block_delta\ndata: "; }

  void append_text(std::string& out, StreamState& state, std::string_view escaped) const override {
    if (!std::exchange(state.open, true)) {
      out += "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"content_block\":";
      out += "{\"type\":\"text\",\"text\":\"\"},\"index\":0}\n\n";
    }
    append_all(out, text_lead(), R"({"type":"content_block_delta","delta":{"type":"text_delta","text":")", escaped,
               "\"},\"index\":0}\n\n");
  }

  bool says_reason_first() const override { return false; }
  void append_finish(std::string&, const StreamState&, const StreamEnd&) const override {}

  void append_end(std::string& out, StreamState& state, const StreamEnd& end) const override {
    if (state.open) out += "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n";
    const bool stop_string = end.stop_reason_json.starts_with('"');
    const std::string_view reason = end.reason == "length" ? "max_tokens" : stop_string ? "stop_sequence" : "end_turn";
    append_all(out, "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"", reason,
               R"(","stop_sequence":)", reason == "stop_sequence" ? end.stop_reason_json : "null", R"(},"usage":{)");
    append_usage(out, state.head, end.usage.value_or(Usage{}));
    append_all(out, "}}\n\n", stop_event);
  }

  void append_last(std::string& out) const override { out += stop_event; }

 private:
  static constexpr size_t facts_max = 4 * 1024;

  // The prompt's tokens are told as they were when the message began, if they were.
  static void append_usage(std::string& out, std::string_view begun, const Usage& usage) {
    bool prompt = false;
    ondemand::document document;
    ondemand::object object;
    if (scratch().open("", begun, document) && !document.get_object().get(object)) {
      each_field(object, [&](std::string_view key, ondemand::value value) {
        const std::string_view token = trim_end(value.raw_json_token());
        const bool input = key == "input_tokens" || key.ends_with("_input_tokens");
        if (!input || !is_number(token) || key.find_first_of("\"\\") != std::string_view::npos) return true;
        prompt = prompt || key == "input_tokens";
        append_all(out, "\"", key, "\":", token, ",");
        return true;
      });
    }
    if (!prompt) append_all(out, R"("input_tokens":)", std::to_string(usage.prompt_tokens), ",");
    append_all(out, R"("output_tokens":)", std::to_string(usage.completion_tokens));
  }
};

constexpr MessagesFormat format;

}  // namespace

const StreamFormat& messages_format = format;

}  // namespace penstock::openai
