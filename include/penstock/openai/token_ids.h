// The ids of a prompt that was given as token ids, from the text that Request::prompt refers to. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace penstock::openai {

// "1, 22,333" into its numbers, the first `most` of them. False: it is not one list of ids below 2^32 (several
// prompts, say); then `out` holds nothing of use.
bool parse_token_ids(std::string_view text, size_t most, std::vector<uint32_t>& out);
// The same behind those that `out` holds already, until there are `most`.
bool append_token_ids(std::string_view text, size_t most, std::vector<uint32_t>& out);

}  // namespace penstock::openai
