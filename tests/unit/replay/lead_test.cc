// The expected-cost policy keeps its lead over the Endpoint Picker's default and over least load on the beginning of a
// recorded trace. The margins are about half of what it leads by today.
#include <doctest/doctest.h>

#include <fstream>

#include "penstock/replay/report.h"
#include "tests/support/files.h"

using namespace penstock;
using namespace penstock::replay;

namespace {

Trace beginning() {
  std::ifstream in(test::source_file("perf/traces/mooncake-beginning.jsonl"));
  auto trace = read_trace(in, "mooncake-beginning.jsonl");
  REQUIRE(trace.ok());
  return std::move(*trace);
}

Summary replayed(const Trace& trace, const Setup& setup, const char* policy) {
  std::vector<Figures> runs;
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    runs.push_back(figures_of(simulate(trace, setup, make_contestant(policy), seed), {}));
  }
  return summarize(policy, runs);
}

}  // namespace

TEST_CASE("expected cost leads on the time to the first token") {
  const Trace trace = beginning();
  Setup setup;
  REQUIRE(find_engine("h100-32b", &setup.engine));
  setup.speed = 1.2;
  const Summary ours = replayed(trace, setup, "expected-cost");
  for (const char* policy : {"epp-default", "least-load"}) {
    const Summary theirs = replayed(trace, setup, policy);
    MESSAGE(format_table(std::array{ours, theirs}));
    CHECK(ours[Figure::ttft_mean].mean < 0.85 * theirs[Figure::ttft_mean].mean);
    CHECK(ours[Figure::ttft_p90].mean < 0.8 * theirs[Figure::ttft_p90].mean);
    CHECK(ours[Figure::in_slo].mean > theirs[Figure::in_slo].mean);
  }
}

TEST_CASE("bound late, requests that would all have waited are mostly answered soon") {
  const Trace trace = beginning();
  Setup setup;
  REQUIRE(find_engine("h100-32b", &setup.engine));
  setup.speed = 2.5;
  const Summary ours = replayed(trace, setup, "expected-cost+hold");
  for (const char* policy : {"expected-cost", "epp-default", "lmetric"}) {
    const Summary theirs = replayed(trace, setup, policy);
    MESSAGE(format_table(std::array{ours, theirs}));
    CHECK(ours[Figure::ttft_mean].mean < 0.8 * theirs[Figure::ttft_mean].mean);
    CHECK(ours[Figure::in_slo].mean > theirs[Figure::in_slo].mean);
  }
}
