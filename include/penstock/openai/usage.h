// What an answer says about itself: token usage and why it ended. Read from a whole JSON answer or from SSE events,
// with a cheap look first so that ordinary chunks cost a substring search, not a JSON parse. Pure; one thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace penstock::openai {

struct Usage {
  uint32_t prompt_tokens = 0;      // or input_tokens
  uint32_t completion_tokens = 0;  // or output_tokens
  std::optional<uint32_t>
      cached_tokens;  // prompt_tokens_details / input_tokens_details .cached_tokens, cache_read_input_tokens
};

class AnswerObserver {
 public:
  AnswerObserver();
  ~AnswerObserver();
  void reset();

  // One SSE event's data (and name, for responses and messages; without one, a "type" that begins the data). Returns
  // what it was:
  //   content      text for the client, as far as a cheap look tells; may carry usage or a finish reason as well
  //   usage_only   usage and no choice (the last chunk of include_usage; message_delta)
  //   done         [DONE], response.completed, response.incomplete, response.cancelled, message_stop
  //   error        an error object in whatever shape, response.failed
  //   other        keep-alives, starts and ends of parts, what is not JSON or was cut
  enum class Kind : uint8_t { content, usage_only, done, error, other };
  Kind on_event(std::string_view name, std::string_view data);
  // A complete JSON answer that did not stream; needs no padding. Beyond 1 MiB only its last 64 KiB are looked at, for
  // usage and stop_reason at the top level: the reason of a choice is then not known. Of a completion usually only the
  // head and the end are parsed: what is broken between them is then not noticed. False: it is cut off, as far as that
  // was looked at.
  bool on_answer(std::string_view json);
  // The end of an answer of which the rest was not kept; of more than `tail_bytes` the last ones are looked at. The
  // same result.
  bool on_tail(std::string_view tail);
  static constexpr size_t answer_bytes_max = 1024 * 1024, tail_bytes = 64 * 1024;

  // The last usage seen (continuous_usage_stats sends many: only the last counts).
  const std::optional<Usage>& usage() const { return usage_; }
  std::string_view finish_reason() const { return finish_reason_; }  // "" while unknown
  // A stream said that the server failed: an error event, other than one with a `code` of 400 to 499, or with a type
  // that lays it to the request (invalid_request_error, BadRequestError).
  bool server_failed() const { return server_failed_; }
  bool server_busy() const { return server_busy_; }  // and that it is full: another one may have room
  bool refused() const { return refused_; }          // the other error events
  bool saw_done() const { return done_; }            // an event of kind `done` came
  // The answer says that its engine gave it up: the finish reason is `abort` or `error`; or a message stops for the
  // reason null, which is what vLLM makes of `abort` there; or a response is completed with the status cancelled.
  bool gave_up() const { return gave_up_; }
  bool bad() const { return gave_up_ || server_failed_ || refused_; }
  // How many finish reasons of choices came, or stop reasons of a message. A choice has one.
  uint32_t finishes() const { return finishes_; }
  // Of the last event of kind `error`: whether it has an object (or text) "error", and whether the responses or
  // messages API call it an error by its name. Clients of the other APIs look for the object.
  bool error_object() const { return error_object_; }
  bool error_named() const { return error_named_; }

 private:
  bool reason_gives_up() const;

  std::optional<Usage> usage_;
  uint32_t finishes_ = 0;
  std::string finish_reason_;
  bool done_ = false, server_failed_ = false, server_busy_ = false, refused_ = false, gave_up_ = false;
  bool error_object_ = false, error_named_ = false;
  bool no_reason_ = false;  // a message's delta said null
};

// The body of a 503: the server is well, but full. Its error object has the number 503 as its code, or no code and a
// type that means it. So vLLM answers at its --max-num-queued-reqs and --max-num-queued-tokens.
bool says_full(std::string_view error_body);

}  // namespace penstock::openai
