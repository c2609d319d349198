// Spellings of values: durations, sizes, addresses, endpoint URLs. Pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/base/result.h"
#include "penstock/base/time.h"

namespace penstock::config {

Result<Duration> parse_duration(std::string_view text);  // "50ms", "1.5s", "1m30s", "0", "none"
std::string format_duration(Duration duration);
Result<uint64_t> parse_size(std::string_view text);  // "64MiB", "1GB", "4096", "none"
std::string format_size(uint64_t bytes);

// "" when `text` is ADDRESS:PORT with a numeric or empty address, else what is wrong.
std::string check_address(std::string_view text);
// "" when `text` is http://HOST:PORT, else what is wrong. A single trailing slash is tolerated and removed.
std::string check_url(std::string& text);

// The word in `words` that `text` was probably meant to be, or "".
std::string closest(std::string_view text, const std::vector<std::string_view>& words);

}  // namespace penstock::config
