// An inference request as the router needs it: offsets into the original bytes, found in one pass of
// simdjson On-Demand. The body is never rebuilt: it is forwarded as it came, and only the value of
// "model" is replaced (spliced, see splice.h) when a rewrite says so. Pure; one thread; a Scanner is reused.
//
// Checked in the whole body, in known and unknown fields: UTF-8, control characters in strings, that strings end, that
// brackets match in number and kind, commas and colons, the spelling of numbers, true, false and null, depth, and that
// nothing follows the object. NaN, Infinity and -Infinity are read as numbers, as Python's json module does, which most
// servers use; what it refuses is refused (tests/golden/json). Not checked: escape sequences in strings
// that are not decoded here ("\q" passes in a message; the model server refuses it). Only top-level keys and the values
// copied into Request are decoded. A byte order mark at the beginning is accepted, as in Python's json module. If a key
// is repeated, the last one counts, as in every common server. "model" and "stream" must not be repeated, because a
// server that uses the first one would be treated wrongly.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/base/memory_budget.h"

namespace penstock::openai {

enum class Api : uint8_t { completions, chat_completions, responses, conversations, embeddings, messages, other };
// How bodies are read. By path: see paths.h.
const char* to_string(Api api);

// A run of bytes of the body.
struct Range {
  size_t begin = 0, size = 0;
  std::string_view in(std::string_view body) const { return body.substr(begin, size); }
  bool empty() const { return size == 0; }
};

struct Request {
  Api api = Api::other;
  std::string model;  // decoded ("" when absent)
  Range model_value;  // the JSON string with its quotes, for splicing
  bool stream = false;
  bool include_usage = false;          // stream_options.include_usage
  bool continuous_usage = false;       // stream_options.continuous_usage_stats
  std::optional<uint32_t> max_tokens;  // max_completion_tokens, else max_output_tokens, else max_tokens
  uint32_t n = 1;
  bool has_tools = false;
  bool multimodal = false;  // image, audio or video content
  // Hashes of the images, audio and video of messages or items, each once, in their order: hashes of the URL or the
  // inline data as written in the body. Only the first media_max; none if the scanner does not hash them.
  static constexpr size_t media_max = 64;
  std::vector<uint64_t> media;
  std::string cache_salt;
  std::string session;  // "session_id", else "user", else "prompt_cache_key", else metadata.user_id
  // The parts of the prompt, in this order: instructions or system, tools, documents, chat_template,
  // chat_template_kwargs, then prompt, messages, input or items. Empty or null parts are left out.
  //   string            the text between its quotes (escapes as they came)
  //   array             from its '[' up to, and without, its ']' and the white space before that: so the messages of a
  //                     longer conversation begin with exactly the bytes of the shorter one
  //   object            the whole of it
  //   array of strings, or of token ids, as prompt or input: from the first text or id to the last, without the outer
  //                     quotes and brackets, so that "x" and ["x"] are the same prompt
  std::vector<Range> prompt;
  size_t prompt_bytes = 0;         // sum of the sizes
  uint64_t previous_response = 0;  // response_key() of "previous_response_id"; 0: none
  // Token-id prompts: the number of ids (no estimate needed); 0 otherwise.
  uint32_t prompt_token_ids = 0;

  void clear();
};

enum class ScanError : uint8_t {
  none,
  not_json,          // not JSON, or not an object: 400 on known inference paths
  no_model,          // "model" missing or null: servers use their own; everything else was read
  model_not_string,  // 400
  no_prompt,         // prompt / messages / input / items missing or empty; everything else was read
  bad_type,          // a field that matters has the wrong JSON type: 400
  too_deep,          // nesting over the limit: 400
  too_long,          // a text that is copied is longer than RequestScanner::text_bytes_max: 400
  no_memory,         // the budget refused what scanning needs: 503
};
struct ScanFailure {
  ScanError error = ScanError::none;
  std::string param;    // the field at fault, for the error body
  std::string message;  // one sentence
};

class RequestScanner {
 public:
  // The scratch memory for scanning a large body is taken from `budget` while it is needed; null: it is not counted.
  // `hash_media` false: Request::media is not needed, and stays empty.
  explicit RequestScanner(MemoryBudget* budget = nullptr, bool hash_media = true);
  ~RequestScanner();
  // Nesting beyond this is refused (Python's parser gives up near 1000, and a chat needs about 10).
  static constexpr int nesting_max = 512;
  // Longest text, as written, of "model" and of the fields for Request::cache_salt and Request::session. These are
  // copied several times.
  static constexpr size_t text_bytes_max = 4 * 1024;
  // Bodies up to kept_capacity_max bytes are scanned with memory that is kept; larger ones need scratch_per_byte bytes
  // of scratch memory for each of their bytes.
  static constexpr size_t kept_capacity_max = 1024 * 1024, scratch_per_byte = 6;
  // Scans `body`, which must have BodyBuffer::padding readable bytes behind it. Fills `out` (partly after a failure).
  // Api::other requires nothing but JSON: "model" may be missing, and what looks like a prompt is taken if it is one.
  ScanFailure scan(Api api, std::string_view body, Request& out);

 private:
  struct State;
  ScanFailure scan_large(Api api, std::string_view body, std::string_view json, Request& out);
  static ScanFailure no_memory();

  MemoryBudget* budget_;
  const bool hash_media_;
  std::unique_ptr<State> state_;
};

}  // namespace penstock::openai
