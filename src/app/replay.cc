#include "replay.h"

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <set>

#include "penstock/base/file.h"
#include "penstock/net/clock.h"
#include "penstock/replay/decisions.h"
#include "penstock/replay/trace.h"

namespace penstock::app {
namespace {

using replay::Figures;
using replay::Summary;
using replay::Trace;

Result<Trace> read(const std::string& path) {
  if (path == "-") return replay::read_trace(std::cin, "stdin");
  errno = 0;
  std::ifstream in(path);
  if (in) in.peek();  // a directory can be opened, and fails at the first read
  if (!in) return Message{path + ": cannot be read: " + std::strerror(errno)};
  in.clear();  // an empty file is at its end
  return replay::read_trace(in, path);
}

Result<Trace> read_all(const replay::Options& options) {
  std::vector<Trace> traces;
  for (const std::string& path : options.traces) {
    Result<Trace> trace = read(path);
    if (!trace.ok()) return trace;
    traces.push_back(std::move(*trace));
  }
  Trace all = replay::merge(traces);
  replay::cut(all, options.limit);
  if (options.length_scale != 1) replay::scale_lengths(all, options.length_scale);
  return all;
}

std::string headline(const Trace& trace, const replay::Options& options) {
  char text[256];
  const double hours = to_seconds(trace.length()) / 3600 / options.setup.speed;
  std::snprintf(text, sizeof text, "%zu requests in %.2f h (speed %g), %u engines, scrape %lld ms, seeds %llu to %llu",
                trace.requests.size(), hours, options.setup.speed, options.setup.endpoints,
                static_cast<long long>(to_ms(options.setup.scrape)), static_cast<unsigned long long>(options.seed),
                static_cast<unsigned long long>(options.seed + options.seeds - 1));
  return text;
}

replay::Contestant contestant_of(const replay::Options& options, const std::string& policy) {
  for (const replay::ConfiguredContestant& configured : options.configured) {
    if (configured.name == policy) return replay::make_contestant(configured);
  }
  return replay::make_contestant(policy);
}

// What all runs of a replay have in common, and what each policy refused.
struct Totals {
  size_t too_long = 0;
  std::string refused;  // lines
};

Summary run(const Trace& trace, const replay::Options& options, const std::string& policy, Totals& totals) {
  std::vector<Figures> figures;
  replay::Refused refused;
  for (uint32_t i = 0; i < options.seeds; ++i) {
    const replay::RunResult result =
        replay::simulate(trace, options.setup, contestant_of(options, policy), options.seed + i);
    figures.push_back(replay::figures_of(result, options.slo));
    totals.too_long = result.too_long;
    refused.queue_full += result.refused.queue_full;
    refused.waited += result.refused.waited;
    refused.nobody += result.refused.nobody;
  }
  totals.refused += replay::format_refused(policy, refused, trace.requests.size() * options.seeds);
  return replay::summarize(policy, figures);
}

bool write(const std::string& path, const std::string& text) {
  std::ofstream out(path);
  out << text;
  out.close();
  if (out) return true;
  std::fprintf(stderr, "penstock: %s: cannot be written: %s\n", path.c_str(), std::strerror(errno));
  return false;
}

Result<std::string> read_page(const std::string& path) {
  if (path == "-") return std::string(std::istreambuf_iterator<char>(std::cin), {});
  Result<std::string> text = read_file(path);
  if (!text.ok()) return Message{path + ": " + text.error().text};
  return text;
}

// A profile of an EndpointPickerConfig is not enough: what its filters read (labels) is not among the inputs.
void tell_unknown(const std::set<std::string>& profiles) {
  for (const std::string& name : profiles) {
    std::fprintf(
        stderr,
        "penstock: \"%s\" is no policy of replay, but a profile of an EndpointPickerConfig; what such profiles "
        "decide by is not all recorded, so give --policy NAME to see what another would have chosen\n",
        name.c_str());
  }
}

replay::Verdict decide_again(const replay::RecordedDecision& decision, const replay::Options& options,
                             const std::string& policy, std::string* now) {
  if (options.configured.empty()) return replay::decide_again(decision, policy, now);
  return replay::decide_again(decision, *contestant_of(options, policy).profile, now);
}

// 0: all that were recorded are the same, or another policy was asked for.
int decide_again(const replay::Options& options) {
  const Result<std::string> page = read_page(options.decisions);
  const auto decisions = page.ok() ? replay::read_decisions(*page, options.decisions) : page.error();
  if (!decisions.ok()) {
    std::fprintf(stderr, "penstock: %s\n", decisions.error().text.c_str());
    return 1;
  }
  const std::string policy = options.policies.empty() ? "" : options.policies.front();
  std::array<size_t, 4> counts{};
  size_t elsewhere = 0;
  std::set<std::string> unknown;
  for (size_t i = 0; i < decisions->size(); ++i) {
    std::string now;
    const std::string& then = (*decisions)[i].endpoint;
    const replay::Verdict verdict = decide_again((*decisions)[i], options, policy, &now);
    ++counts[static_cast<size_t>(verdict)];
    if (verdict == replay::Verdict::unknown_policy) unknown.insert((*decisions)[i].profile);
    if (verdict != replay::Verdict::differs || (!policy.empty() && now == then)) continue;
    ++elsewhere;
    std::printf("decision %zu: then %s, now %s%s\n", i + 1, then.empty() ? "none" : then.c_str(),
                now.empty() ? "none" : now.c_str(), now == then ? ", for other reasons" : "");
  }
  const auto count = [&](replay::Verdict verdict) { return counts[static_cast<size_t>(verdict)]; };
  std::printf("%zu decisions: %zu differ; %zu without inputs, %zu of an unknown policy\n", decisions->size(), elsewhere,
              count(replay::Verdict::not_recorded), count(replay::Verdict::unknown_policy));
  tell_unknown(unknown);
  return policy.empty() && (elsewhere > 0 || !unknown.empty()) ? 1 : 0;
}

}  // namespace

int replay(const replay::Options& options) {
  if (!options.decisions.empty()) return decide_again(options);
  const Result<Trace> trace = read_all(options);
  if (!trace.ok()) {
    std::fprintf(stderr, "penstock: %s\n", trace.error().text.c_str());
    return 1;
  }
  const std::string title = headline(*trace, options);
  std::printf("%s\n", title.c_str());
  if (trace->left_out > 0) std::printf("%zu records without token counts were left out\n", trace->left_out);
  net::Clock& clock = net::system_clock();
  const Instant before = clock.now();
  std::vector<Summary> summaries;
  Totals totals;
  for (const std::string& policy : options.policies) {
    summaries.push_back(run(*trace, options, policy, totals));
    if (!options.compare) std::printf("%s", replay::format_summary(summaries.back()).c_str());
    std::fflush(stdout);
  }
  if (options.compare) std::printf("%s", replay::format_table(summaries).c_str());
  std::printf("%s", totals.refused.c_str());
  if (totals.too_long > 0) {
    std::printf("%zu requests are longer than an engine can hold and were left out\n", totals.too_long);
  }
  std::fprintf(stderr, "took %.1f s\n", to_seconds(clock.now() - before));
  if (!options.plot.empty() && !write(options.plot, replay::draw(summaries, title))) return 1;
  return 0;
}

}  // namespace penstock::app
