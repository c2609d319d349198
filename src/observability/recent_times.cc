#include "penstock/observability/recent_times.h"

#include "penstock/base/assert.h"

namespace penstock::observability {
namespace {

RecentTimes::Counts counts_of(std::span<const ShardStats* const> shards) {
  RecentTimes::Counts out;
  for (const ShardStats* const shard : shards) {
    for (size_t i = 0; i < out.first_token.size(); ++i) out.first_token[i] += shard->time_to_first_token().bucket(i);
    for (size_t i = 0; i < out.inter_token.size(); ++i) out.inter_token[i] += shard->inter_token_gaps().bucket(i);
  }
  return out;
}

}  // namespace

void RecentTimes::sample(Instant now, std::span<const ShardStats* const> shards) {
  samples_[taken_++ % samples_max] = {now, counts_of(shards)};
}

RecentTimes::Window RecentTimes::window(Instant now, std::span<const ShardStats* const> shards) const {
  const Sample& from = oldest();
  Window out{counts_of(shards), now - from.at};
  for (size_t i = 0; i < out.counts.first_token.size(); ++i) out.counts.first_token[i] -= from.counts.first_token[i];
  for (size_t i = 0; i < out.counts.inter_token.size(); ++i) out.counts.inter_token[i] -= from.counts.inter_token[i];
  return out;
}

double quantile(std::span<const double> bounds, std::span<const uint64_t> counts, double part) {
  PENSTOCK_ASSERT(counts.size() == bounds.size() + 1);
  uint64_t total = 0;
  for (const uint64_t count : counts) total += count;
  if (total == 0) return -1;
  const double wanted = part * static_cast<double>(total);
  double below = 0;
  for (size_t i = 0; i < bounds.size(); ++i) {
    const auto count = static_cast<double>(counts[i]);
    if (below + count >= wanted && count > 0) {
      const double from = i == 0 ? 0 : bounds[i - 1];
      return from + (bounds[i] - from) * (wanted - below) / count;
    }
    below += count;
  }
  return bounds.back();
}

}  // namespace penstock::observability
