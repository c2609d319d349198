#include "penstock/routing/least_work.h"

#include <algorithm>

#include "penstock/routing/backlog.h"

namespace penstock::routing {

Work LeastWork::of(const Prompt& prompt, std::string_view model, const endpoints::Pool& pool, Instant now) {
  usable_.clear();
  slots_.clear();
  for (const endpoints::EndpointView& endpoint : pool.endpoints) {
    if (!usable(endpoint, model, now)) continue;
    usable_.push_back(endpoint.state);
    slots_.push_back(endpoint.state->slot);
  }
  matched_.assign(slots_.size(), 0);
  if (!prompt.blocks.empty()) index_.match(prompt.blocks, slots_, matched_);

  Work least{Duration{0}, prompt.tokens};
  for (size_t i = 0; i < usable_.size(); ++i) {
    const uint64_t cached = std::min<uint64_t>(uint64_t{matched_[i]} * prompt.block_tokens, prompt.tokens);
    const uint32_t uncached = prompt.tokens - static_cast<uint32_t>(cached);
    const Duration prefill = from_seconds(prefill_seconds(*usable_[i], uncached));
    if (i == 0 || prefill < least.prefill) least = {prefill, uncached};
  }
  return least;
}

}  // namespace penstock::routing
