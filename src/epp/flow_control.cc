// `saturationDetector` and `flowControl` of an EndpointPickerConfig.
#include <algorithm>
#include <set>

#include "parts.h"

namespace penstock::epp {
namespace {

using admission::FlowOptions;
using admission::PriorityBand;

template <typename Value>
struct Policy {
  std::string_view type;
  Value value;
};
constexpr Policy<admission::Fairness> fairness[] = {
    {"global-strict-fairness-policy", admission::Fairness::global_strict},
    {"round-robin-fairness-policy", admission::Fairness::round_robin},
    {"program-aware-fairness", admission::Fairness::least_service},
};
constexpr Policy<admission::Ordering> ordering[] = {
    {"fcfs-ordering-policy", admission::Ordering::fcfs},
    {"edf-ordering-policy", admission::Ordering::edf},
    {"slo-deadline-ordering-policy", admission::Ordering::slo_deadline},
    {"least-work-ordering-policy", admission::Ordering::least_work},
};
constexpr Policy<admission::UsageLimit> usage_limits[] = {
    {"static-usage-limit-policy", admission::UsageLimit::same},
    {"priority-holdback-policy", admission::UsageLimit::by_rank},
    {"soft-reflective-ceiling-policy", admission::UsageLimit::reflective},
};

bool is_detector(PluginKind kind) {
  return kind == PluginKind::detector || kind == PluginKind::saturation;
}

constexpr double many = 1e9;
constexpr double day = 86400;

class FlowReader {
 public:
  FlowReader(Reader& in, const DeclaredPlugins& plugins) : in_(in), plugins_(plugins) {}

  void read(const YAML::Node& section, FlowOptions* out) {
    for (const DeclaredPlugin& plugin : plugins_) {
      if (plugin.spec.info->type != "least-work-ordering-policy") continue;
      if (plugin.spec.has("agingSeconds")) out->aging_seconds = plugin.spec.number("agingSeconds");
    }
    out->programs = read_programs(in_, plugins_);
    in_.each_entry(section, "flowControl",
                   {"maxBytes", "maxRequests", "defaultRequestTTL", "noEndpointRequestTTL", "defaultPriorityBand",
                    "defaultNegativePriorityBand", "priorityBands", "usageLimitPolicyPluginRef", "saturationDetector",
                    "enableEviction"},
                   [&](const auto& name, const auto& key, const auto& value) { read_entry(name, key, value, *out); });
    std::stable_sort(out->bands.begin(), out->bands.end(),
                     [](const PriorityBand& a, const PriorityBand& b) { return a.priority > b.priority; });
    note_ceilings(section, *out);
  }

  // Declared policies that nothing names.
  void note_unnamed() {
    for (const DeclaredPlugin& plugin : plugins_) {
      const bool policy = plugin.spec.info->kind == PluginKind::flow && plugin.spec.info->type != "agent-identity";
      if (!policy || named_.contains(plugin.spec.name)) continue;
      in_.note(plugin.node, plugin.key, '"' + plugin.spec.name + "\" has no effect: nothing in flowControl names it");
    }
  }

 private:
  void read_entry(const std::string& name, const std::string& key, const YAML::Node& value, FlowOptions& out) {
    if (name == "maxBytes") {
      in_.read_quantity(value, key, &out.bytes_max);
    } else if (name == "maxRequests") {
      in_.read_quantity(value, key, &out.requests_max);
    } else if (name == "defaultRequestTTL") {
      in_.read_duration(value, key, 0, day, &out.ttl);
    } else if (name == "noEndpointRequestTTL") {
      in_.read_duration(value, key, 0, day, &out.no_endpoint_ttl);
    } else if (name == "saturationDetector") {
      read_saturation(in_, value, key, plugins_, &out.detector);
    } else if (name == "usageLimitPolicyPluginRef") {
      const DeclaredPlugin* const plugin = read_policy(value, key, usage_limits, &out.usage.kind);
      const bool limits = plugin != nullptr && plugin->spec.has("threshold");
      out.detector.usage_limit = limits ? plugin->spec.number("threshold") : 1;
      if (out.usage.kind == admission::UsageLimit::by_rank) read_holdback(in_, value, key, plugin, &out.usage);
    } else if (name == "enableEviction") {
      in_.read_bool(value, key, &out.evicts);
    } else if (name == "defaultPriorityBand") {
      PriorityBand other{.priority = 0, .options = out.band};
      read_band(value, key, /*numbered=*/false, &other);
      out.band = other.options;
      out.band_given = true;
    } else if (name == "defaultNegativePriorityBand") {
      PriorityBand other{.priority = -1, .options = default_flow().band};
      read_band(value, key, /*numbered=*/false, &other);
      out.negative_band = other.options;
    } else {
      in_.each_item(value, key,
                    [&](const auto& item_key, const auto& item) { read_numbered_band(item, item_key, out); });
    }
  }

  // Whoever has no ceiling waits until its time to live is over, or for ever; and where priorities are compared, those
  // that no band names are known only while they wait.
  void note_ceilings(const YAML::Node& section, const FlowOptions& out) {
    using admission::UsageLimit;
    if (out.usage.kind == UsageLimit::same) return;
    const std::string key = "flowControl.usageLimitPolicyPluginRef";
    const YAML::Node at = section["usageLimitPolicyPluginRef"];
    std::vector<int> priorities = {0};
    for (const PriorityBand& band : out.bands) {
      if (band.priority != 0) priorities.push_back(band.priority);
    }
    for (const int priority : priorities) {
      if (out.usage.ceiling(priority, out.rank_of(priority)) > 0) continue;
      in_.note(at, key,
               "of priority " + std::to_string(priority) + " no request ever goes: it has no ceiling in " +
                   at.Scalar() + (priority == 0 ? "; requests that name no objective have it" : ""));
    }
    if (out.usage.kind == UsageLimit::listed || out.bands.size() >= 2) return;
    in_.note(at, key, "has an effect only while a higher priority waits: fewer than two priorityBands are given");
  }

  void read_numbered_band(const YAML::Node& node, const std::string& key, FlowOptions& out) {
    PriorityBand band{.priority = 0, .options = default_flow().band};
    if (!read_band(node, key, /*numbered=*/true, &band)) return;
    const bool twice = std::any_of(out.bands.begin(), out.bands.end(),
                                   [&](const PriorityBand& other) { return other.priority == band.priority; });
    if (twice) return in_.problem(node, key + ".priority", "is that of another band");
    out.bands.push_back(std::move(band));
  }

  bool read_band(const YAML::Node& node, const std::string& key, bool numbered, PriorityBand* out) {
    std::vector<std::string_view> known = {"maxBytes", "maxRequests", "fairnessPolicyRef", "orderingPolicyRef",
                                           "defaultRequestTTL"};
    if (numbered) known.insert(known.begin(), "priority");
    bool has_priority = false, tells_priority = false;
    in_.each_entry(node, key, known, [&](const auto& name, const auto& path, const auto& value) {
      double priority = 0;
      tells_priority |= name == "priority";
      if (name == "maxBytes") in_.read_quantity(value, path, &out->options.bytes_max);
      else if (name == "maxRequests") in_.read_quantity(value, path, &out->options.requests_max);
      else if (name == "fairnessPolicyRef") read_fairness(value, path, &out->options.fairness);
      else if (name == "defaultRequestTTL") read_ttl(value, path, &out->options.ttl);
      else if (name == "orderingPolicyRef") read_policy(value, path, ordering, &out->options.ordering);
      else if (in_.read_number(value, path, true, -many, many, &priority)) has_priority = true;
      if (name == "priority") out->priority = static_cast<int32_t>(priority);
    });
    if (numbered && !tells_priority && node.IsMap()) in_.problem(node, key + ".priority", "is missing");
    return has_priority || !numbered;
  }

  void read_fairness(const YAML::Node& value, const std::string& key, admission::Fairness* out) {
    const DeclaredPlugin* const plugin = read_policy(value, key, fairness, out);
    if (plugin != nullptr && plugin->spec.text("strategy") == "turn-priority")
      *out = admission::Fairness::turn_priority;
  }

  void read_ttl(const YAML::Node& value, const std::string& key, std::optional<Duration>* out) {
    Duration ttl{0};
    if (in_.read_duration(value, key, 0, day, &ttl)) *out = ttl;
  }

  // A policy by the name of a plugin declared, or by its type where none is. Null: it is not declared, or wrong.
  template <typename Value, size_t n>
  const DeclaredPlugin* read_policy(const YAML::Node& value, const std::string& key, const Policy<Value> (&policies)[n],
                                    Value* out) {
    std::string name;
    if (!in_.read_text(value, key, &name)) return nullptr;
    const DeclaredPlugin* const declared = find_plugin(plugins_, name);
    const std::string_view type = declared == nullptr ? std::string_view(name) : declared->spec.info->type;
    const auto* const found =
        std::find_if(policies, policies + n, [type](const auto& policy) { return policy.type == type; });
    if (found == policies + n) {
      std::vector<std::string_view> types;
      for (const auto& policy : policies) types.push_back(policy.type);
      in_.not_among(value, key, name, types, "policies, or a plugin of one of these types");
      return nullptr;
    }
    *out = found->value;
    named_.insert(name);
    return declared;
  }

  Reader& in_;
  const DeclaredPlugins& plugins_;
  std::set<std::string> named_;
};

}  // namespace

void read_saturation(Reader& in, const YAML::Node& section, const std::string& key, const DeclaredPlugins& plugins,
                     admission::DetectorOptions* out) {
  if (!section.IsDefined()) return;
  in.each_entry(section, key, {"pluginRef", "queueDepthThreshold", "kvCacheUtilThreshold", "metricsStalenessThreshold"},
                [&](const auto& name, const auto& path, const auto& value) {
                  if (name == "queueDepthThreshold") {
                    in.read_number(value, path, true, 1, many, &out->queue_depth);
                  } else if (name == "kvCacheUtilThreshold") {
                    in.read_number(value, path, false, 1e-6, 1, &out->kv_usage_max);
                  } else if (name == "metricsStalenessThreshold") {
                    in.read_duration(value, path, 1e-3, 3600, &out->metrics_stale_after);
                  } else if (is_undeclared(value, plugins, is_detector)) {
                    const PluginInfo* const type = find_plugin_type(value.Scalar());
                    type->make.detector({.name = value.Scalar(), .info = type}, out);
                  } else if (const auto* plugin = read_reference(in, plugins, value, path, is_detector, "a detector")) {
                    plugin->spec.info->make.detector(plugin->spec, out);
                  }
                });
}

void read_flow_control(Reader& in, const YAML::Node& section, const DeclaredPlugins& plugins, FlowOptions* out) {
  FlowReader reader(in, plugins);
  if (section.IsDefined()) reader.read(section, out);
  reader.note_unnamed();
}

// What the Endpoint Picker does where its configuration says nothing.
FlowOptions default_flow() {
  FlowOptions out;
  out.detector.detector = admission::Detector::utilization;
  out.detector.metrics_stale_after = milliseconds(200);
  out.ttl = Duration::zero();
  out.no_endpoint_ttl = Duration::zero();
  out.band.ordering = admission::Ordering::fcfs;
  out.band.fairness = admission::Fairness::global_strict;
  return out;
}

}  // namespace penstock::epp
