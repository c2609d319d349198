// Splits a byte stream into lines, in place, however it was cut into pieces. Every byte is looked at once. Lines have
// json_padding readable bytes behind them.
#pragma once

#include <cstring>
#include <memory>
#include <optional>
#include <string_view>

#include "penstock/kube/reflector.h"

namespace penstock::kube {

class LineBuffer {
 public:
  explicit LineBuffer(size_t line_max) : line_max_(line_max) {}

  void append(std::string_view bytes) {
    if (bytes.empty()) return;
    make_room(bytes.size());
    std::memcpy(memory_.get() + end_, bytes.data(), bytes.size());
    end_ += bytes.size();
  }
  // The next complete line without its end, valid until append(). Nothing: more bytes are needed.
  std::optional<std::string_view> next() {
    if (scanned_ == end_) return std::nullopt;
    const char* const from = memory_.get() + scanned_;
    const auto* const found = static_cast<const char*>(std::memchr(from, '\n', end_ - scanned_));
    if (found == nullptr) {
      scanned_ = end_;
      return std::nullopt;
    }
    const std::string_view line(memory_.get() + start_, static_cast<size_t>(found - (memory_.get() + start_)));
    start_ = scanned_ = static_cast<size_t>(found - memory_.get()) + 1;
    return line;
  }
  // The incomplete line is longer than any may be. Asked after next() has returned nothing.
  bool overlong() const { return end_ - start_ > line_max_; }
  bool partial() const { return end_ > start_; }
  // Keeps the memory, so that a line in use stays readable.
  void clear() { start_ = scanned_ = end_ = 0; }

 private:
  static constexpr size_t capacity_first = 64 * 1024, capacity_kept = 1024 * 1024;

  void make_room(size_t more) {
    const size_t left = end_ - start_;
    const bool shrink = capacity_ > capacity_kept && left + more < capacity_first;
    if (!shrink && end_ + more <= capacity_) return;
    size_t wanted = shrink || capacity_ == 0 ? capacity_first : capacity_;
    while (wanted < left + more) wanted *= 2;
    if (wanted != capacity_) {
      auto fresh = std::make_unique<char[]>(wanted + json_padding);
      if (left > 0) std::memcpy(fresh.get(), memory_.get() + start_, left);
      memory_ = std::move(fresh);
      capacity_ = wanted;
    } else {
      std::memmove(memory_.get(), memory_.get() + start_, left);
    }
    scanned_ -= start_;
    start_ = 0;
    end_ = left;
  }

  const size_t line_max_;
  std::unique_ptr<char[]> memory_;
  size_t capacity_ = 0;  // without the padding
  size_t start_ = 0, scanned_ = 0, end_ = 0;
};

}  // namespace penstock::kube
