// One replay: a trace, a fleet of simulated engines, a policy and a seed. The decisions are made by routing::Router
// with the product's prefix index, load counters and token estimator; the engines are those of penstock-sim. Virtual
// time; no I/O, and nothing outside the seed decides: equal inputs give equal results to the bit.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "penstock/admission/options.h"
#include "penstock/base/time.h"
#include "penstock/engine/engine.h"
#include "penstock/replay/contestant.h"
#include "penstock/replay/trace.h"

namespace penstock::replay {

// From then on an engine takes 1 / `speed` of the time that Setup::engine says, for everything.
struct SpeedChange {
  Instant at;  // since the start of the replay
  uint32_t endpoint = 0;
  double speed = 1;
};

struct Setup {
  engine::EngineOptions engine;
  // Nothing can be learnt: no metrics after the first look, no usage, and nobody streams.
  bool silent = false;
  uint32_t endpoints = 8;
  std::vector<double> engine_speeds;             // of the first ones; 1 of the others
  std::vector<SpeedChange> speed_changes;        // in order of time
  double speed = 1;                              // requests come this many times as fast as recorded
  Duration scrape = milliseconds(50);            // between two looks at an endpoint's metrics; 0: before each decision
  double streaming = 1;                          // share of the requests that stream
  double token_noise = 0;                        // sigma of the log of (bytes per token) from prompt to prompt
  uint32_t burst = 1;                            // so many requests at a time come in one instant
  double slo_ttft_ms = 0, slo_tpot_ms = 0;       // that every request asks for; 0: nothing
  admission::FlowOptions flow{.enabled = true};  // of contestants that hold requests
};

// An engine by the name of what it is like; false: there is none of that name.
bool find_engine(std::string_view name, engine::EngineOptions* out);
std::span<const std::string_view> engine_names();

// Gaps between tokens, counted in steps of 1 %: exact enough for quantiles of millions.
class GapHistogram {
 public:
  void add(Duration gap);
  double quantile(double q) const;  // seconds; 0 when empty
 private:
  static constexpr size_t bins = 1600;
  std::vector<uint64_t> counts_ = std::vector<uint64_t>(bins);
  uint64_t total_ = 0;
};

struct Served {
  float ttft = 0;  // seconds
  float tpot = 0;  // seconds per token after the first; 0 for answers of one token
};

// Requests that got no answer, by the reason.
struct Refused {
  size_t queue_full = 0;  // too many waited for room (429)
  size_t waited = 0;      // no room came in time (503)
  size_t nobody = 0;      // the filters left no endpoint (429)
  size_t all() const { return queue_full + waited + nobody; }
};

struct RunResult {
  std::vector<Served> served;  // in order of completion
  GapHistogram gaps;
  uint64_t prompt_tokens = 0, cached_tokens = 0, output_tokens = 0, predicted_tokens = 0;
  uint64_t preemptions = 0;
  size_t too_long = 0;  // requests that no engine could hold; left out
  Refused refused;
  std::vector<double> work;      // seconds of prefill computed, by endpoint
  std::vector<size_t> requests;  // by endpoint
  Duration length{};             // from the first arrival to the last token
};

RunResult simulate(const Trace& trace, const Setup& setup, const Contestant& contestant, uint64_t seed);

}  // namespace penstock::replay
