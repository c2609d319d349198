#include "penstock/proxy/error.h"

#include "penstock/base/assert.h"
#include "penstock/http/writer.h"
#include "penstock/openai/error_body.h"

namespace penstock::proxy {

namespace {

constexpr std::string_view kInvalid = "invalid_request_error", kServer = "server_error", kOverload = "overloaded_error",
                           kRate = "rate_limit_error",
                           kNotFound = "NotFoundError";  // as vLLM calls it

using enum ErrorCode;
constexpr ErrorInfo table[error_code_count] = {
    {none, "", 200, "", Outcome::ok, 0, ""},
    {malformed_request, "malformed_request", 400, kInvalid, Outcome::client_error, 0,
     "The request is not valid HTTP/1.1."},
    {ambiguous_request, "ambiguous_request", 400, kInvalid, Outcome::client_error, 0,
     "The request's framing is ambiguous and was refused."},
    {header_too_large, "header_too_large", 431, kInvalid, Outcome::client_error, 0,
     "The request's header block is larger than limits.header_bytes allows, or has more fields or longer Connection "
     "fields than any request needs."},
    {uri_too_long, "uri_too_long", 414, kInvalid, Outcome::client_error, 0, "The request target is too long."},
    {request_timeout, "request_timeout", 408, kInvalid, Outcome::timed_out_client, 0,
     "The request did not arrive in time."},
    {unsupported_version, "unsupported_version", 505, kInvalid, Outcome::client_error, 0,
     "Only HTTP/1.0 and HTTP/1.1 are spoken here."},
    {unsupported_transfer_coding, "unsupported_transfer_coding", 501, kInvalid, Outcome::client_error, 0,
     "The only transfer coding supported is chunked."},
    {method_not_supported, "method_not_supported", 405, kInvalid, Outcome::client_error, 0,
     "CONNECT and TRACE are not supported."},
    {unknown_method, "unknown_method", 501, kInvalid, Outcome::client_error, 0, "The request's method is not known."},
    {body_too_large, "body_too_large", 413, kInvalid, Outcome::client_error, 0,
     "The request body is larger than limits.body_bytes allows."},
    {invalid_body, "invalid_body", 400, kInvalid, Outcome::client_error, 0, "The request body is not valid."},
    {too_many_requests, "too_many_requests", 503, kOverload, Outcome::overloaded, 1,
     "The gateway has as many requests in flight as limits.requests_per_shard allows."},
    {too_many_connections, "too_many_connections", 503, kOverload, Outcome::overloaded, 1,
     "The gateway has as many client connections as limits.connections allows."},
    {memory_budget_exhausted, "memory_budget_exhausted", 503, kOverload, Outcome::overloaded, 1,
     "The gateway's memory budget (limits.memory) is used up."},
    {no_endpoint, "no_endpoint", 503, kServer, Outcome::no_endpoint, 1, "No model server is ready to answer.",
     "rejected-no-endpoints"},
    {endpoints_unavailable, "endpoints_unavailable", 503, kServer, Outcome::upstream_failed, 1,
     "Every model server that could answer was tried and failed."},
    {no_descriptor, "no_descriptor", 503, kOverload, Outcome::overloaded, 1,
     "The gateway has no descriptor left for a connection to a model server (limit on open files)."},
    {connect_failed, "connect_failed", 502, kServer, Outcome::upstream_failed, 0,
     "The model server could not be reached."},
    {endpoint_closed, "endpoint_closed", 502, kServer, Outcome::upstream_failed, 0,
     "The model server closed the connection before it answered."},
    {endpoint_timeout, "endpoint_timeout", 504, kServer, Outcome::upstream_failed, 0,
     "The model server did not answer in time."},
    {bad_endpoint_response, "bad_endpoint_response", 502, kServer, Outcome::upstream_failed, 0,
     "The model server's answer is not valid HTTP."},
    {stream_broken, "stream_broken", 502, kServer, Outcome::stream_broken, 0,
     "The model server failed in the middle of its answer."},
    {shutting_down, "shutting_down", 503, kServer, Outcome::draining, 1, "The gateway is shutting down.",
     "rejected-shutting-down"},
    {route_not_found, "route_not_found", 404, kNotFound, Outcome::client_error, 0, "No route matches this request."},
    {path_not_allowed, "path_not_allowed", 404, kNotFound, Outcome::client_error, 0,
     "Clients may not reach this path of the model servers. The setting paths.allow, or an HTTPRoute that names the "
     "path, opens it."},
    {no_backend, "no_backend", 500, kServer, Outcome::no_endpoint, 0,
     "The route for this request leads to no model server."},
    {model_not_found, "model_not_found", 404, kNotFound, Outcome::client_error, 0, "The model does not exist."},
    {saturated, "saturated", 429, kRate, Outcome::overloaded, 1,
     "All model servers are saturated, and requests of negative priority do not wait.", "rejected-saturated"},
    {queue_full, "queue_full", 429, kRate, Outcome::overloaded, 1,
     "As many requests wait for a model server as flow_control allows.", "rejected-saturated"},
    {queue_timeout, "queue_timeout", 503, kOverload, Outcome::overloaded, 1,
     "No model server had room for the request within flow_control.ttl.", "rejected-ttl-expired"},
    {no_endpoint_fits, "no_endpoint_fits", 429, kOverload, Outcome::overloaded, 1,
     "No model server passes the filters of the scheduling profile.", "rejected-no-endpoints"},
    {too_slow, "too_slow", 429, kRate, Outcome::overloaded, 1,
     "No model server is expected to be as fast as x-slo-ttft-ms and x-slo-tpot-ms ask, and requests of negative "
     "priority are refused then.",
     "rejected-saturated"},
    {no_profile, "no_profile", 400, kInvalid, Outcome::client_error, 0,
     "The request's header names a scheduling profile that is not configured."},
    {evicted, "evicted", 429, kRate, Outcome::evicted, 1,
     "The request was cut off: it is of negative priority, and one of higher priority needs its room.", "evicted"},
    {too_many_client_connections, "too_many_client_connections", 429, kRate, Outcome::overloaded, 1,
     "This client has as many connections as limits.connections_per_client allows."},
    {too_many_tunnels, "too_many_tunnels", 503, kOverload, Outcome::overloaded, 1,
     "The gateway has as many WebSocket sessions as limits.tunnels_per_shard allows."},
};

constexpr bool table_is_in_order() {
  for (size_t i = 0; i < error_code_count; ++i) {
    if (table[i].code != static_cast<ErrorCode>(i)) return false;
  }
  return true;
}
static_assert(table_is_in_order());

}  // namespace

const ErrorInfo& info_of(ErrorCode code) {
  const auto index = static_cast<size_t>(code);
  PENSTOCK_ASSERT(index < error_code_count);
  return table[index];
}

ErrorCode error_of(const downstream::RequestFailure& failure) {
  if (failure.timed_out) return request_timeout;
  if (failure.no_memory || failure.crowded_out) return memory_budget_exhausted;
  switch (failure.error) {
    case http::ParseError::smuggling:
      return ambiguous_request;
    case http::ParseError::head_too_large:
      return header_too_large;
    case http::ParseError::uri_too_long:
      return uri_too_long;
    case http::ParseError::unsupported_version:
      return unsupported_version;
    case http::ParseError::unsupported_coding:
      return unsupported_transfer_coding;
    case http::ParseError::unknown_method:
      return unknown_method;
    case http::ParseError::malformed:
    case http::ParseError::none:
      return malformed_request;
  }
  return malformed_request;
}

void append_error(http::Fields& fields, std::string& body, ErrorCode code, const ErrorDetails& details) {
  const ErrorInfo& info = info_of(code);
  openai::append_error(body, details.shape,
                       {.status = info.status,
                        .message = details.message.empty() ? info.message : details.message,
                        .type = info.type,
                        .param = details.param,
                        .code = info.name,
                        .request_id = details.request_id});
  fields.add("content-type", "application/json");
  fields.add("content-length", body.size());
  if (info.retry_after_s > 0) fields.add("retry-after", info.retry_after_s);
  if (!info.dropped_reason.empty()) fields.add("x-llm-d-request-dropped-reason", info.dropped_reason);
  if (code == ErrorCode::method_not_supported) fields.add("allow", "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH");
  if (!details.endpoint.empty()) fields.add("x-penstock-endpoint", details.endpoint);
  if (!details.request_id.empty()) fields.add("x-request-id", details.request_id);
}

std::string error_answer(ErrorCode code, const ErrorDetails& details, bool head_only) {
  http::Fields fields;
  std::string answer, body;
  append_error(fields, body, code, details);
  http::HeadWriter head(answer);
  head.status_line(info_of(code).status);
  answer += fields.lines();
  head.field("connection", "close");
  head.end();
  if (!head_only) answer += body;
  return answer;
}

const char* to_string(Outcome outcome) {
  switch (outcome) {
    case Outcome::ok:
      return "ok";
    case Outcome::endpoint_4xx:
      return "endpoint_4xx";
    case Outcome::endpoint_error:
      return "endpoint_error";
    case Outcome::client_error:
      return "client_error";
    case Outcome::client_gone:
      return "client_gone";
    case Outcome::overloaded:
      return "overloaded";
    case Outcome::no_endpoint:
      return "no_endpoint";
    case Outcome::upstream_failed:
      return "upstream_failed";
    case Outcome::stream_broken:
      return "stream_broken";
    case Outcome::timed_out_client:
      return "timed_out_client";
    case Outcome::draining:
      return "draining";
    case Outcome::evicted:
      return "evicted";
    case Outcome::internal_error:
      return "internal_error";
  }
  return "internal_error";
}

const char* to_string(Ejection reason) {
  switch (reason) {
    case Ejection::fails:
      return "fails";
    case Ejection::refuses_all:
      return "refuses_all";
    case Ejection::refuses_kind:
      return "refuses_kind";
    case Ejection::wedged:
      return "wedged";
    case Ejection::slow:
      return "slow";
  }
  return "fails";
}

}  // namespace penstock::proxy
