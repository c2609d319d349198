// The endpoints file of llm-d's file-discovery: a list of model servers with their labels.
#include <yaml-cpp/yaml.h>

#include <set>
#include <utility>

#include "penstock/base/file.h"
#include "penstock/base/text.h"
#include "penstock/config/load.h"
#include "penstock/epp/reader.h"
#include "values.h"

namespace penstock::config {
namespace {

class EndpointsReader {
 public:
  EndpointsReader(const std::string& path, EndpointsFile& out)
      : source_{.file = path}, in_(source_, out.problems, notes_), out_(out) {}

  void read(const YAML::Node& document) {
    in_.each_entry(document, "", {"endpoints"}, [&](const auto&, const auto& key, const YAML::Node& list) {
      in_.each_item(list, key, [&](const auto& item_key, const YAML::Node& item) { read_entry(item, item_key); });
    });
  }

 private:
  void read_entry(const YAML::Node& node, const std::string& key) {
    EndpointEntry entry;
    std::string address, metrics;
    uint16_t port = 0;
    const size_t before = in_.problems();
    in_.each_entry(node, key, {"name", "namespace", "address", "port", "labels", "metricsHost"},
                   [&](const std::string& name, const auto& path, const YAML::Node& value) {
                     if (name == "name") in_.read_text(value, path, &entry.name);
                     else if (name == "namespace") in_.read_text(value, path, &entry.ns);
                     else if (name == "address") in_.read_text(value, path, &address);
                     else if (name == "port") read_port(value, path, &port);
                     else if (name == "labels")
                       entry.labels = epp::read_labels(value, [&](const YAML::Node& at, std::string message) {
                         in_.problem(at, path, std::move(message));
                       });
                     else in_.read_text(value, path, &metrics);
                   });
    if (in_.problems() > before) return;
    for (const auto& [name, missing] :
         {std::pair("name", entry.name.empty()), std::pair("address", address.empty()), std::pair("port", port == 0)}) {
      if (missing) return in_.problem(node, key + '.' + name, "is missing");
    }
    const std::string authority = authority_of(address, port);
    if (!metrics.empty() && metrics != authority) {
      return in_.problem(node["metricsHost"], key + ".metricsHost",
                         "is not " + authority + ": metrics are read where requests go");
    }
    entry.url = "http://" + authority;
    if (std::string message = check_url(entry.url); !message.empty()) return in_.problem(node, key, std::move(message));
    if (!is_endpoint_name(entry.name)) {
      return in_.problem(node["name"], key + ".name", "is no name; expected 1 to 253 visible ASCII characters");
    }
    if (!names_.insert(entry.name).second) {
      return in_.problem(node["name"], key + ".name", '"' + entry.name + "\" is the name of another one");
    }
    if (!urls_.insert(entry.url).second) return in_.problem(node, key, authority + " is listed twice");
    out_.lines.push_back(in_.line_of(node));
    out_.endpoints.push_back(std::move(entry));
  }

  void read_port(const YAML::Node& value, const std::string& key, uint16_t* out) {
    std::string text;
    if (in_.read_text(value, key, &text) && !parse_port(text, out))
      in_.problem(value, key, '"' + text + "\" is no port; expected 1 to 65535");
  }

  epp::Source source_;
  std::vector<Problem> notes_;
  epp::Reader in_;
  EndpointsFile& out_;
  std::set<std::string> names_, urls_;
};

}  // namespace

EndpointsFile read_endpoints_file(const std::string& path) {
  EndpointsFile out;
  const Result<std::string> text = read_file(path);
  if (!text.ok()) {
    out.problems.push_back({path, 0, "", text.error().text});
    return out;
  }
  try {
    EndpointsReader(path, out).read(YAML::Load(*text));
  } catch (const YAML::Exception& error) {
    out.problems.push_back({path, error.mark.is_null() ? 1 : error.mark.line + 1, "", "not valid YAML: " + error.msg});
  }
  return out;
}

}  // namespace penstock::config
