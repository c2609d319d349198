// Parameters of the policies of flow control, where there is more to them than one number.
#include <algorithm>
#include <cmath>

#include "parts.h"

namespace penstock::epp {
namespace {

using admission::ProgramOptions;
using admission::UsageLimit;
using admission::UsageLimits;

// Older: what is left of it after a second.
double half_life_of(const PluginSpec& said) {
  if (said.has("lasHalfLifeSeconds") || !said.has("lasDecayFactor")) return said.number("lasHalfLifeSeconds");
  const double factor = said.number("lasDecayFactor");
  return factor >= 1 ? 0 : std::log(0.5) / std::log(factor);
}

ProgramOptions programs_of(const PluginSpec& said) {
  ProgramOptions out;
  out.service_weight = said.number("lasWeightService");
  out.wait_weight = said.number("lasWeightHeadWait");
  out.half_life = half_life_of(said);
  out.wait_turns = said.number("turnPriorityTimeWeight");
  out.inactivity = from_seconds(said.number("turnPriorityInactivitySeconds"));
  out.forget_after = from_seconds(said.number("evictionTtlSeconds"));
  return out;
}

// A parameter that says nothing with this strategy.
void note_idle(Reader& in, const DeclaredPlugin& plugin) {
  const bool turns = plugin.spec.text("strategy") == "turn-priority";
  for (const auto& [name, value] : plugin.spec.parameters) {
    if (!name.starts_with(turns ? "las" : "turnPriority")) continue;
    in.note(plugin.node, plugin.key + ".parameters." + name,
            "has no effect with the strategy " + std::string(turns ? "turn-priority" : "las"));
  }
  if (turns || !plugin.spec.has("lasDecayFactor") || !plugin.spec.has("lasHalfLifeSeconds")) return;
  in.note(plugin.node, plugin.key + ".parameters.lasDecayFactor", "has no effect beside lasHalfLifeSeconds");
}

}  // namespace

ProgramOptions read_programs(Reader& in, const DeclaredPlugins& plugins) {
  const DeclaredPlugin* first = nullptr;
  ProgramOptions out;
  for (const DeclaredPlugin& plugin : plugins) {
    if (plugin.spec.info->type != "program-aware-fairness") continue;
    note_idle(in, plugin);
    const ProgramOptions said = programs_of(plugin.spec);
    if (first == nullptr) {
      first = &plugin;
      out = said;
    } else if (!(said == out)) {
      in.problem(plugin.node, plugin.key + ".parameters",
                 "differ from those of " + first->key +
                     " in more than the strategy; what programs have had is counted once, so say the same");
    }
  }
  return out;
}

void read_holdback(Reader& in, const YAML::Node& at, const std::string& key, const DeclaredPlugin* plugin,
                   UsageLimits* out) {
  if (plugin == nullptr) {
    return in.problem(at, key, "names a policy that is not declared; declare priority-holdback-policy with minCeiling");
  }
  const PluginSpec& said = plugin->spec;
  const std::string parameters = plugin->key + ".parameters.";
  if (said.text("domain") == "explicit") {
    for (const std::string_view other : {"shape", "minCeiling", "maxCeiling"}) {
      if (said.has(other)) in.problem(plugin->node, parameters + std::string(other), "is not for the domain explicit");
    }
    if (!said.has("ceilings")) in.problem(plugin->node, parameters + "ceilings", "is missing");
    out->kind = UsageLimit::listed;
    for (const auto& [priority, ceiling] : said.numbers("ceilings")) {
      if (!out->listed.empty() && ceiling > out->listed.back().ceiling) {
        in.problem(plugin->node, parameters + "ceilings",
                   "gives priority " + std::to_string(priority) + " a higher ceiling than priority " +
                       std::to_string(out->listed.back().priority) + "; a lower priority may not have more");
      }
      out->listed.push_back({priority, ceiling});
    }
    return;
  }
  if (said.has("ceilings")) in.problem(plugin->node, parameters + "ceilings", "is for the domain explicit only");
  if (!said.has("minCeiling")) in.problem(plugin->node, parameters + "minCeiling", "is missing");
  out->kind = said.text("domain") == "value" ? UsageLimit::by_value : UsageLimit::by_rank;
  out->least = said.number("minCeiling");
  out->most = said.number("maxCeiling");
  if (out->least >= out->most) {
    in.problem(plugin->node, parameters + "minCeiling", "is not below maxCeiling (1 if not given)");
  }
}

std::vector<std::string> read_session_fields(Reader& in, const DeclaredPlugins& plugins) {
  const DeclaredPlugin* first = nullptr;
  std::vector<std::string> out;
  for (const DeclaredPlugin& plugin : plugins) {
    if (plugin.spec.info->type != "agent-identity") continue;
    if (first != nullptr) {
      in.problem(plugin.node, plugin.key, "is the second agent-identity (first: " + first->key + "); there is one");
      return out;
    }
    first = &plugin;
    out = plugin.spec.texts("additionalSessionHeaders");
    for (const char* const known : {"x-claude-code-session-id", "x-session-affinity", "session-id", "session_id"}) {
      out.emplace_back(known);
    }
  }
  return out;
}

}  // namespace penstock::epp
