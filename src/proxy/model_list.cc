#include "model_list.h"

#include <algorithm>
#include <charconv>

namespace penstock::proxy {

namespace {

constexpr std::string_view kModels = "/v1/models";

std::string percent_decoded(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    uint8_t byte = 0;
    const char* const digits = text.data() + i + 1;
    if (text[i] == '%' && i + 2 < text.size() && std::from_chars(digits, digits + 2, byte, 16).ptr == digits + 2) {
      out += static_cast<char>(byte);
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

}  // namespace

std::optional<std::string> models_asked_for(std::string_view method, std::string_view path) {
  if ((method != "GET" && method != "HEAD") || !path.starts_with(kModels)) return std::nullopt;
  path.remove_prefix(kModels.size());
  if (path.empty()) return std::string();
  if (path.front() != '/') return std::nullopt;
  return percent_decoded(path.substr(1));
}

std::vector<std::string_view> model_names(std::span<const endpoints::Pool* const> pools) {
  std::vector<std::string_view> names;
  const auto add = [&](std::string_view name) {
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  };
  for (const endpoints::Pool* pool : pools) {
    if (pool->rewrites == nullptr) continue;
    for (const objects::Rewrites::Alias& alias : pool->rewrites->aliases()) {
      if (pool->rewrites->rule(alias.rule).total_weight > 0) add(alias.model);  // without a target it leads nowhere
    }
  }
  for (const endpoints::Pool* pool : pools) {
    for (const endpoints::EndpointView& endpoint : pool->endpoints) {
      for (const std::string& name : endpoint.models) add(name);
    }
  }
  return names;
}

}  // namespace penstock::proxy
