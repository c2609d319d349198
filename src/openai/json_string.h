// The inside of a JSON string, without its quotes: as it stands in a body, with escapes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace penstock::openai {

enum class StringCheck : uint8_t {
  good,
  replaced,  // it has U+FFFD, or half of a pair of surrogates, which stands for no character
  broken,    // it could not be the inside of a string: a quote, a control character, a wrong escape
};
// Bytes from 0x80 are taken as they are.
StringCheck check_string(std::string_view escaped);

// Appends the text that it stands for, in UTF-8; halves of pairs, and what is broken, become U+FFFD.
void decode_string(std::string_view escaped, std::string& out);

// Appends `text` as the inside of a string.
void encode_string(std::string_view text, std::string& out);

}  // namespace penstock::openai
