// What the failure of an attempt means for the endpoint, for the client and for retries. Pure.
#pragma once

#include "penstock/proxy/error.h"
#include "penstock/proxy/observer.h"
#include "penstock/routing/router.h"
#include "penstock/upstream/client.h"

namespace penstock::proxy {

// `in_body`: some of the answer has gone to the client.
AttemptFailure attempt_failure_of(upstream::Failure failure, bool in_body);

// The error that the client gets if no other attempt follows.
ErrorCode error_of(AttemptFailure failure);
ErrorCode error_of(routing::NoEndpoint why);

// Hard: the endpoint itself is certainly in trouble. Soft: the request may be at fault.
routing::FailureKind kind_of(AttemptFailure failure);

// Whether the failure counts towards the endpoint's ejection.
bool blames_endpoint(AttemptFailure failure);

// Whether the endpoint certainly does no more work for the request: it or its engine is gone, or it did not begin.
bool work_has_stopped(AttemptFailure failure);

// No connection could be made, so the endpoint has seen nothing of the request.
bool nothing_was_sent(AttemptFailure failure);

// The endpoint lives: it has answered, with a status that means failure.
bool has_answered(AttemptFailure failure);

}  // namespace penstock::proxy
