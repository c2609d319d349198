// What is told of a body that is no JSON.
#pragma once

namespace penstock::openai {

// One sentence for a simdjson::error_code.
const char* json_problem(int error);

}  // namespace penstock::openai
