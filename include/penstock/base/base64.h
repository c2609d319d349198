// Base64 (RFC 4648, section 4). Pure; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace penstock {

// Standard alphabet; white space is skipped, padding may be missing. Nothing for other characters.
std::optional<std::string> base64_decode(std::string_view text);
std::string base64_encode(std::string_view bytes);

}  // namespace penstock
