#include "engines.h"

#include <utility>

#include "penstock/config/endpoint_picker.h"

namespace penstock::app {
namespace {

const routing::EnginesSpec& said_of_engines(const config::Options& options) {
  static const routing::EnginesSpec nothing;
  return options.endpoint_picker == nullptr ? nothing : options.endpoint_picker->scheduling.engines;
}

discovery::EnginePreset preset_of(const routing::EngineSpec& spec) {
  using discovery::Signal;
  const discovery::EngineSet& known = *discovery::built_in_engines();
  discovery::EnginePreset preset;
  if (known.contains(spec.name)) preset = known[known.find(spec.name)];
  preset.name = spec.name;
  const std::pair<Signal, const routing::EngineSpec::Gauge*> gauges[] = {{Signal::waiting, &spec.queued},
                                                                         {Signal::running, &spec.running},
                                                                         {Signal::kv_usage, &spec.kv_usage},
                                                                         {Signal::loras, &spec.loras},
                                                                         {Signal::cache_config, &spec.cache_config}};
  for (const auto& [signal, gauge] : gauges) {
    if (gauge->has_value()) preset.replace(signal, (*gauge)->family, (*gauge)->labels);
  }
  return preset;
}

}  // namespace

discovery::Engines engines_of(const config::Options& options) {
  const std::vector<routing::EngineSpec>& specs = said_of_engines(options).added;
  if (specs.empty()) return discovery::built_in_engines();
  std::vector<discovery::EnginePreset> added;
  for (const routing::EngineSpec& spec : specs) added.push_back(preset_of(spec));
  return std::make_shared<const discovery::EngineSet>(std::move(added));
}

const std::string& default_engine(const config::Options& options) {
  const std::string& otherwise = said_of_engines(options).otherwise;
  return options.metrics.engine == "auto" && !otherwise.empty() ? otherwise : options.metrics.engine;
}

discovery::PodEngines pod_engines(const config::Options& options) {
  discovery::PodEngines out{.engines = engines_of(options), .otherwise = default_engine(options)};
  const std::string& label = said_of_engines(options).label;
  if (!label.empty()) out.labels = {label};
  return out;
}

}  // namespace penstock::app
