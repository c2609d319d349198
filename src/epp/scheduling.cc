// `schedulingProfiles` of an EndpointPickerConfig, and the handler that says which of them decides what.
#include <algorithm>

#include "parts.h"
#include "penstock/objects/resolve.h"
#include "rows.h"

namespace penstock::epp {
namespace {

using routing::PrefixSpec;
using routing::StageRule;

bool may_stand_in_profile(PluginKind kind) {
  return runs_in_profile(kind) || kind == PluginKind::built_in;
}

struct NamedProfile {
  ProfileSpec spec;
  YAML::Node node;
  std::string key;
};

class Scheduling {
 public:
  Scheduling(Reader& in, const DeclaredPlugins& plugins) : in_(in), plugins_(plugins) {}

  SchedulingSpec read(const YAML::Node& profiles) {
    if (profiles.IsDefined() && !(profiles.IsSequence() && profiles.size() == 0)) {
      in_.each_item(profiles, "schedulingProfiles",
                    [&](const auto& key, const auto& node) { read_profile(node, key); });
    } else {
      profiles_.push_back({.spec = implied_profile()});
    }
    SchedulingSpec out;
    out.prefix = prefix();
    read_kv_events(out);
    read_predictions(out);
    out.media = media();
    read_screener(out);
    out.burst = burst();
    read_metrics(in_, plugins_, &out);
    assign(out);
    note_peerless(out.primary);
    for (const ProfileSpec& other : out.by_header) note_peerless(other);
    return out;
  }

 private:
  void read_profile(const YAML::Node& node, const std::string& key) {
    NamedProfile profile{.node = node, .key = key};
    std::string name;
    in_.each_entry(node, key, {"name", "plugins"}, [&](const auto& word, const auto& path, const auto& value) {
      if (word == "name") in_.read_text(value, path, &name);
      else
        in_.each_item(value, path,
                      [&](const auto& item_key, const auto& item) { read_use(item, item_key, profile.spec); });
    });
    if (name.empty()) {
      if (node.IsMap()) in_.problem(node, key + ".name", "is missing");
      return;
    }
    profile.spec.name = name;
    if (find(name) != nullptr)
      return in_.problem(node, key + ".name", '"' + name + "\" is the name of another profile");
    profiles_.push_back(std::move(profile));
  }

  void read_use(const YAML::Node& node, const std::string& key, ProfileSpec& profile) {
    const DeclaredPlugin* plugin = nullptr;
    ProfileSpec::Use use;
    YAML::Node weight(YAML::NodeType::Undefined);
    bool referred = false;
    in_.each_entry(node, key, {"pluginRef", "weight"}, [&](const auto& word, const auto& path, const auto& value) {
      if (word == "weight") {
        if (in_.read_number(value, path, false, 0, 1e6, &use.weight)) weight.reset(value);
        return;
      }
      referred = true;
      plugin = read_reference(in_, plugins_, value, path, may_stand_in_profile, "a filter, scorer or picker");
    });
    if (!referred && node.IsMap()) in_.problem(node, key + ".pluginRef", "is missing");
    if (plugin == nullptr) return;
    const PluginKind kind = plugin->spec.info->kind;
    if (kind == PluginKind::built_in) return use_built_in(*plugin, node, key);
    if (weight.IsDefined() && kind != PluginKind::scorer && kind != PluginKind::scorer_and_filter) {
      in_.note(weight, key + ".weight",
               "has no effect: \"" + plugin->spec.name + "\" is a " + std::string(to_string(kind)) +
                   ", and weights are for scorers");
    }
    const bool second_picker =
        kind == PluginKind::picker &&
        std::any_of(profile.plugins.begin(), profile.plugins.end(),
                    [](const ProfileSpec::Use& other) { return other.plugin.info->kind == PluginKind::picker; });
    if (second_picker)
      return in_.problem(node, key + ".pluginRef", "is the second picker of this profile; there is one");
    use.plugin = plugin->spec;
    tell_topology(use.plugin);
    profile.plugins.push_back(std::move(use));
  }

  // Which labels the topology-extractor reads is told to those that read what it says.
  void tell_topology(PluginSpec& plugin) const {
    if (!plugin.info->type.starts_with("topology-affinity-")) return;
    for (const DeclaredPlugin& other : plugins_) {
      if (other.spec.info->type != "topology-extractor") continue;
      plugin.parameters.insert(plugin.parameters.end(), other.spec.parameters.begin(), other.spec.parameters.end());
      return;
    }
  }

  // Tokenizers were scorers once, and predictors are listed before those that read them, so profiles name both.
  void use_built_in(const DeclaredPlugin& plugin, const YAML::Node& node, const std::string& key) {
    const std::string_view type = plugin.spec.info->type;
    if (type == "token-producer" || type == "predicted-latency-producer") {
      return in_.note(node, key + ".pluginRef", "has no effect: " + std::string(plugin.spec.info->note));
    }
    in_.problem(node, key + ".pluginRef",
                '"' + plugin.spec.name + "\" is a part of the gateway, not a filter, scorer or picker");
  }

  // Without schedulingProfiles, all that can run in a profile does. Without any of those either, the default of the
  // Endpoint Picker.
  ProfileSpec implied_profile() {
    ProfileSpec profile;
    bool picker = false;
    for (const DeclaredPlugin& plugin : plugins_) {
      if (!runs_in_profile(plugin.spec.info->kind) || plugin.spec.info->kind == PluginKind::detector) continue;
      if (plugin.spec.info->kind == PluginKind::picker && std::exchange(picker, true)) {
        in_.problem(plugin.node, plugin.key, "is the second picker; without schedulingProfiles there can be one");
        continue;
      }
      profile.plugins.push_back({plugin.spec});
      tell_topology(profile.plugins.back().plugin);
    }
    if (!profile.plugins.empty()) return profile;
    const std::pair<std::string_view, double> defaults[] = {
        {"queue-scorer", 2}, {"kv-cache-utilization-scorer", 2}, {"prefix-cache-scorer", 3}};
    for (const auto& [type, weight] : defaults) {
      profile.plugins.push_back({{.name = std::string(type), .info = find_plugin_type(type)}, weight});
    }
    return profile;
  }

  const NamedProfile* find(std::string_view name) const {
    const auto found =
        std::find_if(profiles_.begin(), profiles_.end(), [&](const NamedProfile& p) { return p.spec.name == name; });
    return found == profiles_.end() ? nullptr : &*found;
  }

  // ---- the handler ----

  void assign(SchedulingSpec& out) {
    const DeclaredPlugin* handler = nullptr;
    for (const DeclaredPlugin& plugin : plugins_) {
      if (plugin.spec.info->kind != PluginKind::profile_handler) continue;
      if (handler != nullptr) {
        in_.problem(plugin.node, plugin.key,
                    "is the second profile handler (first: " + handler->key + "); there is one");
        return;
      }
      handler = &plugin;
    }
    if (profiles_.empty()) return;  // told already
    const Handling handling = handler == nullptr ? Handling::one_profile : handler->spec.info->handling;
    if (handling == Handling::by_header) return choose_by_header(*handler, out);
    if (handling != Handling::one_profile) return disaggregate(*handler, out);
    if (profiles_.size() > 1) {
      in_.problem(profiles_[1].node, profiles_[1].key,
                  "is one profile too many for " +
                      std::string(handler == nullptr ? "single-profile-handler" : handler->spec.info->type) +
                      "; for several, declare disagg-profile-handler");
    }
    out.primary = profiles_.front().spec;
  }

  // The default profile first, and with a single one always that.
  void choose_by_header(const DeclaredPlugin& handler, SchedulingSpec& out) {
    const std::string given = handler.spec.text("defaultProfile");
    const NamedProfile* const first =
        profiles_.size() == 1 ? &profiles_.front() : find(given.empty() ? "decode" : given);
    if (first == nullptr) {
      return in_.not_among(handler.node, handler.key + ".parameters.defaultProfile", given.empty() ? "decode" : given,
                           names(), "schedulingProfiles");
    }
    out.primary = first->spec;
    out.profile_header = handler.spec.text("headerName");
    for (const NamedProfile& profile : profiles_) {
      if (&profile != first) out.by_header.push_back(profile.spec);
    }
  }

  std::vector<std::string_view> names() const {
    std::vector<std::string_view> out;
    for (const NamedProfile& profile : profiles_) out.push_back(profile.spec.name);
    return out;
  }

  void disaggregate(const DeclaredPlugin& handler, SchedulingSpec& out) {
    check_spellings(handler);
    const auto said = [&](std::string_view one, std::string_view other) {
      return handler.spec.has(one) ? handler.spec.text(one) : handler.spec.text(other);
    };
    const bool by_threshold = handler.spec.info->handling == Handling::stages_by_threshold;
    const std::string older = said("prefillDeciderPluginName", "deciderPluginName");
    const std::string prefill_decider = older.empty() ? handler.spec.text("deciders.prefill") : older;
    if (handler.spec.has("threshold") && !prefill_decider.empty()) {
      in_.note(handler.node, handler.key + ".parameters.threshold",
               "has no effect beside the decider " + prefill_decider);
    }
    const std::string encode_decider = said("deciders.encode", "encodeDeciderPluginName");
    const NamedProfile* const decode = stage(handler, said("profiles.decode", "decodeProfile"), "decode", true);
    const NamedProfile* const prefill =
        stage(handler, said("profiles.prefill", "prefillProfile"), "prefill", !prefill_decider.empty());
    const NamedProfile* const encode =
        stage(handler, said("profiles.encode", "encodeProfile"), "encode", !encode_decider.empty());
    if (decode != nullptr) out.primary = decode->spec;
    if (prefill != nullptr) {
      out.prefill = prefill->spec;
      out.prefill_rule =
          by_threshold && prefill_decider.empty() ? threshold_rule(handler) : rule(handler, *prefill, prefill_decider);
    }
    if (encode != nullptr) {
      out.encode = encode->spec;
      out.encode_rule = rule(handler, *encode, encode_decider);
    }
    for (const NamedProfile& profile : profiles_) {
      if (&profile == decode || &profile == prefill || &profile == encode) continue;
      in_.note(profile.node, profile.key,
               '"' + profile.spec.name + "\" is a profile that " + handler.spec.name + " does not use");
    }
  }

  // Before there were deciders: a prefill elsewhere for so many uncached characters or more, four to a token.
  static StageRule threshold_rule(const DeclaredPlugin& handler) {
    const auto characters = static_cast<uint32_t>(handler.spec.number("threshold"));
    if (characters == 0) return {.when = StageRule::When::always};
    return {.when = StageRule::When::uncached, .uncached_tokens = (characters - 1) / 4 + 1};
  }

  void check_spellings(const DeclaredPlugin& handler) {
    const auto is_nested = [](const auto& parameter) { return parameter.first.find('.') != std::string::npos; };
    const auto& all = handler.spec.parameters;
    const auto is_flat = [](const auto& parameter) {
      return parameter.first.ends_with("Profile") || parameter.first.ends_with("eciderPluginName");
    };
    if (std::any_of(all.begin(), all.end(), is_nested) && std::any_of(all.begin(), all.end(), is_flat)) {
      in_.problem(handler.node, handler.key + ".parameters",
                  "mixes two spellings; say profiles: and deciders:, or the older ...Profile and ...DeciderPluginName");
    }
  }

  // The profile of a stage: that of the name given, else of the stage's own.
  const NamedProfile* stage(const DeclaredPlugin& handler, const std::string& given, std::string_view name,
                            bool needed) {
    const NamedProfile* const found = find(given.empty() ? name : given);
    if (found == nullptr && (needed || !given.empty())) {
      in_.not_among(handler.node, handler.key + ".parameters.profiles." + std::string(name),
                    given.empty() ? std::string(name) : given, names(), "schedulingProfiles");
    }
    return found;
  }

  StageRule rule(const DeclaredPlugin& handler, const NamedProfile& profile, const std::string& decider_name) {
    if (decider_name.empty()) {
      in_.note(profile.node, profile.key, "never runs: " + handler.spec.name + " has no decider for it");
      return {};
    }
    const DeclaredPlugin* const decider = find_plugin(plugins_, decider_name);
    if (decider == nullptr || decider->spec.info->kind != PluginKind::decider) {
      std::vector<std::string_view> names;
      for (const DeclaredPlugin& plugin : plugins_) {
        if (plugin.spec.info->kind == PluginKind::decider) names.push_back(plugin.spec.name);
      }
      in_.not_among(handler.node, handler.key + ".parameters.deciders", decider_name, names, "deciders declared");
      return {};
    }
    return decider->spec.info->make.decider(decider->spec);
  }

  // ---- the prefix index, which there is one of ----

  PrefixSpec prefix() {
    PrefixSpec out;
    const DeclaredPlugin* first = nullptr;
    for (const DeclaredPlugin& plugin : plugins_) {
      const std::string_view type = plugin.spec.info->type;
      if (type != "prefix-cache-scorer" && type != "approx-prefix-cache-producer") continue;
      if (!says_prefix(plugin.spec)) continue;
      const PrefixSpec said = prefix_of(plugin.spec);
      if (first == nullptr) {
        first = &plugin;
        out = said;
      } else if (!(said == out)) {
        in_.problem(plugin.node, plugin.key + ".parameters",
                    "differ from those of " + first->key + "; there is one prefix index for all, so say the same");
      }
    }
    return out;
  }

  static bool says_prefix(const PluginSpec& plugin) {
    constexpr std::string_view names[] = {"autoTune", "blockSizeTokens", "lruCapacityPerServer",
                                          "maxPrefixBlocksToMatch", "maxPrefixTokensToMatch"};
    return std::any_of(std::begin(names), std::end(names), [&](std::string_view name) { return plugin.has(name); });
  }

  // Listening is for the whole process, so it is said in one place.
  void read_kv_events(SchedulingSpec& out) {
    const DeclaredPlugin* first = nullptr;
    for (const DeclaredPlugin& plugin : plugins_) {
      if (!plugin.spec.info->type.starts_with("precise-prefix-cache-")) continue;
      if (first != nullptr) {
        in_.problem(plugin.node, plugin.key,
                    "is the second that hears KV events (first: " + first->key + "); there is one");
        return;
      }
      first = &plugin;
      KvEventsSpec& spec = out.kv_events.emplace();
      const PluginSpec& said = plugin.spec;
      if (said.has("kvEventsConfig.topicFilter")) spec.topic = said.text("kvEventsConfig.topicFilter");
      constexpr std::string_view port = "kvEventsConfig.podDiscoveryConfig.socketPort";
      constexpr std::string_view replay = "kvEventsConfig.podDiscoveryConfig.replaySocketPort";
      if (said.has(port)) spec.port = static_cast<uint32_t>(said.number(port));
      if (said.has(replay)) spec.replay_port = static_cast<uint32_t>(said.number(replay));
      read_precise_block(plugin, out.prefix);
    }
  }

  // ---- bursts of the same prompt ----

  std::optional<BurstSpec> burst() {
    std::optional<BurstSpec> out;
    for (const DeclaredPlugin& plugin : plugins_) {
      if (plugin.spec.info->type != "burst-prefix-cache-producer") continue;
      if (out) in_.problem(plugin.node, plugin.key, "is the second burst-prefix-cache-producer; there is one");
      else out = burst_of(plugin);
    }
    for (const DeclaredPlugin& plugin : plugins_) {
      constexpr std::string_view name = "prefixMatchInfoProducerName";
      if (plugin.spec.info->type != "prefix-cache-scorer" || !plugin.spec.has(name)) continue;
      if (out && plugin.spec.text(name) == out->producer) continue;
      const auto all = plugin.spec.info->parameters;
      const auto said = std::find_if(all.begin(), all.end(), [&](const auto& one) { return one.name == name; });
      in_.note(plugin.node["parameters"][std::string(name)], plugin.key + ".parameters." + std::string(name),
               "has no effect: " + std::string(said->note));
    }
    return out;
  }

  BurstSpec burst_of(const DeclaredPlugin& plugin) {
    const PluginSpec& said = plugin.spec;
    if (said.number("maxPerReplica") == 0) {
      in_.problem(plugin.node, plugin.key + ".parameters.maxPerReplica", "is 0, so nobody would get any; -1: no limit");
    }
    const double block = said.number("blockSizeTokens");
    return {.producer = said.name,
            .options = {.window = milliseconds(static_cast<int64_t>(said.number("windowDurationMs"))),
                        .per_replica = static_cast<uint32_t>(std::max(said.number("maxPerReplica"), 0.0)),
                        .tokens_max = static_cast<uint32_t>(said.number("maxPrefixTokensToMatch")),
                        .begin_tokens = static_cast<uint32_t>(said.number("minColocateBlocks") * block)}};
  }

  // ---- the memory of media ----

  MediaSpec media() {
    MediaSpec out;
    const DeclaredPlugin* first = nullptr;
    for (const DeclaredPlugin& plugin : plugins_) {
      if (plugin.spec.info->type != "mm-embeddings-cache-producer") continue;
      const MediaSpec said = media_of(plugin);
      if (first != nullptr && !(said == out)) {
        in_.problem(plugin.node, plugin.key + ".parameters",
                    "differ from those of " + first->key + "; media are remembered once for all, so say the same");
      }
      first = &plugin;
      out = said;
    }
    return out;
  }

  // An item is taken for 2 MiB, as in llm-d, or 1,024 embeddings: an image of 1280 by 720 has about 900.
  MediaSpec media_of(const DeclaredPlugin& plugin) {
    constexpr std::pair<std::string_view, double> sizes[] = {
        {"cacheSizeInMBPerServer", 2}, {"cacheSizeInEmbeddingsPerServer", 1024}, {"cacheSize", 1}};
    MediaSpec out;
    std::string_view given;
    for (const auto& [name, of_an_item] : sizes) {
      if (!plugin.spec.has(name)) continue;
      if (!given.empty()) {
        in_.problem(plugin.node, plugin.key + ".parameters." + std::string(name),
                    "says otherwise what " + std::string(given) + " says; leave one out");
      }
      given = name;
      out.items = static_cast<uint64_t>(std::max(plugin.spec.number(name) / of_an_item, 1.0));
    }
    return out;
  }

  // Who decodes, or does all, is chosen first: there is nobody to be near to.
  void note_peerless(const ProfileSpec& primary) {
    for (const ProfileSpec::Use& use : primary.plugins) {
      if (!use.plugin.info->type.starts_with("topology-affinity-")) continue;
      const DeclaredPlugin* const plugin = find_plugin(plugins_, use.plugin.name);
      in_.note(plugin->node, plugin->key,
               '"' + use.plugin.name + "\" has no effect in the profile " + primary.name +
                   ": its endpoint is chosen before those of prefill and encode");
    }
  }

  // ---- what stands before all profiles ----

  void read_screener(SchedulingSpec& out) {
    const DeclaredPlugin *first = nullptr, *extractor = nullptr, *source = nullptr;
    for (const DeclaredPlugin& plugin : plugins_) {
      const PluginKind kind = plugin.spec.info->kind;
      if (kind == PluginKind::screener) only_one(plugin, first, "screener");
      if (plugin.spec.info->type == "p2p-source-producer") only_one(plugin, source, "p2p-source-producer");
      if (plugin.spec.info->type == "topology-extractor") only_one(plugin, extractor, "topology-extractor");
    }
    if (source != nullptr) out.kv_source_tokens = static_cast<uint32_t>(source->spec.number("minCachedTokenDelta"));
    if (first == nullptr) return;
    if (first->spec.text("revisionGating.mode") == "disabled") {
      return in_.note(first->node, first->key + ".parameters.revisionGating.mode",
                      "disabled: the screener has no effect, and endpoints of different revisions work together");
    }
    if (source != nullptr) {
      in_.problem(source->node, source->key,
                  "does not work beside " + first->key + ": blocks of a model of another revision would be fetched");
    }
    PluginSpec screener = first->spec;
    if (rollout_roles(screener).empty()) {
      in_.problem(first->node, first->key + ".parameters.revisionGating.requiredRoles", "is missing or empty");
    }
    auto labels = objects::parse_selector(screener.text("scope.labelSelector"));
    if (labels.ok()) screener.selector.match_labels = *labels;
    else if (screener.has("scope.labelSelector")) {
      in_.problem(first->node, first->key + ".parameters.scope.labelSelector", labels.error().text);
    }
    out.screener = std::move(screener);
  }

  void only_one(const DeclaredPlugin& plugin, const DeclaredPlugin*& first, const std::string& what) {
    if (first == nullptr) first = &plugin;
    else in_.problem(plugin.node, plugin.key, "is the second " + what + " (first: " + first->key + "); there is one");
  }

  // ---- predictions, and who refuses requests by them ----

  void read_predictions(SchedulingSpec& out) {
    for (const DeclaredPlugin& plugin : plugins_) {
      if (admits(plugin)) out.admitters.push_back(plugin.spec);
      if (plugin.spec.info->type != "predicted-latency-producer") continue;
      const PluginSpec& said = plugin.spec;
      const PredictionSpec prediction = {
          .made = said.flag(said.has("predictInPrepareData") ? "predictInPrepareData" : "predictInProduce"),
          .streaming = said.flag("streamingMode"),
          .pace_factor = said.number("sloBufferFactor"),
          .role_label = said.text("endpointRoleLabel")};
      if (out.prediction && !(*out.prediction == prediction)) {
        in_.problem(
            plugin.node, plugin.key + ".parameters",
            "differ from those of another predicted-latency-producer; there is one model for all, so say the same");
      }
      out.prediction = prediction;
    }
  }

  // A scorer that refuses as well does so where a profile names it.
  bool admits(const DeclaredPlugin& plugin) const {
    if (plugin.spec.info->kind == PluginKind::admitter) return true;
    if (plugin.spec.info->make.admitter == nullptr) return false;
    return std::any_of(profiles_.begin(), profiles_.end(), [&](const NamedProfile& profile) {
      return std::any_of(profile.spec.plugins.begin(), profile.spec.plugins.end(),
                         [&](const ProfileSpec::Use& use) { return use.plugin.name == plugin.spec.name; });
    });
  }

  // Where the engines say how long their blocks are, that counts.
  void read_precise_block(const DeclaredPlugin& plugin, PrefixSpec& prefix) {
    constexpr std::string_view spellings[] = {"tokenProcessorConfig.blockSize", "tokenProcessorConfig.blockSizeTokens"};
    const std::string_view name = plugin.spec.has(spellings[1]) ? spellings[1] : spellings[0];
    if (!plugin.spec.has(name)) return;
    const auto said = static_cast<uint32_t>(plugin.spec.number(name));
    const bool elsewhere = std::any_of(plugins_.begin(), plugins_.end(),
                                       [](const DeclaredPlugin& other) { return other.spec.has("blockSizeTokens"); });
    if (elsewhere && prefix.block_tokens != said) {
      in_.problem(
          plugin.node, plugin.key + ".parameters." + std::string(name),
          "differs from blockSizeTokens of prefix-cache-scorer; prompts are cut into blocks once, so say the same");
    }
    prefix.block_tokens = said;
  }

  static PrefixSpec prefix_of(const PluginSpec& plugin) {
    PrefixSpec out;
    out.auto_tune = plugin.flag("autoTune");
    out.block_tokens = static_cast<uint32_t>(plugin.number("blockSizeTokens"));
    out.capacity_blocks = static_cast<uint64_t>(plugin.number("lruCapacityPerServer"));
    if (plugin.has("maxPrefixBlocksToMatch")) {
      out.blocks_max = static_cast<uint32_t>(plugin.number("maxPrefixBlocksToMatch"));
    }
    out.tokens_max = static_cast<uint32_t>(plugin.number("maxPrefixTokensToMatch"));
    return out;
  }

  Reader& in_;
  const DeclaredPlugins& plugins_;
  std::vector<NamedProfile> profiles_;
};

}  // namespace

SchedulingSpec read_scheduling(Reader& in, const YAML::Node& profiles, const DeclaredPlugins& plugins) {
  return Scheduling(in, plugins).read(profiles);
}

}  // namespace penstock::epp
