// The figures of replays: of one run, of the same replay with several seeds, and as text. Pure.
#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/replay/simulate.h"

namespace penstock::replay {

enum class Figure : uint8_t {
  ttft_mean,
  ttft_p50,
  ttft_p90,
  ttft_p99,
  itl_p50,
  itl_p90,
  itl_p99,
  tpot_p90,
  hit_rate,
  imbalance,
  in_slo,
  output_rate,
  preemptions,
};
constexpr size_t figure_count = 13;

struct Slo {
  Duration ttft = seconds(5);
  Duration tpot = milliseconds(100);
};

// In seconds, shares of 1, tokens per second. Imbalance: the prefill of the busiest endpoint over the mean.
using Figures = std::array<double, figure_count>;
Figures figures_of(const RunResult& run, const Slo& slo);

// The mean over runs with different seeds, and the half width of its 95 % confidence interval (0 with one run).
struct Estimate {
  double mean = 0, half_width = 0;
};
struct Summary {
  std::string policy;
  std::array<Estimate, figure_count> figures;
  Estimate operator[](Figure figure) const { return figures[static_cast<size_t>(figure)]; }
};
Summary summarize(std::string_view policy, std::span<const Figures> runs);

// A list of one policy's figures, with their units.
std::string format_summary(const Summary& summary);
// One row a policy.
std::string format_table(std::span<const Summary> summaries);
// A line, if any were: how many of the requests a policy refused, and why. The figures are of the others, but for the
// SLO, which they missed.
std::string format_refused(std::string_view policy, const Refused& refused, size_t requests);
// Bars for TTFT p90 and mean, inter-token p90 and SLO attainment, as an SVG picture of its own.
std::string draw(std::span<const Summary> summaries, std::string_view title);

}  // namespace penstock::replay
