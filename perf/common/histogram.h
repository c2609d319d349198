#pragma once
// A log-linear histogram of nanoseconds: 64 linear steps in each power of two, so that any value is kept
// to within 1.6 %, from 1 ns to hours, in a fixed 22 KiB.

#include <array>
#include <bit>
#include <cstdint>

namespace penstock::perf {

class Histogram {
 public:
  void record(uint64_t ns) {
    ++counts_[index_of(ns)];
    ++total_;
    sum_ += ns;
    if (ns > max_) max_ = ns;
  }

  uint64_t count() const { return total_; }
  uint64_t max() const { return max_; }
  double mean() const { return total_ == 0 ? 0.0 : static_cast<double>(sum_) / static_cast<double>(total_); }

  // The upper edge of the step that holds the given quantile (0..1); 0 when nothing was recorded.
  uint64_t quantile(double q) const {
    if (total_ == 0) return 0;
    uint64_t wanted = static_cast<uint64_t>(q * static_cast<double>(total_) + 0.5);
    if (wanted == 0) wanted = 1;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < steps; ++i) {
      seen += counts_[i];
      if (seen >= wanted) return upper_edge(i) < max_ ? upper_edge(i) : max_;
    }
    return max_;
  }

 private:
  static constexpr uint32_t linear_bits = 6;
  static constexpr uint32_t linear = 1u << linear_bits;
  static constexpr uint32_t octaves = 42;
  static constexpr uint32_t steps = linear * octaves;

  static uint32_t index_of(uint64_t v) {
    if (v < linear) return static_cast<uint32_t>(v);
    uint32_t shift = static_cast<uint32_t>(std::bit_width(v)) - linear_bits - 1;
    uint32_t index = (shift + 1) * linear + static_cast<uint32_t>((v >> shift) - linear);
    return index < steps ? index : steps - 1;
  }

  static uint64_t upper_edge(uint32_t index) {
    if (index < linear) return index;
    uint32_t shift = index / linear - 1;
    return ((static_cast<uint64_t>(linear) + index % linear + 1) << shift) - 1;
  }

  std::array<uint64_t, steps> counts_{};
  uint64_t total_ = 0;
  uint64_t sum_ = 0;
  uint64_t max_ = 0;
};

}  // namespace penstock::perf
