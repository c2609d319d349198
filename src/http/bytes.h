// Character classes of RFC 9110 and the small string work that the http layer shares.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "penstock/base/text.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace penstock::http {

inline constexpr bool is_space(char c) {
  return c == ' ' || c == '\t';
}
inline constexpr bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// tchar: what a method or field name is made of.
inline constexpr std::array<bool, 256> kTokenTable = [] {
  std::array<bool, 256> table{};
  for (int c = '0'; c <= '9'; ++c) table[c] = true;
  for (int c = 'a'; c <= 'z'; ++c) table[c] = true;
  for (int c = 'A'; c <= 'Z'; ++c) table[c] = true;
  for (char c : {'!', '#', '$', '%', '&', '\'', '*', '+', '-', '.', '^', '_', '`', '|', '~'}) table[c] = true;
  return table;
}();
inline bool is_token_char(char c) {
  return kTokenTable[static_cast<uint8_t>(c)];
}

// Index of the first byte that is no tchar; size when there is none. Letters, digits and '-', which is nearly all that
// names are made of, go sixteen a step where the machine can.
inline size_t find_token_end(std::string_view text) {
  size_t i = 0;
#if defined(__SSE2__)
  const auto in_range = [](__m128i bytes, char first, char last) {  // as unsigned numbers
    const __m128i offset = _mm_sub_epi8(bytes, _mm_set1_epi8(first));
    return _mm_cmpeq_epi8(_mm_min_epu8(offset, _mm_set1_epi8(static_cast<char>(last - first))), offset);
  };
  for (; i + 16 <= text.size(); i += 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(text.data() + i));
    const __m128i letters = in_range(_mm_or_si128(bytes, _mm_set1_epi8(0x20)), 'a', 'z');
    const __m128i others = _mm_or_si128(in_range(bytes, '0', '9'), _mm_cmpeq_epi8(bytes, _mm_set1_epi8('-')));
    const auto mask = static_cast<uint32_t>(_mm_movemask_epi8(_mm_or_si128(letters, others)));
    if (mask == 0xffff) continue;
    i += static_cast<size_t>(std::countr_one(mask));
    if (!is_token_char(text[i])) return i;
    break;
  }
#endif
  while (i < text.size() && is_token_char(text[i])) ++i;
  return i;
}

inline bool is_token(std::string_view text) {
  return !text.empty() && find_token_end(text) == text.size();
}

inline std::string_view trim(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

// Whether the bytes of `text` are those of `lowered`, in which only letters, of either case in `text`, have both of the
// bits 0x40 and 0x20.
template <typename Word>
inline bool same_word(const char* text, const char* lowered) {
  Word have, want;
  std::memcpy(&have, text, sizeof(Word));
  std::memcpy(&want, lowered, sizeof(Word));
  constexpr Word kCase = static_cast<Word>(0x2020202020202020);
  return (have | (want & (want >> 1) & kCase)) == want;
}

// `lowered` must be made of letters in lower case, digits, '-', '_' and '.'. A word a step; the last step goes back a
// bit, so that it is a whole word too.
inline bool equals_lower(std::string_view text, std::string_view lowered) {
  const size_t size = lowered.size();
  if (text.size() != size) return false;
  const char* const have = text.data();
  const char* const want = lowered.data();
  if (size >= 8) {
    for (size_t i = 0; i + 8 < size; i += 8) {
      if (!same_word<uint64_t>(have + i, want + i)) return false;
    }
    return same_word<uint64_t>(have + size - 8, want + size - 8);
  }
  if (size >= 4) {
    return same_word<uint32_t>(have, want) && same_word<uint32_t>(have + size - 4, want + size - 4);
  }
  for (size_t i = 0; i < size; ++i) {
    if (lower(have[i]) != want[i]) return false;
  }
  return true;
}

inline constexpr bool is_control(char c) {
  return (static_cast<uint8_t>(c) < 0x20 && c != '\t') || c == 0x7f;
}

// Index of the first byte below 0x20 (but HT) or DEL, from `i` on; size when there is none. Eight bytes a step.
inline size_t find_control_by_word(std::string_view text, size_t i) {
  static_assert(std::endian::native == std::endian::little);
  constexpr uint64_t kOnes = 0x0101010101010101, kHigh = 0x8080808080808080;
  for (; i + 8 <= text.size(); i += 8) {
    uint64_t word;
    std::memcpy(&word, text.data() + i, 8);
    const uint64_t deleted = word ^ (kOnes * 0x7f);
    uint64_t hits = (((word - kOnes * 0x20) & ~word) | ((deleted - kOnes) & ~deleted)) & kHigh;
    for (; hits != 0; hits &= hits - 1) {  // behind a true hit a borrow may make a false one; HT is none either
      const size_t at = i + static_cast<size_t>(std::countr_zero(hits)) / 8;
      if (is_control(text[at])) return at;
    }
  }
  while (i < text.size() && !is_control(text[i])) ++i;
  return i;
}

// The same from the beginning. Every byte of every head goes through here: sixteen a step where the machine can.
inline size_t find_control(std::string_view text) {
  size_t i = 0;
#if defined(__SSE2__)
  const __m128i last_control = _mm_set1_epi8(0x1f), tab = _mm_set1_epi8('\t'), deleted = _mm_set1_epi8(0x7f);
  for (; i + 16 <= text.size(); i += 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(text.data() + i));
    const __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(bytes, last_control), bytes);
    const __m128i hits =
        _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(bytes, tab), low), _mm_cmpeq_epi8(bytes, deleted));
    const auto mask = static_cast<uint32_t>(_mm_movemask_epi8(hits));
    if (mask != 0) return i + static_cast<size_t>(std::countr_zero(mask));
  }
#endif
  return find_control_by_word(text, i);
}

inline bool has_control(std::string_view text) {
  return find_control(text) != text.size();
}

// Whether there is a CR or an LF. Sixteen bytes a step where the machine can, and asked about once: of an event of a
// stream there is none. The last step goes back a bit.
inline bool has_line_end(std::string_view text) {
#if defined(__SSE2__)
  if (text.size() >= 16) {
    const __m128i cr = _mm_set1_epi8('\r'), lf = _mm_set1_epi8('\n');
    __m128i hits = _mm_setzero_si128();
    const auto look = [&](size_t at) {
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(text.data() + at));
      hits = _mm_or_si128(hits, _mm_or_si128(_mm_cmpeq_epi8(bytes, cr), _mm_cmpeq_epi8(bytes, lf)));
    };
    for (size_t at = 0; at + 16 < text.size(); at += 16) look(at);
    look(text.size() - 16);
    return _mm_movemask_epi8(hits) != 0;
  }
#endif
  return text.find_first_of("\r\n") != std::string_view::npos;
}

// Calls visit(token) for each element of a comma-separated list, trimmed, empty ones left out.
template <typename Visit>
void for_each_in_list(std::string_view list, Visit&& visit) {
  while (!list.empty()) {
    const size_t comma = list.find(',');
    const std::string_view token = trim(list.substr(0, comma));
    if (!token.empty()) visit(token);
    if (comma == std::string_view::npos) return;
    list.remove_prefix(comma + 1);
  }
}

}  // namespace penstock::http
