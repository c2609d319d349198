#include "access_line.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "digits.h"
#include "penstock/base/assert.h"
#include "text.h"

namespace penstock::observability {
namespace {

// Escaped lengths.
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

// A key with what stands before and after it. The bytes that one copy of a fixed size takes; `size` of them count.
struct Key {
  static constexpr size_t copied = 24;
  char bytes[copied] = {};
  size_t size = 0;

  constexpr void add(std::string_view part) {
    for (const char c : part) bytes[size++] = c;
  }
};

// The name of a field as a template argument.
struct Name {
  char text[Key::copied] = {};
  template <size_t N>
  consteval Name(const char (&literal)[N]) {  // NOLINT(google-explicit-constructor)
    for (size_t i = 0; i < N; ++i) text[i] = literal[i];
  }
};

enum class Value : uint8_t { number, text };

template <Name name, Value value>
constexpr Key make_key(log::Format format) {
  Key key;
  key.add(format == log::Format::json ? ",\"" : " ");
  key.add(name.text);
  key.add(format == log::Format::text ? "=" : value == Value::text ? "\":\"" : "\":");
  return key;
}
template <Name name, Value value>
constexpr Key text_key = make_key<name, value>(log::Format::text);
template <Name name, Value value>
constexpr Key json_key = make_key<name, value>(log::Format::json);

// The longest of each kind, key included.
constexpr size_t number_field_max = Key::copied + digits_max + sizeof ".000";
constexpr size_t text_field_max(size_t escaped_max) {
  return Key::copied + escaped_max + sizeof "\"...\"";
}

// Writes into space that is known to be enough: see line_max below.
class LineWriter {
 public:
  LineWriter(std::span<char> space, log::Format format)
      : begin_(space.data()),
        at_(space.data()),
        end_(space.data() + space.size()),
        json_(format == log::Format::json),
        lowest_(all(json_ ? ' ' : '!')),
        other_special_(all(json_ ? '"' : '=')) {}

  void timestamp(int64_t wall_us) {
    put(json_ ? "{\"time\":\"" : "time=");
    write_timestamp(at_, wall_us);
    at_ += timestamp_size;
    if (json_) *at_++ = '"';
  }
  template <Name name>
  void text(std::string_view value, size_t escaped_max) {
    key(json_ ? json_key<name, Value::text> : text_key<name, Value::text>);  // of JSON with the opening quote
    put_text(value, escaped_max);
  }
  template <Name name>
  void number(bool known, uint64_t value) {
    key(json_ ? json_key<name, Value::number> : text_key<name, Value::number>);
    if (!known) return absent();
    at_ = write_number(at_, value);
  }
  template <Name name>
  void signed_number(int64_t value) {
    key(json_ ? json_key<name, Value::number> : text_key<name, Value::number>);
    if (value < 0) *at_++ = '-';
    at_ = write_number(at_, value < 0 ? uint64_t{0} - static_cast<uint64_t>(value) : static_cast<uint64_t>(value));
  }
  template <Name name>
  void boolean(bool value) {
    key(json_ ? json_key<name, Value::number> : text_key<name, Value::number>);
    put(value ? std::string_view("true") : std::string_view("false"));
  }
  // Milliseconds with three decimals.
  template <Name name>
  void milliseconds(std::optional<Duration> value) {
    key(json_ ? json_key<name, Value::number> : text_key<name, Value::number>);
    if (!value.has_value()) return absent();
    const auto us = static_cast<uint64_t>(std::max<int64_t>(duration_cast<microseconds>(*value).count(), 0));
    at_ = write_number(at_, us / 1000);
    const uint64_t rest = us % 1000;
    at_[0] = '.';
    at_[1] = static_cast<char>('0' + rest / 100);
    write_pair(at_ + 2, rest % 100);
    at_ += 4;
  }
  std::string_view finish() {
    if (json_) *at_++ = '}';
    *at_++ = '\n';
    PENSTOCK_ASSERT(at_ <= end_);
    return {begin_, static_cast<size_t>(at_ - begin_)};
  }

 private:
  using Block = signed char __attribute__((vector_size(16)));
  static Block all(signed char c) { return Block{} + c; }

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
  void key(const Key& key) {
    std::memcpy(at_, key.bytes, Key::copied);
    at_ += key.size;
  }
  void absent() { put(json_ ? std::string_view("null") : std::string_view("-")); }

  // The value with the quotes that it needs; the opening one of JSON is there already.
  void put_text(std::string_view value, size_t escaped_max) {
    if (value.empty()) {
      *at_++ = json_ ? '"' : '-';
      return;
    }
    const bool looks_absent = !json_ && value == "-";
    if (value.size() > escaped_max || looks_absent || !copy_plain(value)) return put_escaped(value, escaped_max);
    at_ += value.size();
    if (json_) *at_++ = '"';
  }
  [[gnu::noinline]] void put_escaped(std::string_view value, size_t escaped_max) {
    const bool quotes = !json_ && needs_quotes(value);
    if (quotes) put('"');
    escape(value, escaped_max);
    if (quotes || json_) put('"');
  }

  // Copies the value to at_ when all its bytes go as they are, without quotes in a text line. Else returns false, and
  // what it wrote does not count. Sixteen bytes at a time; the last ones may overlap those before.
  bool copy_plain(std::string_view value) {
    const char* const from = value.data();
    const size_t size = value.size();
    if (size < 4) {
      for (size_t i = 0; i < size; ++i) {
        if (kind_of(from[i]) > (json_ ? Kind::spacing : Kind::plain)) return false;
        at_[i] = from[i];
      }
      return true;
    }
    if (size < sizeof(uint64_t)) return copy_ends<uint32_t>(from, size);
    if (size < sizeof(Block)) return copy_ends<uint64_t>(from, size);
    for (size_t i = 0; i + sizeof(Block) < size; i += sizeof(Block)) {
      if (!copy_block(from, i)) return false;
    }
    return copy_block(from, size - sizeof(Block));
  }
  bool copy_block(const char* from, size_t i) {
    Block block;
    std::memcpy(&block, from + i, sizeof(Block));
    std::memcpy(at_ + i, &block, sizeof(Block));
    return is_plain(block);
  }
  // One to two words: the first and the last.
  template <typename Word>
  bool copy_ends(const char* from, size_t size) {
    Word first, last;
    std::memcpy(&first, from, sizeof(Word));
    std::memcpy(&last, from + size - sizeof(Word), sizeof(Word));
    std::memcpy(at_, &first, sizeof(Word));
    std::memcpy(at_ + size - sizeof(Word), &last, sizeof(Word));
    constexpr uint64_t repeat = sizeof(Word) == sizeof(uint32_t) ? 0x1'0000'0001 : 1;  // fills the other half
    const uint64_t words[2] = {first * repeat, last * repeat};
    Block block;
    static_assert(sizeof(block) == sizeof(words));
    std::memcpy(&block, words, sizeof(block));
    return is_plain(block);
  }
  // kind_of() of sixteen bytes. Those above 0x7F are negative, and so below lowest_.
  bool is_plain(Block block) const {
    const auto special =
        (block < lowest_) | (block == 0x7F) | (block == '"') | (block == '\\') | (block == other_special_);
    uint64_t halves[2];
    static_assert(sizeof(halves) == sizeof(special));
    std::memcpy(halves, &special, sizeof(halves));
    return (halves[0] | halves[1]) == 0;
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
  const Block lowest_, other_special_;  // what is_plain() refuses depends on the format
};

// The sum of all fields of format_access_line().
constexpr size_t line_max = sizeof "{\"time\":\"\"}\n" + timestamp_size + 8 * text_field_max(short_text) +
                            text_field_max(target_text) + 6 * text_field_max(name_text) + 15 * number_field_max;
static_assert(line_max <= access_line_max);

}  // namespace

std::string_view format_access_line(std::span<char> space, log::Format format, const proxy::ExchangeRecord& r,
                                    bool with_query) {
  PENSTOCK_ASSERT(space.size() >= access_line_max);
  LineWriter line(space, format);
  line.timestamp(r.started_wall_us);
  line.text<"client">(r.client, short_text);
  line.text<"protocol">(r.protocol, short_text);
  if (!r.tls_version.empty()) {
    line.text<"tls">(r.tls_version, short_text);
    line.text<"client_certificate">(r.certificate, name_text);
  }
  line.text<"method">(r.method, short_text);
  line.text<"path">(with_query ? r.target : r.target.substr(0, r.target.find('?')), target_text);
  line.number<"status">(r.status != 0, r.status);
  line.text<"outcome">(proxy::to_string(r.outcome), short_text);
  line.text<"reason">(r.reason, short_text);
  line.text<"model">(r.kind.model, name_text);
  line.text<"target_model">(r.kind.target_model, name_text);
  line.text<"endpoint">(r.endpoint == nullptr ? std::string_view() : std::string_view(r.endpoint->name), name_text);
  line.number<"attempts">(true, r.attempts);
  line.number<"resumed">(true, r.resumes);
  line.milliseconds<"ttft_ms">(r.time_to_first_token);
  line.milliseconds<"duration_ms">(r.total);
  line.milliseconds<"hold_ms">(r.stage[static_cast<size_t>(proxy::Stage::hold)]);
  line.number<"request_bytes">(true, r.request_bytes);
  line.number<"response_bytes">(true, r.response_bytes);
  line.boolean<"stream">(r.streaming);
  line.text<"finish_reason">(r.finish_reason, short_text);
  line.number<"prompt_tokens">(r.has_usage, r.prompt_tokens);
  line.number<"completion_tokens">(r.has_usage, r.completion_tokens);
  line.number<"cached_tokens">(r.cached_tokens.has_value(), r.cached_tokens.value_or(0));
  line.number<"chunks">(r.streaming, r.chunks);
  line.number<"matched_blocks">(r.prompt_blocks > 0, r.matched_blocks);
  line.number<"prompt_blocks">(r.prompt_blocks > 0, r.prompt_blocks);
  line.text<"fairness_id">(r.kind.fairness_id, name_text);
  line.signed_number<"priority">(r.kind.priority);
  line.text<"request_id">(r.request_id, name_text);
  line.text<"trace_id">(r.trace_id, short_text);
  return line.finish();
}

}  // namespace penstock::observability
