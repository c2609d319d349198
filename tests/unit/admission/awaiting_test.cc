#include "penstock/admission/awaiting.h"

#include <doctest/doctest.h>

#include "tests/unit/routing/pool_builder.h"

namespace penstock::admission {
namespace {

using endpoints::Readiness;

Instant at(int64_t s) {
  return Instant(seconds(s));
}

// Endpoint 0 serves "a" and has not been ready since second 100, endpoint 1 serves "b" and not since second 120.
struct Gone {
  Gone() {
    builder.view(0).models = {"a"};
    builder.view(1).models = {"b"};
    for (const size_t i : {0, 1}) {
      builder.view(i).readiness = Readiness::not_ready;
      builder.state(i).health.not_ready_since_ns = at(100 + 20 * static_cast<int64_t>(i)).time_since_epoch().count();
    }
  }
  std::optional<Instant> until(std::string_view model, int64_t now, Duration ttl = seconds(30)) {
    return awaited_until(builder.pool, model, at(now), at(now), ttl);
  }
  routing::test::PoolBuilder builder{2};
};

TEST_CASE("requests wait for an endpoint until so long after it was ready, and then no more") {
  Gone gone;
  CHECK(gone.until("a", 100) == at(130));
  CHECK(gone.until("a", 129) == at(130));
  CHECK(gone.until("a", 130) == std::nullopt);
  CHECK(gone.until("b", 130) == at(150));
  CHECK(gone.until("", 130) == at(150));
  CHECK(gone.until("c", 101) == std::nullopt);
  CHECK(gone.until("a", 101, Duration{0}) == std::nullopt);
}

TEST_CASE("nobody waits where routing finds somebody, however bad") {
  Gone gone;
  gone.builder.view(0).last_resort = true;
  CHECK(gone.until("a", 101) == std::nullopt);
  CHECK(gone.until("b", 121) == at(150));
  gone.builder.view(1).readiness = Readiness::ready;
  gone.builder.state(1).health.ejected_until_ns = at(1000).time_since_epoch().count();
  CHECK(gone.until("b", 121) == std::nullopt);
}

TEST_CASE("of a pool scaled to zero each request may make an endpoint come") {
  endpoints::Pool pool;
  CHECK(awaited_until(pool, "a", at(500), at(510), seconds(30)) == at(530));
  CHECK(awaited_until(pool, "a", at(500), at(530), seconds(30)) == std::nullopt);
}

}  // namespace
}  // namespace penstock::admission
