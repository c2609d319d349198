#include "penstock/routing/features.h"

#include <functional>

#include "penstock/base/text.h"

namespace penstock::routing {

uint64_t kind_of(std::string_view model, uint32_t api) {
  const uint64_t hash = std::hash<std::string_view>{}(model)*31 + api;
  return hash != 0 ? hash : 1;
}

std::string_view header_of(const Features& features, std::string_view name) {
  std::string_view rest = features.header_fields;
  while (!rest.empty()) {
    const size_t end = rest.find('\n');
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    if (line.size() <= name.size() || line[name.size()] != ':') continue;
    if (!same_ignoring_case(line.substr(0, name.size()), name)) continue;
    line.remove_prefix(name.size() + 1);
    while (!line.empty() && (line.front() == ' ' || line.front() == '\t')) line.remove_prefix(1);
    while (!line.empty() && (line.back() == ' ' || line.back() == '\t' || line.back() == '\r')) line.remove_suffix(1);
    return line;
  }
  return {};
}

}  // namespace penstock::routing
