// The id of a response in the beginning of an answer of the Responses API. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace penstock::openai {

constexpr size_t response_id_bytes_max = 256;

// The id in a whole answer ({"id":"resp_..."}), of which `json` is at least the beginning; or, with `event`, in the
// first event of a stream ({"response":{"id":"resp_..."}}). Only the field of that name at that depth counts, whatever
// order the fields have. "" if it is not there (yet), is longer than response_id_bytes_max, or has escapes.
std::string_view response_id(std::string_view json, bool event);

// A number for an id, never 0: XXH3. For tables that need not keep the ids.
uint64_t response_key(std::string_view id);

}  // namespace penstock::openai
