// Small text helpers of this layer. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "penstock/base/text.h"

namespace penstock::observability {

// Appends the shortest text that reads back as `value`; null when it is not finite (JSON has no word for that).
void append_number(std::string& out, double value);

// "2025-01-31T23:59:59.123456Z" into exactly timestamp_size bytes.
constexpr size_t timestamp_size = 27;
void write_timestamp(char* out, int64_t wall_us);

}  // namespace penstock::observability
