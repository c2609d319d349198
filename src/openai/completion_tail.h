// The part of a completion's answer that says how it ended and what it used, found without reading all of it.
#pragma once

#include <string_view>

namespace penstock::openai {

// What to put before the tail to make it a whole object again.
inline constexpr std::string_view completion_tail_lead = R"({"choices":[{)";

// The end of an answer of the completions or chat completions API, from the key of its last "finish_reason" on, which
// has a string. Given that `json` is JSON, and that completion_tail_lead and the tail are an object together, that
// object has the same last finish reason and the same usage as `json`. "" when this is not certain.
std::string_view completion_tail(std::string_view json);

}  // namespace penstock::openai
