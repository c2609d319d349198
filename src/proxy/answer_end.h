// Decides whether an answer came to its own end. The only place that does: everything else asks it, through
// AnswerWatch.
//
// Model servers end broken answers in ways that HTTP, and clients, take for a proper end. An answer of an inference API
// therefore counts as complete only if it says so itself:
//
//   completions, chat completions   `[DONE]`, or a finish reason for each choice
//   responses                       response.completed (with a status other than cancelled), response.incomplete or
//                                   response.cancelled
//   messages                        message_stop, or a stop reason
//   JSON that does not stream       the end that HTTP gives it; where that is only the end of the connection, the
//                                   brackets of the JSON
//
// It has failed if it brings an error event, or a finish reason with which an engine gives up a request. Answers of
// other APIs, and answers that the gateway cannot read, are not judged. Pure.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

#include "penstock/openai/request.h"
#include "penstock/openai/usage.h"
#include "penstock/proxy/observer.h"

namespace penstock::proxy {

class AnswerEnd {
 public:
  // What was asked for. Api::other: the answer is not judged.
  void expect(openai::Api api, uint32_t choices) {
    api_ = api;
    choices_ = static_cast<uint16_t>(std::min<uint32_t>(choices, UINT16_MAX));
  }
  openai::Api api() const { return api_; }
  // Only the end of the endpoint's connection will end the answer.
  void expect_close(bool until_close) { until_close_ = until_close; }

  // The failure that the answer itself reports, as far as it was read.
  std::optional<AttemptFailure> reported(const openai::AnswerObserver& seen) const;
  // HTTP says that the answer has ended: the failure, if it is not complete. `all_read`: no event was cut off for its
  // length. `whole`: the JSON is.
  std::optional<AttemptFailure> of_stream(const openai::AnswerObserver& seen, bool all_read) const;
  std::optional<AttemptFailure> of_json(const openai::AnswerObserver& seen, bool whole) const;

 private:
  bool has_known_end() const;

  openai::Api api_ = openai::Api::other;
  bool until_close_ = false;
  uint16_t choices_ = 1;
};

}  // namespace penstock::proxy
