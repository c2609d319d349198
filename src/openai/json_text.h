// Pieces of raw JSON text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>

namespace penstock::openai {

inline bool is_space(char c) {
  return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}
inline bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// Whether `text` is the word. It is compared in pieces of eight or four characters, which need no call; the last one
// goes back a bit.
template <size_t size>
inline bool is_word(std::string_view text, const char (&word)[size]) {
  constexpr size_t length = size - 1, piece = length < 8 ? 4 : 8;
  static_assert(length >= piece);
  if (text.size() != length) return false;
  for (size_t i = 0; i + piece < length; i += piece) {
    if (std::memcmp(text.data() + i, word + i, piece) != 0) return false;
  }
  return std::memcmp(text.data() + length - piece, word + length - piece, piece) == 0;
}

inline std::string_view trim_end(std::string_view text) {
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

inline std::string_view skip_space(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  return text;
}

// `text` begins with `key` (which has its quotes) as the key of a field: the first character of its value; else 0.
// Within a string a quote always follows a backslash, so a quote, a word, a quote and a colon can only be a key.
inline char value_after_key(std::string_view text, std::string_view key) {
  if (!text.starts_with(key)) return 0;
  text = skip_space(text.substr(key.size()));
  if (!text.starts_with(':')) return 0;
  text = skip_space(text.substr(1));
  return text.empty() ? '\0' : text.front();
}

// How many digits there are from `at` on.
inline size_t digits(std::string_view text, size_t at) {
  const size_t begin = at;
  while (at < text.size() && is_digit(text[at])) ++at;
  return at - begin;
}

// JSON's grammar of numbers, which On-Demand checks only where it converts (and then refuses 1e999).
inline bool is_number(std::string_view text) {
  size_t at = text.starts_with('-') ? 1 : 0;
  const size_t whole = digits(text, at);
  if (whole == 0 || (whole > 1 && text[at] == '0')) return false;
  at += whole;
  if (at < text.size() && text[at] == '.') {
    const size_t fraction = digits(text, at + 1);
    if (fraction == 0) return false;
    at += 1 + fraction;
  }
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    ++at;
    if (at < text.size() && (text[at] == '+' || text[at] == '-')) ++at;
    const size_t exponent = digits(text, at);
    if (exponent == 0) return false;
    at += exponent;
  }
  return at == text.size();
}

// What Python's json module reads and writes as numbers although it is not JSON.
inline bool is_no_number(std::string_view text) {
  return text == "NaN" || text == "Infinity" || text == "-Infinity";
}

// The usual way to write a number of tokens: a few digits, the first no zero.
inline std::optional<uint32_t> small_number(std::string_view token) {
  constexpr size_t digits_max = 9;  // as many as always fit
  if (token.empty() || token.size() > digits_max || token.front() == '0') return std::nullopt;
  uint32_t number = 0;
  for (const char c : token) {
    if (!is_digit(c)) return std::nullopt;
    number = number * 10 + static_cast<uint32_t>(c - '0');
  }
  return number;
}

}  // namespace penstock::openai
