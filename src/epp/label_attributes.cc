// `label-producer`: labels of pods as attributes, and which of them endpoint-attribute-weight-scorer looks at.
#include <algorithm>

#include "parts.h"

namespace penstock::epp {
namespace {

// One attribute, who names it, and the label that it stands for.
struct LabelAttribute {
  std::string attribute, producer, label;
};

class LabelReader {
 public:
  LabelReader(Reader& in, DeclaredPlugins& plugins) : in_(in), plugins_(plugins) {}

  void read() {
    for (const DeclaredPlugin& plugin : plugins_) {
      if (plugin.spec.info->type == "label-producer") read_producer(plugin);
    }
    for (DeclaredPlugin& plugin : plugins_) {
      if (plugin.spec.info->type == "endpoint-attribute-weight-scorer") tell_label(plugin);
    }
  }

 private:
  // Either one label, or a list of them.
  void read_producer(const DeclaredPlugin& plugin) {
    const std::string key = plugin.key + ".parameters";
    const YAML::Node parameters = plugin.node["parameters"];
    const bool listed = parameters && parameters.IsMap() && parameters["labels"];
    const bool one = plugin.spec.has("label") || plugin.spec.has("attributeKey");
    if (listed && one) return in_.problem(plugin.node, key, "has both labels and label; leave one out");
    if (!listed) {
      if (!plugin.spec.has("label") || !plugin.spec.has("attributeKey")) {
        return in_.problem(plugin.node, key, "needs labels, or label and attributeKey");
      }
      return add(plugin, plugin.node, key, plugin.spec.text("label"), plugin.spec.text("attributeKey"));
    }
    in_.each_item(parameters["labels"], key + ".labels", [&](const std::string& item_key, const YAML::Node& item) {
      std::string label, attribute;
      in_.each_entry(item, item_key, {"label", "attributeKey"},
                     [&](const auto& name, const auto& path, const auto& value) {
                       in_.read_text(value, path, name == "label" ? &label : &attribute);
                     });
      if (!label.empty() && !attribute.empty()) return add(plugin, item, item_key, label, attribute);
      if (item.IsMap()) in_.problem(item, item_key, "needs label and attributeKey");
    });
  }

  void add(const DeclaredPlugin& plugin, const YAML::Node& at, const std::string& key, std::string label,
           std::string attribute) {
    if (find(attribute, plugin.spec.name) != nullptr) {
      return in_.problem(at, key, '"' + attribute + "\" is named twice; give each label its own attributeKey");
    }
    attributes_.push_back({std::move(attribute), plugin.spec.name, std::move(label)});
  }

  // `producer`: "" for any.
  const LabelAttribute* find(std::string_view attribute, std::string_view producer) const {
    const auto found = std::find_if(attributes_.begin(), attributes_.end(), [&](const LabelAttribute& one) {
      return one.attribute == attribute && (producer.empty() || one.producer == producer);
    });
    return found == attributes_.end() ? nullptr : &*found;
  }

  void tell_label(DeclaredPlugin& plugin) {
    if (!plugin.spec.has("attributeKey")) return;  // told already
    const std::string attribute = plugin.spec.text("attributeKey"), producer = plugin.spec.text("producer");
    const LabelAttribute* const found = find(attribute, producer);
    if (found != nullptr) {
      plugin.spec.parameters.emplace_back("label", found->label);
      return;
    }
    in_.problem(plugin.node, plugin.key + ".parameters.attributeKey",
                '"' + attribute + "\" is no attribute" + (producer.empty() ? "" : " of \"" + producer + '"') +
                    "; name the label of the pods in a label-producer");
  }

  Reader& in_;
  DeclaredPlugins& plugins_;
  std::vector<LabelAttribute> attributes_;
};

}  // namespace

void read_label_attributes(Reader& in, DeclaredPlugins& plugins) {
  LabelReader(in, plugins).read();
}

}  // namespace penstock::epp
