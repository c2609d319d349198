#include "penstock/openai/model_restorer.h"

#include <algorithm>

#include "json_text.h"
#include "penstock/openai/error_body.h"

namespace penstock::openai {
namespace {

constexpr std::string_view data_field = "data:";

int hex(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

// Takes four hexadecimal digits from the front of `text`; -1 when they are not there.
int take_hex(std::string_view& text) {
  int value = 0;
  for (size_t i = 0; i < 4; ++i) {
    const int digit = i < text.size() ? hex(text[i]) : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  text.remove_prefix(4);
  return value;
}

void append_utf8(std::string& out, uint32_t point) {
  const auto tail = [&](uint32_t shift) { out += static_cast<char>(0x80 | ((point >> shift) & 0x3F)); };
  if (point < 0x80) {
    out += static_cast<char>(point);
  } else if (point < 0x800) {
    out += static_cast<char>(0xC0 | (point >> 6));
    tail(0);
  } else if (point < 0x10000) {
    out += static_cast<char>(0xE0 | (point >> 12));
    tail(6);
    tail(0);
  } else {
    out += static_cast<char>(0xF0 | (point >> 18));
    tail(12);
    tail(6);
    tail(0);
  }
}

// Behind a "\u". False: no character.
bool take_character(std::string_view& text, std::string& out) {
  const int first = take_hex(text);
  if (first < 0 || (first >= 0xDC00 && first < 0xE000)) return false;
  auto point = static_cast<uint32_t>(first);
  if (first >= 0xD800 && first < 0xDC00) {
    if (!text.starts_with("\\u")) return false;
    text.remove_prefix(2);
    const int second = take_hex(text);
    if (second < 0xDC00 || second >= 0xE000) return false;
    point = 0x10000 + ((point - 0xD800) << 10) + (static_cast<uint32_t>(second) - 0xDC00);
  }
  append_utf8(out, point);
  return true;
}

// What the inside of a JSON string says. False: its escapes are not JSON's.
bool decode(std::string_view raw, std::string& out) {
  constexpr std::string_view letters = "\"\\/bfnrt", meanings = "\"\\/\b\f\n\r\t";
  while (!raw.empty()) {
    const size_t run = std::min(raw.find('\\'), raw.size());
    out.append(raw.substr(0, run));
    raw.remove_prefix(run);
    if (raw.empty()) return true;
    if (raw.size() < 2) return false;
    const char letter = raw[1];
    raw.remove_prefix(2);
    if (letter == 'u') {
      if (!take_character(raw, out)) return false;
    } else if (const size_t at = letters.find(letter); at != std::string_view::npos) {
      out += meanings[at];
    } else {
      return false;
    }
  }
  return true;
}

// JSON writes a byte of a string as six ("\u0000") at most.
size_t longest_spelling(std::string_view name) {
  return 6 * name.size() + 2;
}

}  // namespace

// Copies what passes unchanged in runs.
struct ModelRestorer::Output {
  std::string& out;
  const char* from;  // the first byte that was not copied yet
  void copy(const char* to) {
    out.append(from, to);
    from = to;
  }
};

void ModelRestorer::begin(Shape shape, std::string_view served, std::string_view asked) {
  served_ = served;
  asked_ = asked;
  shape_ = shape;
  line_ = Line::field;
  field_size_ = 0;
  after_cr_ = false;
  held_.clear();
  new_text();
}

void ModelRestorer::new_text() {
  state_ = State::start;
  escape_ = inner_ = false;
  depth_ = 0;
}

void ModelRestorer::feed(std::string_view bytes, std::string& out) {
  Output output{out, bytes.data()};
  const char* const end = bytes.data() + bytes.size();
  if (shape_ == Shape::json) {
    scan(bytes.data(), end, output);
  } else {
    feed_events(bytes.data(), end, output);
  }
  output.copy(end);
}

void ModelRestorer::finish(std::string& out) {
  out += held_;
  held_.clear();
  state_ = State::rest;
}

// ---- lines of an event stream ----

// Lines end with LF, CR or CRLF. Line ends within the data of one event are white space to its JSON.
void ModelRestorer::feed_events(const char* at, const char* end, Output& output) {
  while (at != end) {
    if (*at == '\n' && after_cr_) {
      after_cr_ = false;
      ++at;
      continue;
    }
    after_cr_ = *at == '\r';
    if (*at == '\n' || *at == '\r') {
      end_line(output);
      ++at;
    } else if (line_ == Line::field) {
      at = in_field(at);
    } else {
      const char* const stop = std::find_if(at, end, [](char c) { return c == '\n' || c == '\r'; });
      if (line_ == Line::data) scan(at, stop, output);
      at = stop;
    }
  }
}

const char* ModelRestorer::in_field(const char* at) {
  if (*at != data_field[field_size_]) {
    line_ = Line::other;
    field_size_ = 1;  // whatever it is, the line is not empty
  } else if (++field_size_ == data_field.size()) {
    line_ = Line::data;
  }
  return at + 1;
}

// An empty line ends the event. No JSON string goes on in another line.
void ModelRestorer::end_line(Output& output) {
  if (state_ == State::name) give_up_name(output, State::rest);
  const bool in_string = state_ == State::key || state_ == State::string || state_ == State::nested_string;
  if (line_ == Line::data && in_string) state_ = State::rest;
  if (field_size_ == 0) new_text();
  line_ = Line::field;
  field_size_ = 0;
}

// ---- JSON ----

void ModelRestorer::scan(const char* at, const char* end, Output& output) {
  while (at != end) {
    switch (state_) {
      case State::rest:
        return;
      case State::string:
        at = in_string(at, end, State::after_value);
        break;
      case State::nested_string:
        at = in_string(at, end, State::nested);
        break;
      case State::key:
        at = in_key(at, end);
        break;
      case State::nested:
        at = in_nested(at, end);
        break;
      case State::name:
        at = in_name(at, end, output);
        break;
      default:
        if (!is_space(*at)) between(at, output);
        ++at;
    }
  }
}

// Of a number, true, false or null only the first character is looked at: the others pass in after_value.
void ModelRestorer::between(const char* at, Output& output) {
  const char c = *at;
  switch (state_) {
    case State::start:
      state_ = c == '{' ? State::before_key : State::rest;
      return;
    case State::before_key:
      if (c == '}') return close_object();
      state_ = c == '"' ? State::key : State::rest;
      key_size_ = 0;
      return;
    case State::before_colon:
      state_ = c == ':' ? State::before_value : State::rest;
      return;
    case State::before_value:
      return begin_value(at, output);
    default:
      if (c == '}') return close_object();
      if (c == ',') state_ = State::before_key;
      else if (c == '"' || c == '{' || c == '[' || c == ']' || c == ':') state_ = State::rest;
  }
}

void ModelRestorer::begin_value(const char* at, Output& output) {
  const std::string_view key(key_, key_size_ <= sizeof key_ ? key_size_ : 0);
  const char c = *at;
  if (c == '"') {
    state_ = State::string;
    if (key != "model") return;
    state_ = State::name;
    output.copy(at);
    output.from = at + 1;
    held_.assign(1, c);
    matched_ = 0;
    name_escaped_ = false;
  } else if (c == '{' && !inner_ && (key == "response" || key == "message")) {
    inner_ = true;
    state_ = State::before_key;
  } else if (c == '{' || c == '[') {
    depth_ = 1;
    state_ = State::nested;
  } else {
    state_ = c == ',' || c == ':' || c == '}' || c == ']' ? State::rest : State::after_value;
  }
}

void ModelRestorer::close_object() {
  state_ = inner_ ? State::after_value : State::rest;
  inner_ = false;
}

const char* ModelRestorer::in_string(const char* at, const char* end, State after) {
  if (escape_) {
    escape_ = false;
    return at + 1;
  }
  while (at != end && *at != '"' && *at != '\\') ++at;
  if (at == end) return at;
  if (*at == '"') state_ = after;
  else escape_ = true;
  return at + 1;
}

// A key with an escape counts as one that is too long.
const char* ModelRestorer::in_key(const char* at, const char* end) {
  for (; at != end; ++at) {
    const char c = *at;
    if (!escape_ && c == '"') {
      state_ = State::before_colon;
      return at + 1;
    }
    escape_ = !escape_ && c == '\\';
    if (escape_) key_size_ = sizeof key_ + 1;
    else if (key_size_ < sizeof key_) key_[key_size_++] = c;
    else key_size_ = sizeof key_ + 1;
  }
  return at;
}

const char* ModelRestorer::in_nested(const char* at, const char* end) {
  for (; at != end; ++at) {
    const char c = *at;
    if (c == '"') {
      state_ = State::nested_string;
      return at + 1;
    }
    if (c == '{' || c == '[') ++depth_;
    if ((c == '}' || c == ']') && --depth_ == 0) {
      state_ = State::after_value;
      return at + 1;
    }
  }
  return at;
}

// Holds the bytes back as long as they may be a spelling of the name.
const char* ModelRestorer::in_name(const char* at, const char* end, Output& output) {
  for (; at != end; ++at) {
    const char c = *at;
    output.from = at + 1;
    held_ += c;
    if (escape_) {
      escape_ = false;
    } else if (c == '"') {
      end_name(output);
      return at + 1;
    } else if (c == '\\') {
      escape_ = name_escaped_ = true;
    }
    const bool differs = !name_escaped_ && (matched_ >= served_.size() || served_[matched_++] != c);
    if (!differs && held_.size() < longest_spelling(served_)) continue;
    give_up_name(output, State::string);
    return at + 1;
  }
  return at;
}

void ModelRestorer::end_name(Output& output) {
  bool same = matched_ == served_.size();
  if (name_escaped_) {
    std::string said;
    same = decode(std::string_view(held_).substr(1, held_.size() - 2), said) && said == served_;
  }
  if (!same) return give_up_name(output, State::after_value);
  append_json_string(output.out, asked_);
  held_.clear();
  state_ = State::after_value;
}

void ModelRestorer::give_up_name(Output& output, State next) {
  output.out += held_;
  held_.clear();
  state_ = next;
}

}  // namespace penstock::openai
