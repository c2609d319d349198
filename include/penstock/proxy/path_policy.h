// Which paths of the model servers clients may reach. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "penstock/openai/paths.h"

namespace penstock::proxy {

struct PathOptions {
  bool defaults = true;            // paths.defaults: those that openai/paths.h lists, with their methods
  std::vector<std::string> allow;  // paths.allow: patterns of base/url_path.h, with every method
};

// Apart from HTTPRoutes, whose rules may name further paths. `target` is canonical.
bool allows(const PathOptions& options, const openai::PathInfo& info, std::string_view target);
// A path by which clients could control or inspect a model server with these options; "" if none is known.
std::string_view opened_control_path(const PathOptions& options);

}  // namespace penstock::proxy
