// A body as a scanner wants it: exactly its bytes, and behind them the readable padding and not a byte more (so that
// an address sanitizer sees any read beyond).
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <string_view>

namespace penstock::openai {

class PaddedBody {
 public:
  explicit PaddedBody(std::string_view text, char behind = ' ')
      : size_(text.size()), bytes_(std::make_unique<char[]>(text.size() + padding)) {
    if (!text.empty()) std::memcpy(bytes_.get(), text.data(), text.size());
    std::memset(bytes_.get() + text.size(), behind, padding);
  }
  std::string_view view() const { return {bytes_.get(), size_}; }

 private:
  static constexpr size_t padding = 64;
  size_t size_;
  std::unique_ptr<char[]> bytes_;
};

}  // namespace penstock::openai
