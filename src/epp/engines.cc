#include "penstock/epp/engines.h"

#include <utility>

namespace penstock::epp {
namespace {

const EnginesSpec& said_of_engines(const Config* said) {
  static const EnginesSpec nothing;
  return said == nullptr ? nothing : said->scheduling.engines;
}

discovery::EnginePreset preset_of(const EngineSpec& spec) {
  using discovery::Signal;
  const discovery::EngineSet& known = *discovery::built_in_engines();
  discovery::EnginePreset preset;
  if (known.contains(spec.name)) preset = known[known.find(spec.name)];
  preset.name = spec.name;
  const std::pair<Signal, const EngineSpec::Gauge*> gauges[] = {{Signal::waiting, &spec.queued},
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

discovery::Engines engines_of(const Config* said) {
  const std::vector<EngineSpec>& specs = said_of_engines(said).added;
  if (specs.empty()) return discovery::built_in_engines();
  std::vector<discovery::EnginePreset> added;
  for (const EngineSpec& spec : specs) added.push_back(preset_of(spec));
  return std::make_shared<const discovery::EngineSet>(std::move(added));
}

const std::string& default_engine(const Config* said, const std::string& configured) {
  const std::string& otherwise = said_of_engines(said).otherwise;
  return configured == "auto" && !otherwise.empty() ? otherwise : configured;
}

discovery::PodEngines pod_engines(const Config* said, const std::string& configured) {
  discovery::PodEngines out{.engines = engines_of(said), .otherwise = default_engine(said, configured)};
  const std::string& label = said_of_engines(said).label;
  if (!label.empty()) out.labels = {label};
  return out;
}

}  // namespace penstock::epp
