// Policies of other routers, from their public descriptions, as parts of a routing profile. One replay uses one.
#pragma once

#include <memory>

#include "penstock/replay/contestant.h"

namespace penstock::replay {

// llm-d, before August 2026: endpoints that took a request without a cached beginning longest ago come first.
class NoHitLruScorer final : public routing::Scorer {
 public:
  std::string_view type() const override { return "no-hit-lru-scorer"; }
  void score(const routing::Inputs& in, std::span<const routing::Candidate> candidates,
             std::span<double> scores) const override;
  void picked(const routing::Features& features, const routing::Decision& decision, Instant now) const override;

 private:
  // A replay has one thread.
  mutable std::vector<uint64_t> last_cold_;  // by slot: when it last took one, counted in picks; 0: never
  mutable uint64_t picks_ = 0;
};

// llm-d, since August 2026: only endpoints that hold 80 % of the prompt, unless their queues are too long.
class PrefixAffinityFilter final : public routing::Filter {
 public:
  std::string_view type() const override { return "prefix-cache-affinity-filter"; }
  void filter(const routing::Inputs& in, std::vector<routing::Candidate>& candidates) const override;
};

// Scorers made of a cost that each endpoint has by itself: the lowest wins.
std::unique_ptr<routing::Scorer> token_load();      // llm-d: tokens to compute before the first token
std::unique_ptr<routing::Scorer> lmetric();         // LMetric: the same times the batch
std::unique_ptr<routing::Scorer> sglang_lmetric();  // SGLang's form: without the tokens that wait
std::unique_ptr<routing::Scorer> dynamo();          // Dynamo's KV router
// Scorers that single out endpoints by looking at all of them.
std::unique_ptr<routing::Scorer> sglang_cache_aware();
std::unique_ptr<routing::Scorer> aibrix_prefix_cache();
std::unique_ptr<routing::Scorer> bounded_hashing();

}  // namespace penstock::replay
