// `plugins` of an EndpointPickerConfig: their types, names and parameters.
#include <algorithm>

#include "parts.h"
#include "penstock/base/text.h"

namespace penstock::epp {
namespace {

std::vector<std::string_view> usable_types() {
  std::vector<std::string_view> out;
  for (const PluginInfo& info : plugin_types()) {
    if (info.kind != PluginKind::unsupported) out.push_back(info.type);
  }
  return out;
}

// Parameters that versions spell differently.
constexpr std::pair<std::string_view, std::string_view> spellings[] = {
    {"concurrencyMode", "mode"},
    {"tokenProcessorConfig.blockSize", "tokenProcessorConfig.blockSizeTokens"},
    {"prefillDeciderPluginName", "deciderPluginName"},
    {"predictInProduce", "predictInPrepareData"},
};

class PluginReader {
 public:
  PluginReader(Reader& in, DeclaredPlugin& out) : in_(in), out_(out) {}

  // False: there is nothing to use.
  bool read(const YAML::Node& node, const std::string& key) {
    YAML::Node type(YAML::NodeType::Undefined), parameters(YAML::NodeType::Undefined);
    in_.each_entry(node, key, {"name", "type", "parameters"},
                   [&](const auto& name, const auto& path, const auto& value) {
                     if (name == "name") in_.read_text(value, path, &out_.spec.name);
                     else (name == "type" ? type : parameters).reset(value);
                   });
    const size_t problems = in_.problems();
    if (!type.IsDefined()) {
      if (node.IsMap()) in_.problem(node, key, "has no type; expected one of: " + joined(usable_types(), ", "));
      return false;
    }
    if (!read_type(type, key + ".type")) return false;
    if (is_precise(parameters)) out_.spec.info = find_plugin_type("precise-prefix-cache-scorer");
    if (out_.spec.name.empty()) out_.spec.name = type.Scalar();
    if (parameters.IsDefined()) read_parameters(parameters, key + ".parameters", "");
    for (const ParameterInfo& parameter : info().parameters) {
      if (parameter.required && !given(parameters, parameter.name)) {
        in_.problem(node, key + ".parameters." + std::string(parameter.name), "is missing");
      }
    }
    if (info().type == "by-label" && in_.problems() == problems) check_label(node, key + ".parameters.validValues");
    for (const auto& [one, other] : spellings) {
      if (!out_.spec.has(one) || !out_.spec.has(other)) continue;
      in_.problem(parameters, key + ".parameters." + std::string(other),
                  "is another spelling of " + std::string(one) + "; leave one out");
    }
    return true;
  }

 private:
  const PluginInfo& info() const { return *out_.spec.info; }

  // "scope.labelSelector": there is one, right or wrong.
  static bool given(const YAML::Node& node, std::string_view name) {
    if (!node.IsDefined() || name.empty()) return node.IsDefined();
    const std::string word(name.substr(0, name.find('.')));
    name.remove_prefix(std::min(word.size() + 1, name.size()));
    return node.IsMap() && given(node[word], name);
  }

  // Before it had a type of its own.
  bool is_precise(const YAML::Node& parameters) const {
    if (info().type != "prefix-cache-scorer" || !parameters.IsDefined() || !parameters.IsMap()) return false;
    const YAML::Node mode = parameters["mode"];
    return mode && mode.IsScalar() && mode.Scalar() == "cache_tracking";
  }

  bool read_type(const YAML::Node& value, const std::string& key) {
    std::string type;
    if (!in_.read_text(value, key, &type)) return false;
    out_.spec.info = find_plugin_type(type);
    if (out_.spec.info == nullptr) {
      in_.not_among(value, key, type, usable_types(), "types of plugins");
      return false;
    }
    if (info().kind == PluginKind::unsupported) {
      in_.problem(value, key, '"' + type + "\" is not supported: " + std::string(info().note));
      return false;
    }
    if (!info().announcement.empty()) in_.note(value, key, std::string(info().announcement));
    return true;
  }

  void check_label(const YAML::Node& node, const std::string& key) {
    if (!out_.spec.texts("validValues").empty() || out_.spec.flag("allowsNoLabel")) return;
    in_.problem(node, key, "is missing or empty, so nobody would pass; give values, or allowsNoLabel: true");
  }

  // `within`: "" or "profiles." in a map of parameters.
  void read_parameters(const YAML::Node& map, const std::string& key, const std::string& within) {
    const auto take = [&](const std::string& name, const std::string& path, const YAML::Node& value) {
      const std::string full = within + name;
      const auto found = std::find_if(info().parameters.begin(), info().parameters.end(),
                                      [&](const ParameterInfo& parameter) { return parameter.name == full; });
      if (found == info().parameters.end()) return read_parameters(value, path, full + '.');
      read_parameter(*found, value, path);
    };
    in_.each_entry(map, key, names_below(within), take, info().note);
  }

  std::vector<std::string_view> names_below(const std::string& within) const {
    std::vector<std::string_view> out;
    for (const ParameterInfo& parameter : info().parameters) {
      if (!parameter.name.starts_with(within)) continue;
      const std::string_view rest = parameter.name.substr(within.size());
      const std::string_view word = rest.substr(0, rest.find('.'));
      if (std::find(out.begin(), out.end(), word) == out.end()) out.push_back(word);
    }
    return out;
  }

  void read_parameter(const ParameterInfo& parameter, const YAML::Node& value, const std::string& key) {
    const size_t problems = in_.problems();
    ParameterValue read;
    switch (parameter.type) {
      case ParameterType::boolean:
        in_.read_bool(value, key, &read.emplace<bool>());
        break;
      case ParameterType::integer:
      case ParameterType::number:
        in_.read_number(value, key, parameter.type == ParameterType::integer, parameter.least, parameter.most,
                        &read.emplace<double>());
        break;
      case ParameterType::duration: {
        Duration duration{};
        in_.read_duration(value, key, parameter.least, parameter.most, &duration);
        read = to_seconds(duration);
        break;
      }
      case ParameterType::text:
        in_.read_text(value, key, &read.emplace<std::string>());
        break;
      case ParameterType::choice:
        in_.read_word(value, key, {parameter.words.begin(), parameter.words.end()}, &read.emplace<std::string>());
        break;
      case ParameterType::texts:
        read = read_texts(value, key);
        break;
      case ParameterType::numbers:
        read = read_numbers(value, key, parameter);
        break;
      case ParameterType::caps:
        read = read_caps(value, key, parameter);
        break;
      case ParameterType::weights:
        read = read_weights(value, key, parameter);
        break;
      case ParameterType::on:
      case ParameterType::off:
        return read_fixed(parameter, value, key);
      case ParameterType::any:
        if (parameter.note.empty()) return;  // its own reader reads it
        return in_.note(value, key, "has no effect: " + std::string(parameter.note));
      case ParameterType::selector:
        if (parameter.name == "matchLabels") read_labels(value, key);
        else
          in_.each_item(value, key, [&](const auto& item_key, const auto& item) { read_requirement(item, item_key); });
        break;
    }
    if (in_.problems() != problems) return;
    // Which of them counts is known when all plugins are.
    const bool by_whole = info().type == "prefix-cache-scorer" && parameter.name == "prefixMatchInfoProducerName";
    if (!parameter.note.empty() && !by_whole) in_.note(value, key, "has no effect: " + std::string(parameter.note));
    out_.spec.parameters.emplace_back(parameter.name, std::move(read));
  }

  void read_fixed(const ParameterInfo& parameter, const YAML::Node& value, const std::string& key) {
    const bool wanted = parameter.type == ParameterType::on;
    bool said = wanted;
    if (!in_.read_bool(value, key, &said) || said == wanted) return;
    in_.note(value, key, value.Scalar() + " has no effect: " + std::string(parameter.note));
  }

  std::vector<std::string> read_texts(const YAML::Node& list, const std::string& key) {
    std::vector<std::string> out;
    in_.each_item(list, key, [&](const auto& item_key, const auto& item) {
      std::string text;
      if (in_.read_text(item, item_key, &text)) out.push_back(std::move(text));
    });
    return out;
  }

  NumbersByPriority read_numbers(const YAML::Node& map, const std::string& key, const ParameterInfo& info) {
    NumbersByPriority out;
    if (!map.IsMap() || map.size() == 0) {
      in_.problem(map, key, "is no map; expected priorities with a number for each");
      return out;
    }
    for (const auto& entry : map) {
      double priority = 0, number = 0;
      if (!in_.read_number(entry.first, key, true, -1e9, 1e9, &priority)) continue;
      const std::string path = key + '.' + entry.first.Scalar();
      if (!in_.read_number(entry.second, path, false, info.least, info.most, &number)) continue;
      out.emplace_back(static_cast<int>(priority), number);
    }
    std::sort(out.begin(), out.end(), std::greater<>());
    return out;
  }

  Caps read_caps(const YAML::Node& list, const std::string& key, const ParameterInfo& info) {
    Caps out;
    in_.each_item(list, key, [&](const std::string& item_key, const YAML::Node& item) {
      std::string metric;
      YAML::Node most(YAML::NodeType::Undefined);
      in_.each_entry(item, item_key, {"metric", "maxValue"},
                     [&](const auto& name, const auto& path, const auto& value) {
                       if (name == "maxValue") most.reset(value);
                       else in_.read_word(value, path, {info.words.begin(), info.words.end()}, &metric);
                     });
      if (!most.IsDefined() || metric.empty()) {
        if (item.IsMap() && (!item["metric"] || !most.IsDefined()))
          in_.problem(item, item_key, "needs metric and maxValue");
        return;
      }
      double number = 0;
      const double limit = metric == "kv-cache-utilization" ? 1 : info.most;
      if (in_.read_number(most, item_key + ".maxValue", false, 0, limit, &number)) out.emplace_back(metric, number);
    });
    if (list.IsSequence() && list.size() == 0) in_.problem(list, key, "is empty; expected conditions");
    return out;
  }

  Caps read_weights(const YAML::Node& map, const std::string& key, const ParameterInfo& info) {
    Caps out;
    if (!map.IsMap() || map.size() == 0) {
      in_.problem(map, key, "is no map; expected values of the attribute with a weight for each");
      return out;
    }
    for (const auto& entry : map) {
      std::string word;
      double weight = 0;
      if (!in_.read_text(entry.first, key, &word)) continue;
      if (!in_.read_number(entry.second, key + '.' + word, false, info.least, info.most, &weight)) continue;
      out.emplace_back(std::move(word), weight);
    }
    return out;
  }

  void read_labels(const YAML::Node& map, const std::string& key) {
    if (!map.IsMap()) return in_.problem(map, key, "is no map; expected labels with their values");
    for (const auto& entry : map) {
      const std::string label = entry.first.IsScalar() ? entry.first.Scalar() : "";
      std::string value;
      if (label.empty()) in_.problem(entry.first, key, "has a label that is not a word");
      else if (entry.second.IsScalar()) out_.spec.selector.match_labels.emplace_back(label, entry.second.Scalar());
      else in_.read_text(entry.second, key + '.' + label, &value);  // complains
    }
    std::sort(out_.spec.selector.match_labels.begin(), out_.spec.selector.match_labels.end());
  }

  void read_requirement(const YAML::Node& map, const std::string& key) {
    using Operator = objects::LabelRequirement::Operator;
    static constexpr std::string_view operators[] = {"In", "NotIn", "Exists", "DoesNotExist"};
    objects::LabelRequirement requirement;
    std::string op;
    in_.each_entry(map, key, {"key", "operator", "values"}, [&](const auto& name, const auto& path, const auto& value) {
      if (name == "key") in_.read_text(value, path, &requirement.key);
      else if (name == "values") requirement.values = read_texts(value, path);
      else in_.read_word(value, path, {std::begin(operators), std::end(operators)}, &op);
    });
    if (requirement.key.empty() || op.empty()) return in_.problem(map, key, "needs key and operator");
    requirement.op = static_cast<Operator>(std::find(std::begin(operators), std::end(operators), op) - operators);
    const bool wants_values = requirement.op == Operator::in || requirement.op == Operator::not_in;
    if (wants_values == requirement.values.empty()) {
      return in_.problem(map, key + ".values", op + (wants_values ? " needs values" : " takes no values"));
    }
    out_.spec.selector.requirements.push_back(std::move(requirement));
  }

  Reader& in_;
  DeclaredPlugin& out_;
};

}  // namespace

DeclaredPlugins read_plugins(Reader& in, const YAML::Node& list) {
  DeclaredPlugins out;
  if (!list.IsDefined()) return out;
  in.each_item(list, "plugins", [&](const std::string& key, const YAML::Node& node) {
    DeclaredPlugin plugin{.node = node, .key = key};
    if (!PluginReader(in, plugin).read(node, key)) return;
    if (const DeclaredPlugin* const first = find_plugin(out, plugin.spec.name)) {
      in.problem(node, key + ".name",
                 '"' + plugin.spec.name + "\" is also the name of " + first->key + "; give each plugin its own");
      return;
    }
    out.push_back(std::move(plugin));
  });
  return out;
}

const DeclaredPlugin* find_plugin(const DeclaredPlugins& plugins, std::string_view name) {
  const auto found = std::find_if(plugins.begin(), plugins.end(),
                                  [&](const DeclaredPlugin& plugin) { return plugin.spec.name == name; });
  return found == plugins.end() ? nullptr : &*found;
}

bool is_undeclared(const YAML::Node& value, const DeclaredPlugins& plugins, bool (*fits)(PluginKind)) {
  if (!value.IsScalar() || find_plugin(plugins, value.Scalar()) != nullptr) return false;
  const PluginInfo* const type = find_plugin_type(value.Scalar());
  return type != nullptr && fits(type->kind);
}

const DeclaredPlugin* read_reference(Reader& in, const DeclaredPlugins& plugins, const YAML::Node& value,
                                     const std::string& key, bool (*fits)(PluginKind), std::string_view wanted) {
  std::string name;
  if (!in.read_text(value, key, &name)) return nullptr;
  const DeclaredPlugin* const found = find_plugin(plugins, name);
  if (found != nullptr && fits(found->spec.info->kind)) return found;
  if (found != nullptr) {
    in.problem(
        value, key,
        '"' + name + "\" is a " + std::string(to_string(found->spec.info->kind)) + ", not " + std::string(wanted));
    return nullptr;
  }
  std::vector<std::string_view> names;
  for (const DeclaredPlugin& plugin : plugins) {
    if (fits(plugin.spec.info->kind)) names.push_back(plugin.spec.name);
  }
  in.not_among(value, key, name, names, "plugins declared that can stand here");
  return nullptr;
}

}  // namespace penstock::epp
