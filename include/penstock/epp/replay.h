// What of an EndpointPickerConfig counts where nothing is served: when a trace is replayed, or recorded decisions are
// made again.
#pragma once

#include <optional>
#include <vector>

#include "penstock/admission/options.h"
#include "penstock/base/problem.h"
#include "penstock/epp/config.h"

namespace penstock::epp {

struct ReplayOf {
  bool decisions = false;  // recorded decisions; else traces
  bool slo_asked = false;  // requests ask for a latency
};

struct Replayed {
  SchedulingSpec scheduling;
  std::optional<admission::FlowOptions> flow;  // the configuration's own flow control, where it is on
};

// What a replay cannot carry out is a problem; what it knows nothing of, so that a part of the configuration has no
// effect, is a note: one for each reason.
Replayed for_replay(const Config& config, const ReplayOf& of, std::vector<Problem>& problems,
                    std::vector<Problem>& notes);

}  // namespace penstock::epp
