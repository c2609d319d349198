// Small text helpers of this layer. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace penstock::observability {

// Length of the well-formed UTF-8 character at the front of `text`; 0 when there is none.
size_t utf8_length(std::string_view text);
// Valid UTF-8 without control characters: can be the value of a metric label.
bool is_label_text(std::string_view text);

// Appends `text` as a JSON string with quotes; what is not UTF-8 becomes U+FFFD.
void append_json_string(std::string& out, std::string_view text);
// Appends the shortest text that reads back as `value`; null when it is not finite (JSON has no word for that).
void append_number(std::string& out, double value);

// "2025-01-31T23:59:59.123456Z" into exactly timestamp_size bytes.
constexpr size_t timestamp_size = 27;
void write_timestamp(char* out, int64_t wall_us);

}  // namespace penstock::observability
