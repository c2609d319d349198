// How often prefixes that requests share were used lately, as a fading count for each: what a further copy of one is
// worth. One small table of fixed size, lock-free and lossy: of two prefixes that meet in a cell the later counts, of
// two uses at once one may be lost. Any thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "penstock/base/time.h"

namespace penstock::routing {

class PrefixUses {
 public:
  static constexpr double memory_seconds = 5;  // a use this long ago counts 1/e

  PrefixUses() : cells_(std::make_unique<std::atomic<uint64_t>[]>(cells)) {}
  // `prefix`: the hash of its last block. A multiple of 1/256, so that it can be added again as it was read.
  double count(uint64_t prefix, Instant now) const;
  void add(uint64_t prefix, Instant now, double uses = 1);

 private:
  static constexpr size_t cells = size_t{1} << 14;
  std::unique_ptr<std::atomic<uint64_t>[]> cells_;
};

}  // namespace penstock::routing
