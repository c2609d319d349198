// Spellings of durations and sizes. Pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "penstock/base/result.h"
#include "penstock/base/time.h"

namespace penstock {

Result<Duration> parse_duration(std::string_view text);  // "50ms", "1.5s", "1m30s", "0", "none"
std::string format_duration(Duration duration);
Result<uint64_t> parse_size(std::string_view text);  // "64MiB", "1GB", "4096", "none"
std::string format_size(uint64_t bytes);
std::string format_number(double value);  // with all its digits and no exponent: "0.25", "100"

}  // namespace penstock
