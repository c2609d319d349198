#include "penstock/openai/request.h"

#include <simdjson.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "fields.h"
#include "json_problem.h"
#include "json_text.h"
#include "media.h"
#include "penstock/base/assert.h"
#include "penstock/base/text.h"
#include "penstock/openai/response_id.h"

namespace penstock::openai {
namespace {

namespace ondemand = simdjson::ondemand;

constexpr size_t body_padding = 64;  // net::BodyBuffer::padding: what callers have behind a body
static_assert(simdjson::SIMDJSON_PADDING <= body_padding);

constexpr size_t capacity_min = 16 * 1024;
constexpr size_t param_bytes_max = 256;  // a longer name of a field is not told back

// One scan of one body. Every step answers false after it has recorded a failure; nothing goes on after that.
class Scan {
 public:
  Scan(Api api, std::string_view body, bool hash_media, Request& out)
      : api_(api), body_(body), end_(body.data() + body.size()), hash_media_(hash_media), out_(out) {}

  // `json` is the body without a byte order mark.
  ScanFailure run(ondemand::parser& parser, std::string_view json) {
    if (read(parser, json) && finish()) return {};
    return std::move(failure_);
  }

 private:
  // The places in Request::prompt, in order.
  enum Slot : size_t { slot_lead, slot_tools, slot_documents, slot_template, slot_kwargs, slot_prompt, slot_count };

  bool fail(ScanError error, std::string_view param, std::string_view message);
  bool not_json(simdjson::error_code error);
  bool wrong_type(std::string_view message) { return fail(ScanError::bad_type, key_, message); }
  bool short_enough(std::string_view token, std::string_view name);

  bool read(ondemand::parser& parser, std::string_view json);
  bool finish();
  bool field(Field field, ondemand::value value);

  bool model(ondemand::value value);
  bool stream(ondemand::value value);
  bool stream_options(ondemand::value value);
  bool flag(ondemand::value value, bool& to);
  bool count(ondemand::value value, std::optional<uint32_t>& to);
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
  bool media(ondemand::value value, int depth);

  bool skip(ondemand::value value, int depth);
  bool skip_array(ondemand::value value, int depth);
  bool skip_object(ondemand::value value, int depth);
  bool enter(int depth);
  bool string(ondemand::value value);
  bool key_of(ondemand::field& field, std::string_view& key);
  // Calls visit(key, value) for each field, which answers as every step does.
  template <typename Visit>
  bool each_field(ondemand::object& object, Visit visit);

  std::string_view token_of(ondemand::value& value) const;
  static bool is_string(std::string_view token) { return token.starts_with('"'); }
  static bool is_null(std::string_view token) { return token == "null"; }
  static std::string_view unquoted(std::string_view token) { return token.substr(1, token.size() - 2); }
  Range range_of(std::string_view text) const { return {static_cast<size_t>(text.data() - body_.data()), text.size()}; }
  // The array or object that begins at `begin` and was just read to its end, for a slot: without the closing bracket of
  // an array, and empty when it is empty.
  bool keep_container(const char* begin, Slot slot);

  const Api api_;
  const std::string_view body_;
  const char* const end_;  // of the body
  const bool hash_media_;
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
  failure_.param = param.size() <= param_bytes_max ? param : std::string_view();
  failure_.message = message;
  return false;
}

bool Scan::not_json(simdjson::error_code error) {
  const ScanError kind = error == simdjson::MEMALLOC ? ScanError::no_memory : ScanError::not_json;
  return fail(kind, error == simdjson::STRING_ERROR ? key_ : "", json_problem(error, body_));
}

bool Scan::read(ondemand::parser& parser, std::string_view json) {
  if (has_byte_order_mark(json)) return not_json(simdjson::TAPE_ERROR);  // newer simdjson takes a second one
  if (auto error = parser.iterate(simdjson::padded_string_view(json, json.size() + body_padding)).get(document_)) {
    return not_json(error);
  }
  ondemand::object object;
  if (auto error = document_.get_object().get(object)) return not_json(error);
  const auto top_level = [this](std::string_view key, ondemand::value value) {
    key_ = key;
    return field(field_of(key, api_), value);
  };
  if (!each_field(object, top_level)) return false;
  // Whatever follows the object would be a location.
  if (document_.current_location().error() != simdjson::OUT_OF_BOUNDS) return not_json(simdjson::TAPE_ERROR);
  return true;
}

template <typename Visit>
bool Scan::each_field(ondemand::object& object, Visit visit) {
  for (auto result : object) {
    ondemand::field entry;
    std::string_view key;
    if (auto error = std::move(result).get(entry)) return not_json(error);
    if (!key_of(entry, key) || !visit(key, entry.value())) return false;
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
      return optional_text(value, out_.cache_salt);
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
    case Field::previous_response:  // an id needs no escapes
      out_.previous_response = is_string(token_of(value)) ? response_key(unquoted(token_of(value))) : 0;
      return skip(value, 1);
    case Field::prompt:
      // Other APIs have shapes of their own (llama.cpp mixes texts and ids).
      return api_ == Api::other ? part(value, slot_prompt) : token_prompt(value);
    case Field::messages:
      return messages(value);
    case Field::items:
      return items(value);
    case Field::unknown:
      return skip(value, 1);
  }
  return skip(value, 1);
}

// What is missing is said at the end: the rest was read.
bool Scan::finish() {
  out_.max_tokens = max_completion_tokens_ ? max_completion_tokens_
                    : max_output_tokens_   ? max_output_tokens_
                                           : max_tokens_;
  for (std::string* next : {&user_, &prompt_cache_key_, &metadata_user_}) {
    if (out_.session.empty() && !next->empty()) out_.session = std::move(*next);
  }
  if (!out_.multimodal) out_.media.clear();  // documents of text
  for (const Range& slot : slots_) {
    if (slot.empty()) continue;
    out_.prompt.push_back(slot);
    out_.prompt_bytes += slot.size;
  }
  if (api_ == Api::other) return true;
  if (out_.model_value.empty()) return fail(ScanError::no_model, "model", "The field \"model\" is missing.");
  if (!slots_[slot_prompt].empty()) return true;
  const std::string name(prompt_name(api_));
  return fail(ScanError::no_prompt, name, "The field \"" + name + "\" is missing or empty.");
}

// Scalar fields

bool Scan::model(ondemand::value value) {
  if (has_model_) return fail(ScanError::bad_type, "model", "The field \"model\" is there twice.");
  has_model_ = true;
  const std::string_view token = token_of(value);
  if (is_null(token)) return true;  // as good as missing
  if (!is_string(token)) return fail(ScanError::model_not_string, "model", "The field \"model\" must be a string.");
  if (!short_enough(token, "model")) return false;
  std::string_view decoded;
  if (auto error = value.get_string().get(decoded)) return not_json(error);
  copy_text(out_.model, decoded);
  out_.model_value = range_of(token);
  return true;
}

// Of a string that will be copied.
bool Scan::short_enough(std::string_view token, std::string_view name) {
  if (token.size() <= RequestScanner::text_bytes_max + 2) return true;  // and its quotes
  return fail(ScanError::too_long, name,
              "The field \"" + std::string(name) + "\" is longer than " +
                  std::to_string(RequestScanner::text_bytes_max) + " bytes.");
}

bool Scan::stream(ondemand::value value) {
  if (has_stream_) return fail(ScanError::bad_type, "stream", "The field \"stream\" is there twice.");
  has_stream_ = true;
  return flag(value, out_.stream);
}

// Model servers take more than true and false for a flag, in their own ways (pydantic: 1, "on", "Yes"). What they take
// for true counts as true; the rest is theirs to judge.
bool Scan::flag(ondemand::value value, bool& to) {
  constexpr std::string_view yes[] = {"true", "1", "1.0", "t", "y", "yes", "on"};
  std::string_view token = token_of(value);
  to = token == "true";
  if (to || token == "false") return true;
  if (is_string(token)) token = unquoted(token);
  to = std::any_of(std::begin(yes), std::end(yes),
                   [&](std::string_view word) { return same_ignoring_case(token, word); });
  return skip(value, 2);
}

bool Scan::stream_options(ondemand::value value) {
  const std::string_view token = token_of(value);
  out_.include_usage = out_.continuous_usage = false;
  if (!token.starts_with('{')) return skip(value, 1);
  ondemand::object object;
  if (auto error = value.get_object().get(object)) return not_json(error);
  return each_field(object, [this](std::string_view key, ondemand::value option) {
    if (key == "include_usage") return flag(option, out_.include_usage);
    if (key == "continuous_usage_stats") return flag(option, out_.continuous_usage);
    return skip(option, 2);
  });
}

// A number of tokens or choices, also as a string or with a fraction of nothing, as model servers take it. Below zero
// (some clients mean "no limit") counts as not said, and so does what is no such number: that is theirs to judge.
bool Scan::count(ondemand::value value, std::optional<uint32_t>& to) {
  std::string_view token = token_of(value);
  to = small_number(token);
  if (to) return true;
  if (is_string(token)) to = small_number(unquoted(token));
  if (!is_number(token)) return skip(value, 1);
  double number = 0;
  if (value.get_double().get(number)) number = std::numeric_limits<double>::max();  // 1e999
  if (std::floor(number) != number || number < 0) return true;
  to = static_cast<uint32_t>(std::min(number, double{std::numeric_limits<uint32_t>::max()}));
  return true;
}

// A string that helps when it is one; the model server judges anything else.
bool Scan::optional_text(ondemand::value value, std::string& to) {
  to.clear();
  const std::string_view token = token_of(value);
  if (!is_string(token)) return skip(value, 1);
  if (!short_enough(token, &to == &metadata_user_ ? "metadata.user_id" : key_)) return false;
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
  return each_field(object, [this](std::string_view key, ondemand::value entry) {
    return key == "user_id" ? optional_text(entry, metadata_user_) : skip(entry, 2);
  });
}

bool Scan::keep_container(const char* begin, Slot slot) {
  const char* next = nullptr;
  // In a body that was cut, the closing bracket may have been found in the padding.
  if (document_.current_location().get(next) || next <= begin || next >= end_) return not_json(simdjson::TAPE_ERROR);
  const std::string_view whole = trim_end(std::string_view(begin, static_cast<size_t>(next - begin)));
  PENSTOCK_ASSERT(whole.size() >= 2);
  const std::string_view open = trim_end(whole.substr(0, whole.size() - 1));
  slots_[slot] = open.size() == 1 ? Range{} : range_of(*begin == '[' ? open : whole);
  return true;
}

// A string, array or object that is part of the prompt as a whole. Anything else is the model server's to judge.
bool Scan::part(ondemand::value value, Slot slot) {
  const std::string_view token = token_of(value);
  slots_[slot] = is_string(token) ? range_of(unquoted(token)) : Range{};
  if (!skip(value, 1)) return false;
  return !(token.starts_with('[') || token.starts_with('{')) || keep_container(token.data(), slot);
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
  return keep_container(token.data(), slot_prompt);
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
  return keep_container(token.data(), slot_prompt);
}

// Messages, items or parts of content: an array whose objects may hold media.
bool Scan::elements(ondemand::value value, int depth, bool objects_only) {
  if (!enter(depth)) return false;
  ondemand::array array;
  if (auto error = value.get_array().get(array)) return not_json(error);
  for (auto result : array) {
    ondemand::value next;
    if (auto error = std::move(result).get(next)) return not_json(error);
    const std::string_view token = token_of(next);
    if (token.empty()) return not_json(simdjson::TAPE_ERROR);
    const bool object = token.starts_with('{');
    if (!object && objects_only) return wrong_type("The field \"messages\" must hold only objects.");
    if (!(object ? element(next, depth + 1) : skip(next, depth + 1))) return false;
  }
  return true;
}

bool Scan::element(ondemand::value value, int depth) {
  if (!enter(depth)) return false;
  ondemand::object object;
  if (auto error = value.get_object().get(object)) return not_json(error);
  return each_field(object, [this, depth](std::string_view key, ondemand::value held) {
    if (key == "content") return content(held, depth + 1);
    const std::string_view token = token_of(held);
    const bool holds_media = is_media_key(key);
    if (holds_media || (key == "type" && is_string(token) && is_media_type(unquoted(token)))) out_.multimodal = true;
    if (hash_media_ && (holds_media || (key == "source" && api_ == Api::messages))) return media(held, depth + 1);
    return skip(held, depth + 1);
  });
}

// An image, audio or video: its URL as a string, or an object with its URL or data.
bool Scan::media(ondemand::value value, int depth) {
  const std::string_view token = token_of(value);
  if (is_string(token)) add_media(out_, unquoted(token));
  if (!token.starts_with('{')) return skip(value, depth);
  if (!enter(depth)) return false;
  ondemand::object object;
  if (auto error = value.get_object().get(object)) return not_json(error);
  return each_field(object, [this, depth](std::string_view key, ondemand::value held) {
    const std::string_view text = token_of(held);
    if (identifies_media(key) && is_string(text)) add_media(out_, unquoted(text));
    return skip(held, depth + 1);
  });
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
  const std::string_view token = token_of(value);
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
  if (is_number(token) || token == "true" || token == "false" || is_null(token) || is_no_number(token)) return true;
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

// The raw text of a scalar, the first bracket of anything else. Empty where a body was cut and a ',' in the padding
// made the iterator expect a value: simdjson knows neither the place nor the length of that.
std::string_view Scan::token_of(ondemand::value& value) const {
  const std::string_view token = value.raw_json_token();
  return token.data() < end_ ? trim_end(token) : std::string_view();
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

RequestScanner::RequestScanner(MemoryBudget* budget, bool hash_media)
    : budget_(budget), hash_media_(hash_media), state_(std::make_unique<State>()) {}
RequestScanner::~RequestScanner() = default;

ScanFailure RequestScanner::scan(Api api, std::string_view body, Request& out) {
  out.clear();
  out.api = api;
  const std::string_view json = without_byte_order_mark(body);
  if (json.size() > kept_capacity_max) return scan_large(api, body, json, out);
  if (state_->parser.capacity() < json.size()) {
    // Powers of two, so that slightly longer bodies do not each allocate anew.
    const size_t capacity = std::bit_ceil(std::max(json.size(), capacity_min));
    if (state_->parser.allocate(capacity)) return no_memory();
  }
  return Scan(api, body, hash_media_, out).run(state_->parser, json);
}

// With a parser of its own, which allocates exactly what this body needs.
ScanFailure RequestScanner::scan_large(Api api, std::string_view body, std::string_view json, Request& out) {
  const size_t scratch = json.size() * scratch_per_byte;
  if (budget_ != nullptr && !budget_->try_take(scratch)) return no_memory();
  ScanFailure failure;
  {
    ondemand::parser parser;
    failure = Scan(api, body, hash_media_, out).run(parser, json);
  }
  if (budget_ != nullptr) budget_->give_back(scratch);
  return failure;
}

ScanFailure RequestScanner::no_memory() {
  return {ScanError::no_memory, "", "There is no memory left to read the body."};
}

}  // namespace penstock::openai
