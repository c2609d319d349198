// The bytes of inference answers in the shapes of vLLM: whole JSON bodies and SSE streams. A stream's ordinary chunk is
// a template, framing included, into which only the text is copied. Pure; one thread; one AnswerWriter per request.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sim/engine_names.h"
#include "sim/request.h"

namespace penstock::sim {

// {"error":{"message","type","param","code"}} with the type that belongs to the status.
void append_error_body(std::string& out, uint16_t status, std::string_view message, std::string_view param);

// The text as it stands between the quotes of a JSON string. `ascii`: what is beyond ASCII is escaped too, by its units
// of UTF-16, as Python does by default.
void append_json_text(std::string& out, std::string_view text, bool ascii);

struct AnswerShape {
  Api api = Api::completions;
  bool chunked = false;  // each event in a chunk of its own, and a last chunk at the end
  bool include_usage = false, continuous_usage = false;
  std::string id;  // with its prefix ("chatcmpl-...")
  std::string model;
  int64_t created = 0;
  uint32_t chunk_bytes = 4;  // size of an ordinary piece of text
  bool token_ids = false;    // each piece has those of its tokens, and the first one those of the prompt
  std::vector<uint32_t> prompt_ids;
};

struct Tally {
  uint32_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0;
};

// Why an answer ended, and the stop string that ended it, if one did.
struct Ending {
  Ending(FinishReason why, std::string_view string = {}) : reason(why), stop(string) {}  // NOLINT: most have no string
  FinishReason reason;
  std::string_view stop;
};

struct ChoiceView {
  std::string_view echo;  // the prompt, when it was asked for
  std::string_view text;
  Ending ending = FinishReason::length;
};

// Texts of answers come escaped (append_json_text), but for the prompts that are echoed.
class AnswerWriter {
 public:
  // Keeps a copy of the shape; nothing of an earlier answer remains.
  void start(const AnswerShape& shape);

  // ---- streams: open, then pieces of each choice, each choice's end, then close ----
  void open(std::string& out, uint32_t choices, const Tally& tally);
  // `text` is a piece of the answer, or `echo` a piece of the prompt before it.
  void echo(std::string& out, uint32_t choice, std::string_view prompt);
  void text(std::string& out, uint32_t choice, std::string_view text, const Tally& tally);
  // Of a token of the piece that follows.
  void made(uint32_t id) { made_ids_.push_back(id); }
  // The last piece (it may be empty) with its reason.
  void end_choice(std::string& out, uint32_t choice, std::string_view last, const Ending& ending, const Tally& tally);
  // `whole`: the text of choice 0, which some shapes repeat.
  void close(std::string& out, const Tally& tally, std::string_view whole, const Ending& ending);
  // Instead of ending its choices: an error, and then what ends a stream.
  void fail(std::string& out, std::string_view message);
  // Ends the body, wherever the stream is.
  void end_body(std::string& out) const;

  // ---- whole answers ----
  void whole(std::string& out, std::span<const ChoiceView> choices, const Tally& tally);

  const AnswerShape& shape() const { return shape_; }

 private:
  void begin_event(std::string_view name);
  void end_event(std::string& out);
  void piece(std::string& out, uint32_t choice, std::string_view text, const Ending* ending, const Tally& tally);
  void build_template(uint32_t choice);
  void put_piece(uint32_t choice, std::string_view text, const Ending* ending);
  void put_stop_reason(const Ending& ending);
  void put_ids(std::string_view name, const std::vector<uint32_t>& ids);
  void put_done(std::string& out);
  void put_head(std::string_view object);
  void put_usage(const Tally& tally);
  void put_messages_usage(const Tally& tally);
  void put_sequence_number(std::string_view name);
  void put_item_id();
  void put_part(std::string_view text, std::string_view logprobs);
  void put_item(std::string_view status, std::string_view text);
  void put_response(const Tally* tally, std::string_view text, const Ending& ending);
  void put_responses_usage(const Tally& tally);
  void put(std::string_view text) { event_ += text; }
  void put_number(uint64_t value);
  void open_chat(std::string& out, uint32_t choices, const Tally& tally);
  void open_responses(std::string& out);
  void open_item(std::string& out);
  void text_of_response(std::string& out, std::string_view text);
  void close_item(std::string& out, std::string_view whole);
  void open_messages(std::string& out, const Tally& tally);
  void open_block(std::string& out);
  void close_responses(std::string& out, const Tally& tally, std::string_view whole, const Ending& ending);
  void put_messages_ending(const Ending& ending);
  void close_messages(std::string& out, const Tally& tally, const Ending& ending);
  void whole_openai(std::span<const ChoiceView> choices, const Tally& tally);
  void whole_messages(const ChoiceView& choice, const Tally& tally);

  // The ready bytes of an ordinary chunk of one choice; text_at is where its text goes.
  struct Template {
    std::string bytes;
    size_t text_at = 0;
  };
  AnswerShape shape_;
  std::string model_json_;
  std::string event_;  // the event being built
  std::vector<Template> templates_;
  std::vector<uint32_t> made_ids_;
  uint32_t sequence_number_ = 0;  // responses
  bool block_open_ = false;       // messages: the block of text; responses: the item
};

}  // namespace penstock::sim
