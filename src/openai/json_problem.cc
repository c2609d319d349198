#include "json_problem.h"

#include <simdjson.h>

namespace penstock::openai {

bool is_wide_unicode(std::string_view body) {
  using namespace std::literals;
  for (const std::string_view mark : {"\xFE\xFF"sv, "\xFF\xFE"sv, "\0\0\xFE\xFF"sv}) {
    if (body.starts_with(mark)) return true;
  }
  return body.size() >= 2 && (body[0] == '\0' || body[1] == '\0');
}

bool has_byte_order_mark(std::string_view body) {
  return body.starts_with("\xEF\xBB\xBF");
}

std::string_view without_byte_order_mark(std::string_view body) {
  return has_byte_order_mark(body) ? body.substr(3) : body;
}

const char* json_problem(int error, std::string_view body) {
  if (is_wide_unicode(body)) return "The body is UTF-16 or UTF-32; JSON must be sent as UTF-8.";
  switch (error) {
    case simdjson::EMPTY:
      return "The body is empty; a JSON object was expected.";
    case simdjson::UTF8_ERROR:
      return "The body is not valid UTF-8.";
    case simdjson::UNCLOSED_STRING:
      return "The body is not valid JSON: a string has no end.";
    case simdjson::STRING_ERROR:
      return "The body is not valid JSON: a string has an invalid escape sequence.";
    case simdjson::INCORRECT_TYPE:
      return "The body must be a JSON object.";
    case simdjson::MEMALLOC:
      return "There is no memory left to read the body.";
    case simdjson::CAPACITY:
      return "The body is too large to be read.";
    default:
      return "The body is not valid JSON.";
  }
}

}  // namespace penstock::openai
