#include "penstock/replay/report.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

using namespace penstock;
using namespace penstock::replay;

namespace {

double get(const Figures& figures, Figure figure) {
  return figures[static_cast<size_t>(figure)];
}

}  // namespace

TEST_CASE("figures of a run") {
  RunResult run;
  for (int i = 0; i <= 100; ++i) run.served.push_back({static_cast<float>(i) / 10, 0.05f});
  run.served[0].tpot = 0.2f;
  run.prompt_tokens = 1000;
  run.cached_tokens = 250;
  run.output_tokens = 500;
  run.work = {1, 2, 3};
  run.length = seconds(10);
  const Figures figures = figures_of(run, {seconds(5), milliseconds(100)});
  CHECK(get(figures, Figure::ttft_mean) == doctest::Approx(5));
  CHECK(get(figures, Figure::ttft_p50) == doctest::Approx(5));
  CHECK(get(figures, Figure::ttft_p90) == doctest::Approx(9));
  CHECK(get(figures, Figure::ttft_p99) == doctest::Approx(9.9));
  CHECK(get(figures, Figure::tpot_p90) == doctest::Approx(0.05));
  CHECK(get(figures, Figure::hit_rate) == doctest::Approx(0.25));
  CHECK(get(figures, Figure::imbalance) == doctest::Approx(1.5));
  CHECK(get(figures, Figure::output_rate) == doctest::Approx(50));
  CHECK(get(figures, Figure::in_slo) == doctest::Approx(50.0 / 101));  // 0.1 to 5.0 s; the first was too slow later
}

TEST_CASE("an empty run has figures, all zero") {
  for (const double figure : figures_of({}, {})) CHECK(figure == 0);
}

TEST_CASE("means and 95 % intervals over seeds") {
  Figures a{}, b{}, c{};
  a[0] = 1;
  b[0] = 2;
  c[0] = 3;
  const Figures one[] = {b};
  CHECK(summarize("p", one)[Figure::ttft_mean].mean == 2);
  CHECK(summarize("p", one)[Figure::ttft_mean].half_width == 0);
  const Figures three[] = {a, b, c};
  const Estimate estimate = summarize("p", three)[Figure::ttft_mean];
  CHECK(estimate.mean == doctest::Approx(2));
  CHECK(estimate.half_width == doctest::Approx(4.303 / std::sqrt(3.0)));  // t(2) s / sqrt(n), s = 1
}

TEST_CASE("as a list, a table and a picture") {
  Figures a{}, b{};
  a[0] = 1.25;
  b[0] = 1.75;
  const Figures runs[] = {a, b};
  const Summary summaries[] = {summarize("first", runs), summarize("se<ond", runs)};
  CHECK(format_summary(summaries[0]).find("TTFT mean                   1.50±3.18 s") != std::string::npos);
  const std::string table = format_table(summaries);
  CHECK(std::count(table.begin(), table.end(), '\n') == 3);
  CHECK(table.find("se<ond") != std::string::npos);
  const std::string picture = draw(summaries, "a & b");
  CHECK(picture.starts_with("<svg"));
  CHECK(picture.ends_with("</svg>\n"));
  CHECK(picture.find("se&lt;ond") != std::string::npos);
  CHECK(picture.find("a &amp; b") != std::string::npos);
}
