// An input that is read as a script: bytes that say what happens next, until there are none. Behind its end it is
// zeros.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace penstock::test {

class Script {
 public:
  explicit Script(std::string_view bytes) : left_(bytes) {}
  bool over() const { return left_.empty(); }
  uint8_t byte() {
    if (left_.empty()) return 0;
    const auto value = static_cast<uint8_t>(left_.front());
    left_.remove_prefix(1);
    return value;
  }
  std::string_view bytes(size_t count) {
    const std::string_view taken = left_.substr(0, count);
    left_.remove_prefix(taken.size());
    return taken;
  }

 private:
  std::string_view left_;
};

}  // namespace penstock::test
