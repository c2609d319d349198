// Second opinions: an answer with a 4xx status is tried elsewhere before the client sees it, and what the two answers
// together say about the endpoint is reported (routing/refusals.h has the rules).
//
// It also keeps the reservation at an endpoint that has answered, but not well, until the request has ended elsewhere,
// as if it ran there: an endpoint that fails fast must not look idle.
// Thread: its shard's. Lifetime: a part of its Placement.
#pragma once

#include <cstdint>

#include "penstock/http/head.h"
#include "penstock/proxy/gateway.h"
#include "penstock/routing/refusals.h"

namespace penstock::proxy {

class SecondOpinion {
 public:
  explicit SecondOpinion(Context& context) : context_(context) {}

  // Whether a refusal with this status may be tried elsewhere, as far as this request is concerned: it was not yet.
  // Of adapters each may live on one endpoint alone: a model that two do not have is looked for on the others as well.
  bool may_ask(uint16_t status) const;
  // Takes one of the refuser's second opinions. False: it has none left.
  bool ask(endpoints::EndpointState& refuser, const routing::Refusal& refusal, routing::Reservation& reservation);
  // An endpoint has failed with an answer; its reservation stays (see above), but that of a refuser takes precedence.
  void keep(routing::Reservation& reservation);
  // Another endpoint has refused the request as well: the request is at fault.
  void refused_again();
  // Another endpoint answers it well: that is evidence against the refuser. `model` and `api` are for the log.
  void contradicted(const endpoints::EndpointState& by, std::string_view model, std::string_view api);
  // Whoever was asked has failed. Gives the refuser back, to be asked again, so that the client gets its refusal and
  // not an error of ours; null if none has refused.
  endpoints::EndpointState* take_refuser();

 private:
  void announce(routing::Verdict verdict, const endpoints::EndpointState& refuser, const endpoints::EndpointState& by,
                std::string_view model, std::string_view api);

  enum class State : uint8_t { none, asked, given };

  Context& context_;
  State state_ = State::none;
  routing::Reservation reservation_;  // at the endpoint that answered first
  routing::Refusal refusal_;          // what it said, if it was a refusal
};

// Retry-After in seconds; 0: not said, or a date, which no model server sends.
Duration retry_after_of(const http::Head& answer);

}  // namespace penstock::proxy
