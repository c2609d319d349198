// Refusals: answers with a 4xx status, and what they say about an endpoint.
//
// A refusal alone does not tell whether the client or the endpoint is at fault. What tells is a *pair*: the same
// request was refused here, and answered well by another endpoint of the pool. So a refused request is tried elsewhere
// once before its client sees the refusal (a second opinion), and only pairs count against an endpoint. A request that
// is bad everywhere makes no pair: a client cannot get an endpoint ejected with bad requests, whatever pins it there.
//
// What a pair says depends on the status:
//   401, 403  the endpoint does not know the key that the others know. This concerns all requests: after
//             EjectionOptions::consecutive_failures pairs without a good answer in between it is ejected.
//   429       it is full. It is no candidate for as long as it asks for (Retry-After), but for a few requests, which
//             show when it answers again: the limit may have been that of one client.
//   others    (400, 404, 413, 422 ...) it does not answer this *kind* of request: another server may lack an adapter,
//             an API or a parameter, and be good for everything else. After as many pairs in a row it is ejected for
//             the kind. More kinds than are remembered count against the endpoint as a whole, as 401 does.
// Ejections last as those for failures do: base_penalty, doubled each time up to max_penalty; then the share of
// requests grows during slow_start. One pair within that time is enough to eject again.
//
// While there is no evidence, refusals still are no answers: after several of them without a good answer an endpoint is
// offered fewer decisions, so that failing fast never looks like room.
//
// Any thread; all state is in atomics of EndpointState, which all shards share. Time is passed in.
#pragma once

#include <cstdint>

#include "penstock/base/time.h"
#include "penstock/endpoints/endpoint.h"
#include "penstock/routing/router.h"

namespace penstock::routing {

struct Refusal {
  uint64_t kind = 0;        // Features::kind of the request
  uint16_t status = 0;      // 400 to 499
  Duration retry_after{0};  // 0: not said
};

enum class Verdict : uint8_t { none, ejected, ejected_for_kind, busy };

// May a refusal of this endpoint be tried elsewhere? Takes one of its second opinions, of which there are `most`, and
// one comes back each second. They are counted by endpoint, so that what clients do at one takes nothing from others.
bool take_second_opinion(endpoints::EndpointState& endpoint, Instant now, uint32_t most);
// The endpoint has refused a request. Call this for every refusal.
void report_refusal(endpoints::EndpointState& endpoint);
// Another endpoint has answered well what this one refused. The second opinion was worth it: it is given back.
Verdict report_pair(endpoints::EndpointState& endpoint, const Refusal& refusal, Instant now,
                    const EjectionOptions& options);
// It says itself that it is full: it is no candidate for this long (as above for 429). `retry_after` 0: not said.
// False: it was known.
bool report_busy(endpoints::EndpointState& endpoint, Duration retry_after, Instant now, const EjectionOptions& options);
// The endpoint has begun a good answer to a request of this kind that was sent at `sent`. Nearly always only reads.
void report_acceptance(endpoints::EndpointState& endpoint, uint64_t kind, Instant sent, Instant now,
                       const EjectionOptions& options);

// Until when the endpoint is ejected for this kind of request, as Instant in ns; 0: it is not.
int64_t refuses_until_ns(const endpoints::EndpointState& endpoint, uint64_t kind, Instant now);
// Kinds of request for which it is ejected now.
uint32_t refused_kinds(const endpoints::EndpointState& endpoint, Instant now);

// Of the decisions in which others could be chosen, the share in which this endpoint is a candidate. Less than 1 while
// it is busy, after several refusals in a row, and during the slow start after an ejection for the kind.
struct Doubt {
  double share = 1;
  const char* why = "";
};
Doubt doubt_about(const endpoints::EndpointState& endpoint, uint64_t kind, Instant now, Duration slow_start);

}  // namespace penstock::routing
