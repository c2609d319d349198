// What the proxy reports about its work. The proxy declares the interface, observability implements it: one observer
// per shard, called on the shard's thread. Every exchange is reported as started once and as finished once.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "penstock/base/time.h"
#include "penstock/endpoints/endpoint.h"
#include "penstock/openai/resume_obstacle.h"

namespace penstock::routing {
struct Explanation;
enum class Split : uint8_t;
}  // namespace penstock::routing

namespace penstock::proxy {

enum class HoldOutcome : uint8_t;  // hold_queue.h

// How an exchange ended. A closed list: started = in flight + sum over all outcomes, at any time.
enum class Outcome : uint8_t {
  ok,                // a whole answer was relayed, status below 400
  endpoint_4xx,      // a whole answer was relayed: the endpoint refused the request, by status or in its stream
  endpoint_error,    // a whole answer was relayed: status 500 or above
  client_error,      // we refused: 4xx (malformed, too large, unknown ...)
  client_gone,       // the client left before the answer was complete
  overloaded,        // we refused: limit or memory budget (429, 503)
  no_endpoint,       // there was no endpoint to try (500, 503)
  upstream_failed,   // every attempt failed before the first body byte (502, 504)
  stream_broken,     // the answer ended before its own end, after its first byte: AttemptFailure says why
  timed_out_client,  // the client was too slow to send (408) or to read
  draining,          // cut by the end of the drain limit
  evicted,           // cut off for a request of higher priority (429, or in the middle of the answer)
  internal_error,
};
constexpr size_t outcome_count = 13;
const char* to_string(Outcome outcome);

// Why an attempt failed. Metric label `reason` and log value.
enum class AttemptFailure : uint8_t {
  connect_refused,
  connect_timeout,
  connect_failed,
  tls_failed,
  reset_before_response,
  closed_before_response,
  reuse_race,
  first_byte_timeout,
  bad_response,
  status_500,
  status_502,
  status_503,
  status_504,
  idle_timeout,
  total_timeout,
  attempt_timeout,  // a route's limit for one attempt
  reset_in_body,
  closed_in_body,
  no_socket,          // not the endpoint's fault
  probe_failed,       // the endpoint stopped answering health probes, and brings nothing of the answer either
  error_event,        // its stream reports that the server failed
  aborted,            // its answer reports that the engine gave the request up: finish_reason "abort" or "error"
  server_full,        // healthy, but accepts no more: 503 with Retry-After, or an error object that says so
  unfinished,         // its stream ended, as HTTP has it, without a finish reason and without [DONE]
  refused_in_stream,  // its stream ends with an error that it lays to the request (4xx)
  status_429,         // refused, and tried elsewhere before the client sees it
  status_4xx,         // likewise
  too_slow,           // the endpoint was ejected because its streams stand still or are far slower than those of others
};
constexpr size_t attempt_failure_count = 28;
const char* to_string(AttemptFailure failure);

// Those that can break an answer of which the client has a part.
constexpr AttemptFailure stream_breaks[] = {
    AttemptFailure::reset_in_body, AttemptFailure::closed_in_body,    AttemptFailure::bad_response,
    AttemptFailure::idle_timeout,  AttemptFailure::total_timeout,     AttemptFailure::attempt_timeout,
    AttemptFailure::probe_failed,  AttemptFailure::error_event,       AttemptFailure::aborted,
    AttemptFailure::unfinished,    AttemptFailure::refused_in_stream, AttemptFailure::too_slow,
};

// Why an endpoint was ejected. Metric label `reason`.
enum class Ejection : uint8_t {
  fails,         // failures in a row
  refuses_all,   // it refuses requests that others answer, whatever they ask (401, 403, or too many kinds)
  refuses_kind,  // it refuses a kind of request that others answer, and is ejected for that kind
  wedged,        // all its streams stand still, while those of others move
  slow,          // they are far slower than those of the others
};
constexpr size_t ejection_count = 5;
const char* to_string(Ejection reason);

enum class Stage : uint8_t { read, route, connect, first_byte, relay, hold };  // gateway time per stage
constexpr size_t stage_count = 6;

// What metrics tell requests apart by. Views are valid during the call.
struct RequestKind {
  std::string_view model, target_model;  // "" when the path has none
  std::string_view fairness_id;          // as the client says it, or the default
  int priority = 0;
};

constexpr uint32_t no_kind = ~uint32_t{0};

// Hears of the times between the events of one kind's streams. Lives as long as the observer that gave it.
class GapObserver {
 public:
  virtual ~GapObserver() = default;
  virtual void gap(Duration time) = 0;
};

// Everything known at the end of an exchange. Views are valid during the call.
struct ExchangeRecord {
  int64_t started_wall_us = 0;
  Duration total{0};
  std::optional<Duration> time_to_first_token;  // from head complete to the first body byte relayed
  Duration stage[stage_count] = {};
  Outcome outcome = Outcome::internal_error;
  uint16_t status = 0;                                          // sent to the client; 0: none
  std::string_view method, target, client, request_id, reason;  // reason: error code text, "" when ok
  std::string_view trace_id;                                    // of traceparent; "": none
  std::string_view protocol;                                    // of the client: "HTTP/1.1", "HTTP/2"
  std::string_view tls_version, certificate;                    // of the client's connection; "": none
  RequestKind kind;
  uint32_t kind_number = no_kind;                      // of `kind`, if it was counted as running
  std::string_view api;                                // openai::to_string(Api)
  bool inference = false;                              // a request that was parsed for a model
  bool streaming = false;                              // the answer was an event stream
  const endpoints::EndpointState* endpoint = nullptr;  // the last one tried
  uint32_t attempts = 0;
  uint32_t resumes = 0;                            // how often the stream broke and was to go on at another endpoint
  uint64_t request_bytes = 0, response_bytes = 0;  // bodies; of the answer, what the client's socket accepted
  uint32_t prompt_tokens = 0, completion_tokens = 0;
  std::optional<uint32_t> cached_tokens;
  bool has_usage = false;
  uint32_t chunks = 0;  // SSE events relayed
  std::string_view finish_reason;
  uint32_t matched_blocks = 0, prompt_blocks = 0;
  uint32_t block_bytes = 64;
  double slo_ttft_ms = 0, slo_tpot_ms = 0;  // what the client asked for; 0: nothing
  // What was predicted when it was last routed: the time to the first token (measured like time_to_first_token), and
  // the seconds between tokens (0: no prediction).
  std::optional<Duration> predicted_first_token;
  double predicted_per_token = 0;
};

class ExchangeObserver {
 public:
  virtual ~ExchangeObserver() = default;
  virtual void exchange_started() = 0;
  // The first attempt begins: inference_objective_running_requests. Returns a number for the kind, for running_ended()
  // and ExchangeRecord; no_kind if such requests are not counted.
  virtual uint32_t running_began(const RequestKind& kind) = 0;
  virtual void running_ended(uint32_t kind) = 0;
  virtual void decision_made(Duration cost, bool found, const endpoints::EndpointState* endpoint,
                             std::string_view target_model) = 0;
  // Where to write the explanation of the next decision. Null, most of the time, if the decision is not kept for
  // /debug/decisions; never null if the client `asked`. Valid until decision_made().
  virtual routing::Explanation* explanation_slot(Instant now, bool asked) { return nullptr; }
  // How the shadow policy would have decided, compared with the decision just made (routing::Decision::Shadow).
  virtual void shadow_decided(bool agrees, double gain_seconds) {}
  // A decision looked up which blocks of the prompt the model servers report to hold. `blocks`: the most on any of
  // them.
  virtual void told_index_asked(uint32_t blocks) {}
  // How the decision just made splits the work, if the profile disaggregates prefill or encode.
  virtual void split_decided(routing::Split split, std::string_view target_model) {}
  // Flow control has decided about a request of this priority at once: there was room, or it was refused because the
  // pool is saturated and its priority may not wait (rejected_capacity).
  virtual void did_not_wait(std::string_view pool, int priority, HoldOutcome outcome) {}
  // A rule of this InferenceModelRewrite has changed the model of a request from `model` to `target_model`.
  virtual void model_rewritten(std::string_view rewrite, std::string_view model, std::string_view target_model) {}
  // The answer to such a request was compressed although it should not be, so the client saw the server's model name.
  virtual void model_not_restored() {}
  virtual void attempt_failed(AttemptFailure failure, bool retried) = 0;
  // The same failure broke an answer of which the client has a part: the request could not be sent again.
  virtual void stream_broken(AttemptFailure why) {}
  // Such an answer has gone on at another endpoint, which computed so many `tokens` again, or it does not.
  virtual void stream_resumed(Duration seam, uint64_t tokens) {}
  virtual void stream_not_resumed(openai::ResumeObstacle why) {}
  virtual void endpoint_ejected(const endpoints::EndpointState& endpoint, Ejection reason) = 0;
  // The head of an answer has come from this endpoint, whether it will be relayed or the request is tried elsewhere.
  virtual void endpoint_answered(const endpoints::EndpointState& endpoint, uint16_t status) {}
  // An event stream has begun to answer a request of this kind: who is to hear of the times between its events, if
  // anybody.
  virtual GapObserver* stream_began(const RequestKind& kind) { return nullptr; }
  // A WebSocket session has begun or ended; bytes of one have passed, from the client or to it.
  virtual void tunnels_changed(int delta) {}
  virtual void tunnel_bytes(bool from_client, uint64_t bytes) {}
  virtual void finished(const ExchangeRecord& record) = 0;

  // Counts that do not belong to an exchange.
  virtual void client_connections_changed(int delta) = 0;
  virtual void limit_hit(std::string_view limit_name) = 0;  // this limit refused something
  virtual void idle_connection_evicted() {}                 // to make room for a new one at limits.connections
};

}  // namespace penstock::proxy
