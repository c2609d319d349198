// Undoes in an answer what the gateway changed in its request. The client's name for a model that the server knows by
// another name: the string value of "model" at the top level of a JSON answer, or of each event of a stream, and in an
// object "response" or "message" there, is replaced whatever it is, because a server may use a third name, such as a
// path. Token ids that only the gateway asked for ("return_token_ids"): the arrays "prompt_token_ids" and "token_ids",
// there and in the elements of "choices", become null, which is what servers say where nobody asks. Nothing else
// changes: generated text is inside strings or deeper in the answer. The bytes may be cut into pieces anywhere, and
// none are held back. Keys with escapes are ignored, and text that is not JSON passes unchanged. Pure; one thread;
// reused.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace penstock::openai {

class AnswerRestorer {
 public:
  enum class Shape : uint8_t { json, events };
  struct Changes {
    // The client's name; it stays valid until the answer has ended. "": the model was not renamed.
    std::string_view model;
    bool token_ids = false;  // they were asked for
  };

  void begin(Shape shape, const Changes& changes);
  // Appends these bytes to `out`, restored.
  void feed(std::string_view bytes, std::string& out);

 private:
  // The position of the next byte in the JSON text. `rest`: the remainder of this text is passed on unread.
  enum class State : uint8_t {
    start,
    before_key,
    key,
    before_colon,
    before_value,
    after_value,
    before_choice,
    after_choice,
    string,
    nested,
    nested_string,
    name,
    ids,
    rest
  };
  // What the key belongs to: the text itself, "response" or "message", the array "choices", an element of it.
  enum class Level : uint8_t { top, inner, choices, choice };
  // How far the line of an event stream is known.
  enum class Line : uint8_t { field, data, other };
  struct Output;

  void feed_events(const char* at, const char* end, Output& output);
  const char* in_field(const char* at);
  void end_line();
  void new_text();

  void scan(const char* at, const char* end, Output& output);
  void between(const char* at, Output& output);
  void between_choices(char c);
  void begin_value(const char* at, Output& output);
  void replace_value(const char* at, State by, Output& output);
  bool is_ids(std::string_view key) const;
  void close_object();
  const char* in_string(const char* at, const char* end, State after);
  const char* in_key(const char* at, const char* end);
  const char* in_nested(const char* at, const char* end);
  const char* in_name(const char* at, const char* end, Output& output);
  const char* in_ids(const char* at, const char* end, Output& output);

  Changes changes_;
  Shape shape_ = Shape::json;

  State state_ = State::start;
  Level level_ = Level::top;
  bool escape_ = false;   // the last byte was a backslash in a string
  uint64_t depth_ = 0;    // brackets open in `nested`
  char key_[16];          // the key being read or last read, as far as it fits
  uint8_t key_size_ = 0;  // sizeof key_ + 1: it did not fit

  Line line_ = Line::field;
  uint8_t field_size_ = 0;  // bytes of the line so far, while they are those of "data:"
  bool after_cr_ = false;
};

}  // namespace penstock::openai
