#include "json_problem.h"

#include <simdjson.h>

namespace penstock::openai {

const char* json_problem(int error) {
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
