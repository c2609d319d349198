// Plain statistics that one thread writes and any thread may read: relaxed atomics without a lock
// prefix. The exporter (observability) reads them; the layers only say what happened.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

namespace penstock {

// Written by one thread alone; only ever grows.
class Counter {
 public:
  void add(uint64_t n = 1) { value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed); }
  uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

// Written by one thread alone; goes up and down.
class Gauge {
 public:
  void add(int64_t n) { set(get() + n); }
  void set(int64_t n) { value_.store(n, std::memory_order_relaxed); }
  int64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> value_{0};
};

// A histogram with fixed upper bounds (the last bucket, +Inf, is implicit). Written by one thread.
// `Bounds` is a reference to a constexpr std::array<double, N>, ascending.
template <const auto& Bounds>
class Histogram {
 public:
  static constexpr size_t bound_count = std::size(Bounds);
  static constexpr std::span<const double> bounds() { return Bounds; }

  void record(double value) {
    // The first bound that is not below the value, sought from where the last one was: most are near.
    size_t at = last_;
    while (at < bound_count && Bounds[at] < value) ++at;
    while (at > 0 && !(Bounds[at - 1] < value)) --at;
    last_ = at;
    buckets_[at].add();
    sum_.store(sum_.load(std::memory_order_relaxed) + value, std::memory_order_relaxed);
  }
  // Not cumulative: observations in (bounds[i-1], bounds[i]]; i == bound_count is +Inf.
  uint64_t bucket(size_t i) const { return buckets_[i].get(); }
  double sum() const { return sum_.load(std::memory_order_relaxed); }

 private:
  std::array<Counter, bound_count + 1> buckets_;
  std::atomic<double> sum_{0};
  size_t last_ = 0;  // the writer's own
};

}  // namespace penstock
