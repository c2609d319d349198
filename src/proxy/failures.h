// What a failure of an attempt means: for the endpoint, for the client, for the metrics. Pure.
#pragma once

#include "penstock/proxy/error.h"
#include "penstock/proxy/observer.h"
#include "penstock/routing/router.h"
#include "penstock/upstream/client.h"

namespace penstock::proxy {

// `in_body`: some of the answer has gone to the client.
AttemptFailure attempt_failure_of(upstream::Failure failure, bool in_body);

// What the client is told when no other attempt follows.
ErrorCode error_of(AttemptFailure failure);
ErrorCode error_of(routing::NoEndpoint why);

// Hard: the endpoint itself is in trouble at once; soft: it may be this request's fault.
routing::FailureKind kind_of(AttemptFailure failure);

// Whether it counts toward the endpoint's ejection.
bool blames_endpoint(AttemptFailure failure);

// Whether the endpoint does no more work for the request: it is gone, says that its engine is, or did not begin.
bool left_by(AttemptFailure failure);

}  // namespace penstock::proxy
