// The hot path allocates nothing once warm. This file replaces the global allocation functions of the test program to
// count calls.
#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "penstock/routing/prefix_hash.h"
#include "penstock/routing/router.h"
#include "tests/unit/routing/pool_builder.h"

namespace {
std::atomic<uint64_t> allocations{0};
}

void* operator new(size_t size, const std::nothrow_t&) noexcept {
  ++allocations;
  return std::malloc(size);
}
void* operator new(size_t size) {
  void* memory = operator new(size, std::nothrow);
  if (memory == nullptr) std::abort();
  return memory;
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, size_t) noexcept {
  std::free(memory);
}

using namespace penstock;
using namespace penstock::routing;
using namespace penstock::routing::test;

TEST_CASE("hashing, deciding, reserving, recording and reporting allocate nothing once warm") {
  for (const std::string_view name : policy_names()) {
    CAPTURE(name);
    Policy policy{};
    REQUIRE(parse_policy(name, &policy));
    const auto profile = make_profile(policy);
    PrefixIndex index(1 << 14);
    Router router(*profile, index, 1);
    TokenEstimator estimator;
    PoolBuilder builder(20);
    const std::string prompt(10'000, 'x');
    const std::string_view pieces[] = {prompt};
    std::vector<uint64_t> chain;
    const auto one_request = [&] {
      hash_prompt("model", "salt", pieces, {}, chain);
      Features features;
      features.model = "model";
      features.blocks = chain;
      features.prompt_tokens = estimator.estimate("model", prompt.size());
      const Decision decision = router.decide(features, builder.pool, at_ms(1), {});
      Reservation reservation(*decision.endpoint, 1, features.prompt_tokens, 1, at_ms(1));
      index.record(chain, decision.endpoint->slot);
      reservation.first_token();
      estimator.learn("model", prompt.size(), 2000);
      report_success(*decision.endpoint, at_ms(2), {});
    };
    one_request();
    const uint64_t before = allocations;
    for (int i = 0; i < 100; ++i) one_request();
    CHECK(allocations == before);
  }
}
