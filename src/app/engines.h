// What the endpoints run, as the configuration and its EndpointPickerConfig say: from the words of `config` and
// `routing` to those of `discovery`.
#pragma once

#include <string>

#include "penstock/config/options.h"
#include "penstock/discovery/desired_pools.h"
#include "penstock/discovery/engines.h"

namespace penstock::app {

discovery::Engines engines_of(const config::Options& options);
// Of endpoints for which nothing else names one: `metrics.engine`, or if that is "auto" the `defaultEngine`.
const std::string& default_engine(const config::Options& options);
discovery::PodEngines pod_engines(const config::Options& options);

}  // namespace penstock::app
