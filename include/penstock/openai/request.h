// An inference request as the router needs it: offsets into the original bytes, found in one pass of
// simdjson On-Demand. The body is never rebuilt: it is forwarded as it came, and only the value of
// "model" is replaced (spliced) when a rewrite says so. Pure; one thread; a Scanner is reused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace penstock::openai {

enum class Api : uint8_t { completions, chat_completions, responses, conversations, embeddings, messages, other };
// By exact path suffix after "/v1" (query removed, trailing slash tolerated): "/v1/chat/completions" and also
// with a prefix ("/openai/v1/completions"). `other` for everything else.
Api api_of(std::string_view path);
const char* to_string(Api api);

// A run of bytes of the body.
struct Range {
  size_t begin = 0, size = 0;
  std::string_view in(std::string_view body) const { return body.substr(begin, size); }
  bool empty() const { return size == 0; }
};

struct Request {
  Api api = Api::other;
  std::string model;                           // decoded ("" when absent)
  Range model_value;                           // the JSON string with its quotes, for splicing
  bool stream = false;
  bool include_usage = false;                  // stream_options.include_usage
  bool continuous_usage = false;               // stream_options.continuous_usage_stats
  std::optional<uint32_t> max_tokens;          // max_tokens, max_completion_tokens or max_output_tokens
  uint32_t n = 1;
  bool has_tools = false;
  bool multimodal = false;                     // image, audio or video content
  std::string cache_salt;
  std::string session;                         // "session_id", "user" or "prompt_cache_key", first found
  // What makes the prompt, in the order in which a chat template would show it (tools and system first): raw JSON
  // text for chat, messages and responses; the text between the quotes for a string prompt; the array text for token ids.
  std::vector<Range> prompt;
  size_t prompt_bytes = 0;                     // sum of the sizes
  // Token-id prompts: the number of ids (no estimate needed); 0 otherwise.
  uint32_t prompt_token_ids = 0;

  void clear();
};

enum class ScanError : uint8_t {
  none,
  not_json,                  // not JSON, or not an object: 400 on known inference paths
  no_model,                  // "model" missing: 400
  model_not_string,          // 400
  no_prompt,                 // prompt / messages / input / items missing or empty: 400
  bad_type,                  // a field that matters has the wrong JSON type: 400
  too_deep,                  // nesting over the limit: 400
};
struct ScanFailure {
  ScanError error = ScanError::none;
  std::string param;                           // the field at fault, for the error body
  std::string message;                         // one sentence
};

class RequestScanner {
 public:
  RequestScanner();
  ~RequestScanner();
  // Scans `body`, which must have BodyBuffer::padding readable bytes behind it. Fills `out`.
  ScanFailure scan(Api api, std::string_view body, Request& out);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace penstock::openai
