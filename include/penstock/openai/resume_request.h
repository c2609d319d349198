// What the gateway asks another endpoint in order to continue a stream that broke: its tokenizer for the ids of the
// prompt and of the text delivered, and /v1/completions to go on behind them. Whether that is faithful is decided by
// one table of the request's fields (src/openai/resume_fields.cc). Made only after a break: nothing here costs anything
// while nothing fails. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "penstock/openai/request.h"
#include "penstock/openai/resume_obstacle.h"

namespace penstock::openai {

class ResumeRequest {
 public:
  // Whether streams of this API can be continued at all.
  static bool knows(Api api);
  // Reads the whole of `body`, which has BodyBuffer::padding readable bytes behind it and outlives `out`. `model` is
  // the endpoint's name for the model. After an obstacle `out` holds nothing of use but field().
  static ResumeObstacle read(Api api, std::string_view body, std::string_view model, ResumeRequest& out);

  // The body of POST /tokenize for the prompt; "" when the prompt is token ids, which prompt_ids() has then.
  std::string tokenize_prompt() const;
  // The same for text that was delivered: `escaped`, the inside of a JSON string, without quotes.
  std::string tokenize_text(std::string_view escaped) const;
  // The body of POST /detokenize for the ids of the tokens that were made.
  std::string detokenize(const std::vector<uint32_t>& ids) const;
  // The bodies of POST /v1/completions that goes on behind what was delivered, streamed and with its usage. "" when
  // nothing is left to generate or no limit is known: see tokens_left(). The second is for a prompt that is text, and
  // endpoints without a tokenizer. `wants_ids`: of the tokens that it makes.
  std::string continuation(const std::vector<uint32_t>& prompt_ids, const std::vector<uint32_t>& delivered_ids,
                           uint32_t max_model_len, bool wants_ids = false) const;
  std::string text_continuation(std::string_view escaped_delivered, uint32_t delivered_tokens) const;

  // How many tokens may follow by the request alone; nothing: it has no limit (chats that name none).
  std::optional<uint32_t> tokens_left(size_t delivered) const;
  // The same where the model's context is known as well (0: it is not). 0: the answer ends here, with "length".
  std::optional<uint32_t> tokens_left(size_t prompt, size_t delivered, uint32_t max_model_len) const;

  bool text_prompt() const { return api_ == Api::completions && prompt_ids_.empty(); }
  const std::vector<uint32_t>& prompt_ids() const { return prompt_ids_; }
  bool include_usage() const { return include_usage_; }  // the client gets it
  // The stop strings, decoded, and whether the answer has the one that ended it.
  const std::vector<std::string>& stops() const { return stops_; }
  bool include_stop_in_output() const { return include_stop_; }
  // The key of the field that was the obstacle, as written; "" when it was none.
  std::string_view field() const { return field_; }

 private:
  class Reader;
  using Field = std::pair<std::string_view, std::string_view>;  // a name and its value, as written

  void append_model(std::string& out) const;
  void append_settings(std::string& out, uint32_t left, size_t delivered, bool wants_ids) const;
  static void append_fields(std::string& out, const std::vector<Field>& fields);

  Api api_ = Api::other;
  std::string model_;
  std::string messages_;          // of the chat: the array
  std::string_view prompt_text_;  // without its quotes, as written
  std::vector<uint32_t> prompt_ids_;
  std::vector<Field> rendering_;  // go to the tokenizer with the prompt
  std::vector<Field> sampling_;   // go to the continuation
  std::optional<uint32_t> max_tokens_;
  uint32_t min_tokens_ = 0;
  std::vector<std::string> stops_;
  bool include_usage_ = false, include_stop_ = false;
  std::string_view field_;
};

// The answer of POST /tokenize.
struct Tokenized {
  std::vector<uint32_t> ids;
  uint32_t max_model_len = 0;  // 0: not said
};
// False: it is no such answer.
bool read_tokenized(std::string_view json, Tokenized& out);
// That of POST /detokenize.
bool read_detokenized(std::string_view json, std::string& text);

// What is to be done with the ids of all tokens that were made, when the text that they stand for (`made`) is known.
struct Seam {
  enum class Ids : uint8_t {
    all,    // the stream goes on behind them
    fewer,  // the last one ends within a character: it is to be made again
    none,   // they do not stand for what was delivered
  };
  Ids ids;
  std::string gap;  // the end of `made` that was not delivered yet, escaped
};
Seam seam_of(std::string_view escaped_delivered, std::string_view made);

}  // namespace penstock::openai
