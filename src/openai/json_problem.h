// What is told of a body that is no JSON.
#pragma once

#include <string_view>

namespace penstock::openai {

// One sentence for a simdjson::error_code that this body caused.
const char* json_problem(int error, std::string_view body);

// The body is UTF-16 or UTF-32 as Python's json module recognises it: by a byte order mark, or by the zero bytes that
// its first two characters have there. Python's servers read such bodies; UTF-8 never looks like this.
bool is_wide_unicode(std::string_view body);

// UTF-8 may begin with a byte order mark, which is not a part of the JSON: Python's servers skip one.
bool has_byte_order_mark(std::string_view body);
std::string_view without_byte_order_mark(std::string_view body);

}  // namespace penstock::openai
