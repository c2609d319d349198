// Error bodies in OpenAI's shape: {"error":{"message","type","param","code"}}.
#pragma once

#include <string>
#include <string_view>

namespace penstock::openai {

// Appends the JSON object; param and code may be empty (written as null). Escapes everything.
void append_error(std::string& out, std::string_view message, std::string_view type, std::string_view param,
                  std::string_view code);
// Appends `text` as a JSON string with quotes; null for an empty text.
void append_json_string_or_null(std::string& out, std::string_view text);

}  // namespace penstock::openai
