// The fields of requests, by what becomes of each when a stream is continued: the table that decides what can be.
#pragma once

#include <cstdint>
#include <string_view>

#include "penstock/openai/request.h"
#include "penstock/openai/resume_obstacle.h"

namespace penstock::openai {

enum class ResumeUse : uint8_t {
  left_out,   // says nothing about the text that is still to come
  own,        // the gateway writes it anew
  nested,     // its fields are in the table, as "name.field"
  rendering,  // goes to the tokenizer with the prompt
  sampling,   // goes to the continuation
  obstacle,   // when it asks for something
};

// Which values of an obstacle ask for nothing.
enum class AsksNothing : uint8_t {
  usual,      // null, false, 0, "", [] and {}: what clients send by default
  null_only,  // 0 would ask for something
  one,        // the usual ones and 1
  true_only,  // null and true
  text_type,  // null and {"type":"text"}
  text_list,  // the usual ones and ["text"]
  no_tool,    // the usual ones, "none" and "auto"
  disabled,   // "disabled" alone: null asks for what the server does by itself
};

struct ResumeField {
  std::string_view name;
  uint8_t apis;
  ResumeUse use;
  ResumeObstacle obstacle = ResumeObstacle::none;
  AsksNothing nothing = AsksNothing::usual;
  std::string_view asked_as = {};  // what completions call it, if they call it otherwise
};

// Null: the field is in no list, and nobody knows what it means.
const ResumeField* resume_field(std::string_view key, Api api);
// Whether the value, as written, asks for nothing.
bool asks_nothing(AsksNothing rule, std::string_view value);

}  // namespace penstock::openai
