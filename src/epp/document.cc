#include "penstock/epp/read.h"

#include <algorithm>
#include <map>

#include "parts.h"
#include "penstock/base/text.h"

namespace penstock::epp {
namespace {

const std::vector<std::string_view> api_versions = {"inference.networking.x-k8s.io/v1alpha1", "llm-d.ai/v1alpha1",
                                                    "llm-d.ai/v1"};
const std::vector<std::string_view> gates = {
    "flowControl",        "dataLayer", "prepareDataPlugins", "enableLegacyMetrics", "haPopulateNonLeaderDatastore",
    "experimentalPlugins"};
const std::vector<std::string_view> sections = {
    "apiVersion", "kind",      "featureGates", "plugins", "schedulingProfiles", "saturationDetector",
    "data",       "dataLayer", "flowControl",  "parser",  "requestHandler",     "metadata"};

bool is_built_in(PluginKind kind) {
  return kind == PluginKind::built_in;
}
bool is_any(PluginKind) {
  return true;
}

class Document {
 public:
  Document(Reader& in, const YAML::Node& document) : in_(in), document_(document) {}

  void read(bool whole_file, Config& out) {
    if (is_gateway_config()) {
      return in_.problem(document_["kind"], "kind",
                         "is GatewayConfig; expected EndpointPickerConfig (give this file with --config)");
    }
    std::map<std::string, YAML::Node> found;
    in_.each_entry(document_, "", sections,
                   [&](const auto& name, const auto&, const YAML::Node& value) { found.emplace(name, value); });
    if (document_.IsNull()) in_.problem(document_, "", "is empty; expected an EndpointPickerConfig");
    if (!document_.IsMap()) return;
    const auto section = [&found](const char* name) {
      const auto at = found.find(name);
      return at == found.end() ? YAML::Node(YAML::NodeType::Undefined) : at->second;
    };
    read_identity(section("apiVersion"), section("kind"), whole_file);
    DeclaredPlugins plugins = read_plugins(in_, section("plugins"));
    read_label_attributes(in_, plugins);
    for (const DeclaredPlugin& plugin : plugins) {
      out.plugins.push_back({plugin.spec.name, plugin.spec.info->type, in_.line_of(plugin.node), plugin.key});
    }
    out.scheduling = read_scheduling(in_, section("schedulingProfiles"), plugins);
    out.flow = default_flow();
    read_saturation(in_, section("saturationDetector"), "saturationDetector", plugins, &out.flow.detector);
    read_flow_control(in_, section("flowControl"), plugins, &out.flow);
    read_gates(section("featureGates"), out);
    if (section("flowControl").IsDefined() && !out.flow.enabled) {
      in_.note(section("flowControl"), "flowControl", "has no effect without flowControl among the featureGates");
    }
    out.identity_headers = read_session_fields(in_, plugins);
    if (!out.identity_headers.empty() && !out.flow.enabled) {
      in_.note(section("plugins"), "plugins",
               "agent-identity has no effect without flowControl among the featureGates");
    }
    read_data_layer(section("data"), "data", plugins, out);
    read_data_layer(section("dataLayer"), "dataLayer", plugins, out);
    note_unused_files(plugins, out);
    read_scraping(plugins, out);
    read_parser(section("parser"), "parser", plugins);
    read_request_handler(section("requestHandler"), plugins);
  }

 private:
  // Nothing else in such a file is worth a word.
  bool is_gateway_config() const {
    if (!document_.IsMap()) return false;
    const YAML::Node kind = document_["kind"];
    return kind.IsDefined() && kind.IsScalar() && kind.Scalar() == "GatewayConfig";
  }

  void read_identity(const YAML::Node& api_version, const YAML::Node& kind, bool whole_file) {
    std::string ignored;
    if (api_version.IsDefined()) in_.read_word(api_version, "apiVersion", api_versions, &ignored);
    else if (whole_file)
      in_.problem(document_, "apiVersion", "is missing; expected one of: " + joined(api_versions, ", "));
    if (kind.IsDefined()) in_.read_word(kind, "kind", {"EndpointPickerConfig"}, &ignored);
    else if (whole_file) in_.problem(document_, "kind", "is missing; expected EndpointPickerConfig");
  }

  void read_gates(const YAML::Node& list, Config& out) {
    if (!list.IsDefined()) return;
    in_.each_item(list, "featureGates", [&](const std::string& key, const YAML::Node& value) {
      std::string gate;
      bool on = true;
      if (!read_gate(value, key, &gate, &on)) return;
      if (gate == "flowControl") {
        out.flow.enabled = on;
        out.flow_line = on ? in_.line_of(value) : 0;
      } else {
        in_.note(value, key,
                 gate + " has no effect: " +
                     (gate == "enableLegacyMetrics"            ? "metrics bear their present names"
                      : gate == "haPopulateNonLeaderDatastore" ? "every gateway routes; none of them leads"
                      : gate == "experimentalPlugins"          ? "no plugin needs it"
                                                               : "what it once enabled is always on"));
      }
    });
  }

  // "name", "name=true" or "name=false".
  bool read_gate(const YAML::Node& value, const std::string& key, std::string* name, bool* on) {
    if (!in_.read_text(value, key, name)) return false;
    const size_t sign = std::min(name->find('='), name->size());
    const std::string said = name->substr(sign);
    name->resize(sign);
    if (std::find(gates.begin(), gates.end(), *name) == gates.end()) {
      in_.not_among(value, key, *name, gates, "");
      return false;
    }
    *on = said != "=false";
    if (said.empty() || said == "=true" || said == "=false") return true;
    in_.problem(value, key,
                '"' + value.Scalar() + "\" says neither true nor false; expected " + *name + ", " + *name +
                    "=true or " + *name + "=false");
    return false;
  }

  void read_data_layer(const YAML::Node& section, const std::string& key, const DeclaredPlugins& plugins, Config& out) {
    if (!section.IsDefined()) return;
    in_.each_entry(
        section, key, {"sources", "injectDefaults", "discovery"},
        [&](const auto& name, const auto& path, const auto& value) {
          bool ignored = false;
          if (name == "discovery") return read_discovery(value, path, plugins, out);
          if (name == "injectDefaults") {
            if (in_.read_bool(value, path, &ignored))
              in_.note(value, path, "has no effect: endpoints are always scraped");
            return;
          }
          in_.each_item(value, path, [&](const std::string& item_key, const YAML::Node& item) {
            in_.each_entry(
                item, item_key, {"pluginRef", "extractors"}, [&](const auto& what, const auto& at, const auto& of) {
                  if (what == "pluginRef") return read_built_in(of, at, plugins);
                  in_.each_item(of, at, [&](const std::string& extractor_key, const YAML::Node& extractor) {
                    in_.each_entry(extractor, extractor_key, {"pluginRef"},
                                   [&](const auto&, const auto& ref_key, const auto& ref) {
                                     if (is_undeclared(ref, plugins, is_built_in)) return;
                                     static_cast<void>(read_reference(in_, plugins, ref, ref_key, is_any, "a plugin"));
                                   });
                  });
                });
          });
        });
  }

  // `pluginRef`, or newer `endpoints.pluginRef`.
  void read_discovery(const YAML::Node& section, const std::string& key, const DeclaredPlugins& plugins, Config& out) {
    in_.each_entry(
        section, key, {"pluginRef", "endpoints"}, [&](const auto& name, const auto& path, const auto& value) {
          if (name == "endpoints") return read_discovery(value, path, plugins, out);
          const DeclaredPlugin* const found = read_reference(in_, plugins, value, path, is_any, "a plugin");
          if (found == nullptr) return;
          if (found->spec.info->type != "file-discovery") {
            return in_.problem(
                value, path,
                '"' + found->spec.name + "\" lists no endpoints; expected a file-discovery, or leave it out");
          }
          out.endpoints = {found->spec.text("path"), found->spec.flag("watchFile"), in_.line_of(value), path};
        });
  }

  void note_unused_files(const DeclaredPlugins& plugins, const Config& out) {
    if (!out.endpoints.path.empty()) return;
    for (const DeclaredPlugin& plugin : plugins) {
      if (plugin.spec.info->type != "file-discovery") continue;
      in_.note(plugin.node, plugin.key, "has no effect: dataLayer.discovery.pluginRef does not name it");
    }
  }

  // There is one path for all endpoints; whether it is asked for over TLS is the endpoint's to say.
  void read_scraping(const DeclaredPlugins& plugins, Config& out) {
    for (const DeclaredPlugin& plugin : plugins) {
      const std::string key = plugin.key + ".parameters.";
      if (plugin.spec.text("scheme") == "https") {
        in_.problem(plugin.node, key + "scheme",
                    "is https; endpoints are scraped as they are asked: say https in their URLs, or with a "
                    "BackendTLSPolicy (docs/TLS.md)");
      }
      if (plugin.spec.info->type != "metrics-data-source" || !plugin.spec.has("path")) continue;
      const std::string path = plugin.spec.text("path");
      if (!path.starts_with('/')) in_.problem(plugin.node, key + "path", '"' + path + "\" does not start with /");
      else if (!out.metrics_path.empty() && out.metrics_path != path)
        in_.problem(plugin.node, key + "path",
                    "differs from that of another metrics-data-source; there is one for all");
      out.metrics_path = path;
    }
  }

  // Parts of the gateway are there, declared or not.
  void read_built_in(const YAML::Node& value, const std::string& key, const DeclaredPlugins& plugins) {
    if (is_undeclared(value, plugins, is_built_in)) return;
    static_cast<void>(read_reference(in_, plugins, value, key, is_built_in, "part of the gateway"));
  }

  void read_parser(const YAML::Node& section, const std::string& key, const DeclaredPlugins& plugins) {
    if (!section.IsDefined()) return;
    in_.each_entry(section, key, {"pluginRef"},
                   [&](const auto&, const auto& path, const auto& value) { read_built_in(value, path, plugins); });
  }

  void read_request_handler(const YAML::Node& section, const DeclaredPlugins& plugins) {
    if (!section.IsDefined()) return;
    in_.each_entry(section, "requestHandler", {"parsers", "parser"},
                   [&](const auto& name, const auto& key, const auto& value) {
                     if (name == "parser") return read_parser(value, key, plugins);
                     in_.each_item(value, key, [&](const std::string& item_key, const YAML::Node& item) {
                       read_parser(item, item_key, plugins);
                     });
                   });
  }

  Reader& in_;
  const YAML::Node& document_;
};

}  // namespace

std::shared_ptr<const Config> read_config(const YAML::Node& document, const Source& source,
                                          std::vector<Problem>& problems, std::vector<Problem>& notes) {
  auto picker = std::make_shared<Config>();
  Reader reader(source, problems, notes);
  Document(reader, document).read(source.whole_file, *picker);
  picker->source = source.file;
  picker->canon = YAML::Dump(document);
  return picker;
}

std::shared_ptr<const Config> read_config_text(const std::string& text, const Source& source,
                                               std::vector<Problem>& problems, std::vector<Problem>& notes) {
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(text);
    if (documents.size() > 1) {
      problems.push_back({source.file, source.lines_before + documents[1].Mark().line + 1, source.prefix,
                          "more than one document; expected one"});
    }
    return read_config(documents.empty() ? YAML::Node() : documents[0], source, problems, notes);
  } catch (const YAML::Exception& error) {
    const int line = error.mark.is_null() ? 1 : error.mark.line + 1;
    problems.push_back({source.file, source.lines_before + line, source.prefix, "not valid YAML: " + error.msg});
    return nullptr;
  }
}

}  // namespace penstock::epp
