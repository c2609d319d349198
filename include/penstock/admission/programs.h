// The use of each program. A program is an agent or workflow whose requests share a fairness id. For the two fairness
// policies that depend on it (Fairness::least_service, Fairness::turn_priority).
//
// One table of fixed size for the process: 65,536 programs in 2 MiB. Eight programs share one set of the table; when a
// ninth comes, the one that was inactive for longest and has no request in flight is forgotten. Any thread, without a
// lock. If a program is being forgotten while another thread counts for it, that one count may be lost.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string_view>

#include "penstock/admission/options.h"

namespace penstock::admission {

class Programs {
 public:
  using Key = uint64_t;
  static Key key_of(std::string_view fairness_id);

  // Identifies a request in flight, for finished().
  struct Ticket {
    Key key = 0;  // 0: it is not counted
    uint32_t slot = 0;
  };

  explicit Programs(const ProgramOptions& options);

  // A request of this program goes to an endpoint.
  Ticket started(Key key, Instant now);
  // The request has ended, and cost this many tokens.
  void finished(Ticket ticket, double tokens, Instant now);

  // Tokens used by the program, decayed over time. 0 for an unknown program.
  double service(Key key, Instant now) const;
  // The turn number of a request that arrived at this time: one more than the number of requests sent before. 1 for an
  // unknown program, and after a pause longer than `inactivity`.
  uint32_t turn(Key key, Instant arrived, Instant now) const;

 private:
  static constexpr uint32_t ways = 8, sets = 8192;
  struct Slot {
    std::atomic<Key> key{0};
    std::atomic<uint32_t> started{0};
    std::atomic<int32_t> in_flight{0};
    std::atomic<int64_t> last{0};      // Instant of its last start or end
    std::atomic<uint64_t> service{0};  // tokens (float), and the time to which they are faded (sixteenths of a second)
  };

  const Slot* find(Key key, Instant now) const;
  Slot* seat(Key key);
  bool forgotten(const Slot& slot, Instant now) const;
  double faded(uint64_t packed, uint32_t at) const;

  const ProgramOptions options_;
  std::unique_ptr<Slot[]> slots_;
};

}  // namespace penstock::admission
