// What the standard containers lack.
#pragma once

namespace penstock {

// Empties a container or string and frees its memory. `text = {}` does not: that assigns an empty list, which keeps the
// capacity, and in an unordered_map the buckets.
template <typename Container>
void free_memory(Container& container) {
  Container().swap(container);
}

}  // namespace penstock
