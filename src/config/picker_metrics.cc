// `engineConfigs` of core-metrics-extractor: gauges of the model servers by names, and who may look at them.
#include <algorithm>
#include <cmath>

#include "picker_parts.h"

namespace penstock::config {
namespace {

using routing::CustomMetric;
using routing::PluginSpec;

constexpr size_t metrics_max = 16;
constexpr std::string_view presets = "has no effect: of each engine the gauges are known by its preset";

// "family", or "family{label=value,other="value"}".
bool parse_metric(std::string_view text, CustomMetric* out) {
  const auto trimmed = [](std::string_view part) {
    while (!part.empty() && part.front() == ' ') part.remove_prefix(1);
    while (!part.empty() && part.back() == ' ') part.remove_suffix(1);
    return part;
  };
  const size_t brace = text.find('{');
  out->family = trimmed(text.substr(0, brace));
  if (out->family.empty() || out->family.find_first_of(" \"=,}") != std::string::npos) return false;
  if (brace == std::string_view::npos) return true;
  text = trimmed(text.substr(brace + 1));
  if (!text.ends_with('}')) return false;
  text.remove_suffix(1);
  while (!(text = trimmed(text)).empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    const std::string_view pair = text.substr(0, comma);
    text.remove_prefix(std::min(comma + 1, text.size()));
    const size_t equals = pair.find('=');
    if (equals == std::string_view::npos) return false;
    std::string_view value = trimmed(pair.substr(equals + 1));
    if (value.size() > 1 && value.front() == '"' && value.back() == '"') value = value.substr(1, value.size() - 2);
    out->labels.emplace_back(trimmed(pair.substr(0, equals)), value);
    if (out->labels.back().first.empty() || value.find('"') != std::string_view::npos) return false;
  }
  return true;
}

class MetricsReader {
 public:
  MetricsReader(PickerReader& in, const DeclaredPlugins& plugins) : in_(in), plugins_(plugins) {}

  std::vector<CustomMetric> read() {
    for (const DeclaredPlugin& plugin : plugins_) {
      const YAML::Node parameters = plugin.node["parameters"];
      if (plugin.spec.info->type != "core-metrics-extractor" || !parameters || !parameters.IsMap()) continue;
      const YAML::Node engines = parameters["engineConfigs"];
      if (engines) read_engines(engines, plugin.key + ".parameters.engineConfigs");
    }
    for (const DeclaredPlugin& plugin : plugins_) {
      const std::string_view type = plugin.spec.info->type;
      if (type == "endpoint-attribute-scorer") check_scorer(plugin);
      if (type == "endpoint-attribute-filter") check_filter(plugin);
    }
    return std::move(metrics_);
  }

 private:
  void read_engines(const YAML::Node& list, const std::string& key) {
    in_.each_item(list, key, [&](const auto& item_key, const YAML::Node& item) {
      in_.each_entry(item, item_key,
                     {"name", "customMetrics", "queuedRequestsSpec", "runningRequestsSpec", "kvUsageSpec", "loraSpec",
                      "cacheInfoSpec"},
                     [&](const std::string& name, const auto& path, const YAML::Node& value) {
                       if (name == "customMetrics") {
                         in_.each_item(value, path, [&](const auto& k, const auto& v) { read_metric(v, k); });
                       } else if (name != "name") {
                         in_.note(value, path, std::string(presets));
                       }
                     });
    });
  }

  void read_metric(const YAML::Node& node, const std::string& key) {
    CustomMetric metric;
    std::string spec;
    in_.each_entry(node, key, {"attributeKey", "metricSpec", "optional"},
                   [&](const std::string& name, const auto& path, const YAML::Node& value) {
                     bool ignored = false;
                     if (name == "attributeKey") in_.read_text(value, path, &metric.attribute);
                     else if (name == "optional") in_.read_bool(value, path, &ignored);  // all are
                     else in_.read_text(value, path, &spec);
                   });
    if (metric.attribute.empty() || spec.empty()) {
      if (node.IsMap()) in_.problem(node, key, "needs attributeKey and metricSpec");
      return;
    }
    if (!parse_metric(spec, &metric)) {
      return in_.problem(node, key + ".metricSpec", '"' + spec + "\" is no metric; expected name or name{label=value}");
    }
    const CustomMetric* const other = find(metric.attribute);
    if (other != nullptr && !(*other == metric)) {
      return in_.problem(node, key + ".attributeKey",
                         '"' + metric.attribute + "\" is another metric elsewhere; give each its own name");
    }
    if (other != nullptr) return;  // the same for another engine
    if (metrics_.size() == metrics_max) {
      return in_.problem(node, key, "is one too many; there may be " + std::to_string(metrics_max));
    }
    metrics_.push_back(std::move(metric));
  }

  const CustomMetric* find(std::string_view attribute) const {
    const auto found =
        std::find_if(metrics_.begin(), metrics_.end(), [&](const auto& one) { return one.attribute == attribute; });
    return found == metrics_.end() ? nullptr : &*found;
  }

  void check_known(const DeclaredPlugin& plugin, std::string_view parameter) {
    if (!plugin.spec.has(parameter) || find(plugin.spec.text(parameter)) != nullptr) return;
    in_.problem(plugin.node, plugin.key + ".parameters." + std::string(parameter),
                '"' + plugin.spec.text(parameter) +
                    "\" is no attribute; name the gauge under engineConfigs[].customMetrics of core-metrics-extractor");
  }

  void check_scorer(const DeclaredPlugin& plugin) {
    check_known(plugin, "attributeKey");
    const std::string range = "algorithm.normalization.fixedRange";
    check_range(plugin, range, false);
    if (plugin.spec.has(range + ".min") && plugin.node["parameters"]["algorithm"]["normalization"]["adaptiveRange"]) {
      in_.problem(plugin.node, plugin.key + ".parameters.algorithm.normalization",
                  "has both fixedRange and adaptiveRange; leave one out");
    }
  }

  // Both or neither (`needed`: both), and in their order.
  void check_range(const DeclaredPlugin& plugin, const std::string& name, bool needed) {
    const bool least = plugin.spec.has(name + ".min"), most = plugin.spec.has(name + ".max");
    const bool in_order = plugin.spec.number(name + ".min", 0) < plugin.spec.number(name + ".max", 1) ||
                          (needed && plugin.spec.number(name + ".min", 0) == plugin.spec.number(name + ".max", 0));
    if (least && most && in_order) return;
    if (!least && !most && !needed) return;
    in_.problem(plugin.node, plugin.key + ".parameters." + name, "needs min and max, in this order");
  }

  void check_filter(const DeclaredPlugin& plugin) {
    check_known(plugin, "attribute");
    const std::string type = plugin.spec.text("algorithm.type");
    if (type == "range") return check_range(plugin, "algorithm.range", true);
    const auto needs = [&](const std::string& name) {
      if (plugin.spec.has(name)) return;
      in_.problem(plugin.node, plugin.key + ".parameters." + name, "is missing");
    };
    if (type == "threshold") {
      needs("algorithm.threshold.operator");
      needs("algorithm.threshold.value");
    }
    if (type == "topK") needs("algorithm.topK.k");
    if (type == "percentile") needs("algorithm.percentile.percentile");
  }

  PickerReader& in_;
  const DeclaredPlugins& plugins_;
  std::vector<CustomMetric> metrics_;
};

}  // namespace

std::vector<CustomMetric> read_custom_metrics(PickerReader& in, const DeclaredPlugins& plugins) {
  return MetricsReader(in, plugins).read();
}

}  // namespace penstock::config
