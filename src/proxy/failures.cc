#include "failures.h"

namespace penstock::proxy {

AttemptFailure attempt_failure_of(upstream::Failure failure, bool in_body) {
  switch (failure) {
    case upstream::Failure::connect_refused:
      return AttemptFailure::connect_refused;
    case upstream::Failure::connect_timeout:
      return AttemptFailure::connect_timeout;
    case upstream::Failure::connect_failed:
      return AttemptFailure::connect_failed;
    case upstream::Failure::no_socket:
      return AttemptFailure::no_socket;
    case upstream::Failure::reset:
      return in_body ? AttemptFailure::reset_in_body : AttemptFailure::reset_before_response;
    case upstream::Failure::closed:
      return in_body ? AttemptFailure::closed_in_body : AttemptFailure::closed_before_response;
    case upstream::Failure::first_byte_timeout:
      return AttemptFailure::first_byte_timeout;
    case upstream::Failure::idle_timeout:
      return AttemptFailure::idle_timeout;
    case upstream::Failure::bad_response:
      return AttemptFailure::bad_response;
  }
  return AttemptFailure::bad_response;
}

ErrorCode error_of(AttemptFailure failure) {
  switch (failure) {
    case AttemptFailure::connect_refused:
    case AttemptFailure::connect_timeout:
    case AttemptFailure::connect_failed:
      return ErrorCode::connect_failed;
    case AttemptFailure::no_socket:
      return ErrorCode::no_descriptor;
    case AttemptFailure::first_byte_timeout:
    case AttemptFailure::idle_timeout:
    case AttemptFailure::attempt_timeout:
      return ErrorCode::endpoint_timeout;
    case AttemptFailure::bad_response:
      return ErrorCode::bad_endpoint_response;
    case AttemptFailure::status_500:
    case AttemptFailure::status_502:
    case AttemptFailure::status_503:
    case AttemptFailure::status_504:
    case AttemptFailure::error_event:
    case AttemptFailure::aborted:
    case AttemptFailure::server_full:
    case AttemptFailure::status_429:
    case AttemptFailure::status_4xx:
    case AttemptFailure::unfinished:
      return ErrorCode::endpoints_unavailable;
    default:
      return ErrorCode::endpoint_closed;
  }
}

ErrorCode error_of(routing::NoEndpoint why) {
  switch (why) {
    case routing::NoEndpoint::filtered:
      return ErrorCode::no_endpoint_fits;
    case routing::NoEndpoint::no_profile:
      return ErrorCode::no_profile;
    case routing::NoEndpoint::too_slow:
      return ErrorCode::too_slow;
    case routing::NoEndpoint::shed:
      return ErrorCode::saturated;
    default:
      return ErrorCode::no_endpoint;
  }
}

routing::FailureKind kind_of(AttemptFailure failure) {
  switch (failure) {
    case AttemptFailure::connect_refused:
    case AttemptFailure::connect_timeout:
    case AttemptFailure::connect_failed:
    case AttemptFailure::reset_before_response:
    case AttemptFailure::closed_before_response:
      return routing::FailureKind::hard;
    default:
      return routing::FailureKind::soft;
  }
}

bool blames_endpoint(AttemptFailure failure) {
  switch (failure) {
    case AttemptFailure::no_socket:        // our own lack of descriptors; another endpoint may have an idle connection
    case AttemptFailure::attempt_timeout:  // a limit of the route says little about an endpoint
    case AttemptFailure::total_timeout:    // so does ours
    case AttemptFailure::probe_failed:     // the probe that took the endpoint out also brings it back
    case AttemptFailure::server_full:
    case AttemptFailure::status_429:  // refusals count in pairs only: routing/refusals.h
    case AttemptFailure::status_4xx:
    case AttemptFailure::refused_in_stream:
      return false;
    default:
      return true;
  }
}

bool work_has_stopped(AttemptFailure failure) {
  switch (failure) {
    case AttemptFailure::connect_refused:
    case AttemptFailure::reset_before_response:
    case AttemptFailure::closed_before_response:
    case AttemptFailure::probe_failed:
    case AttemptFailure::status_500:
    case AttemptFailure::error_event:
    case AttemptFailure::aborted:
    case AttemptFailure::server_full:
    case AttemptFailure::unfinished:
    case AttemptFailure::closed_in_body:
      return true;
    default:
      return false;
  }
}

bool nothing_was_sent(AttemptFailure failure) {
  return failure == AttemptFailure::connect_refused || failure == AttemptFailure::connect_timeout ||
         failure == AttemptFailure::connect_failed;
}

bool has_answered(AttemptFailure failure) {
  switch (failure) {
    case AttemptFailure::status_500:
    case AttemptFailure::status_502:
    case AttemptFailure::status_503:
    case AttemptFailure::status_504:
    case AttemptFailure::server_full:
      return true;
    default:
      return false;
  }
}

}  // namespace penstock::proxy
