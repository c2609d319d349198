// Filling DecisionInputs as a decision is made.
#pragma once

#include <span>

#include "penstock/routing/backlog.h"
#include "penstock/routing/router.h"

namespace penstock::routing {

// Before the decision: all but the matches. Of a pool too large nothing is kept.
void record_inputs(const Features& features, const endpoints::Pool& pool, Instant now,
                   std::span<endpoints::EndpointState* const> tried, const RouterOptions& options, const Random& random,
                   DecisionInputs& out);
// What the prefix index said of the candidates, and Inputs::prefix_uses.
void record_matches(std::span<const Candidate> candidates, double prefix_uses, const endpoints::Pool& pool,
                    DecisionInputs& out);

}  // namespace penstock::routing
