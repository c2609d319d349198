#include "penstock/proxy/path_policy.h"

#include <algorithm>

#include "penstock/base/url_path.h"

namespace penstock::proxy {

bool allows(const PathOptions& options, const openai::PathInfo& info, std::string_view target) {
  if (info.listed && options.defaults) return true;
  return std::any_of(options.allow.begin(), options.allow.end(),
                     [target](const std::string& pattern) { return path_matches(pattern, target); });
}

std::string_view opened_control_path(const PathOptions& options) {
  return openai::first_control_path([&](std::string_view path) { return allows(options, {}, path); });
}

}  // namespace penstock::proxy
