// From the JSON of one object to its type: only the fields that the gateway needs, and no trust in any of them. What is
// wrong is told with the path of the field. Pure; one thread for each Decoder.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/base/result.h"
#include "penstock/objects/types.h"

namespace penstock::objects {

struct FieldProblem {
  std::string path;     // "spec.targetPorts[0].number"; "" for the object as a whole
  std::string message;  // what it is and what would be right
};
struct DecodeError {
  std::vector<FieldProblem> problems;  // never empty
  std::string text() const;            // all of them in one line
};

// `lenient` is for objects that an API server has checked: unknown keys are of a newer version and mean nothing.
// `strict` is for files: an unknown key is a mistake in the resources that we know whole (inference and Gateway API).
enum class Strictness : uint8_t { lenient, strict };

class Decoder {
 public:
  explicit Decoder(Strictness strictness = Strictness::lenient);
  ~Decoder();
  Decoder(Decoder&&) noexcept;
  Decoder& operator=(Decoder&&) noexcept;

  // Bytes that must be readable behind the text, for decode_padded().
  static constexpr size_t padding = 64;
  // `json` is one object of that kind (its own "kind" and "apiVersion" are not looked at: items of a typed list have
  // none). `padding` bytes behind it must be readable, their values do not matter.
  Result<Object, DecodeError> decode_padded(Kind kind, std::string_view json);
  // The same for any text; copies it.
  Result<Object, DecodeError> decode(Kind kind, std::string_view json);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace penstock::objects
