#include "sim/answer.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <utility>

#include "penstock/base/text.h"
#include "penstock/openai/error_body.h"

namespace penstock::sim {
namespace {

std::string_view openai_reason(FinishReason reason) {
  if (reason == FinishReason::abort) return "abort";
  return reason == FinishReason::stop ? "stop" : "length";
}
// As JSON.
std::string_view anthropic_reason(const Ending& ending) {
  if (!ending.stop.empty()) return R"("stop_sequence")";
  if (ending.reason == FinishReason::abort) return "null";  // which the API has no word for
  return ending.reason == FinishReason::stop ? R"("end_turn")" : R"("max_tokens")";
}
// What vLLM says for gpt-oss; other models' answers are "completed" there when they were given up.
std::string_view response_status(FinishReason reason) {
  if (reason == FinishReason::abort) return "cancelled";
  return reason == FinishReason::stop ? "completed" : "incomplete";
}

void append_number(std::string& out, uint64_t value, int base = 10) {
  char text[24];
  out.append(text, std::to_chars(text, text + sizeof text, value, base).ptr);
}

void append_u_escape(std::string& out, uint32_t unit) {
  constexpr char hex[] = "0123456789abcdef";
  out += "\\u";
  for (const int shift : {12, 8, 4, 0}) out += hex[unit >> shift & 15];
}

// A character of `length` bytes beyond ASCII, as one unit of UTF-16 or two.
void append_u_escaped_character(std::string& out, std::string_view bytes) {
  uint32_t code = static_cast<unsigned char>(bytes[0]) & (0xFFu >> (bytes.size() + 1));
  for (const char c : bytes.substr(1)) code = code << 6 | (static_cast<unsigned char>(c) & 0x3Fu);
  if (code < 0x10000) return append_u_escape(out, code);
  append_u_escape(out, 0xD800 + ((code - 0x10000) >> 10));
  append_u_escape(out, 0xDC00 + ((code - 0x10000) & 0x3FF));
}

}  // namespace

void append_json_text(std::string& out, std::string_view text, bool ascii) {
  constexpr std::string_view named = "\"\\\n\r\t", names = "\"\\nrt";
  while (!text.empty()) {
    const auto first = static_cast<unsigned char>(text[0]);
    const size_t length = std::max<size_t>(utf8_length(text), 1);
    const std::string_view character = text.substr(0, length);
    if (const size_t at = named.find(text[0]); at != std::string_view::npos) out.append("\\").append(1, names[at]);
    else if (first < 0x20) append_u_escape(out, first);
    else if (first < 0x80 || (length > 1 && !ascii)) out += character;
    else if (length > 1) append_u_escaped_character(out, character);
    else append_u_escape(out, 0xFFFD);
    text.remove_prefix(length);
  }
}

void append_error_body(std::string& out, uint16_t status, std::string_view message, std::string_view param) {
  const std::string_view type = status == 404   ? "NotFoundError"
                                : status == 429 ? "TooManyRequestsError"
                                : status == 503 ? "Service Unavailable"
                                : status >= 500 ? "InternalServerError"
                                                : "BadRequestError";
  out += "{\"error\":{\"message\":";
  append_json_string(out, message);
  out.append(",\"type\":\"").append(type).append("\",\"param\":");
  if (param.empty()) out += "null";
  else append_json_string(out, param);
  out += ",\"code\":";
  append_number(out, status);
  out += "}}";
}

void AnswerWriter::start(const AnswerShape& shape) {
  shape_ = shape;
  model_json_.clear();
  append_json_string(model_json_, shape.model);
  templates_.clear();
  made_ids_.clear();
  sequence_number_ = 0;
  block_open_ = false;
}

void AnswerWriter::put_number(uint64_t value) {
  append_number(event_, value);
}

// ---- framing ----

void AnswerWriter::begin_event(std::string_view name) {
  event_.clear();
  if (!name.empty()) event_.append("event: ").append(name).append("\n");
  event_ += "data: ";
}

void AnswerWriter::end_event(std::string& out) {
  event_ += "\n\n";
  if (!shape_.chunked) {
    out += event_;
    return;
  }
  append_number(out, event_.size(), 16);
  out.append("\r\n").append(event_).append("\r\n");
}

// ---- streams ----

void AnswerWriter::open(std::string& out, uint32_t choices, const Tally& tally) {
  if (shape_.api == Api::chat) return open_chat(out, choices, tally);
  if (shape_.api == Api::responses) return open_responses(out);
  if (shape_.api == Api::messages) return open_messages(out, tally);
}

// Who speaks: one chunk without text for each choice.
void AnswerWriter::open_chat(std::string& out, uint32_t choices, const Tally& tally) {
  for (uint32_t choice = 0; choice < choices; ++choice) {
    begin_event("");
    put_head("chat.completion.chunk");
    put(",\"choices\":[{\"index\":");
    put_number(choice);
    put(",\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null}]");
    if (shape_.token_ids) put_ids("prompt_token_ids", std::exchange(shape_.prompt_ids, {}));
    if (shape_.continuous_usage) put_usage({tally.prompt_tokens, tally.cached_tokens, 0});
    put("}");
    end_event(out);
  }
}

void AnswerWriter::echo(std::string& out, uint32_t choice, std::string_view prompt) {
  begin_event("");
  std::string escaped;
  append_json_string(escaped, prompt);
  put_piece(choice, std::string_view(escaped).substr(1, escaped.size() - 2), nullptr);
  put("}");
  end_event(out);
}

void AnswerWriter::text(std::string& out, uint32_t choice, std::string_view text, const Tally& tally) {
  const bool message = shape_.api == Api::messages, response = shape_.api == Api::responses;
  if ((message || response) && !std::exchange(block_open_, true)) message ? open_block(out) : open_item(out);
  const bool ordinary = text.size() == shape_.chunk_bytes && !shape_.token_ids && !shape_.continuous_usage && !response;
  if (!ordinary) return piece(out, choice, text, nullptr, tally);
  if (choice >= templates_.size() || templates_[choice].bytes.empty()) build_template(choice);
  const Template& ready = templates_[choice];
  const size_t at = out.size();
  out += ready.bytes;
  std::memcpy(out.data() + at + ready.text_at, text.data(), text.size());
}

void AnswerWriter::build_template(uint32_t choice) {
  if (choice >= templates_.size()) templates_.resize(choice + 1);
  Template& fresh = templates_[choice];
  // No part of the frame can look like this run of marks.
  const std::string marks(shape_.chunk_bytes, '\x01');
  piece(fresh.bytes, choice, marks, nullptr, {});
  fresh.text_at = fresh.bytes.find(marks);
}

void AnswerWriter::end_choice(std::string& out, uint32_t choice, std::string_view last, const Ending& ending,
                              const Tally& tally) {
  if (shape_.api == Api::responses || shape_.api == Api::messages) {
    if (!last.empty()) text(out, choice, last, tally);
    return;  // close() says the reason
  }
  piece(out, choice, last, &ending, tally);
}

void AnswerWriter::piece(std::string& out, uint32_t choice, std::string_view text, const Ending* ending,
                         const Tally& tally) {
  if (shape_.api == Api::responses) return text_of_response(out, text);
  if (shape_.api == Api::messages) {
    begin_event("content_block_delta");
    put("{\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"");
    event_.append(text).append("\"},\"index\":0}");
    return end_event(out);
  }
  begin_event("");
  put_piece(choice, text, ending);
  if (shape_.continuous_usage) put_usage(tally);
  put("}");
  end_event(out);
}

// A chunk of chat or completions up to, and without, what may follow the choices. `text` is escaped.
void AnswerWriter::put_piece(uint32_t choice, std::string_view text, const Ending* ending) {
  const bool chat = shape_.api == Api::chat;
  put_head(chat ? "chat.completion.chunk" : "text_completion");
  put(",\"choices\":[{\"index\":");
  put_number(choice);
  put(chat ? ",\"delta\":{\"content\":\"" : ",\"text\":\"");
  put(text);
  put(chat ? "\"},\"logprobs\":null,\"finish_reason\":" : "\",\"logprobs\":null,\"finish_reason\":");
  if (ending == nullptr) put(chat ? "null" : "null,\"stop_reason\":null");
  else put_stop_reason(*ending);
  if (shape_.token_ids) put_ids("token_ids", std::exchange(made_ids_, {}));
  if (!chat && !shape_.prompt_ids.empty()) put_ids("prompt_token_ids", std::exchange(shape_.prompt_ids, {}));
  put("}]");
}

void AnswerWriter::put_ids(std::string_view name, const std::vector<uint32_t>& ids) {
  event_.append(",\"").append(name).append("\":[");
  for (const uint32_t id : ids) event_.append(std::to_string(id)).append(",");
  if (!ids.empty()) event_.pop_back();
  put("]");
}

// The two values that say why a choice ended, from the first one on.
void AnswerWriter::put_stop_reason(const Ending& ending) {
  event_.append("\"").append(openai_reason(ending.reason)).append("\",\"stop_reason\":");
  if (ending.stop.empty()) put("null");
  else append_json_string(event_, ending.stop);
}

void AnswerWriter::put_head(std::string_view object) {
  event_.append("{\"id\":\"").append(shape_.id).append("\",\"object\":\"").append(object).append("\",\"created\":");
  put_number(static_cast<uint64_t>(shape_.created));
  event_.append(",\"model\":").append(model_json_);
}

void AnswerWriter::put_usage(const Tally& tally) {
  put(",\"usage\":{\"prompt_tokens\":");
  put_number(tally.prompt_tokens);
  put(",\"total_tokens\":");
  put_number(uint64_t{tally.prompt_tokens} + tally.completion_tokens);
  put(",\"completion_tokens\":");
  put_number(tally.completion_tokens);
  put(",\"prompt_tokens_details\":{\"cached_tokens\":");
  put_number(tally.cached_tokens);
  put("}}");
}

void AnswerWriter::close(std::string& out, const Tally& tally, std::string_view whole, const Ending& ending) {
  if (shape_.api == Api::responses) {
    close_responses(out, tally, whole, ending);
  } else if (shape_.api == Api::messages) {
    close_messages(out, tally, ending);
  } else {
    if (shape_.include_usage) {
      begin_event("");
      put_head(shape_.api == Api::chat ? "chat.completion.chunk" : "text_completion");
      put(",\"choices\":[]");
      put_usage(tally);
      put("}");
      end_event(out);
    }
    put_done(out);
  }
  end_body(out);
}

void AnswerWriter::put_done(std::string& out) {
  begin_event("");
  put("[DONE]");
  end_event(out);
}

void AnswerWriter::end_body(std::string& out) const {
  if (shape_.chunked) out += "0\r\n\r\n";
}

// vLLM's chat and completions end a stream with [DONE] even after an error.
void AnswerWriter::fail(std::string& out, std::string_view message) {
  if (shape_.api == Api::responses) {
    begin_event("error");
    put("{\"type\":\"error\",\"code\":\"server_error\",\"message\":");
    append_json_string(event_, message);
    put(",\"param\":null,\"sequence_number\":");
    put_number(sequence_number_++);
    put("}");
    end_event(out);
  } else if (shape_.api == Api::messages) {
    begin_event("error");
    put("{\"type\":\"error\",\"error\":{\"type\":\"internal_error\",\"message\":");
    append_json_string(event_, message);
    put("}}");
    end_event(out);
  } else {
    begin_event("");
    append_error_body(event_, 500, message, "");
    end_event(out);
    put_done(out);
  }
  end_body(out);
}

// ---- the responses API ----

// Fields stand in the order in which vLLM writes them.
void AnswerWriter::put_sequence_number(std::string_view name) {
  put(",\"sequence_number\":");
  put_number(sequence_number_++);
  event_.append(",\"type\":\"").append(name).append("\"}");
}

void AnswerWriter::put_item_id() {
  event_.append("\"item_id\":\"msg_").append(shape_.id).append("\"");
}

void AnswerWriter::put_part(std::string_view text, std::string_view logprobs) {
  event_.append("{\"annotations\":[],\"text\":\"").append(text).append("\",\"type\":\"output_text\",\"logprobs\":");
  event_.append(logprobs).append("}");
}

void AnswerWriter::put_item(std::string_view status, std::string_view text) {
  event_.append("{\"id\":\"msg_").append(shape_.id).append("\",\"content\":[");
  if (!text.empty()) put_part(text, "null");
  event_.append("],\"role\":\"assistant\",\"status\":\"").append(status);
  put("\",\"type\":\"message\",\"phase\":null}");
}

// The response object; with a tally it is over.
void AnswerWriter::put_response(const Tally* tally, std::string_view text, const Ending& ending) {
  const bool cut = tally != nullptr && ending.reason == FinishReason::length;
  event_.append("{\"id\":\"").append(shape_.id).append("\",\"created_at\":");
  put_number(static_cast<uint64_t>(shape_.created));
  put(",\"incomplete_details\":");
  put(cut ? "{\"reason\":\"max_output_tokens\"}" : "null");
  event_.append(",\"instructions\":null,\"metadata\":null,\"model\":").append(model_json_);
  put(",\"object\":\"response\",\"output\":[");
  if (tally != nullptr && !text.empty()) put_item("completed", text);
  put("],\"parallel_tool_calls\":true,\"tool_choice\":\"none\",\"tools\":[],\"background\":false,");
  put("\"previous_response_id\":null,\"reasoning\":null,\"service_tier\":\"auto\",\"status\":\"");
  put(tally == nullptr ? "in_progress" : response_status(ending.reason));
  put("\",\"text\":null,\"truncation\":\"disabled\",\"usage\":");
  if (tally == nullptr) put("null");
  else put_responses_usage(*tally);
  put(",\"user\":null}");
}

void AnswerWriter::put_responses_usage(const Tally& tally) {
  put("{\"input_tokens\":");
  put_number(tally.prompt_tokens);
  put(",\"input_tokens_details\":{\"cached_tokens\":");
  put_number(tally.cached_tokens);
  put("},\"output_tokens\":");
  put_number(tally.completion_tokens);
  put(",\"output_tokens_details\":{\"reasoning_tokens\":0},\"total_tokens\":");
  put_number(uint64_t{tally.prompt_tokens} + tally.completion_tokens);
  put("}");
}

void AnswerWriter::open_responses(std::string& out) {
  for (const char* name : {"response.created", "response.in_progress"}) {
    begin_event(name);
    put("{\"response\":");
    put_response(nullptr, "", FinishReason::length);
    put_sequence_number(name);
    end_event(out);
  }
}

// With the first text, as a block of a message.
void AnswerWriter::open_item(std::string& out) {
  begin_event("response.output_item.added");
  put("{\"item\":");
  put_item("in_progress", "");
  put(",\"output_index\":0");
  put_sequence_number("response.output_item.added");
  end_event(out);
  begin_event("response.content_part.added");
  put("{\"content_index\":0,");
  put_item_id();
  put(",\"output_index\":0,\"part\":");
  put_part("", "[]");
  put_sequence_number("response.content_part.added");
  end_event(out);
}

void AnswerWriter::text_of_response(std::string& out, std::string_view text) {
  begin_event("response.output_text.delta");
  event_.append("{\"content_index\":0,\"delta\":\"").append(text).append("\",");
  put_item_id();
  put(",\"logprobs\":[],\"output_index\":0");
  put_sequence_number("response.output_text.delta");
  end_event(out);
}

void AnswerWriter::close_item(std::string& out, std::string_view whole) {
  begin_event("response.output_text.done");
  put("{\"content_index\":0,");
  put_item_id();
  put(",\"logprobs\":[],\"output_index\":0,\"sequence_number\":");
  put_number(sequence_number_++);
  event_.append(",\"text\":\"").append(whole).append("\",\"type\":\"response.output_text.done\"}");
  end_event(out);
  begin_event("response.content_part.done");
  put("{\"content_index\":0,");
  put_item_id();
  put(",\"output_index\":0,\"part\":");
  put_part(whole, "null");
  put_sequence_number("response.content_part.done");
  end_event(out);
  begin_event("response.output_item.done");
  put("{\"item\":");
  put_item("completed", whole);
  put(",\"output_index\":0");
  put_sequence_number("response.output_item.done");
  end_event(out);
}

// It is called completed whatever became of it.
void AnswerWriter::close_responses(std::string& out, const Tally& tally, std::string_view whole, const Ending& ending) {
  if (block_open_) close_item(out, whole);
  begin_event("response.completed");
  put("{\"response\":");
  put_response(&tally, whole, ending);
  put_sequence_number("response.completed");
  end_event(out);
}

// ---- the messages API ----

void AnswerWriter::put_messages_usage(const Tally& tally) {
  put(",\"usage\":{\"input_tokens\":");
  put_number(tally.prompt_tokens);
  put(",\"cache_read_input_tokens\":");
  put_number(tally.cached_tokens);
  put(",\"output_tokens\":");
  put_number(tally.completion_tokens);
  put("}");
}

void AnswerWriter::open_messages(std::string& out, const Tally& tally) {
  begin_event("message_start");
  event_.append("{\"type\":\"message_start\",\"message\":{\"id\":\"").append(shape_.id);
  event_.append("\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[],\"model\":").append(model_json_);
  put(",\"stop_reason\":null,\"stop_sequence\":null");
  put_messages_usage({tally.prompt_tokens, tally.cached_tokens, 0});
  put("}}");
  end_event(out);
}

void AnswerWriter::open_block(std::string& out) {
  begin_event("content_block_start");
  put("{\"type\":\"content_block_start\",\"content_block\":{\"type\":\"text\",\"text\":\"\"},\"index\":0}");
  end_event(out);
}

void AnswerWriter::put_messages_ending(const Ending& ending) {
  event_.append("\"stop_reason\":").append(anthropic_reason(ending)).append(",\"stop_sequence\":");
  if (ending.stop.empty()) put("null");
  else append_json_string(event_, ending.stop);
}

void AnswerWriter::close_messages(std::string& out, const Tally& tally, const Ending& ending) {
  if (block_open_) {
    begin_event("content_block_stop");
    put("{\"type\":\"content_block_stop\",\"index\":0}");
    end_event(out);
  }
  begin_event("message_delta");
  put("{\"type\":\"message_delta\",\"delta\":{");
  put_messages_ending(ending);
  put("}");
  put_messages_usage(tally);
  put("}");
  end_event(out);
  begin_event("message_stop");
  put("{\"type\":\"message_stop\"}");
  end_event(out);
}

// ---- whole answers ----

void AnswerWriter::whole(std::string& out, std::span<const ChoiceView> choices, const Tally& tally) {
  event_.clear();
  if (shape_.api == Api::responses) {
    put_response(&tally, choices[0].text, choices[0].ending);
  } else if (shape_.api == Api::messages) {
    whole_messages(choices[0], tally);
  } else {
    whole_openai(choices, tally);
  }
  out += event_;
}

void AnswerWriter::whole_openai(std::span<const ChoiceView> choices, const Tally& tally) {
  const bool chat = shape_.api == Api::chat;
  put_head(chat ? "chat.completion" : "text_completion");
  put(",\"choices\":[");
  for (size_t i = 0; i < choices.size(); ++i) {
    put(i == 0 ? "{\"index\":" : ",{\"index\":");
    put_number(i);
    put(chat ? ",\"message\":{\"role\":\"assistant\",\"content\":" : ",\"text\":");
    append_json_string(event_, choices[i].echo);
    event_.pop_back();  // the answer follows in the same string
    put(choices[i].text);
    put(chat ? "\",\"tool_calls\":[]}" : "\"");
    put(",\"logprobs\":null,\"finish_reason\":");
    put_stop_reason(choices[i].ending);
    put("}");
  }
  put("]");
  put_usage(tally);
  put("}");
}

void AnswerWriter::whole_messages(const ChoiceView& choice, const Tally& tally) {
  event_.append("{\"id\":\"").append(shape_.id).append("\",\"type\":\"message\",\"role\":\"assistant\",\"model\":");
  event_.append(model_json_).append(",\"content\":[{\"type\":\"text\",\"text\":\"").append(choice.text);
  put("\"}],");
  put_messages_ending(choice.ending);
  put_messages_usage(tally);
  put("}");
}

}  // namespace penstock::sim
