// Finds endpoints whose streams stand still, or move far more slowly than those of the other endpoints of their pool,
// while their health probes are answered. What it looks at is how long each running stream has brought nothing: for
// streams that move evenly that is half their time per token on average, whenever one looks; so nothing has to be
// counted for each token.
//
// A look: begin(), saw() for each stream that runs and is read, then end(). Each `period`.
// Thread: its shard's, whose streams it judges. Pure: time is passed in.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "penstock/base/time.h"
#include "penstock/proxy/gateway.h"

namespace penstock::proxy {

class SlowEndpoints {
 public:
  static constexpr Duration period = seconds(1);
  // An endpoint is judged by at least so many streams, and as slow after so many looks in a row; and never while they
  // are silent for less than this on average, which a long prompt that is computed between their tokens explains.
  static constexpr uint32_t streams_min = 3;
  static constexpr size_t looks = 10;
  static constexpr Duration pause_min = milliseconds(250);

  struct Found {
    uint32_t pool, slot, incarnation;
    bool wedged;     // else it is slow
    Duration pause;  // how long its streams were silent on average: now, or in the last looks
  };

  explicit SlowEndpoints(const SlowOptions& options) : options_(options) {}

  void begin();
  void saw(uint32_t pool, uint32_t slot, uint32_t incarnation, Duration silent_for);
  // At most one endpoint of each pool, and only where another one of it does better. Valid until the next look.
  const std::vector<Found>& end();

 private:
  struct Look {
    uint32_t streams = 0;
    Duration sum{0}, least = Duration::max();
  };
  struct Seen {
    Look now;
    std::array<Look, looks> last{};  // a ring
    size_t count = 0;                // of looks in a row with enough streams
    bool listed = false;             // in this look
    Duration mean() const;           // of `last`
  };
  using Key = std::pair<uint32_t, std::pair<uint32_t, uint32_t>>;  // pool, slot, incarnation
  using Place = std::map<Key, Seen>::iterator;
  void judge(Place first, Place last);
  bool wedged(const Seen& seen, Place first, Place last) const;
  bool slow(const Seen& seen, Place first, Place last);

  const SlowOptions& options_;
  std::map<Key, Seen> seen_;
  std::vector<Found> found_;
  std::vector<Duration> means_;  // scratch
};

}  // namespace penstock::proxy
