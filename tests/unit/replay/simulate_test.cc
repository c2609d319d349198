#include "penstock/replay/simulate.h"

#include <doctest/doctest.h>

#include <cstring>

#include "penstock/replay/report.h"
#include "tests/unit/replay/small_trace.h"

using namespace penstock;
using namespace penstock::replay;
using namespace penstock::replay::test;

namespace {

bool same(const RunResult& a, const RunResult& b) {
  return a.served.size() == b.served.size() && a.length == b.length && a.work == b.work &&
         a.cached_tokens == b.cached_tokens &&
         std::memcmp(a.served.data(), b.served.data(), a.served.size() * sizeof(Served)) == 0;
}

}  // namespace

TEST_CASE("equal seeds give equal results to the bit, other seeds others; with every policy all is served") {
  Trace trace = conversations(20, 4, milliseconds(120));
  for (TraceRequest& request : trace.requests) request.spread = seconds(1);
  Setup setup = small_setup();
  setup.token_noise = 0.2;
  setup.streaming = 0.8;
  for (const ContestantInfo& info : contestants()) {
    CAPTURE(info.name);
    const RunResult once = simulate(trace, setup, make_contestant(info.name), 5);
    CHECK(once.served.size() == trace.requests.size());
    CHECK(once.prompt_tokens > 0);
    CHECK(same(once, simulate(trace, setup, make_contestant(info.name), 5)));
    CHECK_FALSE(same(once, simulate(trace, setup, make_contestant(info.name), 6)));
  }
}

TEST_CASE("a lone request takes what the engine's formula says") {
  Trace trace = conversations(1, 1, seconds(1));
  Setup setup = small_setup();
  setup.engine.prefill_doubling_tokens = 0;
  setup.engine.decode_ms_per_1k_tokens = 0;
  const RunResult run = simulate(trace, setup, make_contestant("random"), 1);
  REQUIRE(run.served.size() == 1);
  const double prefill = trace.requests[0].prompt_tokens / setup.engine.prefill_tokens_per_s;
  CHECK(run.served[0].ttft == doctest::Approx(prefill + setup.engine.step_overhead_ms / 1000).epsilon(1e-4));
  CHECK(run.served[0].tpot ==
        doctest::Approx((setup.engine.decode_ms + setup.engine.step_overhead_ms) / 1000).epsilon(1e-4));
  CHECK(run.cached_tokens == 0);
}

TEST_CASE("one endpoint finds every beginning again; spread over three by turns, fewer; by prefix, nearly all") {
  const Trace trace = conversations(20, 5, milliseconds(400));
  Setup setup = small_setup();
  const auto hits = [&](const char* policy) {
    const RunResult run = simulate(trace, setup, make_contestant(policy), 1);
    return static_cast<double>(run.cached_tokens) / static_cast<double>(run.prompt_tokens);
  };
  setup.endpoints = 1;
  const double most = hits("random");
  setup.endpoints = 3;
  CHECK(most > 0.5);
  CHECK(hits("random") < 0.8 * most);
  CHECK(hits("expected-cost") > 0.9 * most);
  CHECK(hits("epp-default") > 0.9 * most);
}

TEST_CASE("speed divides the time between arrivals; bursts come at once; what no engine holds is left out") {
  Trace trace = conversations(4, 1, seconds(10));
  trace.requests.back().prompt_tokens = 10'000'000;
  Setup setup = small_setup();
  const RunResult slow = simulate(trace, setup, make_contestant("least-load"), 1);
  CHECK(slow.too_long == 1);
  CHECK(slow.served.size() == 3);
  CHECK(slow.length > seconds(20));
  setup.speed = 10;
  CHECK(simulate(trace, setup, make_contestant("least-load"), 1).length < seconds(10));
  setup.speed = 1;
  setup.burst = 3;
  CHECK(simulate(trace, setup, make_contestant("least-load"), 1).length < seconds(10));
}

TEST_CASE("an engine of half the speed takes twice as long; one whose speed changes, from then on") {
  const Trace trace = conversations(2, 1, seconds(10));
  Setup setup = small_setup();
  setup.endpoints = 1;
  const RunResult usual = simulate(trace, setup, make_contestant("random"), 1);
  setup.engine_speeds = {0.5};
  const RunResult half = simulate(trace, setup, make_contestant("random"), 1);
  setup.engine_speeds = {};
  setup.speed_changes = {{Instant(seconds(5)), 0, 0.5}};
  const RunResult later = simulate(trace, setup, make_contestant("random"), 1);
  for (const RunResult* run : {&usual, &half, &later}) REQUIRE(run->served.size() == 2);
  for (size_t i = 0; i < 2; ++i) {
    CHECK(half.served[i].ttft == doctest::Approx(2 * usual.served[i].ttft));
    CHECK(half.served[i].tpot == doctest::Approx(2 * usual.served[i].tpot));
    CHECK(later.served[i].ttft == doctest::Approx((i == 0 ? 1 : 2) * usual.served[i].ttft));
    CHECK(later.served[i].tpot == doctest::Approx((i == 0 ? 1 : 2) * usual.served[i].tpot));
  }
}

TEST_CASE("a late scrape hurts the policy that lives by gauges more than the one with its own accounts") {
  const Trace trace = conversations(60, 3, milliseconds(60));
  Setup setup = small_setup();
  const auto mean_ttft = [&](const char* policy, Duration scrape) {
    setup.scrape = scrape;
    const auto figures = figures_of(simulate(trace, setup, make_contestant(policy), 1), {});
    return figures[static_cast<size_t>(Figure::ttft_mean)];
  };
  CHECK(mean_ttft("expected-cost", seconds(5)) < 1.1 * mean_ttft("expected-cost", milliseconds(50)));
  CHECK(mean_ttft("expected-cost", seconds(5)) < mean_ttft("epp-default", seconds(5)));
}

TEST_CASE("without streams no first token is seen, and all is still spread and served") {
  const Trace trace = conversations(40, 3, milliseconds(100));
  Setup setup = small_setup();
  setup.streaming = 0;
  const RunResult run = simulate(trace, setup, make_contestant("expected-cost"), 1);
  CHECK(run.served.size() == trace.requests.size());
  const Figures figures = figures_of(run, {});
  CHECK(figures[static_cast<size_t>(Figure::imbalance)] < 1.5);
}

TEST_CASE("bound late, all is served under overload, nobody is much worse off, and a fleet with room does not change") {
  Trace trace = conversations(80, 4, milliseconds(50));
  const auto mean_ttft = [&](const char* policy, double speed) {
    Setup setup = small_setup();
    setup.speed = speed;
    const RunResult run = simulate(trace, setup, make_contestant(policy), 1);
    CHECK(run.served.size() == trace.requests.size());
    return figures_of(run, {})[static_cast<size_t>(Figure::ttft_mean)];
  };
  CHECK(mean_ttft("expected-cost+hold", 1) == mean_ttft("expected-cost", 1));
  // Turns come before the turns before them are answered: what they cost is known only when these are.
  for (const double speed : {2.0, 3.0, 5.0, 8.0}) {
    CAPTURE(speed);
    CHECK(mean_ttft("expected-cost+hold", speed) < 1.1 * mean_ttft("expected-cost", speed));
  }
}

TEST_CASE("engines by name") {
  engine::EngineOptions options;
  for (const std::string_view name : engine_names()) CHECK(find_engine(name, &options));
  CHECK_FALSE(find_engine("abacus", &options));
}

TEST_CASE("quantiles of gaps are exact to a percent") {
  GapHistogram gaps;
  CHECK(gaps.quantile(0.5) == 0);
  for (int i = 1; i <= 1000; ++i) gaps.add(milliseconds(i));
  CHECK(gaps.quantile(0.5) == doctest::Approx(0.5).epsilon(0.012));
  CHECK(gaps.quantile(0.9) == doctest::Approx(0.9).epsilon(0.012));
}
