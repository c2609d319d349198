#include "penstock/routing/least_work.h"

#include <doctest/doctest.h>

#include <vector>

#include "tests/unit/routing/pool_builder.h"

using namespace penstock;
using namespace penstock::routing;
using routing::test::at_ms;
using routing::test::PoolBuilder;

TEST_CASE("a request costs what is not cached where most of it is") {
  PoolBuilder builder(3);
  PrefixIndex index(1024);
  std::vector<uint64_t> chain(20);
  for (size_t i = 0; i < chain.size(); ++i) chain[i] = (i + 1) * 0x9e3779b97f4a7c15;
  index.record(std::span(chain).first(5), builder.state(1).slot);
  index.record(std::span(chain).first(12), builder.state(2).slot);
  LeastWork scales(index);
  const Prompt prompt{chain, 16, 20 * 16 + 7};

  const Work work = scales.of(prompt, "", builder.pool, at_ms(1));
  CHECK(work.uncached_tokens == 8 * 16 + 7);
  CHECK(work.prefill > Duration{0});
  builder.pool.endpoints[2].readiness = endpoints::Readiness::draining;
  const Work without = scales.of(prompt, "", builder.pool, at_ms(1));
  CHECK(without.uncached_tokens == 15 * 16 + 7);
  CHECK(without.prefill > work.prefill);
  CHECK(scales.of({{}, 16, 100}, "", builder.pool, at_ms(1)).uncached_tokens == 100);
  CHECK(scales.of({chain, 16, 60}, "", builder.pool, at_ms(1)).uncached_tokens ==
        0);  // estimated shorter than its hits

  builder.pool.endpoints.clear();
  CHECK(scales.of(prompt, "", builder.pool, at_ms(1)).uncached_tokens == 20 * 16 + 7);
}
