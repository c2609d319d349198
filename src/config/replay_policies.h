// EndpointPickerConfigs as policies of `penstock replay`.
#pragma once

#include <string_view>
#include <vector>

#include "penstock/base/problem.h"
#include "penstock/replay/options.h"

namespace penstock::config {

// Whether a --policy is a file's name: with a dot or a slash in it, which no policy's has.
bool names_file(std::string_view policy);

// Reads the files among options.policies into options.configured; epp::for_replay() says what becomes of them.
void read_configured(replay::Options& options, std::vector<Problem>& problems, std::vector<Problem>& notes);

}  // namespace penstock::config
