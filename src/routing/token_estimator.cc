#include <algorithm>
#include <cmath>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "penstock/routing/router.h"

namespace penstock::routing {
namespace {

constexpr auto relaxed = std::memory_order_relaxed;
constexpr double ratio_min = 0.5, ratio_max = 16.0;
// Weight of one observation. Short prompts say little: the chat template outweighs their text.
constexpr double weight_max = 0.2;
constexpr double half_weight_tokens = 256;

uint64_t hash_of(std::string_view model) {
  return XXH3_64bits(model.data(), model.size()) | 1;
}  // never 0

}  // namespace

const TokenEstimator::Slot* TokenEstimator::find(uint64_t model_hash) const {
  for (size_t i = 0; i < slots; ++i) {
    const Slot& slot = table_[(model_hash / 2 + i) % slots];
    const uint64_t owner = slot.model_hash.load(relaxed);
    if (owner == model_hash) return &slot;
    if (owner == 0) return nullptr;
  }
  return nullptr;
}

TokenEstimator::Slot* TokenEstimator::find_or_claim(uint64_t model_hash) {
  for (size_t i = 0; i < slots; ++i) {
    Slot& slot = table_[(model_hash / 2 + i) % slots];
    uint64_t owner = slot.model_hash.load(relaxed);
    if (owner == model_hash) return &slot;
    if (owner != 0) continue;
    if (slot.model_hash.compare_exchange_strong(owner, model_hash, relaxed) || owner == model_hash) return &slot;
  }
  return nullptr;
}

double TokenEstimator::bytes_per_token(std::string_view model) const {
  const Slot* slot = find(hash_of(model));
  return slot == nullptr ? initial_bytes_per_token : slot->bytes_per_token.load(relaxed);
}

uint32_t TokenEstimator::estimate(std::string_view model, size_t prompt_bytes) const {
  const double tokens = std::ceil(static_cast<double>(prompt_bytes) / bytes_per_token(model));
  return static_cast<uint32_t>(std::min(tokens, static_cast<double>(UINT32_MAX)));
}

void TokenEstimator::learn(std::string_view model, size_t prompt_bytes, uint32_t prompt_tokens) {
  if (prompt_bytes == 0 || prompt_tokens == 0) return;
  Slot* slot = find_or_claim(hash_of(model));
  if (slot == nullptr) return;
  const double tokens = prompt_tokens;
  const double seen = std::clamp(static_cast<double>(prompt_bytes) / tokens, ratio_min, ratio_max);
  const double weight = weight_max * tokens / (tokens + half_weight_tokens);
  // Two shards may learn at once and one observation be lost: the next one makes up for it.
  const double before = slot->bytes_per_token.load(relaxed);
  slot->bytes_per_token.store(before + weight * (seen - before), relaxed);
}

}  // namespace penstock::routing
