// A draw by weights. Pure but for the random source.
#pragma once

#include <algorithm>
#include <cstddef>

#include "penstock/base/random.h"

namespace penstock::routing {

// An index below `count`, with a chance proportional to weight_of(index); a weight of 0 or less is never drawn.
// `count`, and nothing is taken from the random source: no weight is above 0.
template <typename WeightOf>
size_t draw(Random& random, size_t count, const WeightOf& weight_of) {
  double sum = 0;
  for (size_t i = 0; i < count; ++i) sum += std::max(weight_of(i), 0.0);
  if (sum <= 0) return count;
  double left = random.unit() * sum;
  size_t drawn = count;
  for (size_t i = 0; i < count; ++i) {
    if (weight_of(i) <= 0) continue;
    drawn = i;  // the last one also takes what rounding left over
    left -= weight_of(i);
    if (left < 0) break;
  }
  return drawn;
}

}  // namespace penstock::routing
