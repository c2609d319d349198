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

  // One SSE event's data (and name, for responses and messages). Returns what it was.
  enum class Kind : uint8_t { content, usage_only, done, error, other };
  Kind on_event(std::string_view name, std::string_view data);
  // A complete JSON answer that did not stream; needs no padding (copied when small, skipped beyond 1 MiB unless it
  // can be read from its tail).
  void on_answer(std::string_view json);

  // The last usage seen (continuous_usage_stats sends many: only the last counts).
  const std::optional<Usage>& usage() const { return usage_; }
  std::string_view finish_reason() const { return finish_reason_; }  // "" while unknown
  bool saw_done() const { return done_; }                            // data: [DONE], response.completed, message_stop

 private:
  std::optional<Usage> usage_;
  std::string finish_reason_;
  bool done_ = false;
};

}  // namespace penstock::openai
