// Error bodies and error events, in the shape that the clients of each API read.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace penstock::openai {

// openai: {"error":{"message","type","param","code"}}; in streams an event without a name.
// responses: as a body the same; in streams the event `error` with {"type":"error","code","message","param",
//   "sequence_number"}, and with that object as well: OpenAI's own clients raise only what has one.
// messages: {"type":"error","error":{"type","message"},"request_id"}, Anthropic's; in streams the event `error`.
enum class ErrorShape : uint8_t { openai, responses, messages };

// By the end of the request's path; for the messages API all paths below its own, too.
ErrorShape error_shape_of(std::string_view path);

struct ErrorText {
  uint16_t status = 500;                        // decides the type in the shape `messages`
  std::string_view message, type, param, code;  // param and code may be empty (null); neither is in `messages`
  std::string_view request_id;                  // only in `messages`
};

// Append the JSON object of an answer, and a whole event with the empty line behind it. They escape everything.
// `sequence`: the event's number in a stream of the responses API.
void append_error(std::string& out, ErrorShape shape, const ErrorText& error);
void append_error_event(std::string& out, ErrorShape shape, const ErrorText& error, uint32_t sequence);

// Appends `text` as a JSON string with quotes; null for an empty text.
void append_json_string_or_null(std::string& out, std::string_view text);

}  // namespace penstock::openai
