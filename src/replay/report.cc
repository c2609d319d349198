#include "penstock/replay/report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <utility>

namespace penstock::replay {
namespace {

struct Column {
  const char* name;   // in the list
  const char* brief;  // in the table
  const char* unit;
  double scale;
  int decimals;
};
constexpr std::array<Column, figure_count> columns = {{
    {"TTFT mean", "TTFT mean", "s", 1, 2},
    {"TTFT p50", "p50", "s", 1, 2},
    {"TTFT p90", "p90", "s", 1, 2},
    {"TTFT p99", "p99", "s", 1, 2},
    {"inter-token latency p50", "ITL p50", "ms", 1000, 1},
    {"inter-token latency p90", "p90", "ms", 1000, 1},
    {"inter-token latency p99", "p99", "ms", 1000, 1},
    {"time per output token p90", "TPOT p90", "ms", 1000, 1},
    {"prefix cache hits", "hit %", "%", 100, 1},
    {"imbalance (busiest / mean)", "imbal", "", 1, 2},
    {"within the SLO", "SLO %", "%", 100, 1},
    {"output", "tok/s", "tokens/s", 1, 0},
    {"preemptions", "preempt", "", 1, 0},
}};

double quantile(std::span<const double> sorted, double q) {
  if (sorted.empty()) return 0;
  const double at = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (at - static_cast<double>(below));
}

double mean_of(std::span<const double> values) {
  if (values.empty()) return 0;
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

// Student's t for a two-sided 95 % interval, by degrees of freedom.
double student(size_t freedom) {
  constexpr std::array<double, 15> table = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306,
                                            2.262,  2.228, 2.201, 2.179, 2.160, 2.145, 2.131};
  return freedom <= table.size() ? table[freedom - 1] : 1.96 + 2.4 / static_cast<double>(freedom);
}

std::string number(double value, int decimals) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", decimals, value);
  return text;
}

std::string cell(const Estimate& estimate, const Column& column) {
  std::string text = number(estimate.mean * column.scale, column.decimals);
  if (estimate.half_width > 0) text += "±" + number(estimate.half_width * column.scale, column.decimals);
  return text;
}

// Characters, not bytes: the ± sign has two.
size_t width_of(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

void pad(std::string& line, const std::string& text, size_t width) {
  line.append(width - std::min(width, width_of(text)), ' ');
  line += text;
}

}  // namespace

Figures figures_of(const RunResult& run, const Slo& slo) {
  std::vector<double> ttft, tpot;
  size_t good = 0;
  for (const Served& served : run.served) {
    ttft.push_back(served.ttft);
    if (served.tpot > 0) tpot.push_back(served.tpot);
    good += served.ttft <= to_seconds(slo.ttft) && served.tpot <= to_seconds(slo.tpot) ? 1 : 0;
  }
  std::sort(ttft.begin(), ttft.end());
  std::sort(tpot.begin(), tpot.end());
  const double work = mean_of(run.work);
  const double length = std::max(to_seconds(run.length), 1e-9);
  const double busiest = run.work.empty() ? 0 : *std::max_element(run.work.begin(), run.work.end());
  const auto share = [](double part, double whole) { return whole > 0 ? part / whole : 0; };

  Figures figures{};
  const auto set = [&figures](Figure figure, double value) { figures[static_cast<size_t>(figure)] = value; };
  set(Figure::ttft_mean, mean_of(ttft));
  set(Figure::ttft_p50, quantile(ttft, 0.5));
  set(Figure::ttft_p90, quantile(ttft, 0.9));
  set(Figure::ttft_p99, quantile(ttft, 0.99));
  set(Figure::itl_p50, run.gaps.quantile(0.5));
  set(Figure::itl_p90, run.gaps.quantile(0.9));
  set(Figure::itl_p99, run.gaps.quantile(0.99));
  set(Figure::tpot_p90, quantile(tpot, 0.9));
  set(Figure::hit_rate, share(static_cast<double>(run.cached_tokens), static_cast<double>(run.prompt_tokens)));
  set(Figure::imbalance, share(busiest, work));
  set(Figure::in_slo, share(static_cast<double>(good), static_cast<double>(run.served.size() + run.refused.all())));
  set(Figure::output_rate, static_cast<double>(run.output_tokens) / length);
  set(Figure::preemptions, static_cast<double>(run.preemptions));
  return figures;
}

Summary summarize(std::string_view policy, std::span<const Figures> runs) {
  Summary summary;
  summary.policy = policy;
  const double n = static_cast<double>(runs.size());
  for (size_t i = 0; i < figure_count; ++i) {
    double sum = 0, squares = 0;
    for (const Figures& run : runs) sum += run[i];
    const double mean = sum / n;
    for (const Figures& run : runs) squares += (run[i] - mean) * (run[i] - mean);
    Estimate& estimate = summary.figures[i];
    estimate.mean = mean;
    if (runs.size() > 1) estimate.half_width = student(runs.size() - 1) * std::sqrt(squares / (n - 1) / n);
  }
  return summary;
}

std::string format_summary(const Summary& summary) {
  std::string out = summary.policy + "\n";
  for (size_t i = 0; i < figure_count; ++i) {
    std::string line = "  ";
    line += columns[i].name;
    line.append(30 - line.size(), ' ');
    out += line + cell(summary.figures[i], columns[i]) + " " + columns[i].unit + "\n";
  }
  return out;
}

std::string format_table(std::span<const Summary> summaries) {
  size_t name_width = 6;
  std::array<size_t, figure_count> widths{};
  for (size_t i = 0; i < figure_count; ++i) widths[i] = std::string_view(columns[i].brief).size();
  for (const Summary& summary : summaries) {
    name_width = std::max(name_width, summary.policy.size());
    for (size_t i = 0; i < figure_count; ++i) {
      widths[i] = std::max(widths[i], width_of(cell(summary.figures[i], columns[i])));
    }
  }
  std::string out = "policy";
  out.append(name_width - out.size(), ' ');
  for (size_t i = 0; i < figure_count; ++i) pad(out, columns[i].brief, widths[i] + 2);
  out += "\n";
  for (const Summary& summary : summaries) {
    std::string line = summary.policy;
    line.append(name_width - line.size(), ' ');
    for (size_t i = 0; i < figure_count; ++i) pad(line, cell(summary.figures[i], columns[i]), widths[i] + 2);
    out += line + "\n";
  }
  return out;
}

std::string format_refused(std::string_view policy, const Refused& refused, size_t requests) {
  if (refused.all() == 0) return "";
  std::string out(policy);
  out += " refused " + std::to_string(refused.all()) + " of " + std::to_string(requests) + " requests:";
  const char* comma = " ";
  const auto add = [&](size_t count, const char* why) {
    if (count > 0) out += std::exchange(comma, ", ") + std::to_string(count) + ' ' + why;
  };
  add(refused.queue_full, "as too many waited (429)");
  add(refused.waited, "that waited too long (503)");
  add(refused.nobody, "as filters left no endpoint (429)");
  return out + "\n";
}

}  // namespace penstock::replay
