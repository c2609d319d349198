// The end of an ordinary completion, read without a parser.
#pragma once

#include <optional>
#include <string_view>

#include "penstock/openai/usage.h"

namespace penstock::openai {

struct PlainTail {
  std::string_view finish_reason;  // in the tail that was read
  std::optional<Usage> usage;
};

// Reads what completion_tail() found: the rest of the last choice and the fields behind the choices. Nothing when the
// tail does not end the object, or has what only a parser reads: escapes, another choice, arrays, objects other than
// the usage and those in it, fields that say over again how the answer ended, numbers of many digits.
std::optional<PlainTail> read_plain_tail(std::string_view tail);

}  // namespace penstock::openai
