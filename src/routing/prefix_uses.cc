#include "penstock/routing/prefix_uses.h"

#include <algorithm>
#include <cmath>

namespace penstock::routing {
namespace {

constexpr auto relaxed = std::memory_order_relaxed;
// A cell: tag (16 bits of the hash) | time of the last use in units of 2^24 ns, about 17 ms (24 bits; they wrap after
// three days; the later half of that is taken for the future) | count in 1/256 (24 bits).
constexpr unsigned time_bits = 24, count_bits = 24, unit_bits = 24;
constexpr uint64_t time_mask = (uint64_t{1} << time_bits) - 1, count_mask = (uint64_t{1} << count_bits) - 1;
constexpr double fractions = 256;

uint64_t tag_of(uint64_t prefix) {
  return prefix >> (time_bits + count_bits);
}
uint64_t time_of(Instant now) {
  return static_cast<uint64_t>(now.time_since_epoch().count()) >> unit_bits & time_mask;
}

}  // namespace

double PrefixUses::count(uint64_t prefix, Instant now) const {
  const uint64_t cell = cells_[prefix % cells].load(relaxed);
  if (cell >> (time_bits + count_bits) != tag_of(prefix)) return 0;
  uint64_t units = (time_of(now) - (cell >> count_bits)) & time_mask;
  if (units > time_mask / 2) units = 0;  // another shard's turn began later than ours
  if (units == 0) return std::floor(static_cast<double>(cell & count_mask)) / fractions;
  const double age = to_seconds(Duration(static_cast<int64_t>(units << unit_bits)));
  return std::floor(static_cast<double>(cell & count_mask) * std::exp(-age / memory_seconds)) / fractions;
}

void PrefixUses::add(uint64_t prefix, Instant now, double uses) {
  const double total = std::clamp((count(prefix, now) + uses) * fractions, 0.0, static_cast<double>(count_mask));
  std::atomic<uint64_t>& cell = cells_[prefix % cells];
  const uint64_t old = cell.load(relaxed);
  uint64_t time = time_of(now);
  const bool later = (((old >> count_bits) - time) & time_mask) <= time_mask / 2;
  if (old >> (time_bits + count_bits) == tag_of(prefix) && later) time = old >> count_bits & time_mask;
  cell.store(tag_of(prefix) << (time_bits + count_bits) | time << count_bits | static_cast<uint64_t>(total), relaxed);
}

}  // namespace penstock::routing
