// All errors that the gateway itself answers with, in one table: HTTP status, OpenAI error type, outcome, Retry-After.
// The body has the shape of the API that was asked (openai::ErrorShape). The name of a code is the metric label, the
// reason in the log and the `code` in the error body. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "penstock/downstream/connection.h"
#include "penstock/http/fields.h"
#include "penstock/openai/error_body.h"
#include "penstock/proxy/observer.h"

namespace penstock::proxy {

enum class ErrorCode : uint8_t {
  none,
  malformed_request,
  ambiguous_request,
  header_too_large,
  uri_too_long,
  request_timeout,
  unsupported_version,
  unsupported_transfer_coding,
  method_not_supported,
  unknown_method,
  body_too_large,
  invalid_body,
  too_many_requests,
  too_many_connections,
  memory_budget_exhausted,
  no_endpoint,
  endpoints_unavailable,
  no_descriptor,
  connect_failed,
  endpoint_closed,
  endpoint_timeout,
  bad_endpoint_response,
  stream_broken,
  shutting_down,
  route_not_found,
  path_not_allowed,
  no_backend,
  model_not_found,
  saturated,
  queue_full,
  queue_timeout,
  no_endpoint_fits,
  too_slow,
  no_profile,
  evicted,
  too_many_client_connections,
  too_many_tunnels,
};
constexpr size_t error_code_count = 37;

struct ErrorInfo {
  ErrorCode code;
  std::string_view name;  // "body_too_large"
  uint16_t status;
  std::string_view type;  // OpenAI's `type`: invalid_request_error, rate_limit_error, server_error ...
  Outcome outcome;
  uint32_t retry_after_s;    // 0: no Retry-After
  std::string_view message;  // the default sentence
  // Value of x-llm-d-request-dropped-reason, for requests refused or evicted for lack of room; "": no such field.
  std::string_view dropped_reason = {};
};
const ErrorInfo& info_of(ErrorCode code);

// The error for a request that cannot be read.
ErrorCode error_of(const downstream::RequestFailure& failure);

// What an error answer says beside its code. Empty values are left out.
struct ErrorDetails {
  std::string_view message = {};  // instead of the default sentence
  std::string_view param = {}, request_id = {};
  std::string_view endpoint = {};  // the one that was tried last
  openai::ErrorShape shape = openai::ErrorShape::openai;
};
// The answer's fields, Content-Length among them, and its body.
void append_error(http::Fields& fields, std::string& body, ErrorCode code, const ErrorDetails& details);
// The whole answer as HTTP/1.1 text, for a connection that ends with it.
std::string error_answer(ErrorCode code, const ErrorDetails& details = {}, bool head_only = false);

}  // namespace penstock::proxy
