// Who is believed to have encoded a request's images, audio and video already.
#include <algorithm>
#include <bit>

#include "penstock/routing/scorers.h"

namespace penstock::routing {
namespace {

// The share of the request's media that the endpoint encoded lately; 0 for all when there are none. The memory is an
// index of chains of one block each: least recently used items of an endpoint are forgotten first.
class MediaScorer final : public Scorer {
 public:
  explicit MediaScorer(uint64_t items) : items_(items), index_(entries_for(items)) {}
  std::string_view type() const override { return "mm-embeddings-cache-scorer"; }

  void score(const Inputs& in, std::span<const Candidate> candidates, std::span<double> scores) const override {
    std::fill(scores.begin(), scores.end(), 0);
    const std::span<const uint64_t> media = in.features.media;
    if (media.empty()) return;
    thread_local std::vector<uint32_t> slots, held;  // for each shard, kept for their memory
    slots.clear();
    for (const Candidate& candidate : candidates) slots.push_back(bound_slot(*candidate.endpoint->state));
    held.resize(slots.size());
    const double share = 1 / static_cast<double>(media.size());
    for (size_t item = 0; item < media.size(); ++item) {
      index_.match(media.subspan(item, 1), slots, held);
      for (size_t i = 0; i < held.size(); ++i) scores[i] += share * held[i];
    }
  }

  // Whoever encodes: the encode stage if there is one, else who computes the prompt.
  void picked(const Features& features, const Decision& decision, Instant) const override {
    if (!decision.encode.empty()) {
      for (const endpoints::EndpointState* const state : decision.encode) remember(features, *state);
    } else {
      remember(features, decision.prefill != nullptr ? *decision.prefill : *decision.endpoint);
    }
  }
  void caches_lost(const endpoints::EndpointState& endpoint) const override { index_.forget_endpoint(endpoint.slot); }

 private:
  // Room for what 64 endpoints may hold, within 128 KiB and 8 MiB; where there are more, old items go earlier.
  static size_t entries_for(uint64_t items) {
    return std::bit_ceil(std::clamp<uint64_t>(items * 64, uint64_t{1} << 14, uint64_t{1} << 20));
  }
  uint32_t bound_slot(const endpoints::EndpointState& endpoint) const {
    index_.bind(endpoint.slot, endpoint.incarnation);
    index_.set_capacity(endpoint.slot, items_);
    return endpoint.slot;
  }
  void remember(const Features& features, const endpoints::EndpointState& endpoint) const {
    const uint32_t slot = bound_slot(endpoint);
    for (size_t item = 0; item < features.media.size(); ++item) index_.record(features.media.subspan(item, 1), slot);
  }

  uint64_t items_;
  mutable PrefixIndex index_;
};

}  // namespace

std::unique_ptr<Scorer> make_media_scorer(uint64_t items) {
  return std::make_unique<MediaScorer>(items);
}

}  // namespace penstock::routing
