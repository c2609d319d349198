#include "text.h"

#include <charconv>
#include <chrono>
#include <cmath>
#include <cstring>

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

namespace {
// "2025-01-31T23:59:59." of a second since 1970.
void write_second(char* out, int64_t since) {
  using namespace std::chrono;
  const sys_seconds at{seconds{since}};
  const auto day = floor<days>(at);
  const year_month_day date{day};
  const auto year = static_cast<uint64_t>(int{date.year()}), second = static_cast<uint64_t>((at - day).count());
  write_pair(out, year / 100 % 100);
  write_pair(out + 2, year % 100);
  write_pair(out + 5, unsigned{date.month()});
  write_pair(out + 8, unsigned{date.day()});
  write_pair(out + 11, second / 3600);
  write_pair(out + 14, second / 60 % 60);
  write_pair(out + 17, second % 60);
  out[4] = out[7] = '-';
  out[10] = 'T';
  out[13] = out[16] = ':';
  out[19] = '.';
}

// The second that a thread wrote last: of the lines of a log, most are of the same one.
struct Second {
  int64_t since = INT64_MIN;
  char text[20];
};
thread_local Second last;
}  // namespace

void write_timestamp(char* out, int64_t wall_us) {
  const int64_t since = wall_us / 1'000'000 - (wall_us % 1'000'000 < 0 ? 1 : 0);
  if (since != last.since) {
    write_second(last.text, since);
    last.since = since;
  }
  const auto us = static_cast<uint64_t>(wall_us - since * 1'000'000);
  std::memcpy(out, last.text, sizeof last.text);
  write_pair(out + 20, us / 10'000);
  write_pair(out + 22, us / 100 % 100);
  write_pair(out + 24, us % 100);
  out[26] = 'Z';
}

}  // namespace penstock::observability
