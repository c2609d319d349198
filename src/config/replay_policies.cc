#include "replay_policies.h"

#include <set>
#include <string>
#include <utility>

#include "penstock/base/file.h"
#include "penstock/epp/read.h"
#include "penstock/epp/replay.h"

namespace penstock::config {

bool names_file(std::string_view policy) {
  return policy.find_first_of("./") != std::string_view::npos;
}

void read_configured(replay::Options& options, std::vector<Problem>& problems, std::vector<Problem>& notes) {
  std::set<std::string> read;
  for (const std::string& policy : options.policies) {
    if (!names_file(policy) || !read.insert(policy).second) continue;
    std::string_view path = policy;
    const bool holds = replay::take_hold_suffix(path);
    const Result<std::string> text = read_file(std::string(path));
    if (!text.ok()) {
      problems.push_back({std::string(path), 0, "", text.error().text});
      continue;
    }
    const size_t before = problems.size();
    const auto picker = epp::read_config_text(*text, {.file = std::string(path)}, problems, notes);
    if (picker == nullptr || problems.size() > before) continue;
    if (holds && picker->flow.enabled) {
      problems.push_back({picker->source, picker->flow_line, "featureGates",
                          "flowControl is on here, so that +hold behind the file's name has no effect; leave one out"});
    }
    const epp::ReplayOf of = {.decisions = !options.decisions.empty(), .slo_asked = options.setup.slo_ttft_ms > 0};
    epp::Replayed replayed = epp::for_replay(*picker, of, problems, notes);
    replay::ConfiguredContestant contestant{
        .name = policy, .make_profile = {}, .prefix = replayed.scheduling.prefix, .flow = std::move(replayed.flow)};
    contestant.make_profile = [scheduling = std::move(replayed.scheduling)] { return epp::make_profile(scheduling); };
    options.configured.push_back(std::move(contestant));
  }
}

}  // namespace penstock::config
