// The canonical form of paths, fed with anything. Each path is refused, and then unchanged, or brought into a form that
//   - is its own canonical form, and decodes to what the original decodes to, but for runs of slashes;
//   - says the same of API, work and permission as its decoded form, which is what a model server matches: so no
//     spelling gets around a rule.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "penstock/base/url_path.h"
#include "penstock/openai/paths.h"

namespace {

using namespace penstock;

void require(bool ok, const char* what, std::string_view target) {
  if (ok) return;
  std::fprintf(stderr, "%s\n%.*s\n", what, static_cast<int>(target.size()), target.data());
  std::abort();
}

int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

// As a model server does it (urllib.parse.unquote): what is no escape stays.
std::string decoded(std::string_view path) {
  std::string out;
  for (size_t i = 0; i < path.size(); ++i) {
    const bool escape = path[i] == '%' && i + 2 < path.size() && digit(path[i + 1]) >= 0 && digit(path[i + 2]) >= 0;
    out += escape ? static_cast<char>(digit(path[i + 1]) * 16 + digit(path[i + 2])) : path[i];
    if (escape) i += 2;
  }
  return out;
}

std::string single_slashes(std::string_view path) {
  std::string out;
  for (const char c : path) {
    if (c != '/' || !out.ends_with('/')) out += c;
  }
  return out;
}

bool has_dots(std::string_view path) {
  return (std::string(path) + '/').find("/./") != std::string::npos ||
         (std::string(path) + '/').find("/../") != std::string::npos;
}

// A decoded path with a '?' or '%' in it would be read as another target by our own functions.
bool plain(std::string_view path) {
  return path.find_first_of("?%") == std::string_view::npos;
}

void check_meaning(const std::string& path, const std::string& by_server) {
  for (const char* method : {"GET", "POST", "PUT", "DELETE"}) {
    const openai::PathInfo ours = openai::path_info(method, path), theirs = openai::path_info(method, by_server);
    require(ours.api == theirs.api && ours.listed == theirs.listed && ours.costs_work == theirs.costs_work &&
                ours.json == theirs.json,
            "a model server would read another path", path);
  }
  for (const char* pattern : {"/*", "/v1/*", "/v1/**", "/a*b/*c", "/**"}) {
    require(path_matches(pattern, path) == path_matches(pattern, by_server), "a pattern tells spellings apart", path);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string target(reinterpret_cast<const char*>(data), size);
  if (!target.starts_with('/')) target.insert(0, 1, '/');
  const std::string original = target;
  const std::string_view path = std::string_view(original).substr(0, original.find('?'));
  if (canonicalise_target(target) != nullptr) {
    require(target == original, "a refused target was changed", original);
    return 0;
  }
  const std::string canonical = target.substr(0, target.find('?'));
  require(target.substr(canonical.size()) == original.substr(path.size()), "the query was changed", original);
  std::string again = target;
  require(canonicalise_target(again) == nullptr && again == target, "the form is not its own form", original);
  require(canonical.find("//") == std::string::npos && canonical.find('\\') == std::string::npos,
          "slashes are left that servers read differently", original);
  const std::string by_server = decoded(canonical);
  require(single_slashes(decoded(path)) == by_server, "the form decodes to something else", original);
  require(!has_dots(by_server), "a dot segment is left", original);
  require(by_server.find('\0') == std::string::npos && by_server.find('\n') == std::string::npos,
          "a control character is left", original);
  if (plain(by_server)) check_meaning(canonical, by_server);
  return 0;
}
