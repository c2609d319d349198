// docs/EPP_PLUGINS.md, from the rows.
#include <array>
#include <string>

#include "penstock/base/quantity.h"
#include "penstock/base/text.h"
#include "rows.h"

namespace penstock::epp {
namespace {

constexpr std::string_view page_head =
    R"(<!-- Made from the rows of src/epp by the unit test unit-epp with PENSTOCK_UPDATE=1. Do not edit. -->

# Plugins of an EndpointPickerConfig

Which plugins of the Endpoint Picker does Penstock run, what does each do, and which parameters does it read?
[EPP_CONFIG.md](EPP_CONFIG.md) says how a configuration is given, what else it may name, and what differs.

A parameter that is not listed is an error. `penstock check` notes the values of those that are accepted without effect, and
says why.
)";

struct Section {
  std::string_view title;
  bool (*holds)(PluginKind);
};
constexpr Section sections[] = {
    {"Scorers", [](PluginKind kind) { return kind == PluginKind::scorer || kind == PluginKind::scorer_and_filter; }},
    {"Filters", [](PluginKind kind) { return kind == PluginKind::filter; }},
    {"Pickers", [](PluginKind kind) { return kind == PluginKind::picker; }},
    {"Profile handlers and deciders",
     [](PluginKind kind) { return kind == PluginKind::profile_handler || kind == PluginKind::decider; }},
    {"Before all profiles",
     [](PluginKind kind) { return kind == PluginKind::admitter || kind == PluginKind::screener; }},
    {"Saturation detectors",
     [](PluginKind kind) { return kind == PluginKind::detector || kind == PluginKind::saturation; }},
    {"Flow control", [](PluginKind kind) { return kind == PluginKind::flow; }},
    {"Parts of the gateway", [](PluginKind kind) { return kind == PluginKind::built_in; }},
};

std::string code(std::string_view text) {
  return '`' + std::string(text) + '`';
}

std::string count(double value) {
  std::string out = std::to_string(value);
  out.erase(out.find_last_not_of('0') + 1);
  if (out.back() == '.') out.pop_back();
  return out;
}

std::string range(const ParameterInfo& parameter, std::string_view kind) {
  const bool low = parameter.least > -rows::many, high = parameter.most < rows::many;
  const std::string from = parameter.least > 0 && parameter.least < 1e-2 ? "above 0" : "from " + count(parameter.least);
  return std::string(kind) + (low ? ' ' + from : "") + (high ? " to " + count(parameter.most) : "");
}

std::string accepted(const ParameterInfo& parameter) {
  std::string words;
  for (const std::string_view word : parameter.words) words += (words.empty() ? "" : ", ") + code(word);
  switch (parameter.type) {
    case ParameterType::boolean:
      return "true, false";
    case ParameterType::integer:
      return range(parameter, "whole number");
    case ParameterType::number:
      return range(parameter, "number");
    case ParameterType::duration:
      return "duration to " + format_duration(from_seconds(parameter.most));
    case ParameterType::choice:
      return words;
    case ParameterType::texts:
      return "list of texts";
    case ParameterType::numbers:
      return range(parameter, "map of priorities to numbers");
    case ParameterType::caps:
      return "list of conditions";
    case ParameterType::weights:
      return "map of values to numbers above 0";
    case ParameterType::selector:
      return "selector";
    case ParameterType::text:
      return "text";
    default:
      return "as described";
  }
}

bool has_effect(const ParameterInfo& parameter) {
  return parameter.note.empty();
}

std::string row_of(const PluginInfo& info) {
  std::string ignored;
  for (const ParameterInfo& parameter : info.parameters) {
    if (!has_effect(parameter)) ignored += (ignored.empty() ? "" : ", ") + code(parameter.name);
  }
  std::string out = "| " + code(info.type);
  if (!info.older.empty()) out += " (older: " + code(info.older) + ')';
  out += " | " + std::string(info.doc) + " | " + ignored + " |\n";
  return out;
}

std::string row_of(const PluginInfo& info, const ParameterInfo& parameter) {
  std::string out = "| " + code(info.type) + " | " + code(parameter.name) + " | " + accepted(parameter) + " | ";
  if (parameter.required) out += "needed";
  else if (!parameter.fallback.empty()) out += code(parameter.fallback);
  return out + " | " + std::string(parameter.doc) + " |\n";
}

std::string section_of(const Section& section) {
  std::string plugins, parameters;
  for (const PluginInfo& info : plugin_types()) {
    if (!section.holds(info.kind)) continue;
    plugins += row_of(info);
    for (const ParameterInfo& parameter : info.parameters) {
      if (has_effect(parameter)) parameters += row_of(info, parameter);
    }
  }
  std::string out = "\n## " + std::string(section.title) +
                    "\n\n| plugin | what it does | accepted without effect |\n|---|---|---|\n" + plugins;
  if (parameters.empty()) return out;
  return out + "\n| plugin | parameter | accepted | default | meaning |\n|---|---|---|---|---|\n" + parameters;
}

}  // namespace

std::string plugins_markdown() {
  std::string out(page_head);
  for (const Section& section : sections) out += section_of(section);
  out += "\n## Refused\n\n| plugin | why, and what to use instead |\n|---|---|\n";
  for (const PluginInfo& info : plugin_types()) {
    if (info.kind == PluginKind::unsupported) out += "| " + code(info.type) + " | " + std::string(info.note) + " |\n";
  }
  return out;
}

}  // namespace penstock::epp
