// What a plugin's parameters say, and the plugin that its row makes of them.
#include <algorithm>
#include <charconv>

#include "penstock/base/assert.h"
#include "penstock/base/quantity.h"
#include "penstock/epp/scheduling.h"

namespace penstock::epp {
namespace {

template <typename T>
const T* find(const PluginSpec& spec, std::string_view parameter) {
  for (const auto& [name, value] : spec.parameters) {
    if (name == parameter) return std::get_if<T>(&value);
  }
  return nullptr;
}

const ParameterInfo* find_parameter(const PluginSpec& spec, std::string_view parameter) {
  const auto found = std::ranges::find(spec.info->parameters, parameter, &ParameterInfo::name);
  return found == spec.info->parameters.end() ? nullptr : &*found;
}

// Numbers and flags that no row has would silently be 0 and false.
std::string_view fallback_of(const PluginSpec& spec, std::string_view parameter) {
  const ParameterInfo* const info = find_parameter(spec, parameter);
  PENSTOCK_ASSERT(info != nullptr);
  return info->fallback;
}

}  // namespace

bool PluginSpec::has(std::string_view parameter) const {
  return std::any_of(parameters.begin(), parameters.end(), [&](const auto& entry) { return entry.first == parameter; });
}

bool PluginSpec::flag(std::string_view parameter) const {
  const bool* const value = find<bool>(*this, parameter);
  return value == nullptr ? fallback_of(*this, parameter) == "true" : *value;
}

double PluginSpec::number(std::string_view parameter) const {
  if (const double* const value = find<double>(*this, parameter)) return *value;
  const std::string_view fallback = fallback_of(*this, parameter);
  double number = 0;
  const auto parsed = std::from_chars(fallback.data(), fallback.data() + fallback.size(), number);
  if (parsed.ec != std::errc{} || parsed.ptr == fallback.data() + fallback.size()) return number;
  return to_seconds(parse_duration(fallback).value());
}

std::string PluginSpec::text(std::string_view parameter) const {
  const auto* const value = find<std::string>(*this, parameter);
  if (value != nullptr) return *value;
  const ParameterInfo* const info = find_parameter(*this, parameter);
  return info == nullptr ? std::string() : std::string(info->fallback);
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

std::unique_ptr<routing::Scorer> make_scorer(const PluginSpec& said, const SchedulingSpec& whole) {
  return said.info->make.scorer == nullptr ? nullptr : said.info->make.scorer(said, whole);
}

std::unique_ptr<routing::Filter> make_filter(const PluginSpec& said, const SchedulingSpec& whole) {
  return said.info->make.filter == nullptr ? nullptr : said.info->make.filter(said, whole);
}

std::unique_ptr<routing::Admitter> make_admitter(const PluginSpec& said, const SchedulingSpec& whole) {
  return said.info->make.admitter == nullptr ? nullptr : said.info->make.admitter(said, whole);
}

Needs needs_of(const PluginSpec& said, const SchedulingSpec& whole) {
  return said.info->needs_of == nullptr ? said.info->needs : said.info->needs_of(said, whole);
}

}  // namespace penstock::epp
