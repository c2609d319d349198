// What the endpoints run, as an EndpointPickerConfig says: from its words to those of `discovery`.
#pragma once

#include <string>

#include "penstock/discovery/desired_pools.h"
#include "penstock/discovery/engines.h"
#include "penstock/epp/config.h"

namespace penstock::epp {

// `said` is null where there is no EndpointPickerConfig, and `configured` is what metrics.engine says.
discovery::Engines engines_of(const Config* said);
// Of endpoints for which nothing else names one: `configured`, or if that is "auto" the `defaultEngine`. As long as
// both arguments live.
const std::string& default_engine(const Config* said, const std::string& configured);
discovery::PodEngines pod_engines(const Config* said, const std::string& configured);

}  // namespace penstock::epp
