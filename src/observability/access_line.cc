#include "access_line.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <optional>

#include "penstock/base/assert.h"
#include "text.h"

namespace penstock::observability {
namespace {

// Escaped lengths; their sum with all names and numbers stays below access_line_max.
constexpr size_t short_text = 64, name_text = 512, target_text = 2048;

constexpr size_t escape_max = 6;  // "\\u001f"

// What a byte needs: nothing; quotes around the value in a text line; an escape or a look at more bytes.
enum class Kind : uint8_t { plain, spacing, special };
constexpr std::array<Kind, 256> make_kinds() {
  std::array<Kind, 256> kinds{};
  for (size_t c = 0; c < kinds.size(); ++c) kinds[c] = c < 0x20 || c >= 0x7F ? Kind::special : Kind::plain;
  kinds[' '] = kinds['='] = Kind::spacing;
  kinds['"'] = kinds['\\'] = Kind::special;
  return kinds;
}
constexpr std::array<Kind, 256> kinds = make_kinds();
Kind kind_of(char c) {
  return kinds[static_cast<unsigned char>(c)];
}

class LineWriter {
 public:
  LineWriter(std::span<char> space, log::Format format)
      : begin_(space.data()),
        at_(space.data()),
        end_(space.data() + space.size()),
        json_(format == log::Format::json) {}

  void timestamp(int64_t wall_us) {
    key("time");
    if (json_) put('"');
    PENSTOCK_ASSERT(static_cast<size_t>(end_ - at_) > timestamp_size);
    write_timestamp(at_, wall_us);
    at_ += timestamp_size;
    if (json_) put('"');
  }
  void text(std::string_view name, std::string_view value, size_t escaped_max) {
    key(name);
    if (!json_ && value.empty()) return put('-');
    const bool quotes = json_ || needs_quotes(value);
    if (quotes) put('"');
    escape(value, escaped_max);
    if (quotes) put('"');
  }
  void number(std::string_view name, std::optional<uint64_t> value) {
    key(name);
    if (!value.has_value()) return absent();
    digits(*value);
  }
  // Milliseconds with three decimals.
  void milliseconds(std::string_view name, std::optional<Duration> value) {
    key(name);
    if (!value.has_value()) return absent();
    const int64_t us = std::max<int64_t>(duration_cast<microseconds>(*value).count(), 0);
    digits(static_cast<uint64_t>(us / 1000));
    put('.');
    const auto rest = static_cast<int>(us % 1000);
    put(static_cast<char>('0' + rest / 100));
    put(static_cast<char>('0' + rest / 10 % 10));
    put(static_cast<char>('0' + rest % 10));
  }
  std::string_view finish() {
    if (json_) put('}');
    put('\n');
    return {begin_, static_cast<size_t>(at_ - begin_)};
  }

 private:
  void put(char c) {
    PENSTOCK_ASSERT(at_ < end_);
    *at_++ = c;
  }
  void put(std::string_view bytes) {
    PENSTOCK_ASSERT(bytes.size() <= static_cast<size_t>(end_ - at_));
    if (bytes.empty()) return;  // its data may be null
    std::memcpy(at_, bytes.data(), bytes.size());
    at_ += bytes.size();
  }
  void key(std::string_view name) {
    if (json_) {
      put(at_ == begin_ ? "{\"" : ",\"");
      put(name);
      put("\":");
    } else {
      if (at_ != begin_) put(' ');
      put(name);
      put('=');
    }
  }
  void absent() { put(json_ ? std::string_view("null") : std::string_view("-")); }
  void digits(uint64_t value) {
    PENSTOCK_ASSERT(end_ - at_ > 20);
    at_ = std::to_chars(at_, end_, value).ptr;
  }

  static bool needs_quotes(std::string_view value) {
    if (value == "-") return true;  // would look absent
    for (const char c : value) {
      if (kind_of(c) != Kind::plain) return true;
    }
    return false;
  }

  // As in a JSON string, in both formats.
  void escape(std::string_view value, size_t escaped_max) {
    const char* const stop = at_ + escaped_max;
    while (!value.empty()) {
      size_t run = 0;  // what goes as it is, nearly always all
      const size_t room = static_cast<size_t>(stop - at_);
      while (run < value.size() && run < room && kind_of(value[run]) <= Kind::spacing) ++run;
      put(value.substr(0, run));
      value.remove_prefix(run);
      if (value.empty()) return;
      if (at_ + escape_max > stop) return put("...");
      value.remove_prefix(escape_one(value));
    }
  }

  // The character at the front of `value`, which does not go as it is. Returns how many bytes it had.
  size_t escape_one(std::string_view value) {
    const size_t length = utf8_length(value);
    const auto first = static_cast<unsigned char>(value[0]);
    if (length == 0) {
      put("\\ufffd");
      return 1;
    }
    if (first < 0x20 || first == 0x7F) {
      constexpr char hex[] = "0123456789abcdef";
      put("\\u00");
      put(hex[first >> 4]);
      put(hex[first & 15]);
      return 1;
    }
    if (first == '"' || first == '\\') put('\\');
    put(value.substr(0, length));
    return length;
  }

  char* const begin_;
  char* at_;
  char* const end_;
  const bool json_;
};

}  // namespace

std::string_view format_access_line(std::span<char> space, log::Format format, const proxy::ExchangeRecord& r) {
  PENSTOCK_ASSERT(space.size() >= access_line_max);
  LineWriter line(space, format);
  const auto when = [](bool known, uint64_t value) { return known ? std::optional(value) : std::nullopt; };
  line.timestamp(r.started_wall_us);
  line.text("client", r.client, short_text);
  line.text("method", r.method, short_text);
  line.text("path", r.target, target_text);
  line.number("status", when(r.status != 0, r.status));
  line.text("outcome", proxy::to_string(r.outcome), short_text);
  line.text("reason", r.reason, short_text);
  line.text("model", r.model, name_text);
  line.text("target_model", r.target_model, name_text);
  line.text("endpoint", r.endpoint == nullptr ? std::string_view() : std::string_view(r.endpoint->name), name_text);
  line.number("attempts", r.attempts);
  line.milliseconds("ttft_ms", r.time_to_first_token);
  line.milliseconds("duration_ms", r.total);
  line.number("request_bytes", r.request_bytes);
  line.number("response_bytes", r.response_bytes);
  line.number("prompt_tokens", when(r.has_usage, r.prompt_tokens));
  line.number("completion_tokens", when(r.has_usage, r.completion_tokens));
  line.number("cached_tokens", when(r.cached_tokens.has_value(), r.cached_tokens.value_or(0)));
  line.number("chunks", when(r.streaming, r.chunks));
  line.number("matched_blocks", when(r.prompt_blocks > 0, r.matched_blocks));
  line.number("prompt_blocks", when(r.prompt_blocks > 0, r.prompt_blocks));
  line.text("request_id", r.request_id, name_text);
  return line.finish();
}

}  // namespace penstock::observability
