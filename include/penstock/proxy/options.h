// What the gateway of a shard may be told. Defaults stand here alone; the key of the configuration stands beside a
// field of another name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "penstock/admission/options.h"
#include "penstock/base/time.h"
#include "penstock/proxy/client_identity.h"
#include "penstock/proxy/path_policy.h"
#include "penstock/routing/prefix_hash.h"
#include "penstock/routing/router.h"

namespace penstock::proxy {

// Endpoints that answer their probes and still do not answer requests as the others of their pool do
// (slow_endpoints.h).
struct SlowOptions {
  Duration wedged = seconds(5);  // ejection.wedged: no stream has brought anything for so long; 0: not looked at
  double factor = 10;            // ejection.slow_factor: so many times the median of the others; 0: not looked at
};

// Streams that go on at another endpoint when theirs fails (resume.h).
struct ResumeOptions {
  bool enabled = true;
  uint32_t per_stream = 3;                 // breaks after which one goes on
  uint32_t at_once = 2;                    // on this shard: those whose prompt and text are being computed again
  Duration wait = seconds(60);             // for a turn and an endpoint
  Duration stall = seconds(10);            // in which an endpoint brings nothing of such a stream; 0: as of others
  size_t text_bytes_max = 128 * 1024;      // delivered, as it stands in the events
  size_t request_bytes_max = 1024 * 1024;  // of the body, which is kept
  std::vector<std::string> token_ids;      // pools whose engines are asked for the ids of tokens; "*": all
};

struct Options {
  Duration connect_timeout = seconds(1);
  Duration first_byte_timeout = seconds(600);
  Duration chunk_idle_timeout = seconds(300);
  Duration unresponsive_timeout = seconds(5);  // a silent answer whose endpoint answers no probe; 0: none
  Duration total_timeout{0};                   // 0: none
  size_t body_bytes_max = 64 * 1024 * 1024;
  size_t requests_max = 20000;                  // in flight on this shard
  size_t tunnels_max = 1000;                    // of those, the ones that ask for a WebSocket or have one
  Duration tunnel_idle_timeout = seconds(300);  // in which no byte passes; 0: none
  uint32_t attempts_max = 3;
  uint32_t second_opinions = 50;  // of an endpoint's refusals, tried elsewhere at once; one comes back each second
  ResumeOptions resume;
  routing::EjectionOptions ejection;
  SlowOptions slow;
  routing::PrefixHashOptions prefix;
  bool tune_blocks = false;            // use the engines' own block length, if they report it
  uint32_t prefix_tokens_max = 0;      // longest prefix that is matched, in tokens; 0: prefix.blocks_max applies
  uint32_t output_tokens_guess = 256;  // reserved for a request without a token limit
  admission::FlowOptions flow;
  PathOptions paths;
  ClientTrust clients;
  uint32_t connections_per_client = 0;        // also of requests that a trusted proxy brings; 0: no limit
  bool certificate_names_flow = false;        // the fairness id is what the client's certificate says, not a header
  std::vector<std::string> identity_headers;  // their value is the fairness id of requests that name none
};
constexpr uint32_t attempts_limit = 8;  // upper bound of retry.attempts

}  // namespace penstock::proxy
