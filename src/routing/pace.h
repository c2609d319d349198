// How fast an endpoint is, learnt from the answers it gave: seconds per uncached prompt token, seconds that a decode
// step takes longer for each token held, tokens in an answer. Any thread; no lock, no allocation.
#pragma once

#include <cstdint>

#include "penstock/base/time.h"
#include "penstock/endpoints/endpoint.h"

namespace penstock::routing {

// Used until first tokens have taught better.
constexpr double prefill_seconds_prior = 1e-4;

// The first token of an exchange that was sent at `began`, with `uncached` prompt tokens to compute.
void learn_prefill(endpoints::EndpointState& endpoint, Instant began, Instant now, int64_t uncached);
// The end of an answer of `tokens` tokens; `decode`: from its first token to its end, seen or expected.
void learn_answer(endpoints::EndpointState& endpoint, Duration decode, uint32_t tokens);
// An answer says that `cached` of the prompt's tokens were cached, where `believed` were thought to be.
void learn_cached(endpoints::EndpointState& endpoint, int64_t believed, int64_t cached);
// An exchange whose first token will not be seen has `uncached` prompt tokens to compute. Returns when that should be
// over.
Instant expect_unseen(endpoints::EndpointState& endpoint, Instant now, int64_t uncached);

// Seconds per uncached prompt token as this endpoint alone has taught it; the prior where it has not.
double prefill_seconds_per_token(const endpoints::Pace& pace);
// Seconds until the prefills that are not seen should be over.
double unseen_backlog(const endpoints::Pace& pace, Instant now);

}  // namespace penstock::routing
