// Decimal digits, two at a time: every line of the access log has about forty of them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace penstock::observability {

constexpr size_t digits_max = 20;  // of a uint64_t

constexpr std::array<char, 200> make_digit_pairs() {
  std::array<char, 200> pairs{};
  for (size_t i = 0; i < 100; ++i) {
    pairs[2 * i] = static_cast<char>('0' + i / 10);
    pairs[2 * i + 1] = static_cast<char>('0' + i % 10);
  }
  return pairs;
}
inline constexpr std::array<char, 200> digit_pairs = make_digit_pairs();

// `value` below 100, as two digits.
inline void write_pair(char* out, uint64_t value) {
  std::memcpy(out, digit_pairs.data() + 2 * value, 2);
}

// Without leading zeros; at most digits_max bytes. Returns where it ended.
inline char* write_number(char* out, uint64_t value) {
  if (value >= 100) {
    out = write_number(out, value / 100);
    write_pair(out, value % 100);
    return out + 2;
  }
  if (value >= 10) {
    write_pair(out, value);
    return out + 2;
  }
  *out = static_cast<char>('0' + value);
  return out + 1;
}

}  // namespace penstock::observability
