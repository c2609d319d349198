#include "penstock/replay/contestant.h"

#include <algorithm>
#include <array>

#include "peers.h"
#include "penstock/base/assert.h"
#include "penstock/routing/scorers.h"

namespace penstock::replay {
namespace {

constexpr std::array<ContestantInfo, 15> infos = {{
    {"expected-cost", "Penstock: the cost in seconds of sending the request to each endpoint"},
    {"expected-cost+hold", "the same with late binding: flow control holds requests while all are saturated"},
    {"epp-default", "Penstock's Endpoint Picker profile: 2 queue + 2 KV use + 3 cached prefix"},
    {"least-load", "Penstock: fewest requests"},
    {"round-robin", "Penstock: each in turn"},
    {"random", "Penstock: any"},
    {"llmd-blend", "llm-d until August 2026: 3 prefix + 2 queue + 2 KV use + 2 no-hit LRU"},
    {"llmd-token", "llm-d since August 2026: affinity filter 0.8, then fewest tokens to compute"},
    {"lmetric", "LMetric: (tokens waiting + own uncached tokens) x batch"},
    {"sglang-lmetric", "SGLang's form of it: own uncached tokens x batch"},
    {"sglang", "SGLang / SMG cache_aware: longest match unless out of balance"},
    {"dynamo", "Dynamo KV router: tokens to compute + active blocks"},
    {"aibrix", "AIBrix prefix-cache: longest match among those not overloaded"},
    {"chwbl", "Consistent hashing with bounded loads (1.25) of the first 4,096 tokens"},
    {"epp-capped", "The Endpoint Picker's own reach: epp-default matching 4,096 tokens at most"},
}};

constexpr std::string_view hold_suffix = "+hold";

// Puts the scorer into the profile, with the picker of all that score.
void add(routing::Profile& profile, std::unique_ptr<routing::Scorer> scorer, double weight = 1) {
  PENSTOCK_ASSERT(scorer != nullptr);
  profile.scorers.push_back({std::move(scorer), weight});
  profile.uses_prefix = true;
  if (profile.picker == nullptr) profile.picker = routing::make_picker(routing::Pick::max_score);
}

Contestant llmd_blend() {
  Contestant contestant{std::make_unique<routing::Profile>()};
  add(*contestant.profile, routing::make_prefix_cache_scorer(), 3);
  add(*contestant.profile, routing::make_queue_scorer(), 2);
  add(*contestant.profile, routing::make_kv_cache_scorer(), 2);
  auto no_hit = std::make_unique<NoHitLruScorer>();
  contestant.profile->listeners.push_back(no_hit.get());
  add(*contestant.profile, std::move(no_hit), 2);
  contestant.tokens_matched_max = 4096;
  return contestant;
}

Contestant llmd_token() {
  Contestant contestant{std::make_unique<routing::Profile>()};
  contestant.profile->filters.push_back(std::make_unique<PrefixAffinityFilter>());
  add(*contestant.profile, token_load());
  return contestant;
}

Contestant single(std::unique_ptr<routing::Scorer> scorer) {
  Contestant contestant{std::make_unique<routing::Profile>()};
  add(*contestant.profile, std::move(scorer));
  return contestant;
}

}  // namespace

std::span<const ContestantInfo> contestants() {
  return infos;
}

bool take_hold_suffix(std::string_view& name) {
  if (!name.ends_with(hold_suffix)) return false;
  name.remove_suffix(hold_suffix.size());
  return true;
}

bool known_contestant(std::string_view name) {
  take_hold_suffix(name);
  return std::any_of(infos.begin(), infos.end(), [name](const ContestantInfo& info) { return info.name == name; });
}

Contestant make_contestant(std::string_view name) {
  if (take_hold_suffix(name)) {
    Contestant contestant = make_contestant(name);
    contestant.holds = true;
    return contestant;
  }
  routing::Policy policy{};
  if (routing::parse_policy(name, &policy)) return {routing::make_profile(policy)};
  if (name == "epp-capped") {
    Contestant contestant{routing::make_profile(routing::Policy::epp_default)};
    contestant.tokens_matched_max = 4096;
    return contestant;
  }
  if (name == "llmd-blend") return llmd_blend();
  if (name == "llmd-token") return llmd_token();
  if (name == "lmetric") return single(lmetric());
  if (name == "sglang-lmetric") return single(sglang_lmetric());
  if (name == "dynamo") return single(dynamo());
  if (name == "aibrix") return single(aibrix_prefix_cache());
  if (name == "chwbl") return single(bounded_hashing());
  PENSTOCK_ASSERT(name == "sglang");
  Contestant contestant = single(sglang_cache_aware());
  contestant.index_unbounded = true;
  return contestant;
}

Contestant make_contestant(const ConfiguredContestant& configured) {
  Contestant contestant{configured.make_profile()};
  contestant.prefix = configured.prefix;
  contestant.flow = configured.flow;
  contestant.holds = configured.flow.has_value() || configured.name.ends_with(hold_suffix);
  return contestant;
}

}  // namespace penstock::replay
