// How much work stands before a new request at an endpoint, and who may be picked: what admission asks to know whether
// there is room. The formulas are those of the expected cost (docs/SCHEDULING.md). Any thread; no allocation.
#pragma once

#include <cstdint>
#include <string_view>

#include "penstock/endpoints/endpoint.h"

namespace penstock::routing {

// The router would consider it for this model ("": any): ready, serving it, not ejected. (When there is no such
// endpoint, the router has last resorts that this does not count.)
bool usable(const endpoints::EndpointView& endpoint, std::string_view model, Instant now);

// Seconds of prefill before a new request's own: of requests that the shards have sent and that have no first token
// yet, and of other gateways' requests that the last scrape saw waiting.
struct Backlog {
  double seconds = 0;
  // Somebody will tell when it shrinks: a first token that is to come, or the scrape that saw requests waiting. What
  // rests on our guess about requests that do not stream alone is not confirmed.
  bool confirmed = false;
};
Backlog backlog_of(const endpoints::EndpointView& endpoint, Instant now, Duration metrics_stale_after);

// Seconds to compute `uncached_tokens` prompt tokens there, as it has taught.
double prefill_seconds(const endpoints::EndpointState& endpoint, double uncached_tokens);
// Tokens that an answer of it has on average.
double answer_tokens(const endpoints::EndpointState& endpoint);
// Prompt tokens that it has still to compute before first tokens that will be seen.
double tokens_to_compute(const endpoints::LoadCounters& load);

}  // namespace penstock::routing
