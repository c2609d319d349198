#include "text.h"

#include <charconv>
#include <chrono>
#include <cmath>

#include "digits.h"

namespace penstock::observability {

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
