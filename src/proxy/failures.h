// What the failure of an attempt means for the endpoint, for the client and for retries: one table. Pure.
#pragma once

#include <string_view>

#include "penstock/proxy/error.h"
#include "penstock/proxy/observer.h"
#include "penstock/routing/router.h"
#include "penstock/upstream/client.h"

namespace penstock::proxy {

// Whether, and how much, the failure counts towards the endpoint's ejection.
enum class Blame : uint8_t {
  none,  // it says nothing about the endpoint, or is counted elsewhere
  soft,  // the request may be at fault
  hard,  // the endpoint itself is certainly in trouble
};

struct FailureInfo {
  AttemptFailure failure;
  std::string_view name;  // metric label `reason` and log value
  ErrorCode error;        // what the client gets if no other attempt follows
  Blame blame;
  // The endpoint certainly does no more work for the request: it or its engine is gone, or it did not begin.
  bool work_has_stopped = false;
  bool nothing_was_sent = false;  // no connection could be made: the endpoint has seen nothing of the request
  bool has_answered = false;      // the endpoint lives: it has answered, with a status that means failure
  bool resumes = false;           // a stream that it breaks may go on at another endpoint
};
const FailureInfo& info_of(AttemptFailure failure);

// `in_body`: some of the answer has gone to the client.
AttemptFailure attempt_failure_of(upstream::Failure failure, bool in_body);
// The error when routing finds no endpoint.
ErrorCode error_of(routing::NoEndpoint why);

}  // namespace penstock::proxy
