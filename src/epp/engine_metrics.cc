// core-metrics-extractor: what engines call their gauges, others of the model servers by names, and who may look at
// these.
#include <algorithm>
#include <cmath>

#include "parts.h"
#include "penstock/base/text.h"
#include "penstock/discovery/engines.h"

namespace penstock::epp {
namespace {

constexpr size_t metrics_max = 16, engines_max = 16;

// "family", or "family{label=value,other="value"}".
bool parse_metric(std::string_view text, CustomMetric* out) {
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
  MetricsReader(Reader& in, const DeclaredPlugins& plugins) : in_(in), plugins_(plugins) {}

  void read(SchedulingSpec* out) {
    for (const DeclaredPlugin& plugin : plugins_) {
      const std::string_view type = plugin.spec.info->type;
      if (type != "core-metrics-extractor" && type != "model-server-protocol-metrics") continue;
      if (plugin.node["parameters"] && plugin.node["parameters"].IsMap()) read_extractor(plugin);
    }
    for (const DeclaredPlugin& plugin : plugins_) {
      const std::string_view type = plugin.spec.info->type;
      if (type == "endpoint-attribute-scorer") check_scorer(plugin);
      if (type == "endpoint-attribute-filter") check_filter(plugin);
    }
    out->custom_metrics = std::move(metrics_);
    out->engines = std::move(engines_);
  }

 private:
  void read_extractor(const DeclaredPlugin& plugin) {
    const std::string key = plugin.key + ".parameters";
    const YAML::Node parameters = plugin.node["parameters"];
    // Before there were engines, all were taken for vLLM.
    EngineSpec any{.name = "vllm", .queued = {}, .running = {}, .kv_usage = {}, .loras = {}, .cache_config = {}};
    bool said = false;
    for (const std::string_view name : gauge_names) {
      const YAML::Node gauge = parameters[std::string(name)];
      if (gauge) said |= read_gauge(gauge, key + '.' + std::string(name), *slot(any, name));
    }
    if (parameters["engineConfigs"]) read_engines(parameters["engineConfigs"], key + ".engineConfigs");
    if (said) add_engine(parameters, key, std::move(any));
    if (plugin.spec.has("engineLabelKey")) engines_.label = plugin.spec.text("engineLabelKey");
    if (!plugin.spec.has("defaultEngine")) return;
    engines_.otherwise = plugin.spec.text("defaultEngine");
    check_engine(parameters["defaultEngine"], key + ".defaultEngine", engines_.otherwise);
  }

  void read_engines(const YAML::Node& list, const std::string& key) {
    in_.each_item(list, key, [&](const std::string& item_key, const YAML::Node& item) { read_engine(item, item_key); });
  }

  void read_engine(const YAML::Node& node, const std::string& key) {
    std::vector<std::string_view> known = {"name", "customMetrics"};
    known.insert(known.end(), std::begin(gauge_names), std::end(gauge_names));
    EngineSpec engine;
    bool said = false;
    in_.each_entry(node, key, known, [&](const std::string& name, const auto& path, const YAML::Node& value) {
      if (name == "name") in_.read_text(value, path, &engine.name);
      else if (EngineSpec::Gauge* const gauge = slot(engine, name)) said |= read_gauge(value, path, *gauge);
      else in_.each_item(value, path, [&](const auto& k, const auto& v) { read_metric(v, k); });
    });
    if (engine.name == "default" || engine.name == "auto") {
      return in_.problem(node, key + ".name", '"' + engine.name + "\" can be the name of no engine");
    }
    if (engine.name.empty() && node.IsMap()) return in_.problem(node, key + ".name", "is missing");
    if (said || !discovery::built_in_engines()->contains(engine.name)) add_engine(node, key, std::move(engine));
  }

  void add_engine(const YAML::Node& node, const std::string& key, EngineSpec engine) {
    const auto same = [&](const EngineSpec& other) { return other.name == engine.name; };
    if (std::ranges::any_of(engines_.added, same)) {
      return in_.problem(node, key, "is about \"" + engine.name + "\", which another entry is about");
    }
    if (engines_.added.size() == engines_max) {
      return in_.problem(node, key, "is one too many; there may be " + std::to_string(engines_max));
    }
    engines_.added.push_back(std::move(engine));
  }

  void check_engine(const YAML::Node& node, const std::string& key, const std::string& name) {
    const discovery::EngineSet& built_in = *discovery::built_in_engines();
    std::vector<std::string_view> known = {"auto"};
    for (size_t i = 0; i < built_in.size(); ++i) known.push_back(built_in[i].name);
    for (const EngineSpec& engine : engines_.added) known.push_back(engine.name);
    if (std::ranges::find(known, name) == known.end()) in_.not_among(node, key, name, known, "");
  }

  static constexpr std::string_view gauge_names[] = {"queuedRequestsSpec", "runningRequestsSpec", "kvUsageSpec",
                                                     "loraSpec", "cacheInfoSpec"};
  // Null: no gauge is called so.
  static EngineSpec::Gauge* slot(EngineSpec& engine, std::string_view name) {
    EngineSpec::Gauge* const slots[] = {&engine.queued, &engine.running, &engine.kv_usage, &engine.loras,
                                        &engine.cache_config};
    const auto at = std::ranges::find(gauge_names, name);
    return at == std::end(gauge_names) ? nullptr : slots[at - std::begin(gauge_names)];
  }

  // An empty text says that there is none.
  bool read_gauge(const YAML::Node& node, const std::string& key, EngineSpec::Gauge& out) {
    CustomMetric gauge;
    if (node.IsScalar() && node.Scalar().empty()) {
      out = gauge;
      return true;
    }
    std::string text;
    if (!in_.read_text(node, key, &text)) return false;
    if (!parse_metric(text, &gauge)) {
      in_.problem(node, key, not_a_metric(text));
      return false;
    }
    out = std::move(gauge);
    return true;
  }

  static std::string not_a_metric(const std::string& text) {
    return '"' + text + "\" is no metric; expected name or name{label=value}";
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
      return in_.problem(node, key + ".metricSpec", not_a_metric(spec));
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
    const double from = plugin.spec.number(name + ".min"), to = plugin.spec.number(name + ".max");
    const bool in_order = from < to || (needed && from == to);
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

  Reader& in_;
  const DeclaredPlugins& plugins_;
  std::vector<CustomMetric> metrics_;
  EnginesSpec engines_;
};

}  // namespace

void read_metrics(Reader& in, const DeclaredPlugins& plugins, SchedulingSpec* out) {
  MetricsReader(in, plugins).read(out);
}

}  // namespace penstock::epp
