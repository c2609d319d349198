// What a plugin's parameters say.
#include <algorithm>

#include "penstock/routing/plugin.h"

namespace penstock::routing {
namespace {

template <typename T>
const T* find(const PluginSpec& spec, std::string_view parameter) {
  for (const auto& [name, value] : spec.parameters) {
    if (name == parameter) return std::get_if<T>(&value);
  }
  return nullptr;
}

}  // namespace

bool PluginSpec::has(std::string_view parameter) const {
  return std::any_of(parameters.begin(), parameters.end(), [&](const auto& entry) { return entry.first == parameter; });
}
bool PluginSpec::flag(std::string_view parameter, bool otherwise) const {
  const bool* const value = find<bool>(*this, parameter);
  return value == nullptr ? otherwise : *value;
}
double PluginSpec::number(std::string_view parameter, double otherwise) const {
  const double* const value = find<double>(*this, parameter);
  return value == nullptr ? otherwise : *value;
}
std::string PluginSpec::text(std::string_view parameter, std::string_view otherwise) const {
  const auto* const value = find<std::string>(*this, parameter);
  return value == nullptr ? std::string(otherwise) : *value;
}
std::vector<std::string> PluginSpec::texts(std::string_view parameter) const {
  const auto* const value = find<std::vector<std::string>>(*this, parameter);
  return value == nullptr ? std::vector<std::string>() : *value;
}
NumbersByPriority PluginSpec::numbers(std::string_view parameter) const {
  const auto* const value = find<NumbersByPriority>(*this, parameter);
  return value == nullptr ? NumbersByPriority() : *value;
}

Caps PluginSpec::caps(std::string_view parameter) const {
  const auto* const value = find<Caps>(*this, parameter);
  return value == nullptr ? Caps() : *value;
}

std::string concurrency_mode(const PluginSpec& detector) {
  return detector.text("concurrencyMode", detector.text("mode", "requests"));
}

}  // namespace penstock::routing
