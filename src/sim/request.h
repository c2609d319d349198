// The JSON bodies that the simulated server reads. It has its own reader, not the gateway's scanner: a stand-in that
// shared the gateway's reading of a body could not notice a mistake in it. Pure; one thread; a reader is reused.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sim/engine_names.h"

namespace penstock::sim {

enum class Api : uint8_t {
  completions,
  chat,
  responses,
  messages,
  embeddings,
  rerank,
  score,
  tokenize,
  detokenize,
  load_lora,
  unload_lora,
};

// One prompt as the model would see it. The text itself is kept only where an answer repeats it.
struct Prompt {
  Prompt(uint32_t block_size, bool keep_bytes) : stream(block_size, keep_bytes) {}
  void append(std::string_view bytes) {
    stream.append(bytes);
    if (keep_text) text.append(bytes);
  }
  TokenStream stream;
  std::string text;
  bool keep_text = false;
};

struct Request {
  std::string model;  // empty when the body names none
  bool stream = false, include_usage = false, continuous_usage = false;
  std::optional<uint32_t> max_tokens;
  uint32_t min_tokens = 0, n = 1;
  uint64_t seed = 0;
  bool ignore_eos = false, echo = false;
  std::string cache_salt;
  std::vector<Prompt> prompts;  // the first prompt_count are meant; the others only keep their memory
  size_t prompt_count = 0;
  // embeddings
  uint32_t dimensions = 0;  // 0: not given
  bool base64 = false;
  // rerank and score: prompts are pairs, documents are the second halves
  std::vector<std::string> documents;
  uint32_t top_n = 0;  // 0: all
  // detokenize
  std::vector<uint32_t> tokens;
  // load and unload of adapters
  std::string lora_name;
};

struct BadRequest {
  std::string message;
  std::string param;  // the field at fault; may be empty
};

class RequestReader {
 public:
  // `keep_bytes`: of the prompts' blocks (TokenStream).
  explicit RequestReader(uint32_t block_size, bool keep_bytes = false);
  ~RequestReader();
  // `body` must have 64 readable bytes behind it.
  std::optional<BadRequest> read(Api api, std::string_view body, Request& out);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace penstock::sim
