#include "penstock/epp/replay.h"

#include <algorithm>
#include <set>
#include <utility>

namespace penstock::epp {
namespace {

using routing::PluginKind;
using routing::ProfileSpec;
using routing::StageRule;

// What neither traces nor recorded decisions tell.
constexpr std::string_view no_labels =
    "has no effect in a replay: labels of engines are not known there, and all are taken to be those that it wants";
constexpr std::string_view no_ranges =
    "has no effect in a replay: labels of engines are not known there, so all of them pass and score the same";
constexpr std::string_view no_roles = "has no effect in a replay: labels of engines are not known there";
constexpr std::string_view no_test_header =
    "has no effect in a replay: the header test-epp-endpoint-selection is not known there";
constexpr std::string_view no_gauges =
    "has no effect in a replay: the gauge that it names is not known there, so all engines pass and score the same";
constexpr std::string_view no_header =
    "has no effect in a replay: headers of requests are not known there, so all engines score the same";
constexpr std::string_view no_named_profile =
    "has no effect in a replay: headers of requests are not known there, so its default profile decides";
constexpr std::string_view no_media_known =
    "has no effect in a replay: images, audio and video are not known there, so all engines score the same";
// What recorded decisions tell, and traces do not.
constexpr std::string_view no_adapters =
    "has no effect in a replay: a trace names no adapters, so all engines score the same";
constexpr std::string_view no_sessions = "has no effect in a replay: no request of a trace brings x-session-token";
constexpr std::string_view no_priorities =
    "has no effect in a replay: every request of a trace has priority 0, and only negative ones are refused";
constexpr std::string_view no_latency =
    "goes without x-slo-ttft-ms and x-slo-tpot-ms in a replay without --ask-slo: nobody has headroom, and the fastest "
    "is "
    "best";
constexpr std::string_view no_token_ids =
    "hears no KV events in a replay: prompts are matched by what was sent, as the gateway matches those given as text";
constexpr std::string_view no_media =
    "sends nothing to be encoded elsewhere in a replay: no request of a trace has images, audio or video";
constexpr std::string_view no_failures = "beyond the first choice has no effect in a replay: nothing fails there";
constexpr std::string_view one_flow =
    "flowControl sees one flow in a replay: every request of a trace has priority 0 and no fairness id";
constexpr std::string_view no_ceiling =
    "flowControl cannot be replayed: every request of a trace has priority 0, and its usage limit lets none of those "
    "go";
constexpr std::string_view no_stages =
    "cannot be replayed: simulated engines compute a prompt where they answer it. To compare its profiles, give each a "
    "file of its own with single-profile-handler";
// Of decisions that are made again.
constexpr std::string_view only_the_endpoint =
    "has no effect in a replay of decisions: only who decodes is decided again";
constexpr std::string_view no_transfer =
    "has no effect in a replay: simulated engines do not fetch KV blocks from each other";
constexpr std::string_view nobody_waits = "flowControl has no effect in a replay of decisions: nobody waits there";
constexpr std::string_view matched_then =
    "have no effect in a replay of decisions: what was matched of a prompt is recorded, as the gateway matched it";

struct Rule {
  std::string_view type;
  std::string_view note;
  enum class Of : uint8_t { traces, both, left_out } of = Of::traces;  // left_out: of both, and nobody would pass
};
constexpr Rule rules[] = {
    {"by-label", no_labels, Rule::Of::left_out},
    {"by-label-selector", no_labels, Rule::Of::left_out},
    {"prefill-filter", no_labels, Rule::Of::left_out},
    {"encode-filter", no_labels, Rule::Of::left_out},
    {"decode-filter", no_labels, Rule::Of::both},
    {"context-length-aware", no_ranges, Rule::Of::both},
    {"topology-affinity-filter", no_labels, Rule::Of::left_out},
    {"topology-affinity-scorer", no_ranges, Rule::Of::both},
    {"disaggregatedset-rollout-screener", no_labels, Rule::Of::left_out},
    {"header-based-testing-filter", no_test_header, Rule::Of::left_out},
    {"header-label-affinity-scorer", no_header, Rule::Of::both},
    {"mm-embeddings-cache-scorer", no_media_known, Rule::Of::both},
    {"endpoint-attribute-filter", no_gauges, Rule::Of::left_out},
    {"endpoint-attribute-scorer", no_gauges, Rule::Of::both},
    {"endpoint-attribute-weight-scorer", no_ranges, Rule::Of::both},
    {"lora-affinity-scorer", no_adapters},
    {"session-affinity-scorer", no_sessions},
    {"session-affinity-filter", no_sessions},
    {"latency-slo-admitter", no_priorities},
    {"probabilistic-admitter", no_priorities},
    {"latency-scorer", no_latency},
    {"predicted-latency-scorer", no_latency},
    {"slo-headroom-tier-filter", no_latency},
    {"precise-prefix-cache-scorer", no_token_ids},
    {"precise-prefix-cache-producer", no_token_ids},
    {"p2p-source-producer", no_transfer, Rule::Of::both},
};

const Rule* find_rule(std::string_view type) {
  const auto found =
      std::find_if(std::begin(rules), std::end(rules), [&](const Rule& rule) { return rule.type == type; });
  return found == std::end(rules) ? nullptr : &*found;
}

// One configuration, made ready.
class Reading {
 public:
  Reading(const Config& picker, const ReplayOf& of, std::vector<Problem>& problems, std::vector<Problem>& notes)
      : picker_(picker),
        asks_(of.slo_asked),
        decisions_(of.decisions),
        problems_(problems),
        notes_(notes),
        spec_(picker.scheduling) {}

  Replayed make() {
    for (const PluginPlace& place : picker_.plugins) look_at(place);
    std::erase_if(spec_.primary.plugins, [](const ProfileSpec::Use& use) {
      const Rule* const rule = find_rule(use.plugin.info->type);
      return rule != nullptr && rule->of == Rule::Of::left_out;
    });
    spec_.prefill.reset();  // what would run of them is a problem by now
    spec_.encode.reset();
    spec_.by_header.clear();
    spec_.screener.reset();
    Replayed out{.scheduling = std::move(spec_), .flow = {}};
    if (picker_.flow.enabled) {
      const admission::FlowOptions& flow = picker_.flow;
      const bool shut = flow.usage.ceiling(0, flow.rank_of(0)) <= 0;
      if (shut && !decisions_) {
        problems_.push_back({picker_.source, picker_.flow_line, "featureGates", std::string(no_ceiling)});
      }
      out.flow = flow;
      note(picker_.flow_line, "featureGates", decisions_ ? nobody_waits : one_flow);
    }
    return out;
  }

 private:
  void look_at(const PluginPlace& place) {
    const PluginKind kind = routing::find_plugin_type(place.type)->kind;
    const auto& uses = spec_.primary.plugins;
    const auto use = std::find_if(uses.begin(), uses.end(), [&](const auto& u) { return u.plugin.name == place.name; });
    if (place.type == "header-profile-handler" || place.type == "header-phase-profile-handler")
      note(place.line, place.key, no_named_profile);
    if (kind == PluginKind::profile_handler) return look_at_stages(place);
    const bool for_all = kind == PluginKind::admitter || kind == PluginKind::built_in || kind == PluginKind::screener;
    if (use == uses.end() && !for_all) return;
    look_at_parameters(place, kind == PluginKind::picker && use->plugin.number("maxNumOfEndpoints", 1) > 1);
    const Rule* const rule = find_rule(place.type);
    if (rule == nullptr || (asks_ && rule->note == no_latency)) return;
    if (decisions_ && rule->of == Rule::Of::traces) return;
    note(place.line, place.key, rule->note);
  }

  void look_at_parameters(const PluginPlace& place, bool several_choices) {
    const std::string key = place.key + ".parameters";
    const bool cuts = place.type == "prefix-cache-scorer" || place.type == "approx-prefix-cache-producer";
    const bool predicts = place.type == "predicted-latency-producer";
    if (several_choices && !decisions_) note(place.line, key + ".maxNumOfEndpoints", no_failures);
    if (cuts && decisions_ && !(spec_.prefix == routing::PrefixSpec())) note(place.line, key, matched_then);
    if (predicts && !spec_.prediction->role_label.empty()) note(place.line, key + ".endpointRoleLabel", no_roles);
  }

  void look_at_stages(const PluginPlace& handler) {
    using When = StageRule::When;
    const auto runs = [](const StageRule& rule) {
      return rule.when == When::always || (rule.when == When::uncached && rule.uncached_tokens > 0);
    };
    const bool elsewhere = (spec_.prefill && runs(spec_.prefill_rule)) || (spec_.encode && runs(spec_.encode_rule));
    if (decisions_) {
      if (spec_.prefill || spec_.encode) note(handler.line, handler.key, only_the_endpoint);
      return;
    }
    if (elsewhere) problems_.push_back({picker_.source, handler.line, handler.key, std::string(no_stages)});
    if (spec_.encode && spec_.encode_rule.when == When::multimodal) note(handler.line, handler.key, no_media);
  }

  void note(int line, std::string key, std::string_view message) {
    if (!told_.insert(message).second) return;
    notes_.push_back({picker_.source, line, std::move(key), std::string(message)});
  }

  const Config& picker_;
  const bool asks_;       // requests ask for a latency
  const bool decisions_;  // recorded decisions are made again
  std::vector<Problem>& problems_;
  std::vector<Problem>& notes_;
  routing::SchedulingSpec spec_;
  std::set<std::string_view> told_;
};

}  // namespace

Replayed for_replay(const Config& config, const ReplayOf& of, std::vector<Problem>& problems,
                    std::vector<Problem>& notes) {
  return Reading(config, of, problems, notes).make();
}

}  // namespace penstock::epp
