// What the last minutes were like: the histograms of all shards only grow, so the difference to what they held some
// minutes ago tells of the time since then. Costs the shards nothing. Thread: control.
#pragma once

#include <array>
#include <cstddef>
#include <span>

#include "penstock/observability/shard_stats.h"

namespace penstock::observability {

class RecentTimes {
 public:
  static constexpr Duration period = seconds(30);  // between two samples: the owner calls sample() so often
  static constexpr size_t samples_max = 10;        // five minutes

  // Counts of each bucket, the last one (+Inf) included.
  struct Counts {
    std::array<uint64_t, std::size(epp_general_seconds) + 1> first_token{};
    std::array<uint64_t, std::size(inter_token_seconds) + 1> inter_token{};
  };
  // What was observed since the oldest sample, which is `span` old.
  struct Window {
    Counts counts;
    Duration span{};
  };

  explicit RecentTimes(Instant start) { samples_[0].at = start; }

  void sample(Instant now, std::span<const ShardStats* const> shards);
  Window window(Instant now, std::span<const ShardStats* const> shards) const;

 private:
  struct Sample {
    Instant at{};
    Counts counts;
  };
  const Sample& oldest() const { return samples_[taken_ < samples_max ? 0 : taken_ % samples_max]; }

  std::array<Sample, samples_max> samples_;
  size_t taken_ = 1;  // the first one, with nothing counted, is that of the start
};

// The value in seconds below which `part` of the observations lie, interpolated within its bucket; negative without
// observations. `counts` has one more element than `bounds`.
double quantile(std::span<const double> bounds, std::span<const uint64_t> counts, double part);

}  // namespace penstock::observability
