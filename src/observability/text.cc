#include "text.h"

#include <charconv>
#include <chrono>
#include <cmath>

#include "digits.h"

namespace penstock::observability {
namespace {

bool is_continuation(char c) {
  return (static_cast<unsigned char>(c) & 0xC0) == 0x80;
}

}  // namespace

size_t utf8_length(std::string_view text) {
  if (text.empty()) return 0;
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  if (first < 0xC2 || first > 0xF4) return 0;
  const size_t length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  if (text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if (!is_continuation(text[i])) return 0;
  }
  if (first == 0xE0 && byte(1) < 0xA0) return 0;  // overlong
  if (first == 0xED && byte(1) > 0x9F) return 0;  // surrogate
  if (first == 0xF0 && byte(1) < 0x90) return 0;  // overlong
  if (first == 0xF4 && byte(1) > 0x8F) return 0;  // beyond U+10FFFF
  return length;
}

bool is_label_text(std::string_view text) {
  while (!text.empty()) {
    const size_t length = utf8_length(text);
    if (length == 0 || static_cast<unsigned char>(text[0]) < 0x20 || text[0] == 0x7F) return false;
    text.remove_prefix(length);
  }
  return true;
}

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  while (!text.empty()) {
    const size_t length = utf8_length(text);
    const auto first = static_cast<unsigned char>(text[0]);
    if (length == 0) {
      out += "\xEF\xBF\xBD";
    } else if (first < 0x20 || first == 0x7F) {
      constexpr char hex[] = "0123456789abcdef";
      out.append("\\u00").append(1, hex[first >> 4]).append(1, hex[first & 15]);
    } else {
      if (first == '"' || first == '\\') out += '\\';
      out.append(text.substr(0, length));
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
  out += '"';
}

void append_number(std::string& out, double value) {
  if (!std::isfinite(value)) {
    out += "null";
    return;
  }
  char digits[32];
  out.append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
}

void write_timestamp(char* out, int64_t wall_us) {
  using namespace std::chrono;
  const sys_time<microseconds> at{microseconds{wall_us}};
  const auto day = floor<days>(at);
  const year_month_day date{day};
  const auto year = static_cast<uint64_t>(int{date.year()}), in_day = static_cast<uint64_t>((at - day).count());
  const uint64_t second = in_day / 1'000'000, us = in_day % 1'000'000;
  write_pair(out, year / 100 % 100);
  write_pair(out + 2, year % 100);
  write_pair(out + 5, unsigned{date.month()});
  write_pair(out + 8, unsigned{date.day()});
  write_pair(out + 11, second / 3600);
  write_pair(out + 14, second / 60 % 60);
  write_pair(out + 17, second % 60);
  write_pair(out + 20, us / 10'000);
  write_pair(out + 22, us / 100 % 100);
  write_pair(out + 24, us % 100);
  out[4] = out[7] = '-';
  out[10] = 'T';
  out[13] = out[16] = ':';
  out[19] = '.';
  out[26] = 'Z';
}

}  // namespace penstock::observability
