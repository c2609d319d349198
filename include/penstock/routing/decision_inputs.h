// All that one decision was made from, as plain values: what the snapshot, the load counters and the prefix index said,
// the request's features and the state of the random source. Deciding again from them gives the same decision. Filled
// only for decisions that are explained; values of one thread. Of a prompt only its length is kept, not its blocks:
// what each endpoint held of it is all that the product's policies look at.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/base/random.h"
#include "penstock/base/time.h"
#include "penstock/endpoints/endpoint.h"

namespace penstock::routing {

struct EndpointInputs {
  std::string name;
  uint32_t slot = 0, incarnation = 0;
  endpoints::Readiness readiness = endpoints::Readiness::ready;
  bool last_resort = false;
  bool serves = true;  // the model
  bool tried = false;  // by this exchange
  uint32_t matched_blocks = 0;
  endpoints::EngineMetrics metrics;
  // EndpointState::load, health and pace.
  int64_t requests = 0, prefill_tokens = 0, kv_tokens = 0, decoding = 0, unseen = 0, unseen_tokens = 0;
  int64_t ejected_until_ns = 0, recovered_at_ns = 0;
  bool probe_failed = false;
  // What refusals have said of it, for this kind of request (routing/refusals.h). Kept only if it is not 0.
  int64_t refusals_in_row = 0, busy_until_ns = 0, kind_until_ns = 0, kind_ejections = 0;
  double prefill_seconds = 0, prefill_done_tokens = 0, prefills = 0, prefill_xx = 0, prefill_xy = 0;
  double decodes = 0, decode_x = 0, decode_y = 0, decode_xx = 0, decode_xy = 0;
  double believed_tokens = 0, cached_tokens = 0, answers = 0, output_tokens = 0;
  int64_t unseen_until_ns = 0;
};

struct DecisionInputs {
  static constexpr size_t endpoints_max = 64;  // of larger pools nothing is kept: the pages would be megabytes each

  bool whole = false;  // false: nothing was kept
  Instant now{};
  Duration metrics_stale_after{}, slow_start{};
  Random::State random{};
  // Features, by the same names.
  std::string model, session, fairness_id;
  int priority = 0;
  bool streaming = false;
  uint32_t prompt_tokens = 0, max_tokens = 0;
  double slo_ttft_ms = 0, slo_tpot_ms = 0;
  uint32_t blocks = 0, block_tokens = 16;
  double prefix_uses = 0;                 // Inputs::prefix_uses
  std::vector<EndpointInputs> endpoints;  // of the pool, in its order

  void append_json(std::string& out) const;
};

// Calls `each(name, member)` for every plain number of an endpoint's inputs: one list for all that write and read them.
template <typename Each>
void each_number(Each&& each) {
  using E = EndpointInputs;
  each("requests", &E::requests);
  each("prefill_tokens", &E::prefill_tokens);
  each("kv_tokens", &E::kv_tokens);
  each("decoding", &E::decoding);
  each("unseen", &E::unseen);
  each("unseen_tokens", &E::unseen_tokens);
  each("ejected_until_ns", &E::ejected_until_ns);
  each("recovered_at_ns", &E::recovered_at_ns);
  each("prefill_seconds", &E::prefill_seconds);
  each("prefill_done_tokens", &E::prefill_done_tokens);
  each("prefills", &E::prefills);
  each("prefill_xx", &E::prefill_xx);
  each("prefill_xy", &E::prefill_xy);
  each("decodes", &E::decodes);
  each("decode_x", &E::decode_x);
  each("decode_y", &E::decode_y);
  each("decode_xx", &E::decode_xx);
  each("decode_xy", &E::decode_xy);
  each("believed_tokens", &E::believed_tokens);
  each("cached_tokens", &E::cached_tokens);
  each("answers", &E::answers);
  each("output_tokens", &E::output_tokens);
  each("unseen_until_ns", &E::unseen_until_ns);
}

// Likewise those that are written only if they are not 0.
template <typename Each>
void each_rare_number(Each&& each) {
  using E = EndpointInputs;
  each("refusals_in_row", &E::refusals_in_row);
  each("busy_until_ns", &E::busy_until_ns);
  each("kind_until_ns", &E::kind_until_ns);
  each("kind_ejections", &E::kind_ejections);
}

}  // namespace penstock::routing
