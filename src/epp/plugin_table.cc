// The table of plugins: the rows of all files.
#include <algorithm>
#include <vector>

#include "rows.h"

namespace penstock::epp {

std::string_view to_string(PluginKind kind) {
  switch (kind) {
    case PluginKind::scorer:
      return "scorer";
    case PluginKind::filter:
      return "filter";
    case PluginKind::scorer_and_filter:
      return "scorer and filter";
    case PluginKind::picker:
      return "picker";
    case PluginKind::profile_handler:
      return "profile handler";
    case PluginKind::decider:
      return "decider";
    case PluginKind::admitter:
      return "plugin of admission";
    case PluginKind::screener:
      return "screener of all profiles";
    case PluginKind::detector:
    case PluginKind::saturation:
      return "saturation detector";
    case PluginKind::flow:
      return "policy of flow control";
    case PluginKind::built_in:
      return "part of the gateway";
    case PluginKind::unsupported:
      return "not supported";
  }
  return "";
}

std::span<const PluginInfo> plugin_types() {
  static const std::vector<PluginInfo> table = [] {
    std::vector<PluginInfo> out;
    for (const auto rows : {scorer_rows(), gauge_scorer_rows(), filter_rows(), load_filter_rows(), profile_rows(),
                            flow_rows(), producer_rows(), gateway_part_rows(), unsupported_rows()}) {
      out.insert(out.end(), rows.begin(), rows.end());
    }
    return out;
  }();
  return table;
}

const PluginInfo* find_plugin_type(std::string_view type) {
  if (type.starts_with("multicluster-")) type = "multicluster-file-discovery";  // none of them is here
  const std::span<const PluginInfo> types = plugin_types();
  if (type.empty()) return nullptr;
  const auto found =
      std::ranges::find_if(types, [&](const auto& info) { return info.type == type || info.older == type; });
  return found == types.end() ? nullptr : &*found;
}

bool runs_in_profile(PluginKind kind) {
  return kind == PluginKind::scorer || kind == PluginKind::filter || kind == PluginKind::scorer_and_filter ||
         kind == PluginKind::picker || kind == PluginKind::detector;
}

}  // namespace penstock::epp
