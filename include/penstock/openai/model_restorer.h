// Restores the client's name for a model in the answer of a server that knows the model by another name. It replaces
// the string value of "model" at the top level of a JSON answer, or of each event of a stream, and in an object
// "response" or "message" there. The value is replaced whatever it is, because a server may use a third name, such as a
// path. Nothing else changes: generated text is inside strings or deeper in the answer. The bytes may be cut into
// pieces anywhere, and none are held back. Keys with escapes are ignored, and text that is not JSON passes unchanged.
// Pure; one thread; reused.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace penstock::openai {

class ModelRestorer {
 public:
  enum class Shape : uint8_t { json, events };

  // `asked` is the client's name; it stays valid until the answer has ended.
  void begin(Shape shape, std::string_view asked);
  // Appends these bytes to `out`, with the name replaced.
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
    string,
    nested,
    nested_string,
    name,
    rest
  };
  // How far the line of an event stream is known.
  enum class Line : uint8_t { field, data, other };
  struct Output;

  void feed_events(const char* at, const char* end, Output& output);
  const char* in_field(const char* at);
  void end_line();
  void new_text();

  void scan(const char* at, const char* end, Output& output);
  void between(const char* at, Output& output);
  void begin_value(const char* at, Output& output);
  void close_object();
  const char* in_string(const char* at, const char* end, State after);
  const char* in_key(const char* at, const char* end);
  const char* in_nested(const char* at, const char* end);
  const char* in_name(const char* at, const char* end, Output& output);

  std::string_view asked_;
  Shape shape_ = Shape::json;

  State state_ = State::start;
  bool escape_ = false;   // the last byte was a backslash in a string
  bool inner_ = false;    // in "response" or "message"
  uint64_t depth_ = 0;    // brackets open in `nested`
  char key_[8];           // the key being read or last read, as far as it fits
  uint8_t key_size_ = 0;  // sizeof key_ + 1: it did not fit

  Line line_ = Line::field;
  uint8_t field_size_ = 0;  // bytes of the line so far, while they are those of "data:"
  bool after_cr_ = false;
};

}  // namespace penstock::openai
