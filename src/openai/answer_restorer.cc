#include "penstock/openai/answer_restorer.h"

#include <algorithm>

#include "json_text.h"
#include "penstock/base/text.h"

namespace penstock::openai {
namespace {

constexpr std::string_view data_field = "data:";

}  // namespace

// Copies what passes unchanged in runs.
struct AnswerRestorer::Output {
  std::string& out;
  const char* from;  // the first byte that was not copied yet
  void copy(const char* to) {
    out.append(from, to);
    from = to;
  }
};

void AnswerRestorer::begin(Shape shape, const Changes& changes) {
  changes_ = changes;
  shape_ = shape;
  line_ = Line::field;
  field_size_ = 0;
  after_cr_ = false;
  new_text();
}

void AnswerRestorer::new_text() {
  state_ = State::start;
  level_ = Level::top;
  escape_ = false;
  depth_ = 0;
}

void AnswerRestorer::feed(std::string_view bytes, std::string& out) {
  Output output{out, bytes.data()};
  const char* const end = bytes.data() + bytes.size();
  if (shape_ == Shape::json) {
    scan(bytes.data(), end, output);
  } else {
    feed_events(bytes.data(), end, output);
  }
  output.copy(end);
}

// ---- lines of an event stream ----

// Lines end with LF, CR or CRLF. Line ends within the data of one event are white space to its JSON.
void AnswerRestorer::feed_events(const char* at, const char* end, Output& output) {
  while (at != end) {
    if (*at == '\n' && after_cr_) {
      after_cr_ = false;
      ++at;
      continue;
    }
    after_cr_ = *at == '\r';
    if (*at == '\n' || *at == '\r') {
      end_line();
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

const char* AnswerRestorer::in_field(const char* at) {
  if (*at != data_field[field_size_]) {
    line_ = Line::other;
    field_size_ = 1;  // whatever it is, the line is not empty
  } else if (++field_size_ == data_field.size()) {
    line_ = Line::data;
  }
  return at + 1;
}

// An empty line ends the event. No JSON string goes on in another line.
void AnswerRestorer::end_line() {
  const bool in_string =
      state_ == State::key || state_ == State::string || state_ == State::nested_string || state_ == State::name;
  if (line_ == Line::data && in_string) state_ = State::rest;
  if (field_size_ == 0) new_text();
  line_ = Line::field;
  field_size_ = 0;
}

// ---- JSON ----

void AnswerRestorer::scan(const char* at, const char* end, Output& output) {
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
      case State::ids:
        at = in_ids(at, end, output);
        break;
      default:
        if (!is_space(*at)) between(at, output);
        ++at;
    }
  }
}

// Of a number, true, false or null only the first character is looked at: the others pass in after_value.
void AnswerRestorer::between(const char* at, Output& output) {
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
    case State::before_choice:
    case State::after_choice:
      return between_choices(c);
    default:
      if (c == '}') return close_object();
      if (c == ',') state_ = State::before_key;
      else if (c == '"' || c == '{' || c == '[' || c == ']' || c == ':') state_ = State::rest;
  }
}

void AnswerRestorer::between_choices(char c) {
  if (c == ']') {
    state_ = State::after_value;
    level_ = Level::top;
  } else if (state_ == State::before_choice && c == '{') {
    state_ = State::before_key;
    level_ = Level::choice;
  } else {
    state_ = state_ == State::after_choice && c == ',' ? State::before_choice : State::rest;
  }
}

void AnswerRestorer::begin_value(const char* at, Output& output) {
  const std::string_view key(key_, key_size_ <= sizeof key_ ? key_size_ : 0);
  const char c = *at;
  const bool outer = level_ == Level::top || level_ == Level::inner;
  if (c == '"') {
    state_ = State::string;
    if (key != "model" || !outer || changes_.model.empty()) return;
    replace_value(at, State::name, output);
    append_json_string(output.out, changes_.model);
  } else if (c == '{' && level_ == Level::top && (key == "response" || key == "message")) {
    level_ = Level::inner;
    state_ = State::before_key;
  } else if (c == '[' && level_ == Level::top && key == "choices" && changes_.token_ids) {
    level_ = Level::choices;
    state_ = State::before_choice;
  } else if (c == '[' && changes_.token_ids && is_ids(key)) {
    replace_value(at, State::ids, output);
    output.out += "null";
  } else if (c == '{' || c == '[') {
    depth_ = 1;
    state_ = State::nested;
  } else {
    state_ = c == ',' || c == ':' || c == '}' || c == ']' ? State::rest : State::after_value;
  }
}

bool AnswerRestorer::is_ids(std::string_view key) const {
  return key == "prompt_token_ids" || (key == "token_ids" && level_ == Level::choice);
}

// What stands in its place is appended by the caller.
void AnswerRestorer::replace_value(const char* at, State by, Output& output) {
  state_ = by;
  output.copy(at);
  output.from = at + 1;
}

void AnswerRestorer::close_object() {
  state_ = level_ == Level::inner ? State::after_value : level_ == Level::choice ? State::after_choice : State::rest;
  level_ = level_ == Level::choice ? Level::choices : Level::top;
}

const char* AnswerRestorer::in_string(const char* at, const char* end, State after) {
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
const char* AnswerRestorer::in_key(const char* at, const char* end) {
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

const char* AnswerRestorer::in_nested(const char* at, const char* end) {
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

// Numbers, with nothing in them that could be a bracket.
const char* AnswerRestorer::in_ids(const char* at, const char* end, Output& output) {
  output.copy(at);  // the end of a line, and the beginning of the next
  at = std::find(at, end, ']');
  if (at != end) {
    state_ = State::after_value;
    ++at;
  }
  output.from = at;
  return at;
}

// The client's name stands in its place.
const char* AnswerRestorer::in_name(const char* at, const char* end, Output& output) {
  output.from = in_string(at, end, State::after_value);
  return output.from;
}

}  // namespace penstock::openai
