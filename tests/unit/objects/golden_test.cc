// Each data/NAME.yaml is read as manifests and resolved; what comes out must equal data/NAME.txt. A first line
// "# options: ..." sets options. PENSTOCK_UPDATE=1 rewrites the expectations.
#include <doctest/doctest.h>

#include <filesystem>
#include <sstream>

#include "penstock/objects/manifest.h"
#include "penstock/objects/resolve.h"
#include "tests/support/files.h"

namespace penstock::objects {
namespace {

constexpr int64_t now = 1'750'000'000;  // 2025-06-15T15:06:40Z

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, separator);) out.push_back(part);
  return out;
}

SelectorPool selector_pool(const std::string& text) {  // name:selector:ports
  const auto parts = split(text, ':');
  REQUIRE(parts.size() == 3);
  const auto selector = parse_selector(parts[1]);
  REQUIRE(selector.ok());
  SelectorPool out{"default", parts[0], *selector, {}};
  for (const std::string& port : split(parts[2], ',')) out.ports.push_back(static_cast<uint16_t>(std::stoi(port)));
  return out;
}

std::vector<OwnListener> own_listeners(const std::string& text) {  // name:port or name:port:tls or name:port:own
  std::vector<OwnListener> out;
  for (const std::string& one : split(text, ',')) {
    const auto parts = split(one, ':');
    const std::string how = parts.size() > 2 ? parts[2] : "";
    out.push_back({parts[0], static_cast<uint16_t>(std::stoi(parts[1])), !how.empty(), how == "own"});
  }
  return out;
}

ResolveOptions options_of(const std::string& text) {
  ResolveOptions out;
  constexpr std::string_view mark = "# options: ";
  if (!text.starts_with(mark)) return out;
  for (const std::string& word : split(text.substr(mark.size(), text.find('\n') - mark.size()), ' ')) {
    const std::string name = word.substr(0, word.find('='));
    const std::string value = word.find('=') == std::string::npos ? "" : word.substr(word.find('=') + 1);
    if (name == "implicit") out.implicit_gateway = true;
    else if (name == "address") out.gateway_address = value;
    else if (name == "listeners") out.listeners = own_listeners(value);
    else if (name == "namespaces") out.namespaces = split(value, ',');
    else if (name == "selector") out.selector_pools.push_back(selector_pool(value));
    else if (name == "self") out.self = {.group = "", .kind = "Service", .ns = "gateway-system", .name = value};
    else if (name == "service") {
      const auto parts = split(value, ':');
      out.service_pools.push_back({"default", parts[0], parts.size() > 1 ? parts[1] : ""});
    } else {
      FAIL("unknown option " << word);
    }
  }
  return out;
}

std::string outcome_of(const std::string& file, const std::string& text) {
  const Manifests manifests = read_manifests({{file, text}}, "default");
  std::string out;
  for (const ManifestProblem& problem : manifests.problems) out += "problem " + to_string(problem) + "\n";
  for (const ManifestProblem& skipped : manifests.skipped) out += "skipped " + to_string(skipped) + "\n";
  Store store;
  apply_manifests(manifests, store);
  Resolver resolver(store, options_of(text));
  return out + resolver.update(now).describe();
}

TEST_CASE("manifests resolve to what is expected") {
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(OBJECTS_DATA)) {
    if (entry.path().extension() != ".yaml") continue;
    ++files;
    const std::filesystem::path expected = std::filesystem::path(entry.path()).replace_extension(".txt");
    test::check_golden_path(expected, outcome_of(entry.path().filename(), test::read_whole(entry.path())));
  }
  CHECK(files >= 10);
}

}  // namespace
}  // namespace penstock::objects
