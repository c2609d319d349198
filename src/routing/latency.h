// What the plugins that look at predicted latencies have in common: how far a prediction is from what the request asks
// for, and the scores that stand in while nothing is predicted.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "penstock/routing/headroom.h"
#include "penstock/routing/router.h"

namespace penstock::routing {

// Seconds by which a candidate is expected to be faster than asked; negative: slower. What nothing is asked of is 0,
// unless nothing is asked of either: then both are what the prediction says, negative, so that less is better.
struct Headroom {
  double first_token = 0, pace = 0;
  bool positive() const { return first_token >= 0 && pace >= 0; }
};
Headroom headroom_of(const Inputs& in, const Candidate& candidate, const HeadroomOptions& options);

// One entry for each candidate, kept for the memory between decisions: valid until the next call on this thread.
std::span<const Headroom> headrooms_of(const Inputs& in, std::span<const Candidate> candidates,
                                       const HeadroomOptions& options);

// Predictions are made of all candidates of a decision or of none.
inline bool predicted(std::span<const Candidate> candidates) {
  return !candidates.empty() && candidates.front().predicted.known;
}

// From the least to the most of some values.
struct Range {
  double low = INFINITY, high = -INFINITY;
  void add(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  // The values are all equal but for rounding (they are seconds), or there are none.
  bool empty() const { return high - low <= 1e-12; }
  // Where `value` stands, 0 to 1; in an empty range at `if_empty`.
  double place(double value, double if_empty = 0) const { return empty() ? if_empty : (value - low) / (high - low); }
};

// In shares of their sum; where that is 0, the free KV cache alone counts.
CompositeWeights normalised(const CompositeWeights& weights);
// Scores in steps of a hundredth.
void composite_scores(const Inputs& in, std::span<const Candidate> candidates, const CompositeWeights& weights,
                      std::span<double> scores);

// Of the prompt's blocks.
double cached_share(const Inputs& in, const Candidate& candidate);

}  // namespace penstock::routing
