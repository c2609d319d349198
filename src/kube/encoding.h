// Small conversions that several files of this layer need. Any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "penstock/base/result.h"

namespace penstock::kube {

// For a query value or a path segment: everything but unreserved characters as %XX.
void append_escaped(std::string& out, std::string_view text);
// At most `most` bytes, never in the middle of a UTF-8 character.
std::string_view cut_utf8(std::string_view text, size_t most);
// "2025-03-01T12:00:00Z", with a fraction or an offset too: microseconds since the Unix epoch.
std::optional<int64_t> parse_rfc3339(std::string_view text);
// "2025-03-01T12:00:00.000000Z", the API's MicroTime.
std::string format_micro_time(int64_t unix_us);
// The whole file; the error names it and says why. Files of more than 1 MiB are refused.
Result<std::string> read_file(const std::string& path);

}  // namespace penstock::kube
