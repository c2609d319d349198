#include "penstock/admission/options.h"

namespace penstock::admission {

void Rank::meet(int own, int other) {
  if (other == own) return;
  ++count;
  if (other > own) ++above;
  highest = std::max(highest, other);
  lowest = std::min(lowest, other);
}

double UsageLimits::ceiling(int priority, const Rank& rank) const {
  const double others = rank.count - 1;
  switch (kind) {
    case UsageLimit::same:
      return 1;
    case UsageLimit::by_rank:
      return rank.count == 1 ? most : most - rank.above * (most - least) / others;
    case UsageLimit::by_value: {
      if (rank.count == 1) return most;
      const double range = static_cast<double>(rank.highest) - rank.lowest;
      return least + (static_cast<double>(priority) - rank.lowest) / range * (most - least);
    }
    case UsageLimit::listed: {
      const auto found =
          std::find_if(listed.begin(), listed.end(), [=](const Ceiling& one) { return one.priority == priority; });
      return found == listed.end() ? 0 : found->ceiling;
    }
    case UsageLimit::reflective:
      // Open while saturation < 1 - above * saturation / others.
      return rank.above == 0 ? 1 : others / (others + rank.above);
  }
  return 1;
}

const BandOptions& FlowOptions::options_of(int priority) const {
  const auto found =
      std::find_if(bands.begin(), bands.end(), [=](const PriorityBand& one) { return one.priority == priority; });
  if (found != bands.end()) return found->options;
  return priority < 0 && negative_band ? *negative_band : band;
}

Rank FlowOptions::rank_of(int priority) const {
  Rank rank{.highest = priority, .lowest = priority};
  for (const PriorityBand& band_of : bands) rank.meet(priority, band_of.priority);
  return rank;
}

bool FlowOptions::counts_programs() const {
  const auto counts = [](const BandOptions& one) {
    return one.fairness == Fairness::least_service || one.fairness == Fairness::turn_priority;
  };
  return counts(band) || (negative_band && counts(*negative_band)) ||
         std::any_of(bands.begin(), bands.end(), [&](const PriorityBand& one) { return counts(one.options); });
}

}  // namespace penstock::admission
