#include "penstock/epp/replay.h"

#include <algorithm>
#include <set>
#include <utility>

namespace penstock::epp {
namespace {

using routing::StageRule;

constexpr std::string_view no_roles = "has no effect in a replay: labels of engines are not known there";
constexpr std::string_view no_named_profile =
    "has no effect in a replay: headers of requests are not known there, so its default profile decides";
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
constexpr std::string_view only_the_endpoint =
    "has no effect in a replay of decisions: only who decodes is decided again";
constexpr std::string_view nobody_waits = "flowControl has no effect in a replay of decisions: nobody waits there";
constexpr std::string_view matched_then =
    "have no effect in a replay of decisions: what was matched of a prompt is recorded, as the gateway matched it";

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
    std::erase_if(spec_.primary.plugins,
                  [](const ProfileSpec::Use& use) { return use.plugin.info->replay.of == ReplayRule::Of::left_out; });
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
    const PluginInfo& info = *find_plugin_type(place.type);
    const PluginKind kind = info.kind;
    const auto& uses = spec_.primary.plugins;
    const auto use = std::find_if(uses.begin(), uses.end(), [&](const auto& u) { return u.plugin.name == place.name; });
    if (info.handling == Handling::by_header) note(place.line, place.key, no_named_profile);
    if (kind == PluginKind::profile_handler) return look_at_stages(place);
    const bool for_all = kind == PluginKind::admitter || kind == PluginKind::built_in || kind == PluginKind::screener;
    if (use == uses.end() && !for_all) return;
    look_at_parameters(place, kind == PluginKind::picker && use->plugin.number("maxNumOfEndpoints") > 1);
    const ReplayRule& rule = info.replay;
    if (rule.note.empty() || (asks_ && rule.unless_slo_asked)) return;
    if (decisions_ && rule.of == ReplayRule::Of::traces) return;
    note(place.line, place.key, rule.note);
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
  SchedulingSpec spec_;
  std::set<std::string_view> told_;
};

}  // namespace

Replayed for_replay(const Config& config, const ReplayOf& of, std::vector<Problem>& problems,
                    std::vector<Problem>& notes) {
  return Reading(config, of, problems, notes).make();
}

}  // namespace penstock::epp
