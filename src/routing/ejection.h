// What the two kinds of evidence, failures and refusals, do when there is enough of it.
#pragma once

#include "penstock/routing/router.h"

namespace penstock::routing {

// How long an ejection lasts that follows this many others.
Duration penalty_of(uint32_t ejections_before, const EjectionOptions& options);
// Ejects the endpoint. False: it is ejected already, or another thread has just done it.
bool eject(endpoints::HealthState& health, Instant now, const EjectionOptions& options);

}  // namespace penstock::routing
