#include "penstock/openai/resume_request.h"

#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <limits>

#include "json_problem.h"
#include "json_string.h"
#include "json_text.h"
#include "penstock/base/text.h"
#include "penstock/openai/splice.h"
#include "penstock/openai/token_ids.h"
#include "resume_fields.h"
#include "resume_prompt.h"
#include "scratch.h"

namespace penstock::openai {
namespace {

namespace ondemand = simdjson::ondemand;

constexpr size_t body_padding = 64;              // as in request.cc
constexpr uint32_t completions_max_tokens = 16;  // what vLLM takes when a completion names none
constexpr size_t id_digits = 11;                 // and a comma
constexpr size_t request_overhead = 1024;

void append_number(std::string& out, uint64_t number) {
  char digits[20];
  out.append(digits, std::to_chars(std::begin(digits), std::end(digits), number).ptr);
}

void append_ids(std::string& out, const std::vector<uint32_t>& ids) {
  for (const uint32_t id : ids) {
    append_number(out, id);
    out += ',';
  }
}

}  // namespace

// Reads one body into `out_`. The scan by RequestScanner comes first, so that everything after it is JSON and of the
// types that the gateway looks at.
class ResumeRequest::Reader {
 public:
  explicit Reader(ResumeRequest& out) : out_(out) {}

  ResumeObstacle run(std::string_view body) {
    RequestScanner scanner(nullptr, false);
    if (scanner.scan(out_.api_, body, request_).error != ScanError::none) return ResumeObstacle::unreadable;
    if (!request_.stream) meet(ResumeObstacle::not_streamed, "stream");
    if (request_.multimodal) meet(ResumeObstacle::media, "messages");
    if (request_.continuous_usage) meet(ResumeObstacle::usage_in_chunks, "stream_options");
    out_.max_tokens_ = request_.max_tokens;
    out_.include_usage_ = request_.include_usage || out_.api_ == Api::messages || out_.api_ == Api::responses;
    if (!read_fields(body)) return ResumeObstacle::unreadable;
    if (out_.api_ == Api::completions) {
      read_prompt(request_.prompt.back().in(body));
      // Servers pass over the field in completions. Some clients send it beside the one that counts.
      if (max_completion_tokens_ != "null" && max_completion_tokens_ != max_tokens_) {
        meet(ResumeObstacle::unknown_field, "max_completion_tokens");
      }
    } else if (out_.api_ == Api::messages) {
      make_chat(prompt_of_messages(system_, messages_), "messages");
    } else if (out_.api_ == Api::responses) {
      make_chat(prompt_of_responses(system_, messages_), "input");
      // vLLM gives such a prompt the tokenizer's own first token although the template has it as well.
      keep(out_.rendering_, "add_special_tokens", "true");
    } else {
      out_.messages_ = messages_;
    }
    return obstacle_;
  }

 private:
  void meet(ResumeObstacle obstacle, std::string_view field) {
    if (obstacle_ != ResumeObstacle::none && obstacle_ <= obstacle) return;
    obstacle_ = obstacle;
    out_.field_ = field;
  }

  bool read_fields(std::string_view body) {
    body = without_byte_order_mark(body);
    ondemand::parser parser;
    ondemand::document document;
    ondemand::object object;
    if (parser.iterate(simdjson::padded_string_view(body, body.size() + body_padding)).get(document)) return false;
    if (document.get_object().get(object)) return false;
    for (auto result : object) {
      ondemand::field entry;
      std::string_view key, value;
      if (std::move(result).get(entry) || entry.unescaped_key().get(key) || !written(entry.value(), value))
        return false;
      field(key, value);
    }
    return true;
  }

  // Of a key that is there twice the last value counts, as with the servers, but each may be an obstacle.
  void field(std::string_view key, std::string_view value) {
    const ResumeField* const known = resume_field(key, out_.api_);
    if (known == nullptr) {
      if (value != "null") meet(ResumeObstacle::unknown_field, name_in_body(key, value));
      return;
    }
    switch (known->use) {
      case ResumeUse::left_out:
        return;
      case ResumeUse::own:
        return own(known->name, value);
      case ResumeUse::nested:
        return nested(known->name, value);
      case ResumeUse::rendering:
        return keep(out_.rendering_, known->name, value);
      case ResumeUse::sampling:
        return sampling(known->asked_as.empty() ? known->name : known->asked_as, value);
      case ResumeUse::obstacle:
        if (!asks_nothing(known->nothing, value)) meet(known->obstacle, known->name);
        return;
    }
  }

  void sampling(std::string_view name, std::string_view value) {
    if (name == "stop") read_stops(value);
    if (name == "include_stop_str_in_output") out_.include_stop_ = !asks_nothing(AsksNothing::usual, value);
    keep(out_.sampling_, name, value);
  }

  // An object whose fields mean different things.
  void nested(std::string_view name, std::string_view value) {
    if (value == "null") return;
    const simdjson::padded_string padded(value);
    ondemand::parser parser;
    ondemand::document document;
    ondemand::object object;
    const bool read = !parser.iterate(padded).get(document) && !document.get_object().get(object) &&
                      each_field(object, [&](std::string_view key, ondemand::value inner) {
                        std::string_view token;
                        if (!written(inner, token)) return false;
                        const ResumeField* const known =
                            resume_field(std::string(name).append(".").append(key), out_.api_);
                        if (known == nullptr && token != "null") meet(ResumeObstacle::unknown_field, name);
                        const bool asks = known != nullptr && known->use == ResumeUse::obstacle;
                        if (asks && !asks_nothing(known->nothing, token)) meet(known->obstacle, name);
                        return true;
                      });
    if (!read) meet(ResumeObstacle::unreadable, name);
  }

  void make_chat(ResumePrompt made, std::string_view field) {
    if (made.obstacle != ResumeObstacle::none) meet(made.obstacle, field);
    out_.messages_ = std::move(made.messages);
  }

  // A decoded key does not outlive the parser. As written it stands before its value.
  static std::string_view name_in_body(std::string_view key, std::string_view value) {
    const char* end = value.data();
    while (*--end != ':') continue;
    while (*--end != '"') continue;
    const std::string_view before(end - key.size(), key.size());
    return before == key ? before : std::string_view();  // it had escapes
  }

  void own(std::string_view name, std::string_view value) {
    if (name == "messages" || name == "input") messages_ = value;
    if (name == "system" || name == "instructions") system_ = value;
    // The other things that can be included are of tools and of the input.
    if (name == "include" && value.find("logprobs") != std::string_view::npos) meet(ResumeObstacle::logprobs, name);
    if (name == "max_tokens") max_tokens_ = value;
    if (name == "max_completion_tokens") max_completion_tokens_ = value;
    if (name != "min_tokens" || asks_nothing(AsksNothing::usual, value)) return;
    const std::optional<uint32_t> number = small_number(value);
    if (!number) return meet(ResumeObstacle::unknown_field, name);
    out_.min_tokens_ = *number;
  }

  static void keep(std::vector<Field>& fields, std::string_view name, std::string_view value) {
    std::erase_if(fields, [&](const Field& field) { return field.first == name; });
    if (value != "null") fields.emplace_back(name, value);
  }

  // A string or an array of strings.
  void read_stops(std::string_view value) {
    out_.stops_.clear();
    const simdjson::padded_string padded(value);
    simdjson::dom::parser parser;
    simdjson::dom::element element;
    if (parser.parse(padded).get(element)) return meet(ResumeObstacle::unreadable, "stop");
    std::string_view stop;
    simdjson::dom::array array;
    if (!element.get(stop)) return add_stop(stop);
    if (element.is_null()) return;
    if (element.get(array)) return meet(ResumeObstacle::unreadable, "stop");
    for (const simdjson::dom::element one : array) {
      if (one.get(stop)) return meet(ResumeObstacle::unreadable, "stop");
      add_stop(stop);
    }
  }
  void add_stop(std::string_view stop) {
    if (!stop.empty()) out_.stops_.emplace_back(stop);
  }

  // `prompt` lies between the first and the last quote or id, however many prompts there are.
  void read_prompt(std::string_view prompt) {
    if (request_.prompt_token_ids != 0) {
      if (!parse_token_ids(prompt, std::numeric_limits<size_t>::max(), out_.prompt_ids_)) {
        meet(ResumeObstacle::several_prompts, "prompt");
      }
      return;
    }
    out_.prompt_text_ = prompt;
    for (size_t at = 0; at < prompt.size(); at += prompt[at] == '\\' ? 2 : 1) {
      if (prompt[at] == '"') return meet(ResumeObstacle::several_prompts, "prompt");
    }
  }

  ResumeRequest& out_;
  Request request_;
  ResumeObstacle obstacle_ = ResumeObstacle::none;
  std::string_view messages_, system_;
  std::string_view max_tokens_ = "null", max_completion_tokens_ = "null";
};

ResumeObstacle ResumeRequest::read(Api api, std::string_view body, std::string_view model, ResumeRequest& out) {
  out = ResumeRequest();
  out.api_ = api;
  out.model_ = model;
  if (!knows(api)) return ResumeObstacle::api;
  return Reader(out).run(body);
}

void ResumeRequest::append_model(std::string& out) const {
  out += R"({"model":)";
  append_json_string(out, model_);
}

void ResumeRequest::append_fields(std::string& out, const std::vector<Field>& fields) {
  for (const auto& [name, value] : fields) append_all(out, ",\"", name, "\":", value);
}

std::string ResumeRequest::tokenize_prompt() const {
  if (!prompt_ids_.empty()) return "";
  std::string out;
  append_model(out);
  if (api_ == Api::completions) {
    append_all(out, R"(,"prompt":")", prompt_text_, "\"");
  } else {
    append_all(out, R"(,"messages":)", messages_);
  }
  append_fields(out, rendering_);
  out += '}';
  return out;
}

std::string ResumeRequest::tokenize_text(std::string_view escaped) const {
  std::string out;
  append_model(out);
  append_all(out, R"(,"prompt":")", escaped, R"(","add_special_tokens":false})");
  return out;
}

std::string ResumeRequest::detokenize(const std::vector<uint32_t>& ids) const {
  std::string out;
  out.reserve(ids.size() * id_digits + request_overhead);
  append_model(out);
  out += R"(,"tokens":[)";
  append_ids(out, ids);
  if (out.back() == ',') out.pop_back();
  out += "]}";
  return out;
}

std::optional<uint32_t> ResumeRequest::tokens_left(size_t delivered) const {
  std::optional<uint32_t> limit = max_tokens_;
  if (!limit && api_ == Api::completions) limit = completions_max_tokens;
  if (!limit) return std::nullopt;
  return *limit - static_cast<uint32_t>(std::min<size_t>(*limit, delivered));
}

std::optional<uint32_t> ResumeRequest::tokens_left(size_t prompt, size_t delivered, uint32_t max_model_len) const {
  const std::optional<uint32_t> by_request = tokens_left(delivered);
  if (max_model_len == 0) return by_request;
  const auto room = static_cast<uint32_t>(max_model_len - std::min<size_t>(max_model_len, prompt + delivered));
  return std::min(by_request.value_or(room), room);
}

// What follows the prompt. A null or missing "max_tokens" would be an error, or 16.
void ResumeRequest::append_settings(std::string& out, uint32_t left, size_t delivered, bool wants_ids) const {
  out += R"(,"max_tokens":)";
  append_number(out, left);
  if (min_tokens_ > delivered) {
    out += R"(,"min_tokens":)";
    append_number(out, std::min<uint64_t>(min_tokens_ - delivered, left));
  }
  out += R"(,"stream":true,"stream_options":{"include_usage":true})";
  if (wants_ids) out += asks_for_ids;
  append_fields(out, sampling_);
  out += '}';
}

std::string ResumeRequest::continuation(const std::vector<uint32_t>& prompt_ids,
                                        const std::vector<uint32_t>& delivered_ids, uint32_t max_model_len,
                                        bool wants_ids) const {
  const auto left = tokens_left(prompt_ids.size(), delivered_ids.size(), max_model_len);
  if (left.value_or(0) == 0) return "";
  std::string out;
  out.reserve((prompt_ids.size() + delivered_ids.size()) * id_digits + request_overhead);
  append_model(out);
  out += R"(,"prompt":[)";
  append_ids(out, prompt_ids);
  append_ids(out, delivered_ids);
  if (out.back() == ',') out.pop_back();
  out += ']';
  append_settings(out, *left, delivered_ids.size(), wants_ids);
  return out;
}

std::string ResumeRequest::text_continuation(std::string_view escaped_delivered, uint32_t delivered_tokens) const {
  const auto left = tokens_left(delivered_tokens);
  if (!text_prompt() || left.value_or(0) == 0) return "";
  std::string out;
  out.reserve(prompt_text_.size() + escaped_delivered.size() + request_overhead);
  append_model(out);
  append_all(out, R"(,"prompt":")", prompt_text_, escaped_delivered, "\"");
  append_fields(out, rendering_);
  append_settings(out, *left, delivered_tokens, /*wants_ids=*/false);
  return out;
}

bool read_tokenized(std::string_view json, Tokenized& out) {
  out = {};
  const simdjson::padded_string padded(json);
  ondemand::parser parser;
  ondemand::document document;
  ondemand::object object;
  if (parser.iterate(padded).get(document) || document.get_object().get(object)) return false;
  bool found = false;
  for (auto result : object) {
    ondemand::field entry;
    std::string_view key;
    if (std::move(result).get(entry) || entry.unescaped_key().get(key)) return false;
    if (key == "tokens") {
      ondemand::array ids;
      if (found || entry.value().get_array().get(ids)) return false;
      for (auto element : ids) {
        uint64_t id = 0;
        if (element.get_uint64().get(id) || id > std::numeric_limits<uint32_t>::max()) return false;
        out.ids.push_back(static_cast<uint32_t>(id));
      }
      found = true;
    } else if (key == "max_model_len") {
      uint64_t number = 0;
      if (entry.value().get_uint64().get(number)) continue;  // null where it is not known
      out.max_model_len = static_cast<uint32_t>(std::min<uint64_t>(number, std::numeric_limits<uint32_t>::max()));
    }
  }
  return found && document.current_location().error() == simdjson::OUT_OF_BOUNDS;
}

bool read_detokenized(std::string_view json, std::string& text) {
  const simdjson::padded_string padded(json);
  simdjson::dom::parser parser;
  std::string_view prompt;
  if (parser.parse(padded)["prompt"].get(prompt)) return false;
  text = prompt;
  return true;
}

// Tokenizers of the SentencePiece kind leave out the space in front of the first token.
Seam seam_of(std::string_view escaped_delivered, std::string_view made) {
  constexpr std::string_view replacement = "\xEF\xBF\xBD";
  std::string delivered;
  decode_string(escaped_delivered, delivered);
  std::string_view had = delivered;
  if (had.starts_with(' ') && !made.starts_with(' ')) had.remove_prefix(1);
  if (!made.starts_with(had)) return {Seam::Ids::none, ""};
  const std::string_view rest = made.substr(had.size());
  if (rest.ends_with(replacement)) return {Seam::Ids::fewer, ""};
  Seam seam{Seam::Ids::all, ""};
  encode_string(rest, seam.gap);
  return seam;
}

}  // namespace penstock::openai
