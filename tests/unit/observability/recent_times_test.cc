#include "penstock/observability/recent_times.h"

#include "fixture.h"

using namespace penstock;
using namespace penstock::observability;
using std::chrono::minutes;

namespace {

// One shard whose streams have this time to the first token.
struct Streams {
  Gateway gateway;
  const ShardStats* shards[2] = {&gateway.shards[0], &gateway.shards[1]};
  Instant now = seconds(1000) + Instant{};
  RecentTimes recent{now};

  void finish(Duration first, int count = 1) {
    for (int i = 0; i < count; ++i) {
      proxy::ExchangeRecord record = streamed_answer(gateway.states[0]);
      record.time_to_first_token = first;
      gateway.shards[i % 2].finished(record);
    }
  }
  void pass(Duration time) {
    for (Duration passed{}; passed < time; passed += RecentTimes::period) {
      now += RecentTimes::period;
      recent.sample(now, shards);
    }
  }
  double p50() const { return quantile(epp_general_seconds, recent.window(now, shards).counts.first_token, 0.5); }
};

}  // namespace

TEST_CASE("quantiles are those of the last minutes: what was slow an hour ago is forgotten") {
  Streams streams;
  CHECK(streams.p50() < 0);  // nothing was observed
  streams.finish(seconds(8), 100);
  CHECK(streams.p50() > 6);
  streams.pass(minutes(2));
  streams.finish(milliseconds(30), 10);
  CHECK(streams.p50() > 6);  // most of the last minutes' are slow
  streams.pass(minutes(4));
  CHECK(streams.p50() < 0.05);  // the slow ones are older than five minutes
  streams.pass(minutes(5));
  CHECK(streams.p50() < 0);
}

TEST_CASE("the window says how long it is: from the start at first, then nearly five minutes") {
  Streams streams;
  streams.now += seconds(20);
  CHECK(streams.recent.window(streams.now, streams.shards).span == seconds(20));
  streams.pass(minutes(60));
  const Duration span = streams.recent.window(streams.now, streams.shards).span;
  CHECK(span == RecentTimes::period * (RecentTimes::samples_max - 1));
}

TEST_CASE("a quantile is interpolated within its bucket, and beyond the last bound it is that bound") {
  constexpr double bounds[] = {1, 2, 4};
  const uint64_t even[] = {0, 10, 10, 0}, beyond[] = {0, 0, 0, 5};
  CHECK(quantile(bounds, even, 0.25) == doctest::Approx(1.5));
  CHECK(quantile(bounds, even, 0.75) == doctest::Approx(3));
  CHECK(quantile(bounds, beyond, 0.5) == 4);
}
