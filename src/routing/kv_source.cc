#include "kv_source.h"

#include "load_estimate.h"

namespace penstock::routing {

// Among equals by chance, the shorter its queue the more likely: who answers others computes its own requests slower.
KvSource find_kv_source(const Inputs& in, std::span<const Candidate> candidates) {
  KvSource source;
  double shares = 0;
  for (const Candidate& candidate : candidates) {
    if (candidate.matched_blocks == 0 || candidate.matched_blocks < source.blocks) continue;
    if (candidate.matched_blocks > source.blocks) shares = 0;
    const double share = 1 / (1 + waiting(in, candidate));
    shares += share;
    source.blocks = candidate.matched_blocks;
    if (in.random.unit() * shares < share) source.endpoint = candidate.endpoint->state;
  }
  return source;
}

endpoints::EndpointState* kv_source_of(const Decision& decision, const KvSource& source, uint32_t tokens,
                                       const Features& features) {
  const bool elsewhere = decision.prefill != nullptr;
  const uint32_t held = elsewhere ? decision.prefill_matched_blocks : decision.matched_blocks;
  if (source.endpoint == nullptr || source.endpoint == (elsewhere ? decision.prefill : decision.endpoint))
    return nullptr;
  if (source.blocks <= held || uint64_t{source.blocks - held} * features.block_tokens < tokens) return nullptr;
  return source.endpoint;
}

}  // namespace penstock::routing
