// EndpointPickerConfigs as policies of `penstock replay`.
#pragma once

#include <string_view>
#include <vector>

#include "penstock/config/load.h"
#include "penstock/replay/options.h"

namespace penstock::config {

// Whether a --policy is a file's name: with a dot or a slash in it, which no policy's has.
bool names_file(std::string_view policy);

// Reads the files among options.policies into options.configured. What a replay cannot carry out is a problem; what it
// knows nothing of, so that a part of the configuration has no effect, is a note: one for each reason and file.
void read_configured(replay::Options& options, std::vector<Problem>& problems, std::vector<Problem>& notes);

}  // namespace penstock::config
