// An EndpointPickerConfig (apiVersion inference.networking.x-k8s.io/v1alpha1 or llm-d.ai/v1alpha1), the union of what
// the Endpoint Picker 1.4 and 1.5 and llm-d's read, as values. Parsed by config::load(), which reports what it does not
// understand; what it understands and needs not, it notes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "penstock/admission/options.h"
#include "penstock/epp/scheduling.h"

namespace penstock::epp {

// A plugin that is declared, and where.
struct PluginPlace {
  std::string name;
  std::string_view type;
  int line = 0;
  std::string key;  // "plugins[2]"
};

// dataLayer.discovery: the file that lists the endpoints (file-discovery).
struct DiscoveryFile {
  std::string path;    // "": none is named
  bool watch = false;  // read again when it changes
  int line = 0;        // where the configuration names it
  std::string key;
};

struct Config {
  SchedulingSpec scheduling;
  // `saturationDetector` and `flowControl`: they are obeyed instead of flow_control.* of our own configuration, unless
  // only that one turns flow control on, or it turns it off. What is not given is as in the Endpoint Picker: the
  // utilization detector, no time to live, strict priority of requests over flows, first come, first served.
  admission::FlowOptions flow;
  std::vector<PluginPlace> plugins;
  int flow_line = 0;  // of the feature gate that turns flow control on; 0: it is off
  // agent-identity: the fields in which agents say which session a request belongs to; empty: not looked at.
  std::vector<std::string> identity_headers;
  DiscoveryFile endpoints;
  std::string metrics_path;  // metrics-data-source; "": metrics.path
  std::string source;        // the file, or where it is embedded
  std::string canon;         // the configuration without comments and layout: equal when nothing changed
};

}  // namespace penstock::epp
