#include "penstock/base/random.h"

#include <doctest/doctest.h>

#include <array>
#include <set>

namespace penstock {
namespace {

// Reference values: xoshiro256** on a state from SplitMix64(0) = e220a8397b1dcdaf, 6e789e6aa1b965f4, ...; the first
// output is rotl(s1 * 5, 7) * 9.
TEST_CASE("the first number of a seed follows from the published algorithm") {
  const uint64_t s1 = 0x6e789e6aa1b965f4ull;
  const uint64_t product = s1 * 5;
  CHECK(Random(0).next() == ((product << 7) | (product >> 57)) * 9);
}

TEST_CASE("a seed gives its own sequence, always the same") {
  std::set<uint64_t> firsts;
  for (uint64_t seed = 0; seed < 1000; ++seed) {
    Random a(seed), b(seed);
    firsts.insert(a.next());
    CHECK(b.next() != b.next());
    Random c(seed);
    c.next();
    CHECK(a.next() == c.next());
  }
  CHECK(firsts.size() == 1000);
}

TEST_CASE("below() stays below its bound and reaches every value about equally often") {
  Random random(42);
  std::array<int, 7> seen{};
  for (int i = 0; i < 70'000; ++i) ++seen.at(random.below(seen.size()));
  for (const int count : seen) {
    CHECK(count > 9'500);
    CHECK(count < 10'500);
  }
  CHECK(random.below(1) == 0);
}

TEST_CASE("unit() lies in [0, 1) around one half, and chance() is as likely as asked") {
  Random random(43);
  double sum = 0;
  int hits = 0;
  for (int i = 0; i < 100'000; ++i) {
    const double u = random.unit();
    CHECK((u >= 0 && u < 1));
    sum += u;
    hits += random.chance(0.2) ? 1 : 0;
    CHECK_FALSE(random.chance(0));
    CHECK(random.chance(1));
  }
  CHECK(sum / 100'000 == doctest::Approx(0.5).epsilon(0.01));
  CHECK(hits == doctest::Approx(20'000).epsilon(0.03));
}

}  // namespace
}  // namespace penstock
