#include "penstock/openai/request.h"

#include <simdjson.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "penstock/base/assert.h"

namespace penstock::openai {
namespace {

namespace ondemand = simdjson::ondemand;

constexpr size_t body_padding = 64;  // net::BodyBuffer::padding: what callers have behind a body
static_assert(simdjson::SIMDJSON_PADDING <= body_padding);

// The parser needs about six bytes of scratch for each byte of its capacity.
constexpr size_t capacity_kept_max = 1024 * 1024;
constexpr size_t capacity_min = 16 * 1024;

enum class Field : uint8_t {
  model,
  stream,
  stream_options,
  max_tokens,
  max_completion_tokens,
  max_output_tokens,
  n,
  cache_salt,
  session_id,
  user,
  prompt_cache_key,
  metadata,
  lead,  // instructions or system
  tools,
  documents,
  chat_template,
  chat_template_kwargs,
  prompt,    // a string, strings, or token ids
  messages,  // an array of messages
  items,     // a string, or an array of anything
  unknown,
};

constexpr uint8_t bit(Api api) {
  return static_cast<uint8_t>(1U << static_cast<unsigned>(api));
}
constexpr uint8_t everywhere = 0xFF;
constexpr uint8_t chats = bit(Api::chat_completions) | bit(Api::embeddings) | bit(Api::other);

struct FieldName {
  std::string_view name;
  Field field;
  uint8_t apis;  // bits of the Apis in which it means this
};
constexpr FieldName field_names[] = {
    {"model", Field::model, everywhere},
    {"messages", Field::messages, chats | bit(Api::messages)},
    {"stream", Field::stream, everywhere},
    {"stream_options", Field::stream_options, everywhere},
    {"prompt", Field::prompt, bit(Api::completions) | bit(Api::other)},
    {"prompt_embeds", Field::prompt, bit(Api::completions)},
    {"input", Field::prompt, bit(Api::embeddings)},
    {"input", Field::items, bit(Api::responses) | bit(Api::other)},
    {"items", Field::items, bit(Api::conversations)},
    {"max_tokens", Field::max_tokens, everywhere},
    {"max_completion_tokens", Field::max_completion_tokens, everywhere},
    {"max_output_tokens", Field::max_output_tokens, everywhere},
    {"n", Field::n, everywhere},
    {"tools", Field::tools, chats | bit(Api::responses) | bit(Api::messages)},
    {"system", Field::lead, bit(Api::messages)},
    {"instructions", Field::lead, bit(Api::responses)},
    {"documents", Field::documents, bit(Api::chat_completions)},
    {"chat_template", Field::chat_template, chats},
    {"chat_template_kwargs", Field::chat_template_kwargs, chats},
    {"cache_salt", Field::cache_salt, everywhere},
    {"session_id", Field::session_id, everywhere},
    {"user", Field::user, everywhere},
    {"prompt_cache_key", Field::prompt_cache_key, everywhere},
    {"metadata", Field::metadata, bit(Api::messages)},
};

Field field_of(std::string_view key, Api api) {
  for (const FieldName& entry : field_names) {
    if (entry.name == key && (entry.apis & bit(api)) != 0) return entry.field;
  }
  return Field::unknown;
}

// What a part of a message's content is called, or what it holds, when it is not text.
constexpr std::string_view media_types[] = {
    "image_url", "input_image", "image",       "image_pil", "image_embeds", "input_audio",        "audio_url",
    "audio",     "video_url",   "input_video", "video",     "audio_embeds", "computer_screenshot"};
constexpr std::string_view media_keys[] = {"image_url",    "input_audio", "audio_url",   "video_url",
                                           "image_embeds", "image_pil",   "audio_embeds"};

template <size_t size>
bool contains(const std::string_view (&list)[size], std::string_view word) {
  return std::find(std::begin(list), std::end(list), word) != std::end(list);
}

bool is_space(char c) {
  return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

std::string_view trim_end(std::string_view text) {
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

size_t digits(std::string_view text, size_t at) {
  const size_t begin = at;
  while (at < text.size() && is_digit(text[at])) ++at;
  return at - begin;
}

// JSON's grammar of numbers, which On-Demand checks only where it converts (and then refuses 1e999).
bool is_number(std::string_view text) {
  size_t at = text.starts_with('-') ? 1 : 0;
  const size_t whole = digits(text, at);
  if (whole == 0 || (whole > 1 && text[at] == '0')) return false;
  at += whole;
  if (at < text.size() && text[at] == '.') {
    const size_t fraction = digits(text, at + 1);
    if (fraction == 0) return false;
    at += 1 + fraction;
  }
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    ++at;
    if (at < text.size() && (text[at] == '+' || text[at] == '-')) ++at;
    const size_t exponent = digits(text, at);
    if (exponent == 0) return false;
    at += exponent;
  }
  return at == text.size();
}

std::string_view name_of(Api api, Field field) {
  for (const FieldName& entry : field_names) {
    if (entry.field == field && (entry.apis & bit(api)) != 0) return entry.name;
  }
  return "";
}

Field prompt_field(Api api) {
  switch (api) {
    case Api::completions:
    case Api::embeddings:
      return Field::prompt;
    case Api::chat_completions:
    case Api::messages:
      return Field::messages;
    case Api::responses:
    case Api::conversations:
      return Field::items;
    case Api::other:
      break;
  }
  return Field::unknown;
}

// One scan of one body. Every step answers false after it has recorded a failure; nothing goes on after that.
class Scan {
 public:
  Scan(Api api, std::string_view body, Request& out) : api_(api), body_(body), out_(out) {}

  bool run(ondemand::parser& parser, std::string_view json);
  ScanFailure take_failure() { return std::move(failure_); }

 private:
  // The places in Request::prompt, in order.
  enum Slot : size_t { slot_lead, slot_tools, slot_documents, slot_template, slot_kwargs, slot_prompt, slot_count };

  bool fail(ScanError error, std::string_view param, std::string_view message);
  bool not_json(simdjson::error_code error);
  bool wrong_type(std::string_view wanted) { return fail(ScanError::bad_type, key_, wanted); }

  bool top_level(ondemand::object& object);
  bool finish();
  bool field(Field field, ondemand::value value);

  bool model(ondemand::value value);
  bool stream(ondemand::value value);
  bool stream_options(ondemand::value value);
  bool flag(ondemand::value value, std::string_view name, bool& to);
  bool count(ondemand::value value, std::optional<uint32_t>& to);
  bool text(ondemand::value value, std::string& to);
  bool optional_text(ondemand::value value, std::string& to);
  bool metadata(ondemand::value value);

  bool part(ondemand::value value, Slot slot);
  bool token_prompt(ondemand::value value);
  bool prompt_array(ondemand::array array);
  bool id_array(ondemand::value value);
  bool id(std::string_view token);
  bool messages(ondemand::value value);
  bool items(ondemand::value value);
  bool elements(ondemand::value value, int depth, bool objects_only);
  bool element(ondemand::value value, int depth);
  bool content(ondemand::value value, int depth);

  bool skip(ondemand::value value, int depth);
  bool skip_array(ondemand::value value, int depth);
  bool skip_object(ondemand::value value, int depth);
  bool enter(int depth);
  bool string(ondemand::value value);
  bool key_of(ondemand::field& field, std::string_view& key);

  static std::string_view token_of(ondemand::value& value) { return trim_end(value.raw_json_token()); }
  static bool is_string(std::string_view token) { return token.starts_with('"'); }
  static bool is_null(std::string_view token) { return token == "null"; }
  static std::string_view unquoted(std::string_view token) { return token.substr(1, token.size() - 2); }
  Range range_of(std::string_view text) const { return {static_cast<size_t>(text.data() - body_.data()), text.size()}; }
  // From `begin` to the end of the array or object that was just read to its end, without white space behind it.
  std::string_view container_from(const char* begin);

  const Api api_;
  const std::string_view body_;
  Request& out_;
  ondemand::document document_;
  ScanFailure failure_;
  std::string_view key_;  // the top-level key at hand, for messages
  bool has_model_ = false, has_stream_ = false;
  std::optional<uint32_t> max_tokens_, max_completion_tokens_, max_output_tokens_;
  std::string user_, prompt_cache_key_, metadata_user_;
  std::array<Range, slot_count> slots_{};
  // The text of a prompt array, from its first string or id to its last.
  const char* first_ = nullptr;
  const char* last_ = nullptr;
};

bool Scan::fail(ScanError error, std::string_view param, std::string_view message) {
  failure_.error = error;
  failure_.param = param;
  failure_.message = message;
  return false;
}

bool Scan::not_json(simdjson::error_code error) {
  switch (error) {
    case simdjson::EMPTY:
      return fail(ScanError::not_json, "", "The body is empty; a JSON object was expected.");
    case simdjson::UTF8_ERROR:
      return fail(ScanError::not_json, "", "The body is not valid UTF-8.");
    case simdjson::UNCLOSED_STRING:
      return fail(ScanError::not_json, "", "The body is not valid JSON: a string has no end.");
    case simdjson::STRING_ERROR:
      return fail(ScanError::not_json, key_, "The body is not valid JSON: a string has an invalid escape sequence.");
    case simdjson::INCORRECT_TYPE:
      return fail(ScanError::not_json, "", "The body must be a JSON object.");
    case simdjson::MEMALLOC:
    case simdjson::CAPACITY:
      return fail(ScanError::not_json, "", "The body is too large to be read.");
    default:
      return fail(ScanError::not_json, "", "The body is not valid JSON.");
  }
}

bool Scan::run(ondemand::parser& parser, std::string_view json) {
  if (auto error = parser.iterate(simdjson::padded_string_view(json, json.size() + body_padding)).get(document_)) {
    return not_json(error);
  }
  ondemand::object object;
  if (auto error = document_.get_object().get(object)) return not_json(error);
  if (!top_level(object)) return false;
  // Whatever follows the object would be a location.
  if (document_.current_location().error() != simdjson::OUT_OF_BOUNDS) return not_json(simdjson::TAPE_ERROR);
  return finish();
}

bool Scan::top_level(ondemand::object& object) {
  for (auto result : object) {
    ondemand::field entry;
    if (auto error = std::move(result).get(entry)) return not_json(error);
    if (!key_of(entry, key_) || !field(field_of(key_, api_), entry.value())) return false;
  }
  return true;
}

bool Scan::field(Field field, ondemand::value value) {
  switch (field) {
    case Field::model:
      return model(value);
    case Field::stream:
      return stream(value);
    case Field::stream_options:
      return stream_options(value);
    case Field::max_tokens:
      return count(value, max_tokens_);
    case Field::max_completion_tokens:
      return count(value, max_completion_tokens_);
    case Field::max_output_tokens:
      return count(value, max_output_tokens_);
    case Field::n: {
      std::optional<uint32_t> n;
      if (!count(value, n)) return false;
      out_.n = std::max(n.value_or(1), 1U);
      return true;
    }
    case Field::cache_salt:
      return text(value, out_.cache_salt);
    case Field::session_id:
      return optional_text(value, out_.session);
    case Field::user:
      return optional_text(value, user_);
    case Field::prompt_cache_key:
      return optional_text(value, prompt_cache_key_);
    case Field::metadata:
      return metadata(value);
    case Field::lead:
      return part(value, slot_lead);
    case Field::tools:
      if (!part(value, slot_tools)) return false;
      out_.has_tools = !slots_[slot_tools].empty();
      return true;
    case Field::documents:
      return part(value, slot_documents);
    case Field::chat_template:
      return part(value, slot_template);
    case Field::chat_template_kwargs:
      return part(value, slot_kwargs);
    case Field::prompt:
      return token_prompt(value);
    case Field::messages:
      return messages(value);
    case Field::items:
      return items(value);
    case Field::unknown:
      return skip(value, 1);
  }
  return skip(value, 1);
}

bool Scan::finish() {
  if (api_ != Api::other && !has_model_) return fail(ScanError::no_model, "model", "The field \"model\" is missing.");
  out_.max_tokens = max_completion_tokens_ ? max_completion_tokens_
                    : max_output_tokens_   ? max_output_tokens_
                                           : max_tokens_;
  for (std::string* next : {&user_, &prompt_cache_key_, &metadata_user_}) {
    if (out_.session.empty()) out_.session = std::move(*next);
  }
  if (api_ != Api::other && slots_[slot_prompt].empty()) {
    const std::string name(name_of(api_, prompt_field(api_)));
    return fail(ScanError::no_prompt, name, "The field \"" + name + "\" is missing or empty.");
  }
  for (const Range& slot : slots_) {
    if (slot.empty()) continue;
    out_.prompt.push_back(slot);
    out_.prompt_bytes += slot.size;
  }
  return true;
}

// Scalar fields

bool Scan::model(ondemand::value value) {
  if (has_model_) return fail(ScanError::bad_type, "model", "The field \"model\" is there twice.");
  has_model_ = true;
  const std::string_view token = token_of(value);
  if (!is_string(token)) return fail(ScanError::model_not_string, "model", "The field \"model\" must be a string.");
  std::string_view decoded;
  if (auto error = value.get_string().get(decoded)) return not_json(error);
  out_.model = decoded;
  out_.model_value = range_of(token);
  return true;
}

bool Scan::stream(ondemand::value value) {
  if (has_stream_) return fail(ScanError::bad_type, "stream", "The field \"stream\" is there twice.");
  has_stream_ = true;
  return flag(value, "stream", out_.stream);
}

bool Scan::flag(ondemand::value value, std::string_view name, bool& to) {
  const std::string_view token = token_of(value);
  if (token != "true" && token != "false" && !is_null(token)) {
    return fail(ScanError::bad_type, name, "The field \"" + std::string(name) + "\" must be true or false.");
  }
  to = token == "true";
  return true;
}

bool Scan::stream_options(ondemand::value value) {
  const std::string_view token = token_of(value);
  out_.include_usage = out_.continuous_usage = false;
  if (is_null(token)) return true;
  ondemand::object object;
  if (!token.starts_with('{') || value.get_object().get(object)) {
    return wrong_type("The field \"stream_options\" must be an object.");
  }
  for (auto result : object) {
    ondemand::field entry;
    std::string_view key;
    if (auto error = std::move(result).get(entry)) return not_json(error);
    if (!key_of(entry, key)) return false;
    bool ok = true;
    if (key == "include_usage") {
      ok = flag(entry.value(), "stream_options.include_usage", out_.include_usage);
    } else if (key == "continuous_usage_stats") {
      ok = flag(entry.value(), "stream_options.continuous_usage_stats", out_.continuous_usage);
    } else {
      ok = skip(entry.value(), 2);
    }
    if (!ok) return false;
  }
  return true;
}

// A number of tokens or choices. Below zero (some clients mean "no limit") counts as not said.
bool Scan::count(ondemand::value value, std::optional<uint32_t>& to) {
  const std::string_view token = token_of(value);
  to.reset();
  if (is_null(token)) return true;
  double number = 0;
  if (is_number(token) && value.get_double().get(number)) number = std::numeric_limits<double>::max();  // 1e999
  if (!is_number(token) || std::floor(number) != number) {
    return wrong_type("The field \"" + std::string(key_) + "\" must be a whole number.");
  }
  if (number >= 0) to = static_cast<uint32_t>(std::min(number, double{std::numeric_limits<uint32_t>::max()}));
  return true;
}

bool Scan::text(ondemand::value value, std::string& to) {
  const std::string_view token = token_of(value);
  if (!is_string(token) && !is_null(token)) {
    return wrong_type("The field \"" + std::string(key_) + "\" must be a string.");
  }
  return optional_text(value, to);
}

// A string that helps when it is one; the model server judges anything else.
bool Scan::optional_text(ondemand::value value, std::string& to) {
  to.clear();
  if (!is_string(token_of(value))) return skip(value, 1);
  std::string_view decoded;
  if (auto error = value.get_string().get(decoded)) return not_json(error);
  to = decoded;
  return true;
}

bool Scan::metadata(ondemand::value value) {
  metadata_user_.clear();
  if (!token_of(value).starts_with('{')) return skip(value, 1);
  ondemand::object object;
  if (auto error = value.get_object().get(object)) return not_json(error);
  for (auto result : object) {
    ondemand::field entry;
    std::string_view key;
    if (auto error = std::move(result).get(entry)) return not_json(error);
    if (!key_of(entry, key)) return false;
    if (!(key == "user_id" ? optional_text(entry.value(), metadata_user_) : skip(entry.value(), 2))) return false;
  }
  return true;
}

// Parts of the prompt

std::string_view Scan::container_from(const char* begin) {
  const char* next = nullptr;
  if (document_.current_location().get(next)) next = begin;  // cannot be: the top-level object has not ended
  return trim_end(std::string_view(begin, static_cast<size_t>(next - begin)));
}

// A string, array or object that is part of the prompt as a whole. Anything else is the model server's to judge.
bool Scan::part(ondemand::value value, Slot slot) {
  const std::string_view token = token_of(value);
  slots_[slot] = Range{};
  if (!skip(value, 1)) return false;
  if (is_string(token)) {
    slots_[slot] = range_of(unquoted(token));
  } else if (token.starts_with('[') || token.starts_with('{')) {
    std::string_view whole = container_from(token.data());
    PENSTOCK_ASSERT(whole.size() >= 2);
    const bool empty = trim_end(whole.substr(1, whole.size() - 2)).empty();
    if (token.front() == '[') whole = trim_end(whole.substr(0, whole.size() - 1));
    if (!empty) slots_[slot] = range_of(whole);
  }
  return true;
}

bool Scan::token_prompt(ondemand::value value) {
  const std::string_view token = token_of(value);
  // A null "prompt" beside "prompt_embeds" must not wipe it out.
  if (is_null(token)) return true;
  out_.prompt_token_ids = 0;
  first_ = last_ = nullptr;
  if (is_string(token)) {
    slots_[slot_prompt] = range_of(unquoted(token));
    return string(value);
  }
  ondemand::array array;
  if (!token.starts_with('[') || value.get_array().get(array)) {
    if (api_ == Api::other) return skip(value, 1);
    return wrong_type("The field \"" + std::string(key_) + "\" must be a string, strings or token ids.");
  }
  if (!prompt_array(array)) return false;
  slots_[slot_prompt] = first_ == nullptr ? Range{} : range_of({first_, static_cast<size_t>(last_ - first_)});
  return true;
}

bool Scan::prompt_array(ondemand::array array) {
  char kind = 0;
  for (auto result : array) {
    ondemand::value value;
    if (auto error = std::move(result).get(value)) return not_json(error);
    const std::string_view token = token_of(value);
    const char now = token.empty() ? '?' : is_digit(token.front()) ? '0' : token.front();
    if (kind == 0) kind = now;
    if (now != kind || (now != '"' && now != '0' && now != '[')) {
      return wrong_type("The field \"" + std::string(key_) +
                        "\" must hold only strings, only token ids or only arrays of them.");
    }
    if (now == '"') {
      const std::string_view inner = unquoted(token);
      if (first_ == nullptr) first_ = inner.data();
      last_ = inner.data() + inner.size();
      if (!string(value)) return false;
    } else if (!(now == '0' ? id(token) : id_array(value))) {
      return false;
    }
  }
  return true;
}

bool Scan::id_array(ondemand::value value) {
  ondemand::array array;
  if (auto error = value.get_array().get(array)) return not_json(error);
  for (auto result : array) {
    ondemand::value element;
    if (auto error = std::move(result).get(element)) return not_json(error);
    if (!id(token_of(element))) return false;
  }
  return true;
}

bool Scan::id(std::string_view token) {
  if (token.empty() || digits(token, 0) != token.size() || (token.size() > 1 && token.front() == '0')) {
    return wrong_type("The field \"" + std::string(key_) + "\" must hold whole numbers as token ids.");
  }
  if (first_ == nullptr) first_ = token.data();
  last_ = token.data() + token.size();
  if (out_.prompt_token_ids != std::numeric_limits<uint32_t>::max()) ++out_.prompt_token_ids;
  return true;
}

bool Scan::messages(ondemand::value value) {
  const std::string_view token = token_of(value);
  if (is_null(token) && api_ != Api::chat_completions && api_ != Api::messages) return true;
  if (!token.starts_with('[')) {
    if (api_ == Api::other) return skip(value, 1);
    return wrong_type("The field \"messages\" must be an array.");
  }
  if (!elements(value, 1, api_ != Api::other)) return false;
  std::string_view whole = container_from(token.data());
  whole = trim_end(whole.substr(0, whole.size() - 1));
  slots_[slot_prompt] = whole.size() > 1 ? range_of(whole) : Range{};
  return true;
}

bool Scan::items(ondemand::value value) {
  const std::string_view token = token_of(value);
  if (is_string(token)) {
    slots_[slot_prompt] = range_of(unquoted(token));
    return string(value);
  }
  if (!token.starts_with('[')) {
    if (api_ == Api::other || is_null(token)) return skip(value, 1);
    return wrong_type("The field \"" + std::string(key_) + "\" must be a string or an array.");
  }
  if (!elements(value, 1, false)) return false;
  std::string_view whole = container_from(token.data());
  whole = trim_end(whole.substr(0, whole.size() - 1));
  slots_[slot_prompt] = whole.size() > 1 ? range_of(whole) : Range{};
  return true;
}

// Messages, items or parts of content: an array whose objects may hold media.
bool Scan::elements(ondemand::value value, int depth, bool objects_only) {
  if (!enter(depth)) return false;
  ondemand::array array;
  if (auto error = value.get_array().get(array)) return not_json(error);
  for (auto result : array) {
    ondemand::value next;
    if (auto error = std::move(result).get(next)) return not_json(error);
    const bool object = token_of(next).starts_with('{');
    if (!object && objects_only) return wrong_type("The field \"messages\" must hold only objects.");
    if (!(object ? element(next, depth + 1) : skip(next, depth + 1))) return false;
  }
  return true;
}

bool Scan::element(ondemand::value value, int depth) {
  if (!enter(depth)) return false;
  ondemand::object object;
  if (auto error = value.get_object().get(object)) return not_json(error);
  for (auto result : object) {
    ondemand::field entry;
    std::string_view key;
    if (auto error = std::move(result).get(entry)) return not_json(error);
    if (!key_of(entry, key)) return false;
    ondemand::value held = entry.value();
    if (key == "content") {
      if (!content(held, depth + 1)) return false;
      continue;
    }
    const std::string_view token = token_of(held);
    if (contains(media_keys, key) || (key == "type" && is_string(token) && contains(media_types, unquoted(token)))) {
      out_.multimodal = true;
    }
    if (!skip(held, depth + 1)) return false;
  }
  return true;
}

bool Scan::content(ondemand::value value, int depth) {
  const std::string_view token = token_of(value);
  if (token.starts_with('[')) return elements(value, depth, false);
  if ((api_ == Api::chat_completions || api_ == Api::messages) && depth == 3 && !is_string(token) && !is_null(token)) {
    return fail(ScanError::bad_type, "messages", "The content of a message must be a string or an array of parts.");
  }
  return skip(value, depth);
}

// Values of no interest, read in full all the same: On-Demand's own skipping counts brackets but not their kinds.

bool Scan::enter(int depth) {
  if (depth < RequestScanner::nesting_max) return true;
  return fail(ScanError::too_deep, key_, "The body nests arrays and objects too deeply.");
}

bool Scan::skip(ondemand::value value, int depth) {
  const std::string_view token = value.raw_json_token();
  switch (token.empty() ? '\0' : token.front()) {
    case '"':
      return string(value);
    case '{':
      return skip_object(value, depth);
    case '[':
      return skip_array(value, depth);
    default:
      break;
  }
  const std::string_view word = trim_end(token);
  if (is_number(word) || word == "true" || word == "false" || is_null(word)) return true;
  return not_json(simdjson::TAPE_ERROR);
}

bool Scan::skip_array(ondemand::value value, int depth) {
  if (!enter(depth)) return false;
  ondemand::array array;
  if (auto error = value.get_array().get(array)) return not_json(error);
  for (auto result : array) {
    ondemand::value element;
    if (auto error = std::move(result).get(element)) return not_json(error);
    if (!skip(element, depth + 1)) return false;
  }
  return true;
}

bool Scan::skip_object(ondemand::value value, int depth) {
  if (!enter(depth)) return false;
  ondemand::object object;
  if (auto error = value.get_object().get(object)) return not_json(error);
  for (auto result : object) {
    ondemand::field entry;
    if (auto error = std::move(result).get(entry)) return not_json(error);
    if (!skip(entry.value(), depth + 1)) return false;
  }
  return true;
}

// Passes over a string. Left to the iterator, a ':' behind it would make it a key.
bool Scan::string(ondemand::value value) {
  const auto error = value.get_raw_json_string().error();
  return error ? not_json(error) : true;
}

// The key of a field, decoded only when it has an escape. Its end is found from the value backwards.
bool Scan::key_of(ondemand::field& field, std::string_view& key) {
  const char* const begin = field.key().raw();
  const char* end = field.value().raw_json_token().data();
  while (is_space(end[-1])) --end;
  --end;  // the colon
  while (is_space(end[-1])) --end;
  --end;  // the quote
  key = std::string_view(begin, static_cast<size_t>(end - begin));
  if (key.find('\\') == std::string_view::npos) return true;
  const auto error = field.unescaped_key().get(key);
  return error ? not_json(error) : true;
}

}  // namespace

struct RequestScanner::State {
  ondemand::parser parser;
};

RequestScanner::RequestScanner() : state_(std::make_unique<State>()) {}
RequestScanner::~RequestScanner() = default;

ScanFailure RequestScanner::scan(Api api, std::string_view body, Request& out) {
  out.clear();
  out.api = api;
  std::string_view json = body;
  if (json.starts_with("\xEF\xBB\xBF")) json.remove_prefix(3);
  Scan scan(api, body, out);
  const bool large = json.size() > capacity_kept_max;
  if (!large && state_->parser.capacity() < json.size()) {
    // Powers of two, so that slightly longer bodies do not each allocate anew.
    const size_t capacity = std::bit_ceil(std::max(json.size(), capacity_min));
    if (state_->parser.allocate(capacity)) return {ScanError::not_json, "", "The body is too large to be read."};
  }
  const bool ok = scan.run(state_->parser, json);
  if (large) state_ = std::make_unique<State>();
  return ok ? ScanFailure{} : scan.take_failure();
}

void Request::clear() {
  api = Api::other;
  model.clear();
  model_value = Range{};
  stream = include_usage = continuous_usage = false;
  max_tokens.reset();
  n = 1;
  has_tools = multimodal = false;
  cache_salt.clear();
  session.clear();
  prompt.clear();
  prompt_bytes = 0;
  prompt_token_ids = 0;
}

}  // namespace penstock::openai
