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
  };
  Kind kind = Kind::none;
  uint64_t value = 0;
  double probability = 1;
  uint64_t count = UINT64_MAX;  // how often it may still happen
};

// KIND[=VALUE][@PROBABILITY][xCOUNT], for example "reset-after=100@0.1x5", "status=503", "refuse@0.5".
Result<Fault> parse_fault(std::string_view text);

// The faults of one server.
class FaultPlan {
 public:
  FaultPlan(std::vector<Fault> faults, uint64_t seed) : faults_(std::move(faults)), random_(seed) {}
  // Whether to refuse the connection being accepted.
  bool refuse_connection();
  // What happens to the inference request that just began: the first fault whose turn it is.
  Fault next_request();

 private:
  bool strikes(Fault& fault);
  std::vector<Fault> faults_;
  Random random_;
};

}  // namespace penstock::sim
