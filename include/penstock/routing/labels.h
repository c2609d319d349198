// Labels of pods that scorers and filters go by.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "penstock/routing/router.h"

namespace penstock::routing {

// The value of a label of the candidate's pod; null: it has none.
const std::string* label_of(const Candidate& candidate, std::string_view key);
// "0-4096" as the label of a context length says; false when it does not.
bool parse_range(std::string_view text, double* low, double* high);

// How near to each other two pods are, the narrowest level first.
constexpr std::array<std::string_view, 4> topology_levels = {"host", "rack", "zone", "region"};
// The labels that say where a pod is, one for each level.
using TopologyLabels = std::array<std::string, topology_levels.size()>;

}  // namespace penstock::routing
