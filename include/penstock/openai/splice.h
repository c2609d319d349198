// The body with another model name, as three pieces to be sent one after the other: the original is neither copied
// nor changed.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "penstock/openai/request.h"

namespace penstock::openai {

struct Spliced {
  std::string_view before;  // of the body
  std::string value;        // the new value: a JSON string with its quotes
  std::string_view after;   // of the body
  size_t size() const { return before.size() + value.size() + after.size(); }
};

// `model_value` is Request::model_value of a scan of the same body. When it is empty (no model in the body) nothing is
// replaced: `before` is the whole body and `value` is empty.
Spliced splice_model(std::string_view body, const Range& model_value, std::string_view model);

// Behind a value, such as that: the field that asks for the ids of the prompt's and the answer's tokens. Bodies that
// name it themselves are not to be asked again.
inline constexpr std::string_view ids_field = "return_token_ids";
inline constexpr std::string_view asks_for_ids = R"(,"return_token_ids":true)";

}  // namespace penstock::openai
