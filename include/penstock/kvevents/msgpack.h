// Reads MessagePack, value by value, in place. Nothing is allocated and nothing announced is believed: a length that
// the bytes do not have is an error. A value type: a copy is a bookmark. Pure.
#pragma once

#include <cstdint>
#include <string_view>

namespace penstock::kvevents {

class MsgpackReader {
 public:
  enum class Kind : uint8_t { nil, boolean, integer, real, bytes, array, map, extension, none };  // none: end, or bad

  explicit MsgpackReader(std::string_view bytes) : left_(bytes) {}

  Kind peek() const;
  bool at_end() const { return left_.empty(); }
  // Each takes the next value if it is of that kind, and whole; else false, and nothing is taken.
  bool nil();
  bool integer(uint64_t* out);        // negative ones as two's complement
  bool bytes(std::string_view* out);  // text or binary
  bool array(uint32_t* count);        // its values follow
  bool map(uint32_t* count);          // so many keys, each with its value, follow
  bool skip();                        // any value, with all that is in it

 private:
  struct Head {
    Kind kind = Kind::none;
    uint32_t size = 0;     // of the head
    uint64_t value = 0;    // integer, or count
    uint64_t follows = 0;  // bytes behind the head that belong to it (not of arrays and maps)
  };
  Head head() const;

  std::string_view left_;
};

}  // namespace penstock::kvevents
