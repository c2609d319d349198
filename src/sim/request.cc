#include "sim/request.h"

#include <simdjson.h>

#include <utility>

namespace penstock::sim {
namespace {

namespace json = simdjson::dom;
using Outcome = std::optional<BadRequest>;

// Images, sound and video cost a fixed number of tokens, told apart by their content.
constexpr uint32_t kMediaTokens = 256;
constexpr size_t kPromptsMax = 2048;
// The token that begins a prompt (--bos). As with real tokenizers, a prompt may also spell it out.
constexpr std::string_view kBos = "<s> ";
static_assert(kBos.size() == bytes_per_token);

Outcome wrong_type(std::string_view field, std::string_view wanted) {
  return BadRequest{"`" + std::string(field) + "` must be " + std::string(wanted) + ".", std::string(field)};
}

BadRequest not_json() {
  return {"The body is not a valid JSON object.", ""};
}

}  // namespace

struct RequestReader::State {
  explicit State(const ReaderOptions& wanted) : options(wanted) {}

  Outcome read(Api api, std::string_view body, Request& out);
  Outcome read_scalar(std::string_view key, json::element value, Request& out);
  Outcome read_number(std::string_view key, json::element value, Request& out);
  Outcome read_stream_options(json::element value, Request& out);

  Outcome read_prompts(Api api, json::object object, Request& out);
  Outcome read_texts(json::object object, const char* field, Request& out);
  Outcome read_text_list(json::array array, const char* field, Request& out);
  Outcome read_token_ids(json::array array, const char* field, Prompt& prompt);
  Outcome read_tokenize(json::object object, Request& out);
  Outcome read_chat(json::object object, const char* field, Request& out);
  Outcome read_template(json::object object, Prompt& prompt);
  Outcome read_turns(json::object object, const char* field, Prompt& prompt);
  Outcome read_turn(json::object turn, const char* field, Prompt& prompt);
  Outcome read_content(json::element content, const char* field, Prompt& prompt);
  Outcome read_part(json::object part, Prompt& prompt);
  Outcome read_pairs(json::object object, const char* left, const char* right, Request& out);
  Outcome read_strings(json::object object, const char* field, std::vector<std::string>& out);
  Outcome read_stop(Api api, json::object object, Request& out);
  Outcome read_detokenize(json::object object, Request& out);
  Outcome read_lora(const Request& out);
  bool has(const json::object& object, const char* field, json::element& value);

  Prompt& add_prompt(Request& out) {
    if (out.prompt_count == out.prompts.size()) out.prompts.emplace_back(options.block_size, options.keep_bytes);
    Prompt& prompt = out.prompts[out.prompt_count++];
    prompt.stream.clear();
    prompt.text.clear();
    prompt.keep_text = keep_text;
    return prompt;
  }
  void add_text(std::string_view text, Request& out) {
    Prompt& prompt = add_prompt(out);
    if (text.empty() && !for_ids) return;  // which read_texts() refuses
    if (add_special_tokens) add_bos(prompt);
    prompt.append(text);
  }
  // Echoed prompts do not show it.
  void add_bos(Prompt& prompt) {
    if (!options.bos) return;
    prompt.stream.append(kBos);
    if (for_ids) prompt.text.append(kBos);
  }

  const ReaderOptions options;
  bool keep_text = false;
  bool for_ids = false;  // the text becomes the answer's token ids
  bool add_special_tokens = true, add_generation_prompt = true, continue_final_message = false;
  json::parser parser;
};

RequestReader::RequestReader(const ReaderOptions& options) : state_(std::make_unique<State>(options)) {}
RequestReader::~RequestReader() = default;

std::optional<BadRequest> RequestReader::read(Api api, std::string_view body, Request& out) {
  std::vector<Prompt> prompts = std::move(out.prompts);
  out = Request{};
  out.prompts = std::move(prompts);
  return state_->read(api, body, out);
}

// simdjson's DOM and not On-Demand: it picks the fastest code for this CPU when it runs, and it checks all of the body.
Outcome RequestReader::State::read(Api api, std::string_view body, Request& out) {
  json::element document;
  json::object object;
  if (parser.parse(body.data(), body.size(), /*realloc_if_needed=*/false).get(document) != simdjson::SUCCESS)
    return not_json();
  if (document.get(object) != simdjson::SUCCESS) return not_json();
  json::element messages;
  // A text is given its first token; what a chat template begins with is in the template.
  // But vLLM gives prompts of responses one all the same.
  add_special_tokens = !has(object, "messages", messages);
  add_generation_prompt = true;
  continue_final_message = false;
  for (const auto& [key, value] : object) {
    if (value.is_null()) continue;
    if (Outcome bad = read_scalar(key, value, out)) return bad;
  }
  if (Outcome bad = read_stop(api, object, out)) return bad;
  for_ids = api == Api::tokenize;
  keep_text = for_ids || out.echo || out.return_token_ids;
  if (Outcome bad = read_prompts(api, object, out)) return bad;
  if (out.include_usage && !out.stream) {
    return BadRequest{"Stream options can only be defined when `stream=True`.", "stream_options"};
  }
  if (out.max_tokens && out.min_tokens > *out.max_tokens) {
    return BadRequest{"min_tokens must be less than or equal to max_tokens.", "min_tokens"};
  }
  return std::nullopt;
}

Outcome RequestReader::State::read_scalar(std::string_view key, json::element value, Request& out) {
  const std::pair<const char*, bool*> flags[] = {{"stream", &out.stream},
                                                 {"ignore_eos", &out.ignore_eos},
                                                 {"echo", &out.echo},
                                                 {"include_stop_str_in_output", &out.include_stop},
                                                 {"return_token_strs", &out.return_token_strs},
                                                 {"return_token_ids", &out.return_token_ids},
                                                 {"add_special_tokens", &add_special_tokens},
                                                 {"add_generation_prompt", &add_generation_prompt},
                                                 {"continue_final_message", &continue_final_message}};
  for (const auto& [name, target] : flags) {
    if (key == name) return value.get(*target) == simdjson::SUCCESS ? std::nullopt : wrong_type(key, "true or false");
  }
  const std::pair<const char*, std::string*> strings[] = {
      {"model", &out.model}, {"cache_salt", &out.cache_salt}, {"lora_name", &out.lora_name}};
  for (const auto& [name, target] : strings) {
    if (key != name) continue;
    std::string_view text;
    if (value.get(text) != simdjson::SUCCESS) return wrong_type(key, "a string");
    target->assign(text);
    return std::nullopt;
  }
  if (key == "stream_options") return read_stream_options(value, out);
  if (key == "encoding_format") {
    std::string_view text;
    if (value.get(text) != simdjson::SUCCESS) return wrong_type(key, "a string");
    out.base64 = text == "base64";
    return out.base64 || text == "float" ? std::nullopt : wrong_type(key, "\"float\" or \"base64\"");
  }
  return read_number(key, value, out);
}

Outcome RequestReader::State::read_number(std::string_view key, json::element value, Request& out) {
  if (key == "seed") {
    int64_t seed = 0;
    if (value.get(seed) != simdjson::SUCCESS) return wrong_type(key, "an integer");
    out.seed = static_cast<uint64_t>(seed);
    return std::nullopt;
  }
  struct Number {
    const char* name;
    uint32_t least, most;
  };
  constexpr uint32_t many = 1u << 30;
  constexpr Number numbers[] = {{"max_tokens", 1, many},
                                {"max_completion_tokens", 1, many},
                                {"max_output_tokens", 1, many},
                                {"min_tokens", 0, many},
                                {"n", 1, 128},
                                {"dimensions", 1, 65536},
                                {"top_n", 0, many}};
  const Number* found = nullptr;
  for (const Number& number : numbers) found = key == number.name ? &number : found;
  if (found == nullptr) return std::nullopt;
  int64_t got = 0;
  if (value.get(got) != simdjson::SUCCESS) return wrong_type(key, "an integer");
  if (got < found->least || got > found->most) {
    const std::string limit =
        got < found->least ? "at least " + std::to_string(found->least) : "at most " + std::to_string(found->most);
    return BadRequest{std::string(key) + " must be " + limit + ", got " + std::to_string(got) + ".", std::string(key)};
  }
  const auto number = static_cast<uint32_t>(got);
  if (key == "n") out.n = number;
  else if (key == "min_tokens") out.min_tokens = number;
  else if (key == "dimensions") out.dimensions = number;
  else if (key == "top_n") out.top_n = number;
  else out.max_tokens = number;
  return std::nullopt;
}

Outcome RequestReader::State::read_stream_options(json::element value, Request& out) {
  json::object options;
  if (value.get(options) != simdjson::SUCCESS) return wrong_type("stream_options", "an object");
  for (const auto& [key, option] : options) {
    bool* target = key == "include_usage"            ? &out.include_usage
                   : key == "continuous_usage_stats" ? &out.continuous_usage
                                                     : nullptr;
    if (target != nullptr && option.get(*target) != simdjson::SUCCESS)
      return wrong_type("stream_options", "an object of booleans");
  }
  return std::nullopt;
}

bool RequestReader::State::has(const json::object& object, const char* field, json::element& value) {
  return object.at_key(field).get(value) == simdjson::SUCCESS && !value.is_null();
}

// ---- prompts ----

Outcome RequestReader::State::read_prompts(Api api, json::object object, Request& out) {
  switch (api) {
    case Api::completions:
      return read_texts(object, "prompt", out);
    case Api::embeddings:
      return read_texts(object, "input", out);
    case Api::chat:
      return read_chat(object, "messages", out);
    case Api::messages:
      if (!out.max_tokens) return BadRequest{"max_tokens: field required", "max_tokens"};
      return read_chat(object, "messages", out);
    case Api::responses:
      return read_chat(object, "input", out);
    case Api::rerank:
      return read_pairs(object, "query", "documents", out);
    case Api::score:
      return read_pairs(object, "text_1", "text_2", out);
    case Api::tokenize:
      return read_tokenize(object, out);
    case Api::detokenize:
      return read_detokenize(object, out);
    case Api::load_lora:
    case Api::unload_lora:
      return read_lora(out);
  }
  return std::nullopt;
}

// A string, an array of strings, an array of token ids, or an array of such arrays.
Outcome RequestReader::State::read_texts(json::object object, const char* field, Request& out) {
  json::element value;
  if (!has(object, field, value)) return BadRequest{std::string("Field required: `") + field + "`.", field};
  std::string_view text;
  json::array array;
  if (value.get(text) == simdjson::SUCCESS) {
    add_text(text, out);
  } else if (value.get(array) != simdjson::SUCCESS) {
    return wrong_type(field, "a string or an array");
  } else if (Outcome bad = read_text_list(array, field, out)) {
    return bad;
  }
  if (out.prompt_count == 0) return BadRequest{std::string("`") + field + "` must not be empty.", field};
  for (size_t i = 0; i < out.prompt_count; ++i) {
    if (out.prompts[i].stream.bytes() == 0) return BadRequest{"The decoder prompt cannot be empty", field};
  }
  return std::nullopt;
}

Outcome RequestReader::State::read_text_list(json::array array, const char* field, Request& out) {
  Prompt* ids = nullptr;  // the one prompt that consists of the numbers directly in this array
  for (const json::element element : array) {
    if (out.prompt_count > kPromptsMax) return BadRequest{"Too many prompts in one request.", field};
    std::string_view text;
    json::array inner;
    uint64_t id = 0;
    if (element.is_number()) {
      if (element.get(id) != simdjson::SUCCESS || id > UINT32_MAX) return wrong_type(field, "made of token ids");
      if (ids == nullptr) ids = &add_prompt(out);
      ids->append_token_id(static_cast<uint32_t>(id));
    } else if (element.get(text) == simdjson::SUCCESS) {
      add_text(text, out);
    } else if (element.get(inner) == simdjson::SUCCESS) {
      if (Outcome bad = read_token_ids(inner, field, add_prompt(out))) return bad;
    } else {
      return wrong_type(field, "made of strings, token ids or arrays of token ids");
    }
    if (ids != nullptr && out.prompt_count > 1) return wrong_type(field, "of one kind of elements");
  }
  return std::nullopt;
}

Outcome RequestReader::State::read_token_ids(json::array array, const char* field, Prompt& prompt) {
  for (const json::element element : array) {
    uint64_t id = 0;
    if (element.get(id) != simdjson::SUCCESS || id > UINT32_MAX) return wrong_type(field, "made of token ids");
    prompt.append_token_id(static_cast<uint32_t>(id));
  }
  return std::nullopt;
}

// A text (no list, no ids), or the messages of a chat.
Outcome RequestReader::State::read_tokenize(json::object object, Request& out) {
  json::element value;
  if (has(object, "messages", value)) return read_chat(object, "messages", out);
  if (!has(object, "prompt", value)) return BadRequest{"Field required: `prompt` or `messages`.", "prompt"};
  std::string_view text;
  if (value.get(text) != simdjson::SUCCESS) return wrong_type("prompt", "a string");
  add_text(text, out);
  return std::nullopt;
}

// The chat template of the simulated model: tools, then instructions, then each turn between its role and an end mark,
// then the role whose turn it is. An answer followed by the end mark is again the beginning of the next prompt.
Outcome RequestReader::State::read_chat(json::object object, const char* field, Request& out) {
  if (continue_final_message && add_generation_prompt) {
    return BadRequest{"Cannot set both `continue_final_message` and `add_generation_prompt` to True.",
                      "continue_final_message"};
  }
  Prompt& prompt = add_prompt(out);
  add_bos(prompt);
  if (add_special_tokens) add_bos(prompt);  // twice, as it happens with real tokenizers
  if (Outcome bad = read_template(object, prompt)) return bad;
  if (Outcome bad = read_turns(object, field, prompt)) return bad;
  if (add_generation_prompt) prompt.append("<|assistant|>");
  return std::nullopt;
}

// What a template puts before the turns, or what changes the template itself.
Outcome RequestReader::State::read_template(json::object object, Prompt& prompt) {
  json::element value;
  std::string_view text;
  if (has(object, "chat_template", value)) {
    if (value.get(text) != simdjson::SUCCESS) return wrong_type("chat_template", "a string");
    prompt.append(text);
  }
  if (has(object, "chat_template_kwargs", value)) {
    json::object kwargs;
    if (value.get(kwargs) != simdjson::SUCCESS) return wrong_type("chat_template_kwargs", "an object");
    if (kwargs.size() > 0) prompt.append(simdjson::minify(value));
  }
  if (has(object, "tools", value)) {
    json::array tools;
    if (value.get(tools) != simdjson::SUCCESS) return wrong_type("tools", "an array");
    prompt.append(simdjson::minify(value));
  }
  for (const char* instructions : {"system", "instructions"}) {
    if (!has(object, instructions, value)) continue;
    prompt.append("<|system|>");
    if (Outcome bad = read_content(value, instructions, prompt)) return bad;
    prompt.append("<|end|>");
  }
  return std::nullopt;
}

Outcome RequestReader::State::read_turns(json::object object, const char* field, Prompt& prompt) {
  json::element value;
  if (!has(object, field, value)) return BadRequest{std::string("Field required: `") + field + "`.", field};
  json::array turns;
  std::string_view text;
  if (value.get(text) == simdjson::SUCCESS) {
    prompt.append("<|user|>");
    prompt.append(text);
    if (!continue_final_message) prompt.append("<|end|>");
    return std::nullopt;
  }
  if (value.get(turns) != simdjson::SUCCESS) return wrong_type(field, "an array of messages");
  size_t left = turns.size();
  if (left == 0) return BadRequest{std::string("`") + field + "` must not be empty.", field};
  for (const json::element element : turns) {
    json::object turn;
    if (element.get(turn) != simdjson::SUCCESS) return wrong_type(field, "an array of messages");
    if (Outcome bad = read_turn(turn, field, prompt)) return bad;
    if (--left > 0 || !continue_final_message) prompt.append("<|end|>");
  }
  return std::nullopt;
}

Outcome RequestReader::State::read_turn(json::object turn, const char* field, Prompt& prompt) {
  json::element value;
  std::string_view role = "user";  // items of the responses API (tool results) may have none
  if (has(turn, "role", value) && value.get(role) != simdjson::SUCCESS) return wrong_type("role", "a string");
  prompt.append("<|");
  prompt.append(role);
  prompt.append("|>");
  if (has(turn, "content", value)) {
    if (Outcome bad = read_content(value, field, prompt)) return bad;
  }
  for (const char* calls : {"tool_calls", "output", "arguments"}) {
    if (has(turn, calls, value)) prompt.append(simdjson::minify(value));
  }
  return std::nullopt;
}

Outcome RequestReader::State::read_content(json::element content, const char* field, Prompt& prompt) {
  std::string_view text;
  if (content.get(text) == simdjson::SUCCESS) {
    prompt.append(text);
    return std::nullopt;
  }
  json::array parts;
  if (content.get(parts) != simdjson::SUCCESS) return wrong_type(field, "made of messages with text or parts");
  for (const json::element element : parts) {
    json::object part;
    if (element.get(part) != simdjson::SUCCESS) return wrong_type(field, "made of messages with text or parts");
    if (Outcome bad = read_part(part, prompt)) return bad;
  }
  return std::nullopt;
}

Outcome RequestReader::State::read_part(json::object part, Prompt& prompt) {
  json::element value;
  std::string_view text;
  if (has(part, "text", value)) {
    if (value.get(text) != simdjson::SUCCESS) return wrong_type("text", "a string");
    prompt.append(text);
    return std::nullopt;
  }
  uint64_t content = hash_of(simdjson::minify(part));
  for (uint32_t i = 0; i < kMediaTokens; ++i) {
    content = mix(content, i);
    prompt.append_token_id(static_cast<uint32_t>(content >> 33));  // below the ids of short tokens
  }
  return std::nullopt;
}

// Every left text with every right one; equal numbers of several are paired in order.
Outcome RequestReader::State::read_pairs(json::object object, const char* left, const char* right, Request& out) {
  std::vector<std::string> lefts;
  if (Outcome bad = read_strings(object, left, lefts)) return bad;
  if (Outcome bad = read_strings(object, right, out.documents)) return bad;
  if (lefts.size() > 1 && lefts.size() != out.documents.size()) {
    return BadRequest{"Input lengths must be either 1:1, 1:N or N:N", left};
  }
  for (size_t i = 0; i < out.documents.size(); ++i) {
    Prompt& prompt = add_prompt(out);
    prompt.append(lefts[lefts.size() == 1 ? 0 : i]);
    prompt.append("<|pair|>");
    prompt.append(out.documents[i]);
  }
  return std::nullopt;
}

Outcome RequestReader::State::read_strings(json::object object, const char* field, std::vector<std::string>& out) {
  json::element value;
  if (!has(object, field, value)) return BadRequest{std::string("Field required: `") + field + "`.", field};
  std::string_view text;
  if (value.get(text) == simdjson::SUCCESS) {
    out.emplace_back(text);
    return std::nullopt;
  }
  json::array array;
  if (value.get(array) != simdjson::SUCCESS) return wrong_type(field, "a string or an array of strings");
  for (const json::element element : array) {
    json::object wrapped;
    const bool is_text = element.get(text) == simdjson::SUCCESS;
    if (!is_text &&
        (element.get(wrapped) != simdjson::SUCCESS || wrapped.at_key("text").get(text) != simdjson::SUCCESS)) {
      return wrong_type(field, "a string or an array of strings");
    }
    out.emplace_back(text);
    if (out.size() > kPromptsMax) return BadRequest{"Too many texts in one request.", field};
  }
  if (out.empty()) return BadRequest{std::string("`") + field + "` must not be empty.", field};
  return std::nullopt;
}

// The messages API has another name for it.
Outcome RequestReader::State::read_stop(Api api, json::object object, Request& out) {
  const char* const field = api == Api::messages ? "stop_sequences" : "stop";
  json::element value;
  json::array array;
  if (!has(object, field, value)) return std::nullopt;
  std::string_view text;
  if (value.get(text) == simdjson::SUCCESS) {
    out.stop.emplace_back(text);
  } else if (value.get(array) == simdjson::SUCCESS) {
    for (const json::element element : array) {
      if (element.get(text) != simdjson::SUCCESS) return wrong_type(field, "a string or an array of strings");
      out.stop.emplace_back(text);
    }
  } else {
    return wrong_type(field, "a string or an array of strings");
  }
  for (const std::string& one : out.stop) {
    if (one.empty()) return BadRequest{"stop cannot contain an empty string.", field};
  }
  return std::nullopt;
}

Outcome RequestReader::State::read_detokenize(json::object object, Request& out) {
  json::element value;
  json::array array;
  if (!has(object, "tokens", value) || value.get(array) != simdjson::SUCCESS)
    return wrong_type("tokens", "an array of token ids");
  for (const json::element element : array) {
    uint64_t id = 0;
    if (element.get(id) != simdjson::SUCCESS || id > UINT32_MAX) return wrong_type("tokens", "an array of token ids");
    out.tokens.push_back(static_cast<uint32_t>(id));
  }
  return std::nullopt;
}

Outcome RequestReader::State::read_lora(const Request& out) {
  if (out.lora_name.empty()) return BadRequest{"Both 'lora_name' and 'lora_path' must be provided.", "lora_name"};
  return std::nullopt;
}

}  // namespace penstock::sim
