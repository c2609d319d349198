#include "penstock/base/stats.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <thread>

namespace penstock {
namespace {

constexpr std::array<double, 3> kBounds{0.1, 1, 10};
constexpr std::array<double, 1> kOneBound{5};

TEST_CASE("counters grow, gauges move both ways") {
  Counter counter;
  counter.add();
  counter.add(41);
  CHECK(counter.get() == 42);
  Gauge gauge;
  gauge.add(5);
  gauge.add(-8);
  CHECK(gauge.get() == -3);
  gauge.set(100);
  CHECK(gauge.get() == 100);
}

TEST_CASE("an observation falls into the first bucket whose bound is not below it") {
  Histogram<kBounds> histogram;
  for (const double value : {-1.0, 0.0, 0.1, 0.100001, 1.0, 9.0, 10.0, 10.1, 1e9}) histogram.record(value);
  CHECK(histogram.bucket(0) == 3);
  CHECK(histogram.bucket(1) == 2);
  CHECK(histogram.bucket(2) == 2);
  CHECK(histogram.bucket(3) == 2);
  CHECK(histogram.sum() == doctest::Approx(-1 + 0.1 + 0.100001 + 1 + 9 + 10 + 10.1 + 1e9));
  histogram.record(std::numeric_limits<double>::infinity());
  CHECK(histogram.bucket(3) == 3);
}

TEST_CASE("the bucket of an observation does not depend on the one before") {
  constexpr std::array<double, 9> values{-1.0, 0.1, 0.100001, 1.0, 1.5, 10.0, 10.1, 1e9, 0.0};
  for (const double before : values) {
    for (const double value : values) {
      Histogram<kBounds> alone, after;
      alone.record(value);
      after.record(before);
      const size_t counted = after.bucket(0) + after.bucket(1) + after.bucket(2) + after.bucket(3);
      REQUIRE(counted == 1);
      size_t was = 0, is = 0;
      while (after.bucket(was) == 0) ++was;
      while (alone.bucket(is) == 0) ++is;
      after.record(value);
      INFO(before << " then " << value);
      CHECK(after.bucket(is) == (was == is ? 2 : 1));
    }
  }
}

TEST_CASE("a histogram with one bound has two buckets") {
  Histogram<kOneBound> histogram;
  histogram.record(5);
  histogram.record(6);
  CHECK(histogram.bucket(0) == 1);
  CHECK(histogram.bucket(1) == 1);
  CHECK(histogram.bounds().size() == 1);
}

TEST_CASE("a reader on another thread never sees a counter fall") {
  Counter counter;
  constexpr uint64_t end = 200'000;
  std::thread writer([&] {
    for (uint64_t i = 0; i < end; ++i) counter.add();
  });
  uint64_t last = 0;
  bool fell = false;
  while (last < end) {
    const uint64_t now = counter.get();
    fell |= now < last;
    last = now;
  }
  writer.join();
  CHECK_FALSE(fell);
  CHECK(counter.get() == end);
}

}  // namespace
}  // namespace penstock
