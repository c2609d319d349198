// The last routing decisions of one shard, for /debug/decisions. The shard keeps at most one decision per `least_gap`
// and those that clients ask to be explained, so that explaining them costs nothing that can be measured; the page is
// built when somebody asks for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/net/clock.h"
#include "penstock/routing/router.h"

namespace penstock::observability {

class DecisionLog {
 public:
  explicit DecisionLog(net::Clock& clock, size_t capacity = 256, Duration least_gap = milliseconds(10));

  // ---- the shard's thread ----
  // Before a decision: where to explain it when it is to be kept, else null. It is kept in any case when somebody asked
  // for it. The next record() is of this decision.
  routing::Explanation* slot(Instant now, bool asked = false);
  void record(Duration cost, const endpoints::EndpointState* endpoint, std::string_view target_model);

  // ---- any thread ----
  // Appends the decisions, newest first, as JSON objects separated by commas (nothing when there are none).
  void append_json(std::string& out, size_t shard) const;

 private:
  struct Entry {
    int64_t wall_us = 0;
    Duration cost{0};
    std::string endpoint, model;  // endpoint "": none was found
    bool explained = false;
    routing::Explanation explanation;
  };
  // The same as an event of the operator's log, at level debug.
  void log_event(Duration cost, const endpoints::EndpointState* endpoint, std::string_view target_model);
  void append_entry(std::string& out, const Entry& entry, size_t shard) const;

  net::Clock& clock_;
  const Duration least_gap_;
  Instant last_kept_{};
  bool keep_next_ = false, kept_any_ = false;
  routing::Explanation scratch_;

  mutable std::mutex mutex_;    // the shard only tries it: a reader makes it lose a sample, not wait
  std::vector<Entry> entries_;  // strings keep their memory when an entry is used again
  uint64_t count_ = 0;          // ever kept
};

}  // namespace penstock::observability
