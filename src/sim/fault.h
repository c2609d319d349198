// Faults on request: how a server can fail, as text (--fail, x-sim-fail) and as a plan that decides who is hit.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "penstock/base/random.h"
#include "penstock/base/result.h"

namespace penstock::sim {

struct Fault {
  enum class Kind : uint8_t {
    none,
    refuse,          // on accept: the connection is reset; in x-sim-fail: reset without an answer
    reset_after,     // RST after `value` bytes of body as sent (chunk framing counts)
    stall_after,     // nothing more after that many bytes; the connection stays
    status,          // answers with this status instead
    slow_header,     // the head comes `value` milliseconds late
    truncate_chunk,  // ends the connection inside a chunk (or inside a body of known length)
    // The ways in which engines lose an answer, each after `value` tokens of its text. 0: its stream has begun, no
    // more. An answer that has fewer tokens is whole; one that has as many breaks before its finish_reason.
    reset_after_tokens,  // RST
    end_after_tokens,    // a clean end of the body, without finish_reason and [DONE]
    error_after_tokens,  // an error in the stream, then [DONE]
    abort_after_tokens,  // finish_reason "abort", then [DONE]
    stall_after_tokens,  // nothing more; the connection stays
  };
  Kind kind = Kind::none;
  uint64_t value = 0;      // the least, until FaultPlan has drawn it
  uint64_t value_max = 0;  // the most
  double probability = 1;
  uint64_t count = UINT64_MAX;  // how often it may still happen
};

// KIND[=VALUE][@PROBABILITY][xCOUNT], for example "reset-after=100@0.1x5", "status=503", "refuse@0.5". Where VALUE is a
// place it may be a range, "end-after-tokens=1..40": each time one of these.
Result<Fault> parse_fault(std::string_view text);
// Whether it strikes at a token.
bool strikes_at_token(Fault::Kind kind);

// The faults of one server.
class FaultPlan {
 public:
  FaultPlan(std::vector<Fault> faults, uint64_t seed) : faults_(std::move(faults)), random_(seed) {}
  // Whether to refuse the connection being accepted.
  bool refuse_connection();
  // What happens to the inference request that just began: the first fault whose turn it is.
  Fault next_request();
  // The fault with its value drawn.
  Fault drawn(Fault fault);

 private:
  bool strikes(Fault& fault);
  std::vector<Fault> faults_;
  Random random_;
};

}  // namespace penstock::sim
