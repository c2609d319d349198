#include "chunk.h"

#include <utility>

#include "event_reader.h"

namespace penstock::openai {
namespace {

namespace ondemand = simdjson::ondemand;

class ChunkReader final : EventReader {
 public:
  ChunkReader(bool chat, std::string_view data, Chunk& out) : EventReader(data, out), chat_(chat) {}

  bool run() {
    return each_top_field([this](std::string_view key, ondemand::value value) { return top_field(key, value); });
  }

 private:
  static bool is_nothing(std::string_view token) { return token == "null" || token == R"("")"; }
  bool meet_unless(bool fine, ResumeObstacle obstacle) {
    if (!fine) meet(obstacle);
    return true;
  }

  bool top_field(std::string_view key, ondemand::value value) {
    if (key == "choices") return choices(value);
    const std::string_view token = token_of(value);
    if (key == "id" || key == "created" || key == "model") {
      if (token == "null") return true;
      if (!is_string(token) && !is_number(token)) return meet_unless(false, ResumeObstacle::unknown_event);
      (key == "id" ? out_.id : key == "model" ? out_.model : out_.created) = in_data(token);
    } else if (key == "usage") {
      out_.usage = out_.usage || token.starts_with('{');
    } else if (key == "error") {
      out_.error = out_.error || !is_nothing(token);
    } else if (key == "object") {
      out_.error = out_.error || token == R"("error")";
    } else if (key == "prompt_token_ids") {
      out_.has_ids = out_.has_ids || token != "null";
    } else if (key != "system_fingerprint" && key != "service_tier") {
      out_.extra = out_.extra || token != "null";
    }
    return true;
  }

  bool choices(ondemand::value value) {
    ondemand::array array;
    if (choices_) meet(ResumeObstacle::unknown_event);
    choices_ = true;
    if (token_of(value) == "null") return true;
    if (value.get_array().get(array)) return false;
    for (auto result : array) {
      ondemand::value element;
      ondemand::object object;
      if (std::move(result).get(element) || element.get_object().get(object)) return false;
      if (out_.choice) meet(ResumeObstacle::several_choices);
      out_.choice = true;
      const auto visit = [this](std::string_view key, ondemand::value field) { return choice_field(key, field); };
      if (!each_field(object, visit)) return false;
    }
    return true;
  }

  bool choice_field(std::string_view key, ondemand::value value) {
    const std::string_view token = token_of(value);
    if (key == "index") return meet_unless(token == "0", ResumeObstacle::several_choices);
    if (key == "text" && !chat_) return text(token);
    if (key == "delta" && chat_) return delta(value);
    if (key == "finish_reason") {
      const bool reason = is_string(token);
      if (reason) out_.finish_reason = unquoted(token);
      return meet_unless(reason || token == "null", ResumeObstacle::unknown_event);
    }
    if (key == "stop_reason") {
      const bool reason = is_string(token) || is_number(token) || token == "null";
      if (reason) out_.stop_reason = in_data(token);
      return meet_unless(reason, ResumeObstacle::unknown_event);
    }
    if (key == "matched_stop") return true;  // the same in SGLang
    if (token == "null") return true;
    if (key == "logprobs" || key == "prompt_logprobs") return meet_unless(false, ResumeObstacle::logprobs);
    if (key == "prompt_token_ids") return out_.has_ids = true;
    if (key == "token_ids") return token_ids(value);
    return meet_unless(false, ResumeObstacle::unknown_event);
  }

  bool token_ids(ondemand::value value) {
    ondemand::array array;
    std::string_view written;
    if (!out_.token_ids.empty()) meet(ResumeObstacle::unknown_event);
    if (value.get_array().get(array) || array.raw_json().get(written)) return false;
    written = trim_end(in_data(written));
    out_.token_ids = written.substr(1, written.size() - 2);
    return out_.has_ids = true;
  }

  bool delta(ondemand::value value) {
    ondemand::object object;
    if (delta_) meet(ResumeObstacle::unknown_event);
    delta_ = true;
    if (token_of(value) == "null") return true;
    if (value.get_object().get(object)) return false;
    return each_field(object, [this](std::string_view key, ondemand::value field) { return delta_field(key, field); });
  }

  bool delta_field(std::string_view key, ondemand::value value) {
    const std::string_view token = token_of(value);
    if (key == "content") return text(token);
    if (is_nothing(token)) return true;
    if (key == "role") {
      out_.role = true;
      return meet_unless(is_string(token), ResumeObstacle::unknown_event);
    }
    if (key == "tool_calls") {
      ondemand::array calls;
      bool none = false;
      if (value.get_array().get(calls) || calls.is_empty().get(none)) return false;
      return meet_unless(none, ResumeObstacle::tools);
    }
    if (key == "function_call") return meet_unless(false, ResumeObstacle::tools);
    const bool reasoning = key == "reasoning" || key == "reasoning_content";
    return meet_unless(false, reasoning ? ResumeObstacle::reasoning : ResumeObstacle::unknown_event);
  }

  bool text(std::string_view token) {
    const bool fine = !text_ && (token == "null" || is_string(token));
    text_ = true;
    if (!fine || token == "null") return meet_unless(fine, ResumeObstacle::unknown_event);
    out_.has_text = true;
    out_.text = unquoted(token);
    return true;
  }

  const bool chat_;
  bool choices_ = false, delta_ = false, text_ = false;  // seen: it is not certain which one of two a client takes
};

}  // namespace

bool read_chunk(bool chat, std::string_view data, Chunk& out) {
  const bool whole = ChunkReader(chat, data, out).run();
  scratch().shrink();
  return whole;
}

}  // namespace penstock::openai
