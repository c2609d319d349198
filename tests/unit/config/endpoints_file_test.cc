// The file of file-discovery, and who names it.
#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "penstock/config/load.h"
#include "penstock/config/reference.h"
#include "penstock/epp/config.h"

namespace penstock::config {
namespace {

namespace fs = std::filesystem;

struct Folder {
  Folder() {
    std::string pattern = (fs::temp_directory_path() / "penstock-endpoints-XXXXXX").string();
    REQUIRE(mkdtemp(pattern.data()) != nullptr);
    path = pattern;
  }
  ~Folder() { fs::remove_all(path); }
  std::string file(const std::string& name, const std::string& text) const {
    std::ofstream(path / name) << text;
    return (path / name).string();
  }
  fs::path path;
};

std::string problems_of(const std::vector<Problem>& problems) {
  std::string out;
  for (const Problem& problem : problems) {
    out += fs::path(problem.file).filename().string() + ':' + std::to_string(problem.line) + ": " + problem.key + ": " +
           problem.message + '\n';
  }
  return out;
}

std::string picker_naming(const std::string& file, const std::string& discovery = "pluginRef: file-discovery") {
  return "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins:\n"
         "  - {type: file-discovery, parameters: {path: " +
         file +
         ", watchFile: true}}\n  - type: queue-scorer\n"
         "dataLayer:\n  discovery: {" +
         discovery + "}\n";
}

const char* const two =
    "endpoints:\n"
    "  - {name: a, address: 10.0.0.1, port: \"8000\", labels: {llm-d.ai/role: prefill, empty: \"\"}}\n"
    "  - {name: b, namespace: ns, address: \"fd00::2\", port: 8001, metricsHost: \"[fd00::2]:8001\"}\n";

}  // namespace

TEST_CASE("a file of endpoints, with their labels") {
  const Folder folder;
  const EndpointsFile read = read_endpoints_file(folder.file("e.yaml", two));
  CHECK(problems_of(read.problems) == "");
  REQUIRE(read.endpoints.size() == 2);
  CHECK(read.endpoints[0].name == "a");
  CHECK(read.endpoints[0].url == "http://10.0.0.1:8000");
  CHECK(read.endpoints[0].labels == std::map<std::string, std::string>{{"empty", ""}, {"llm-d.ai/role", "prefill"}});
  CHECK(read.endpoints[1].url == "http://[fd00::2]:8001");
  CHECK(read.endpoints[1].ns == "ns");
  CHECK(read.lines == std::vector<int>{2, 3});
  CHECK(read_endpoints_file(folder.file("none.yaml", "endpoints: []\n")).problems.empty());
}

TEST_CASE("what is wrong in a file of endpoints is said with its line, all at once") {
  const Folder folder;
  const auto problems = [&](const std::string& text) {
    return problems_of(read_endpoints_file(folder.file("e.yaml", text)).problems);
  };
  CHECK(problems("endpoints:\n"
                 "  - {name: a, address: 10.0.0.1, port: 8000}\n"
                 "  - {name: a, address: 10.0.0.2, port: 8000}\n"
                 "  - {name: c, address: 10.0.0.1, port: 8000}\n"
                 "  - {name: d, address: 10.0.0.3, port: 80000}\n"
                 "  - {name: e, port: 8000}\n"
                 "  - {address: 10.0.0.4, port: 8000}\n"
                 "  - {name: f, address: \"10.0.0.4/v1\", port: 8000}\n"
                 "  - {name: g g, address: 10.0.0.5, port: 8000}\n"
                 "  - {name: h, address: 10.0.0.5, port: 8000, labels: [x]}\n"
                 "  - {name: i, address: 10.0.0.6, port: 8000, metricsHost: \"10.0.0.6:9000\"}\n"
                 "  - {name: j, address: 10.0.0.7, port: 8000, lables: {}}\n") ==
        "e.yaml:3: endpoints[1].name: \"a\" is the name of another one\n"
        "e.yaml:4: endpoints[2]: 10.0.0.1:8000 is listed twice\n"
        "e.yaml:5: endpoints[3].port: \"80000\" is no port; expected 1 to 65535\n"
        "e.yaml:6: endpoints[4].address: is missing\n"
        "e.yaml:7: endpoints[5].name: is missing\n"
        "e.yaml:8: endpoints[6]: \"http://10.0.0.4/v1:8000\" has a path; requests keep their own path, so write only "
        "http://HOST:PORT\n"
        "e.yaml:9: endpoints[7].name: is no name; expected 1 to 253 visible ASCII characters\n"
        "e.yaml:10: endpoints[8].labels: is no map; expected labels, each with its value\n"
        "e.yaml:11: endpoints[9].metricsHost: is not 10.0.0.6:8000: metrics are read where requests go\n"
        "e.yaml:12: endpoints[10].lables: is not a known key; did you mean labels? (known here: name, namespace, "
        "address, port, labels, metricsHost)\n");
  CHECK(problems("endpoints: {\n").starts_with("e.yaml:2: : not valid YAML"));
  CHECK(problems("- a\n").starts_with("e.yaml:1: "));
  CHECK(problems_of(read_endpoints_file((folder.path / "no").string()).problems) ==
        "no:0: : cannot be read: No such file or directory\n");
}

TEST_CASE("the file that an EndpointPickerConfig names lists the endpoints, alone") {
  const Folder folder;
  const std::string list = folder.file("e.yaml", two);
  for (const char* const named : {"pluginRef: file-discovery", "endpoints: {pluginRef: file-discovery}"}) {
    const std::string picker = folder.file("p.yaml", picker_naming(list, named));
    const LoadResult result =
        load({.file = "", .flags = {{"--epp-config", "routing.epp_config", picker}}, .needs_endpoints = true});
    CHECK(problems_of(result.problems) == "");
    REQUIRE(result.options.endpoints.size() == 2);
    CHECK(result.options.endpoints[0].labels.at("llm-d.ai/role") == "prefill");
    CHECK(result.options.endpoint_picker->endpoints.watch);
  }
  const std::string picker = folder.file("p.yaml", picker_naming(list));
  const Flag flag{"--epp-config", "routing.epp_config", picker};
  CHECK(problems_of(load({.flags = {flag, {"--endpoint", "endpoints", "http://10.0.0.9:1"}}}).problems) ==
        "p.yaml:7: dataLayer.discovery.pluginRef: names a file of endpoints, which already come from the list of "
        "endpoints; leave one out\n");
  folder.file("e.yaml", "endpoints:\n  - {name: a}\n");
  CHECK(problems_of(load({.flags = {flag}}).problems) == "e.yaml:2: endpoints[0].address: is missing\n");
  folder.file("e.yaml", "endpoints: []\n");
  CHECK(load({.flags = {flag}, .needs_endpoints = true}).ok());
}

TEST_CASE("endpoints of our own list have labels too") {
  const LoadResult result =
      load_text("kind: GatewayConfig\nendpoints:\n  - url: http://10.0.0.1:8000\n    labels: {llm-d.ai/role: decode}\n",
                "g.yaml");
  CHECK(problems_of(result.problems) == "");
  REQUIRE(result.options.endpoints.size() == 1);
  CHECK(result.options.endpoints[0].labels.at("llm-d.ai/role") == "decode");
  const LoadResult other =
      load_text("kind: GatewayConfig\nendpoints:\n  - {url: \"http://10.0.0.1:8000\"}\n", "g.yaml");
  CHECK(diff(other.options, result.options) ==
        std::vector<std::string>{"endpoints: 10.0.0.1:8000 (http://10.0.0.1:8000) -> 10.0.0.1:8000 "
                                 "(http://10.0.0.1:8000, llm-d.ai/role=decode)"});
  CHECK(problems_of(load_text("kind: GatewayConfig\nendpoints:\n  - url: http://10.0.0.1:8000\n    labels: {a: [b]}\n",
                              "g.yaml")
                        .problems) ==
        "g.yaml:4: endpoints[0].labels: has what is no label; expected names, each with "
        "a text as its value\n");
}

}  // namespace penstock::config
