// The minimum cost of a request: the fewest seconds of prefill that any endpoint which may be picked would spend on it,
// considering what the prefix index believes to be cached there. Waiting requests are ordered by it. It depends neither
// on load nor on the policy. Any thread, one caller at a time for each object. Does not allocate once it has seen the
// largest pool.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "penstock/endpoints/snapshot.h"
#include "penstock/routing/prefix_index.h"

namespace penstock::routing {

// A prompt as far as caches are concerned. Views are the owner's.
struct Prompt {
  std::span<const uint64_t> blocks;  // its hash chain; empty: only its length is known
  uint32_t block_tokens = 16;
  uint32_t tokens = 0;
};

struct Work {
  Duration prefill{0};
  uint32_t uncached_tokens = 0;
};

class LeastWork {
 public:
  explicit LeastWork(const PrefixIndex& index) : index_(index) {}
  // `model`: "" for any. If no endpoint may be picked, the whole prompt counts as uncached, and its prefill time is
  // unknown (0).
  Work of(const Prompt& prompt, std::string_view model, const endpoints::Pool& pool, Instant now);

 private:
  const PrefixIndex& index_;
  std::vector<const endpoints::EndpointState*> usable_;
  std::vector<uint32_t> slots_, matched_;
};

}  // namespace penstock::routing
