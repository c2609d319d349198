#include "json_string.h"

#include <charconv>
#include <optional>

#include "penstock/base/text.h"

namespace penstock::openai {
namespace {

constexpr std::string_view replacement = "\xEF\xBF\xBD";
constexpr uint32_t replacement_code = 0xFFFD;
constexpr size_t unicode_escape_size = 6;  // \uXXXX

bool is_high(uint32_t unit) {
  return unit >= 0xD800 && unit < 0xDC00;
}
bool is_low(uint32_t unit) {
  return unit >= 0xDC00 && unit < 0xE000;
}

// The code unit of the escape \uXXXX at the front of `text`.
std::optional<uint32_t> unit_at(std::string_view text) {
  if (text.size() < unicode_escape_size || !text.starts_with("\\u")) return std::nullopt;
  uint32_t unit = 0;
  const char* const end = text.data() + unicode_escape_size;
  const auto [at, error] = std::from_chars(text.data() + 2, end, unit, 16);
  if (error != std::errc{} || at != end) return std::nullopt;
  return unit;
}

struct Escape {
  size_t size = 1;  // bytes of the escape
  uint32_t code = replacement_code;
  bool valid = false;
};

// The escape at the front of `text`, which is a backslash.
Escape escape_at(std::string_view text) {
  if (text.size() < 2) return {};
  const auto plain = [](char c) { return Escape{2, static_cast<unsigned char>(c), true}; };
  switch (text[1]) {
    case '"':
    case '\\':
    case '/':
      return plain(text[1]);
    case 'b':
      return plain('\b');
    case 'f':
      return plain('\f');
    case 'n':
      return plain('\n');
    case 'r':
      return plain('\r');
    case 't':
      return plain('\t');
    default:
      break;
  }
  const std::optional<uint32_t> first = unit_at(text);
  if (!first) return {};
  if (!is_high(*first) && !is_low(*first)) return {unicode_escape_size, *first, true};
  const std::optional<uint32_t> second = is_high(*first) ? unit_at(text.substr(unicode_escape_size)) : std::nullopt;
  if (!second || !is_low(*second)) return {unicode_escape_size, replacement_code, true};
  return {2 * unicode_escape_size, 0x10000 + ((*first - 0xD800) << 10) + (*second - 0xDC00), true};
}

void append_utf8(std::string& out, uint32_t code) {
  const auto byte = [&out](uint32_t value) { out += static_cast<char>(static_cast<unsigned char>(value)); };
  const auto tail = [&byte](uint32_t value) { byte(0x80 | (value & 0x3F)); };
  if (code < 0x80) {
    byte(code);
  } else if (code < 0x800) {
    byte(0xC0 | (code >> 6));
    tail(code);
  } else if (code < 0x10000) {
    byte(0xE0 | (code >> 12));
    tail(code >> 6);
    tail(code);
  } else {
    byte(0xF0 | (code >> 18));
    tail(code >> 12);
    tail(code >> 6);
    tail(code);
  }
}

}  // namespace

StringCheck check_string(std::string_view escaped) {
  StringCheck check = StringCheck::good;
  for (size_t at = 0; at < escaped.size();) {
    const auto c = static_cast<unsigned char>(escaped[at]);
    if (c == '"' || c < 0x20) return StringCheck::broken;
    if (c == '\\') {
      const Escape escape = escape_at(escaped.substr(at));
      if (!escape.valid) return StringCheck::broken;
      if (escape.code == replacement_code) check = StringCheck::replaced;
      at += escape.size;
    } else {
      if (c == 0xEF && escaped.substr(at).starts_with(replacement)) check = StringCheck::replaced;
      ++at;
    }
  }
  return check;
}

void decode_string(std::string_view escaped, std::string& out) {
  out.reserve(out.size() + escaped.size());
  while (!escaped.empty()) {
    const std::string_view run = escaped.substr(0, escaped.find('\\'));
    out.append(run);
    escaped.remove_prefix(run.size());
    if (escaped.empty()) return;
    const Escape escape = escape_at(escaped);
    append_utf8(out, escape.code);
    escaped.remove_prefix(escape.size);
  }
}

void encode_string(std::string_view text, std::string& out) {
  std::string quoted;
  append_json_string(quoted, text);
  out.append(quoted, 1, quoted.size() - 2);
}

}  // namespace penstock::openai
