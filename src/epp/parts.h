// The parts of an EndpointPickerConfig and who reads them. Private to the files that do.
#pragma once

#include <yaml-cpp/yaml.h>

#include <string>
#include <string_view>
#include <vector>

#include "penstock/epp/config.h"
#include "penstock/epp/reader.h"

namespace penstock::epp {

// A plugin as declared, and where.
struct DeclaredPlugin {
  PluginSpec spec;
  YAML::Node node;
  std::string key;  // "plugins[2]"
};
using DeclaredPlugins = std::vector<DeclaredPlugin>;

// `plugins`. Those that are not understood are left out.
DeclaredPlugins read_plugins(Reader& in, const YAML::Node& list);
const DeclaredPlugin* find_plugin(const DeclaredPlugins& plugins, std::string_view name);
// Whether it is the name of a type of a kind that fits, of which no plugin is declared.
bool is_undeclared(const YAML::Node& value, const DeclaredPlugins& plugins, bool (*fits)(PluginKind));
// The plugin that a `...Ref` names, if it is of a kind that may stand there; else a problem. `wanted`: "a scorer".
const DeclaredPlugin* read_reference(Reader& in, const DeclaredPlugins& plugins, const YAML::Node& value,
                                     const std::string& key, bool (*fits)(PluginKind), std::string_view wanted);

// `schedulingProfiles` (may be undefined), and with the handlers among the plugins who runs which.
SchedulingSpec read_scheduling(Reader& in, const YAML::Node& profiles, const DeclaredPlugins& plugins);

// The gauges that core-metrics-extractor names, and the engines; checks what endpoint-attribute plugins say against
// the former.
void read_metrics(Reader& in, const DeclaredPlugins& plugins, SchedulingSpec* out);

// The labels of pods that label-producer names: tells each endpoint-attribute-weight-scorer which label is its.
void read_label_attributes(Reader& in, DeclaredPlugins& plugins);

// `flowControl` and `saturationDetector` (either may be undefined), over what default_flow() presumes.
admission::FlowOptions default_flow();
void read_flow_control(Reader& in, const YAML::Node& section, const DeclaredPlugins& plugins,
                       admission::FlowOptions* out);
// policies.cc: the parameters of policies that have several.
admission::ProgramOptions read_programs(Reader& in, const DeclaredPlugins& plugins);
void read_holdback(Reader& in, const YAML::Node& at, const std::string& key, const DeclaredPlugin* plugin,
                   admission::UsageLimits* out);
// Of agent-identity: the fields to look at, in their order; none without such a plugin.
std::vector<std::string> read_session_fields(Reader& in, const DeclaredPlugins& plugins);
void read_saturation(Reader& in, const YAML::Node& section, const std::string& key, const DeclaredPlugins& plugins,
                     admission::DetectorOptions* out);

}  // namespace penstock::epp
