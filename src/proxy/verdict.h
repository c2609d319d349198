// What a step of the journey says: go on with the next one, wait for an event, or end with an answer of the gateway's
// own. Pure.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "penstock/http/fields.h"
#include "penstock/proxy/error.h"

namespace penstock::proxy {

struct OwnAnswer {
  ErrorCode error = ErrorCode::none;
  std::string message = {}, param = {};  // of an error: see ErrorDetails
  // Of what is no error.
  uint16_t status = 200;
  http::Fields fields = {};  // Content-Length among them
  std::string body = {};
};

class [[nodiscard]] Verdict {
 public:
  static Verdict go_on() { return {}; }
  static Verdict wait() {
    Verdict verdict;
    verdict.waits_ = true;
    return verdict;
  }
  static Verdict refuse(ErrorCode error, std::string message = {}, std::string param = {}) {
    return answer({.error = error, .message = std::move(message), .param = std::move(param)});
  }
  static Verdict answer(OwnAnswer answer) {
    Verdict verdict;
    verdict.answer_ = std::make_unique<OwnAnswer>(std::move(answer));
    return verdict;
  }

  bool goes_on() const { return !waits_ && answer_ == nullptr; }
  bool waits() const { return waits_; }
  // Null: the journey has not ended.
  const OwnAnswer* own_answer() const { return answer_.get(); }

 private:
  std::unique_ptr<const OwnAnswer> answer_;
  bool waits_ = false;
};

}  // namespace penstock::proxy
