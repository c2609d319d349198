// All listeners are one port here: where routes of different Gateways or ports have equal matches, one takes the
// requests that were meant for the other. That is found, to be reported.
#pragma once

#include <vector>

#include "gateways.h"
#include "route_builder.h"

namespace penstock::objects {

// The listeners that let an entry in; none: those of a Gateway that only routes name.
using CameBy = std::vector<const ListenerState*>;

// A RouteShadowed for each HTTPRoute that loses requests of a listener to a route that is not attached to it and does
// something else with them. Of routes of one listener the older one takes all by the rules of the Gateway API, which
// has no condition for that: nothing is said. `came_by` has one element for each of the entries.
void report_shadows(const View& view, const std::vector<Route>& routes, const std::vector<RouteEntry>& entries,
                    const std::vector<CameBy>& came_by, Policy& policy);

}  // namespace penstock::objects
