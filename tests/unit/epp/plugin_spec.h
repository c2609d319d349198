// Plugins as a configuration would name them, and what is compared of their work.
#pragma once

#include <doctest/doctest.h>

#include <string>
#include <utility>
#include <vector>

#include "penstock/epp/scheduling.h"

namespace penstock::epp::test {

using Parameters = std::vector<std::pair<std::string, ParameterValue>>;
using Scores = std::vector<double>;      // in the order of the candidates
using Names = std::vector<std::string>;  // of endpoints or terms

// Named as its type.
inline PluginSpec plugin(std::string_view type, Parameters parameters = {}) {
  const PluginInfo* const info = find_plugin_type(type);
  REQUIRE(info != nullptr);
  return {.name = std::string(type), .info = info, .parameters = std::move(parameters)};
}

}  // namespace penstock::epp::test
