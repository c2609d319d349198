#include "penstock/admission/saturation.h"

#include <doctest/doctest.h>

#include <vector>

#include "penstock/routing/router.h"
#include "tests/unit/routing/pool_builder.h"

using namespace penstock;
using namespace penstock::admission;
using routing::test::at_ms;
using routing::test::PoolBuilder;

namespace {

const Instant now = at_ms(10);

// With the pace that nobody has taught yet, 10,000 prompt tokens are a second.
DetectorOptions options(Detector detector) {
  DetectorOptions out;
  out.detector = detector;
  out.hold = milliseconds(250);
  return out;
}

routing::Reservation reserve(PoolBuilder& builder, size_t endpoint, uint32_t tokens, bool streaming = true) {
  return routing::Reservation(builder.state(endpoint), tokens, tokens, 100, now, streaming);
}

}  // namespace

TEST_CASE("late binding: saturated when every endpoint has more prefill before it than the hold, until a first token") {
  PoolBuilder builder(2);
  const SaturationDetector detector(options(Detector::late_binding));
  CHECK(detector.room(builder.pool, {}, now, 9).requests == 2);
  CHECK(detector.saturation(builder.pool, now) == 0);
  auto a = reserve(builder, 0, 2600);
  CHECK(detector.room(builder.pool, {}, now, 9).requests == 1);
  auto b = reserve(builder, 1, 2400);
  CHECK(detector.room(builder.pool, {}, now, 9).requests == 1);
  CHECK(detector.saturation(builder.pool, now) == doctest::Approx(0.96));
  auto c = reserve(builder, 1, 200);
  CHECK(detector.room(builder.pool, {}, now, 9).requests == 0);
  CHECK(detector.saturation(builder.pool, now) >= 1);
  a.first_token(now);
  CHECK(detector.room(builder.pool, {}, now, 9).requests == 1);
}

TEST_CASE("late binding: an endpoint without room in its KV cache takes no more, unless it has nothing to do") {
  PoolBuilder builder(1);
  endpoints::EngineMetrics& metrics = builder.view(0).metrics;
  metrics.block_size = 16;
  metrics.kv_blocks = 1000;  // 16,000 tokens, of which 14,400 may be taken
  metrics.kv_usage = 0.8;    // 12,800
  DetectorOptions limited = options(Detector::late_binding);
  limited.kv_limit = 0.9;
  const SaturationDetector detector(limited);
  // Nothing runs: what the gauge says are leftovers.
  CHECK(detector.room(builder.pool, {.uncached_tokens = 3000}, now).requests == 1);
  metrics.running = 1;
  CHECK(detector.room(builder.pool, {.uncached_tokens = 1200}, now).requests == 1);  // and 300 for its answer
  CHECK(detector.room(builder.pool, {.uncached_tokens = 1400}, now).requests == 0);
  CHECK(detector.room(builder.pool, {.uncached_tokens = 1400, .max_tokens = 100}, now).requests == 1);
  auto waiting = reserve(builder, 0, 500);
  CHECK(detector.room(builder.pool, {.uncached_tokens = 1200}, now).requests == 0);
  // Metrics too old: what we hold there counts.
  const Instant later = now + seconds(3);
  CHECK(detector.room(builder.pool, {.uncached_tokens = 13'000}, later).requests == 1);
  CHECK(detector.room(builder.pool, {.uncached_tokens = 14'000}, later).requests == 0);
}

TEST_CASE("late binding: requests that do not stream count only while the engine says that somebody waits") {
  PoolBuilder builder(1);
  const SaturationDetector detector(options(Detector::late_binding));
  auto unseen = reserve(builder, 0, 50'000, /*streaming=*/false);
  CHECK(detector.room(builder.pool, {}, now).requests == 1);
  builder.view(0).metrics.waiting = 1;
  builder.view(0).metrics.requests_at_scrape = 1;
  CHECK(detector.room(builder.pool, {}, now).requests == 0);
  CHECK(detector.room(builder.pool, {}, now + seconds(6)).requests == 1);  // it should be over by now
}

TEST_CASE("late binding: prefill that the engine works on side by side is no queue") {
  PoolBuilder builder(1);
  const SaturationDetector detector(options(Detector::late_binding));
  std::vector<routing::Reservation> prefills;
  const auto scraped = [&](double waiting) {
    builder.view(0).metrics.waiting = waiting;
    builder.view(0).metrics.requests_at_scrape = builder.state(0).load.requests.load();
  };
  const auto room = [&] { return detector.room(builder.pool, {}, now).requests > 0; };
  scraped(0);
  prefills.push_back(reserve(builder, 0, 100'000));
  CHECK_FALSE(room());  // it may have to wait: nobody has looked
  scraped(0);           // it does not
  CHECK(room());
  // As many more as it works on, and then another look.
  for (size_t more = 1; more <= 8; more *= 2) {
    for (size_t i = 0; i < more; ++i) {
      CHECK(room());
      prefills.push_back(reserve(builder, 0, 100'000));
    }
    CHECK_FALSE(room());
    scraped(0);
  }
  scraped(1);
  CHECK_FALSE(room());
  builder.view(0).metrics = {};  // not known: nobody would tell when the queue is gone
  CHECK(room());
}

TEST_CASE("late binding: requests that do not stream are no sign of prefill side by side") {
  PoolBuilder builder(1);
  const SaturationDetector detector(options(Detector::late_binding));
  std::vector<routing::Reservation> begun;
  for (int i = 0; i < 8; ++i) begun.push_back(reserve(builder, 0, 100, /*streaming=*/false));  // decoding for long
  begun.push_back(reserve(builder, 0, 100'000));
  builder.view(0).metrics.requests_at_scrape = 9;
  CHECK(detector.room(builder.pool, {}, now).requests == 1);
  auto next = reserve(builder, 0, 100'000);
  CHECK(detector.room(builder.pool, {}, now).requests == 0);
}

TEST_CASE("late binding: what a scrape does not count yet was sent after it") {
  PoolBuilder builder(1);
  const SaturationDetector detector(options(Detector::late_binding));
  std::vector<routing::Reservation> sent;
  for (int i = 0; i < 4; ++i) sent.push_back(reserve(builder, 0, 100'000));
  builder.view(0).metrics.requests_at_scrape = 4;
  CHECK(detector.room(builder.pool, {}, now).requests == 1);  // all are worked on, and nobody waits
  builder.view(0).metrics.not_counted_at_scrape = 3;          // the engine is still in the step of the first
  CHECK(detector.room(builder.pool, {}, now).requests == 0);
}

TEST_CASE("late binding: requests of other gateways that wait in the engine count, idle engines never") {
  PoolBuilder builder(1);
  const SaturationDetector detector(options(Detector::late_binding));
  builder.view(0).metrics.waiting = 4;
  CHECK(detector.room(builder.pool, {}, now).requests == 1);
  builder.view(0).metrics.waiting = 6;
  CHECK(detector.room(builder.pool, {}, now).requests == 0);
  CHECK(detector.room(builder.pool, {}, now + seconds(3)).requests == 1);  // too old to be believed
}

TEST_CASE("utilization: the mean of max(waiting / 5, KV use / 0.8), as the Endpoint Picker has it") {
  PoolBuilder builder(2);
  const SaturationDetector detector(options(Detector::utilization));
  builder.view(0).metrics.waiting = 10;
  CHECK(detector.saturation(builder.pool, now) == doctest::Approx(1.0));
  CHECK(detector.room(builder.pool, {}, now).requests == 0);
  builder.view(0).metrics.waiting = 9;
  CHECK(detector.room(builder.pool, {}, now).requests == 1);
  builder.view(1).metrics.kv_usage = 0.4;
  CHECK(detector.saturation(builder.pool, now) == doctest::Approx((1.8 + 0.5) / 2));
}

TEST_CASE("utilization: what was sent since the scrape counts; unknown metrics are neither idle nor full") {
  PoolBuilder builder(1);
  const SaturationDetector detector(options(Detector::utilization));
  std::vector<routing::Reservation> sent;
  for (int i = 0; i < 5; ++i) {
    CHECK(detector.room(builder.pool, {}, now).requests == 1);
    sent.push_back(reserve(builder, 0, 10));
  }
  CHECK(detector.room(builder.pool, {}, now).requests == 0);
  builder.view(0).metrics.known = false;
  CHECK(detector.room(builder.pool, {}, now).requests == 0);
  sent.clear();
  CHECK(detector.room(builder.pool, {}, now).requests == 1);
}

TEST_CASE("concurrency: as many requests as endpoints take together") {
  PoolBuilder builder(2);
  DetectorOptions two = options(Detector::concurrency);
  two.concurrency = 2;
  const SaturationDetector detector(two);
  std::vector<routing::Reservation> sent;
  for (uint32_t i = 0; i < 4; ++i) {
    CHECK(detector.room(builder.pool, {}, now, 9).requests == 4 - i);
    sent.push_back(reserve(builder, 0, 10));
  }
  CHECK(detector.room(builder.pool, {}, now, 9).requests == 0);
  CHECK(detector.saturation(builder.pool, now) == 1);
}

TEST_CASE("concurrency by requests and tokens: an endpoint is as full as the fuller of them") {
  PoolBuilder builder(1);
  DetectorOptions both = options(Detector::concurrency);
  both.by_tokens = true;
  both.concurrency = 4;
  both.tokens = 1000;
  const SaturationDetector detector(both);
  builder.state(0).load.requests = 1;
  builder.state(0).load.kv_tokens = 500;
  CHECK(detector.saturation(builder.pool, now) == 0.5);
  builder.state(0).load.requests = 3;
  CHECK(detector.saturation(builder.pool, now) == 0.75);
  both.by_requests = false;
  CHECK(SaturationDetector(both).saturation(builder.pool, now) == 0.5);
}

TEST_CASE("only endpoints that could be picked count: ready, not ejected, serving the model") {
  PoolBuilder builder(3);
  builder.view(0).readiness = endpoints::Readiness::draining;
  builder.state(1).health.probe_failed = true;
  builder.view(2).models = {"m"};
  const SaturationDetector detector(options(Detector::late_binding));
  CHECK(detector.room(builder.pool, {.model = "m"}, now, 9).requests == 1);
  const Room other = detector.room(builder.pool, {.model = "n"}, now, 9);
  CHECK_FALSE(other.any_endpoint);
  CHECK(other.requests == 0);
  builder.view(2).readiness = endpoints::Readiness::not_ready;
  CHECK(detector.saturation(builder.pool, now) == 1);
}
