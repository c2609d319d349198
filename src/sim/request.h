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

// Whether answers are text that the model makes.
inline bool generates(Api api) {
  return api == Api::chat || api == Api::completions || api == Api::responses || api == Api::messages;
}

// One prompt as the model would see it. Its bytes are kept only where an answer repeats them.
struct Prompt {
  Prompt(uint32_t block_size, bool keep_bytes) : stream(block_size, keep_bytes) {}
  void append(std::string_view bytes) {
    stream.append(bytes);
    if (keep_text) text.append(bytes);
  }
  void append_token_id(uint32_t id) { append(bytes_of_token(id).view()); }
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
  bool ignore_eos = false, echo = false, return_token_ids = false;
  std::string cache_salt;
  std::vector<std::string> stop;  // none is empty
  bool include_stop = false;      // the stop string stays in the answer
  std::vector<Prompt> prompts;    // the first prompt_count are meant; the others only keep their memory
  size_t prompt_count = 0;
  // embeddings
  uint32_t dimensions = 0;  // 0: not given
  bool base64 = false;
  // rerank and score: prompts are pairs, documents are the second halves
  std::vector<std::string> documents;
  uint32_t top_n = 0;  // 0: all
  // tokenize
  bool return_token_strs = false;
  // detokenize
  std::vector<uint32_t> tokens;
  // load and unload of adapters
  std::string lora_name;
};

struct BadRequest {
  std::string message;
  std::string param;  // the field at fault; may be empty
};

struct ReaderOptions {
  uint32_t block_size = 16;
  bool keep_bytes = false;  // of the prompts' blocks (TokenStream)
  bool bos = false;         // prompts begin with a token of their own
};

class RequestReader {
 public:
  explicit RequestReader(const ReaderOptions& options);
  ~RequestReader();
  // `body` must have 64 readable bytes behind it.
  std::optional<BadRequest> read(Api api, std::string_view body, Request& out);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace penstock::sim
