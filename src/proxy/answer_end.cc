#include "answer_end.h"

namespace penstock::proxy {

std::optional<AttemptFailure> AnswerEnd::reported(const openai::AnswerObserver& seen) const {
  if (api_ == openai::Api::other) return std::nullopt;  // other APIs may use the same words for something else
  if (seen.gave_up()) return AttemptFailure::aborted;
  if (seen.server_busy()) return AttemptFailure::server_full;  // the server noticed after its head
  if (seen.server_failed()) return AttemptFailure::error_event;
  return seen.refused() ? std::optional(AttemptFailure::refused_in_stream) : std::nullopt;
}

std::optional<AttemptFailure> AnswerEnd::of_stream(const openai::AnswerObserver& seen, bool all_read) const {
  if (const auto failure = reported(seen)) return failure;
  if (!has_known_end() || seen.saw_done() || seen.finishes() >= choices_ || !all_read) return std::nullopt;
  return until_close_ ? AttemptFailure::closed_in_body : AttemptFailure::unfinished;
}

std::optional<AttemptFailure> AnswerEnd::of_json(const openai::AnswerObserver& seen, bool whole) const {
  if (const auto failure = reported(seen)) return failure;
  // Those who ask do not cancel: they wait for it.
  if (api_ == openai::Api::responses && seen.finish_reason() == "cancelled") return AttemptFailure::aborted;
  if (api_ == openai::Api::other || whole || !until_close_) return std::nullopt;
  return AttemptFailure::closed_in_body;
}

bool AnswerEnd::has_known_end() const {
  switch (api_) {
    case openai::Api::completions:
    case openai::Api::chat_completions:
    case openai::Api::responses:
    case openai::Api::messages:
      return true;
    case openai::Api::conversations:
    case openai::Api::embeddings:
    case openai::Api::other:
      return false;
  }
  return false;
}

}  // namespace penstock::proxy
