// Puts requests with the same prompt that come at once together, and so many of them only.
#include <algorithm>
#include <array>
#include <atomic>

#include "load_estimate.h"
#include "penstock/routing/scorers.h"

namespace penstock::routing {
namespace {

constexpr auto relaxed = std::memory_order_relaxed;

// Where the requests with some prompt, or some beginning of it, have gone since the first of them. One small table of
// fixed size, lock-free and lossy: of two groups that meet in a cell the later counts. Any thread.
class Groups {
 public:
  struct Group {
    uint32_t slot, size;  // endpoint; requests that it got
    Instant since;
  };

  // False: nobody came within the window.
  bool find(uint64_t hash, Instant now, Duration window, Group* out) const {
    const uint64_t cell = cells_[hash % cells_.size()].load(relaxed);
    if (cell == 0 || cell >> tag_shift != hash >> tag_shift) return false;
    const uint64_t age = (stamp_of(now) - (cell >> stamp_shift)) & stamp_mask;
    const bool ahead = age > stamp_mask - ahead_max_ms;  // another shard's turn began later than ours
    *out = {static_cast<uint32_t>(cell >> slot_shift & slot_mask),
            static_cast<uint32_t>(cell & BurstOptions::per_replica_max), ahead ? now : now - milliseconds(age)};
    return ahead || milliseconds(age) < window;
  }
  void put(uint64_t hash, const Group& group) {
    const uint64_t stamp = stamp_of(group.since);
    cells_[hash % cells_.size()].store((hash >> tag_shift << tag_shift) | stamp << stamp_shift |
                                           uint64_t{group.slot & slot_mask} << slot_shift |
                                           std::min<uint64_t>(group.size, BurstOptions::per_replica_max),
                                       relaxed);
  }

 private:
  // A cell: tag (20 bits of the hash) | since when, in ms (20 bits; they wrap after 17 minutes) | slot (12) | size
  // (12). Zero: empty.
  static constexpr unsigned slot_shift = 12, stamp_shift = 24, tag_shift = 44;
  static constexpr uint64_t ahead_max_ms = 1000;
  static constexpr uint64_t stamp_mask = (uint64_t{1} << 20) - 1, slot_mask = PrefixIndex::endpoint_slots_max - 1;

  static uint64_t stamp_of(Instant now) { return static_cast<uint64_t>(to_ms(now.time_since_epoch())) & stamp_mask; }

  std::array<std::atomic<uint64_t>, size_t{1} << 14> cells_{};
};

// The endpoint that got the same prompt within the window 1, as long as it may get more of them, and then the others;
// where beginnings count, and nobody got the whole, the one that got the same beginning, as long as it has no more to
// do than others have on average.
class BurstScorer final : public Scorer {
 public:
  explicit BurstScorer(const BurstOptions& options) : options_(options), groups_(std::make_unique<Groups>()) {}
  std::string_view type() const override { return "prefix-cache-scorer"; }

  void score(const Inputs& in, std::span<const Candidate> candidates, std::span<double> scores) const override {
    std::fill(scores.begin(), scores.end(), 0);
    const Keys keys = keys_of(in.features);
    Groups::Group group;
    if (keys.whole != 0 && groups_->find(keys.whole, in.now, options_.window, &group)) {
      const bool full = options_.per_replica != 0 && group.size >= options_.per_replica;
      return prefer(group.slot, !full, candidates, scores);
    }
    if (keys.begin == 0 || !groups_->find(keys.begin, in.now, options_.window, &group)) return;
    double own = 0, all = 0;
    for (const Candidate& candidate : candidates) {
      all += in_flight(candidate);
      if (candidate.endpoint->state->slot == group.slot) own = in_flight(candidate);
    }
    if (own * static_cast<double>(candidates.size()) <= all) prefer(group.slot, true, candidates, scores);
  }

  void picked(const Features& features, const Decision& decision, Instant now) const override {
    const uint32_t slot = (decision.prefill != nullptr ? decision.prefill : decision.endpoint)->slot;
    if (slot >= PrefixIndex::endpoint_slots_max) return;
    const Keys keys = keys_of(features);
    for (const uint64_t key : {keys.whole, keys.begin}) {
      Groups::Group group;
      if (key == 0) continue;
      const bool more = groups_->find(key, now, options_.window, &group) && group.slot == slot;
      groups_->put(key, more ? Groups::Group{slot, group.size + 1, group.since} : Groups::Group{slot, 1, now});
    }
  }

 private:
  struct Keys {
    uint64_t whole = 0, begin = 0;  // hashes of the prompt and of its beginning; 0: there is none
  };
  Keys keys_of(const Features& features) const {
    const std::span<const uint64_t> blocks = features.blocks;
    const auto in_blocks = [&](uint64_t tokens) { return tokens / std::max(features.block_tokens, 1u); };
    Keys keys;
    if (blocks.empty()) return keys;
    const uint64_t most =
        options_.tokens_max == 0 ? blocks.size() : std::max<uint64_t>(in_blocks(options_.tokens_max), 1);
    keys.whole = blocks[std::min<uint64_t>(blocks.size(), most) - 1];
    const uint64_t least = std::max<uint64_t>(in_blocks(options_.begin_tokens), 1);
    if (options_.begin_tokens != 0 && blocks.size() >= least) keys.begin = blocks[least - 1];
    return keys;
  }
  // The one at that slot, or all the others.
  static void prefer(uint32_t slot, bool it, std::span<const Candidate> candidates, std::span<double> scores) {
    for (size_t i = 0; i < candidates.size(); ++i) {
      scores[i] = (candidates[i].endpoint->state->slot == slot) == it ? 1 : 0;
    }
  }

  BurstOptions options_;
  std::unique_ptr<Groups> groups_;
};

}  // namespace

std::unique_ptr<Scorer> make_burst_scorer(const BurstOptions& options) {
  return std::make_unique<BurstScorer>(options);
}

}  // namespace penstock::routing
