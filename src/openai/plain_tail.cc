#include "plain_tail.h"

#include <bit>
#include <cstdint>
#include <cstring>

#include "blocks.h"
#include "json_text.h"

namespace penstock::openai {
namespace {

constexpr int digits_max = 9;  // as many as always fit a uint32_t

bool is_scalar_char(char c) {
  return (c >= 'a' && c <= 'z') || is_digit(c) || c == '-' || c == '+' || c == '.' || c == 'E';
}

// Every step takes something from the front of the text, after white space, or answers false.
class TailReader {
 public:
  explicit TailReader(std::string_view tail) : at_(tail.data()), end_(tail.data() + tail.size()) {}

  bool read(PlainTail& out) {
    std::string_view key;
    if (!take_key(key) || !take_string(out.finish_reason)) return false;
    while (take(',')) {
      if (!take_key(key) || !take_scalar()) return false;
    }
    if (!take('}') || !take(']')) return false;
    while (take(',')) {
      if (!take_key(key) || !take_answer_field(key, out.usage)) return false;
    }
    return take('}') && next() == '\0' && at_ == end_;
  }

 private:
  // The next character that is no white space, 0 at the end.
  char next() {
    if (at_ != end_ && *at_ > ' ') return *at_;  // nearly always
    at_ = behind_space(at_, end_);
    return at_ == end_ ? '\0' : *at_;
  }

  // No steps of the reader: its place can then be held in a register.
  [[gnu::noinline]] static const char* behind_space(const char* at, const char* end) {
    while (at != end && is_space(*at)) ++at;
    return at;
  }
  [[gnu::noinline]] static const char* behind_scalar(const char* at, const char* end) {
    while (at != end && is_scalar_char(*at)) ++at;
    return at;
  }

  bool take(char c) {
    if (next() != c) return false;
    ++at_;
    return true;
  }

  bool take_string(std::string_view& string) {
    if (!take('"')) return false;
    const char* const quote = next_quote(at_, end_);
    if (quote == nullptr) return false;
    string = {at_, quote};
    at_ = quote + 1;
    return true;
  }

  // Nearly all strings are short: a call would cost more than the search.
  static const char* next_quote(const char* at, const char* end) {
    if (static_cast<size_t>(end - at) >= sizeof(Block)) {
      const uint32_t quotes = bits_of(block_at(at) == '"');
      if (quotes != 0) return at + std::countr_zero(quotes);
      at += sizeof(Block);
    }
    return static_cast<const char*>(std::memchr(at, '"', static_cast<size_t>(end - at)));
  }

  bool take_key(std::string_view& key) { return take_string(key) && take(':'); }

  bool take_scalar() {
    std::string_view string;
    if (next() == '"') return take_string(string);
    const char* const begin = at_;
    at_ = behind_scalar(at_, end_);
    return at_ != begin;
  }

  // Calls take_number(number) when it is a whole number that is not negative. One with a fraction or an exponent leaves
  // that behind, where nothing goes on.
  template <typename Take>
  bool take_count(Take take_number) {
    if (!is_digit(next())) return take_scalar();
    uint32_t number = 0;
    const char* const begin = at_;
    for (; at_ != end_ && is_digit(*at_); ++at_) number = number * 10 + static_cast<uint32_t>(*at_ - '0');
    if (at_ - begin > digits_max) return false;
    take_number(number);
    return true;
  }

  // An object, each of whose values take_value(key) takes.
  template <typename Take>
  bool take_object(Take take_value) {
    std::string_view key;
    if (!take('{')) return false;
    if (take('}')) return true;
    do {
      if (!take_key(key) || !take_value(key)) return false;
    } while (take(','));
    return take('}');
  }

  bool take_answer_field(std::string_view key, std::optional<Usage>& usage) {
    if (is_word(key, "usage") && next() == '{') return take_usage(usage);
    const bool counts = is_word(key, "status") || is_word(key, "stop_reason") || is_word(key, "finish_reason");
    return !(counts && next() == '"') && take_scalar();
  }

  bool take_usage(std::optional<Usage>& to) {
    if (!to) to.emplace();
    return take_object([this, &usage = *to](std::string_view key) { return take_usage_field(key, usage); });
  }

  bool take_usage_field(std::string_view key, Usage& usage) {
    if (is_word(key, "prompt_tokens") || is_word(key, "input_tokens")) {
      return take_count([&usage](uint32_t number) { usage.prompt_tokens = number; });
    }
    if (is_word(key, "completion_tokens") || is_word(key, "output_tokens")) {
      return take_count([&usage](uint32_t number) { usage.completion_tokens = number; });
    }
    const auto cached = [&usage](uint32_t number) { usage.cached_tokens = number; };
    if (is_word(key, "cache_read_input_tokens")) return take_count(cached);
    if (next() != '{') return take_scalar();
    const bool counts = is_word(key, "prompt_tokens_details") || is_word(key, "input_tokens_details");
    return take_object([&](std::string_view detail) {
      return counts && is_word(detail, "cached_tokens") ? take_count(cached) : take_scalar();
    });
  }

  const char* at_;
  const char* const end_;
};

}  // namespace

std::optional<PlainTail> read_plain_tail(std::string_view tail) {
  PlainTail out;
  if (tail.find('\\') != std::string_view::npos || !TailReader(tail).read(out)) return std::nullopt;
  return out;
}

}  // namespace penstock::openai
