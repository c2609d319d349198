#include "failures.h"

#include "penstock/base/assert.h"

namespace penstock::proxy {

namespace {

using enum AttemptFailure;
constexpr bool stopped = true, unsent = true, answered = true, resumes = true;
constexpr FailureInfo table[attempt_failure_count] = {
    {connect_refused, "connect_refused", ErrorCode::connect_failed, Blame::hard, stopped, unsent},
    {connect_timeout, "connect_timeout", ErrorCode::connect_failed, Blame::hard, false, unsent},
    {connect_failed, "connect_failed", ErrorCode::connect_failed, Blame::hard, false, unsent},
    {tls_failed, "tls_failed", ErrorCode::connect_failed, Blame::hard, false, unsent},
    {reset_before_response, "reset_before_response", ErrorCode::endpoint_closed, Blame::hard, stopped},
    {closed_before_response, "closed_before_response", ErrorCode::endpoint_closed, Blame::hard, stopped},
    {reuse_race, "reuse_race", ErrorCode::endpoint_closed, Blame::soft},
    {first_byte_timeout, "first_byte_timeout", ErrorCode::endpoint_timeout, Blame::soft},
    {bad_response, "bad_response", ErrorCode::bad_endpoint_response, Blame::soft, false, false, false, resumes},
    {status_500, "status_500", ErrorCode::endpoints_unavailable, Blame::soft, stopped, false, answered},
    {status_502, "status_502", ErrorCode::endpoints_unavailable, Blame::soft, false, false, answered},
    {status_503, "status_503", ErrorCode::endpoints_unavailable, Blame::soft, false, false, answered},
    {status_504, "status_504", ErrorCode::endpoints_unavailable, Blame::soft, false, false, answered},
    {idle_timeout, "idle_timeout", ErrorCode::endpoint_timeout, Blame::soft, false, false, false, resumes},
    {total_timeout, "total_timeout", ErrorCode::endpoint_closed, Blame::none},       // a limit of ours says little
    {attempt_timeout, "attempt_timeout", ErrorCode::endpoint_timeout, Blame::none},  // so does a route's
    {reset_in_body, "reset_in_body", ErrorCode::endpoint_closed, Blame::soft, false, false, false, resumes},
    {closed_in_body, "closed_in_body", ErrorCode::endpoint_closed, Blame::soft, stopped, false, false, resumes},
    // Our own lack of descriptors; another endpoint may have an idle connection.
    {no_socket, "no_socket", ErrorCode::no_descriptor, Blame::none},
    // The probe that took the endpoint out also brings it back.
    {probe_failed, "probe_failed", ErrorCode::endpoint_closed, Blame::none, stopped, false, false, resumes},
    {error_event, "error_event", ErrorCode::endpoints_unavailable, Blame::soft, stopped, false, false, resumes},
    {aborted, "aborted", ErrorCode::endpoints_unavailable, Blame::soft, stopped, false, false, resumes},
    {server_full, "server_full", ErrorCode::endpoints_unavailable, Blame::none, stopped, false, answered},
    {unfinished, "unfinished", ErrorCode::endpoints_unavailable, Blame::soft, stopped, false, false, resumes},
    {refused_in_stream, "refused_in_stream", ErrorCode::endpoint_closed, Blame::none},
    // Refusals count in pairs only: routing/refusals.h.
    {status_429, "status_429", ErrorCode::endpoints_unavailable, Blame::none},
    {status_4xx, "status_4xx", ErrorCode::endpoints_unavailable, Blame::none},
    // It is ejected already.
    {too_slow, "too_slow", ErrorCode::endpoint_timeout, Blame::none, false, false, false, resumes},
};

constexpr bool table_is_in_order() {
  for (size_t i = 0; i < attempt_failure_count; ++i) {
    if (table[i].failure != static_cast<AttemptFailure>(i)) return false;
  }
  return true;
}
static_assert(table_is_in_order());

}  // namespace

const FailureInfo& info_of(AttemptFailure failure) {
  const auto index = static_cast<size_t>(failure);
  PENSTOCK_ASSERT(index < attempt_failure_count);
  return table[index];
}

const char* to_string(AttemptFailure failure) {
  return info_of(failure).name.data();  // a literal
}

AttemptFailure attempt_failure_of(upstream::Failure failure, bool in_body) {
  switch (failure) {
    case upstream::Failure::connect_refused:
      return AttemptFailure::connect_refused;
    case upstream::Failure::connect_timeout:
      return AttemptFailure::connect_timeout;
    case upstream::Failure::connect_failed:
      return AttemptFailure::connect_failed;
    case upstream::Failure::tls_failed:
      return AttemptFailure::tls_failed;
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

}  // namespace penstock::proxy
