#include "penstock/openai/error_body.h"

#include "penstock/base/text.h"

namespace penstock::openai {
namespace {

// The error types of the messages API, https://docs.anthropic.com/en/api/errors.
std::string_view messages_type(uint16_t status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 413:
      return "request_too_large";
    case 429:
      return "rate_limit_error";
    case 503:
    case 529:
      return "overloaded_error";
    case 504:
      return "timeout_error";
    default:
      return status < 500 ? "invalid_request_error" : "api_error";
  }
}

void append_object(std::string& out, const ErrorText& error) {
  out += R"({"message":)";
  append_json_string(out, error.message);
  out += R"(,"type":)";
  append_json_string(out, error.type);
  out += R"(,"param":)";
  append_json_string_or_null(out, error.param);
  out += R"(,"code":)";
  append_json_string_or_null(out, error.code);
  out += '}';
}

void append_messages_error(std::string& out, const ErrorText& error) {
  out += R"({"type":"error","error":{"type":)";
  append_json_string(out, messages_type(error.status));
  out += R"(,"message":)";
  append_json_string(out, error.message);
  out += R"(},"request_id":)";
  append_json_string_or_null(out, error.request_id);
  out += '}';
}

void append_responses_event(std::string& out, const ErrorText& error, uint32_t sequence) {
  out += R"({"type":"error","code":)";
  append_json_string_or_null(out, error.code);
  out += R"(,"message":)";
  append_json_string(out, error.message);
  out += R"(,"param":)";
  append_json_string_or_null(out, error.param);
  out += R"(,"sequence_number":)";
  out += std::to_string(sequence);
  out += R"(,"error":)";
  append_object(out, error);
  out += '}';
}

}  // namespace

ErrorShape error_shape_of(std::string_view path) {
  path = path.substr(0, path.find('?'));
  if (path.find("/v1/messages/") != std::string_view::npos) return ErrorShape::messages;
  if (path.ends_with('/')) path.remove_suffix(1);
  if (path.ends_with("/v1/messages")) return ErrorShape::messages;
  return path.ends_with("/v1/responses") ? ErrorShape::responses : ErrorShape::openai;
}

void append_json_string_or_null(std::string& out, std::string_view text) {
  if (text.empty()) {
    out += "null";
  } else {
    append_json_string(out, text);
  }
}

void append_error(std::string& out, ErrorShape shape, const ErrorText& error) {
  if (shape == ErrorShape::messages) return append_messages_error(out, error);
  out += R"({"error":)";
  append_object(out, error);
  out += '}';
}

void append_error_event(std::string& out, ErrorShape shape, const ErrorText& error, uint32_t sequence) {
  out += shape == ErrorShape::openai ? "data: " : "event: error\ndata: ";
  if (shape == ErrorShape::responses) append_responses_event(out, error, sequence);
  else append_error(out, shape, error);
  out += "\n\n";
}

}  // namespace penstock::openai
