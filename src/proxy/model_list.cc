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

bool has_alias(const endpoints::Pool& pool, std::string_view name) {
  if (pool.rewrites == nullptr) return false;
  const auto& aliases = pool.rewrites->aliases();
  return std::any_of(aliases.begin(), aliases.end(), [&](const auto& alias) {
    return alias.model == name && pool.rewrites->rule(alias.rule).total_weight > 0;
  });
}

template <typename Number>
void take_least(Number& least, Number said) {
  if (said != 0) least = least == 0 ? said : std::min(least, said);
}

void take_first(std::string& first, const std::string& said) {
  if (first.empty()) first = said;
}

void add_details(const endpoints::EndpointView& endpoint, std::string_view name, openai::ModelInfo& info) {
  const auto at = std::find(endpoint.models.begin(), endpoint.models.end(), name);
  if (at == endpoint.models.end() || endpoint.served == nullptr) return;
  const endpoints::ServedModel& said = (*endpoint.served)[static_cast<size_t>(at - endpoint.models.begin())];
  take_least(info.created, said.created);
  take_least(info.max_model_len, said.max_model_len);
  take_first(info.owned_by, said.owned_by);
  take_first(info.root, said.root);
  take_first(info.parent, said.parent);
}

}  // namespace

std::optional<std::string> models_asked_for(std::string_view method, std::string_view path) {
  if ((method != "GET" && method != "HEAD") || !path.starts_with(kModels)) return std::nullopt;
  path.remove_prefix(kModels.size());
  if (path.empty()) return std::string();
  if (path.front() != '/') return std::nullopt;
  return percent_decoded(path.substr(1));
}

std::string model_in_query(std::string_view target) {
  constexpr std::string_view name = "model=";
  target.remove_prefix(std::min(target.find('?'), target.size()));
  while (!target.empty()) {
    target.remove_prefix(1);
    const size_t end = std::min(target.find('&'), target.size());
    if (target.starts_with(name)) return percent_decoded(target.substr(name.size(), end - name.size()));
    target.remove_prefix(end);
  }
  return {};
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

openai::ModelInfo model_info(std::span<const endpoints::Pool* const> pools, std::string_view name) {
  openai::ModelInfo info{.id = std::string(name)};
  const bool alias = std::any_of(pools.begin(), pools.end(), [&](const auto* pool) { return has_alias(*pool, name); });
  if (alias) info.root = name;
  for (const endpoints::Pool* pool : pools) {
    for (const endpoints::EndpointView& endpoint : pool->endpoints) {
      if (!alias) add_details(endpoint, name, info);
    }
  }
  if (info.owned_by.empty()) info.owned_by = "penstock";
  return info;
}

}  // namespace penstock::proxy
