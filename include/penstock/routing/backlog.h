// How much work is queued before a new request at an endpoint, and which endpoints may be picked: admission uses both
// to find out whether a pool has room. The formulas are those of the expected cost (docs/ROUTING.md). Any thread; no
// allocation.
#pragma once

#include <cstdint>
#include <string_view>

#include "penstock/endpoints/endpoint.h"

namespace penstock::routing {

// The router would consider it for this model ("": any): ready, serving it, not ejected. (When there is no such
// endpoint, the router has last resorts that this does not count.)
bool usable(const endpoints::EndpointView& endpoint, std::string_view model, Instant now);
// It would pick it at least where there is no better one: also an endpoint that is ejected, or not probed yet.
bool pickable(const endpoints::EndpointView& endpoint, std::string_view model);
// It may answer requests for the model.
bool serves(const endpoints::EndpointView& endpoint, std::string_view model);

// Seconds of prefill before a new request's own: of requests that the shards have sent and that have no first token
// yet, and of other gateways' requests that the last scrape saw waiting.
struct Backlog {
  double seconds = 0;
  // The gateway will notice when it shrinks: a first token is expected, or the last scrape saw waiting requests. False
  // if the backlog is only an estimate for requests that do not stream.
  bool confirmed = false;
};
Backlog backlog_of(const endpoints::EndpointView& endpoint, Instant now, Duration metrics_stale_after);

// Seconds to compute `uncached_tokens` prompt tokens there, by its learnt pace.
double prefill_seconds(const endpoints::EndpointState& endpoint, double uncached_tokens);
// Average number of tokens in its answers.
double answer_tokens(const endpoints::EndpointState& endpoint);
// Tokens that its KV cache holds; 0: it does not say.
inline uint64_t kv_capacity(const endpoints::EngineMetrics& metrics) {
  return metrics.kv_blocks * metrics.block_size;
}
// Prompt tokens still to be computed there for requests whose first token can be observed.
double tokens_to_compute(const endpoints::LoadCounters& load);

}  // namespace penstock::routing
