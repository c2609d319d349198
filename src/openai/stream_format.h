// The events of one API's streams: what was delivered is read from them, and what continues is written as them. There
// is one implementation for each API whose streams can go on elsewhere; whatever differs between them is there. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "chunk.h"
#include "penstock/openai/delivered.h"
#include "penstock/openai/request.h"
#include "penstock/openai/usage.h"

namespace penstock::openai {

// Why the text ended, and all that the last events say.
struct StreamEnd {
  std::string_view reason;            // as completions call it: "stop", "length"
  std::string_view stop_reason_json;  // a stop string, a token's id, null or ""
  std::string_view text;              // all of it, the inside of a JSON string
  std::optional<Usage> usage;         // none: it was not asked for
};

class StreamFormat {
 public:
  // The data of one event. False: it is no JSON object. What was read until then may be in `out`.
  virtual bool read(std::string_view data, Chunk& out) const = 0;
  // Keeps of an event what those of ours are made from. An obstacle: it cannot stand where it does.
  virtual ResumeObstacle note(const Chunk& chunk, StreamState& state) const = 0;
  // Whether an event like this, with other text, is one that may follow.
  virtual bool can_repeat(const Chunk& chunk, const StreamState& state) const = 0;
  // Whether the last events say the text again.
  virtual bool repeats_text() const = 0;
  // What stands in front of the data of an event with text.
  virtual std::string_view text_lead() const = 0;

  // The events of ours, each whole. A piece of text:
  virtual void append_text(std::string& out, StreamState& state, std::string_view escaped) const = 0;
  // Why the text ended, if the API says it before the usage; otherwise append_end() says it, and this appends nothing.
  virtual bool says_reason_first() const = 0;
  virtual void append_finish(std::string& out, const StreamState& state, const StreamEnd& end) const = 0;
  // All that follows that.
  virtual void append_end(std::string& out, StreamState& state, const StreamEnd& end) const = 0;
  // What a stream that said why it ended, and its usage, still needs.
  virtual void append_last(std::string& out) const = 0;

 protected:
  ~StreamFormat() = default;
};

extern const StreamFormat& text_format;
extern const StreamFormat& chat_format;
extern const StreamFormat& messages_format;
extern const StreamFormat& responses_format;

// Null: streams of this API cannot be read.
const StreamFormat* stream_format_of(Api api);

}  // namespace penstock::openai
