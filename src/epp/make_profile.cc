// From a SchedulingSpec to a Profile.
#include "penstock/base/assert.h"
#include "penstock/epp/scheduling.h"

namespace penstock::epp {
namespace {

using routing::Profile;
using routing::Scorer;
using routing::StageRule;

void add_plugin(Profile& profile, const ProfileSpec::Use& use, const SchedulingSpec& whole) {
  const PluginSpec& plugin = use.plugin;
  const Needs needs = needs_of(plugin, whole);
  profile.predicts |= needs.predictions && whole.prediction.value_or(PredictionSpec()).made;
  profile.uses_prefix |= needs.prefixes;
  if (needs.epp_hashes) profile.chain_hash = routing::ChainHash::xxh64;
  profile.uses_media |= needs.media;
  profile.gives_session_tokens |= needs.session_tokens;
  if (plugin.info->make.picker != nullptr) profile.picker = plugin.info->make.picker(plugin);
  if (auto filter = make_filter(plugin, whole)) {
    profile.filters.push_back(std::move(filter));
    profile.filter_names.push_back(plugin.name);
  }
  if (auto scorer = make_scorer(plugin, whole)) {
    if (needs.picks) profile.listeners.push_back(scorer.get());
    profile.scorers.push_back({std::move(scorer), use.weight, plugin.name});
  }
}

std::unique_ptr<Profile> make_stage(const ProfileSpec& spec, const SchedulingSpec& whole) {
  auto profile = std::make_unique<Profile>();
  profile->name = spec.name;
  for (const ProfileSpec::Use& use : spec.plugins) add_plugin(*profile, use, whole);
  if (profile->picker == nullptr) profile->picker = routing::make_picker(routing::Pick::max_score);
  profile->prefix = {.from_metrics = whole.prefix.auto_tune, .capacity_blocks = whole.prefix.capacity_blocks};
  return profile;
}

// In front of what the profile filters itself.
void add_screener(Profile& profile, const PluginSpec& screener, const SchedulingSpec& whole) {
  profile.filters.insert(profile.filters.begin(), make_filter(screener, whole));
  profile.filter_names.insert(profile.filter_names.begin(), screener.name);
}

// Who has a predictor sees in the metrics what it says, whether or not anything is decided by it.
void add_admitters(Profile& profile, const SchedulingSpec& spec) {
  const PredictionSpec prediction = spec.prediction.value_or(PredictionSpec());
  profile.predicts |= spec.prediction.has_value() && prediction.made;
  for (const PluginSpec& plugin : spec.admitters) {
    profile.predicts |= prediction.made && needs_of(plugin, spec).predictions;
    profile.admitters.push_back(make_admitter(plugin, spec));
    PENSTOCK_ASSERT(profile.admitters.back() != nullptr);
  }
  profile.uses_prefix |= profile.predicts;
}

// What a stage needs to hear and to read, the one that is decided for everybody has to know.
void add_stage(Profile& profile, Profile::Stage& stage, const ProfileSpec& spec, const StageRule& rule,
               const SchedulingSpec& whole) {
  stage.profile = make_stage(spec, whole);
  stage.profile->uses_prefix |= whole.kv_source_tokens > 0;
  if (whole.screener) add_screener(*stage.profile, *whole.screener, whole);
  stage.rule = rule;
  profile.uses_prefix |= stage.profile->uses_prefix || rule.when == StageRule::When::uncached;
  profile.uses_media |= stage.profile->uses_media;
  for (const Scorer* listener : stage.profile->listeners) profile.listeners.push_back(listener);
}

// Likewise of a profile that a header may choose.
void add_other(Profile& profile, const ProfileSpec& spec, const SchedulingSpec& whole) {
  auto other = make_stage(spec, whole);
  if (whole.screener) add_screener(*other, *whole.screener, whole);
  profile.uses_prefix |= other->uses_prefix || other->predicts;
  profile.uses_media |= other->uses_media;
  profile.predicts |= other->predicts;
  profile.gives_session_tokens |= other->gives_session_tokens;
  profile.listeners.insert(profile.listeners.end(), other->listeners.begin(), other->listeners.end());
  profile.by_header.others.push_back(std::move(other));
}

}  // namespace

std::unique_ptr<Profile> make_profile(const SchedulingSpec& spec) {
  auto profile = make_stage(spec.primary, spec);
  add_admitters(*profile, spec);
  profile->kv_source_tokens = spec.kv_source_tokens;
  profile->uses_prefix |= spec.kv_source_tokens > 0;
  for (const ProfileSpec& other : spec.by_header) add_other(*profile, other, spec);
  profile->by_header.header = spec.profile_header;
  if (spec.screener) add_screener(*profile, *spec.screener, spec);
  if (spec.prefill) add_stage(*profile, profile->prefill, *spec.prefill, spec.prefill_rule, spec);
  if (spec.encode) add_stage(*profile, profile->encode, *spec.encode, spec.encode_rule, spec);
  return profile;
}

}  // namespace penstock::epp
