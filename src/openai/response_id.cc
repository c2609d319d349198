#include "penstock/openai/response_id.h"

#include <xxhash.h>

#include "json_text.h"

namespace penstock::openai {
namespace {

// The string that begins behind the quote at `at`, without its quotes; `at` is then behind it. False: it has no end
// yet.
bool take_string(std::string_view json, size_t& at, std::string_view& text) {
  const size_t begin = ++at;
  while (at < json.size() && json[at] != '"') at += json[at] == '\\' ? 2 : 1;
  if (at >= json.size()) return false;
  text = json.substr(begin, at - begin);
  ++at;
  return true;
}

}  // namespace

// Follows only strings and brackets: that is enough to know which keys stand at which depth.
std::string_view response_id(std::string_view json, bool event) {
  const int wanted_depth = event ? 2 : 1;
  bool in_response = !event;
  int depth = 0;
  for (size_t at = 0; at < json.size();) {
    const char c = json[at];
    if (c != '"') {
      if (c == '{' || c == '[') ++depth;
      if ((c == '}' || c == ']') && --depth < wanted_depth && event) in_response = false;
      ++at;
      continue;
    }
    std::string_view key, value;
    if (!take_string(json, at, key)) return {};
    const std::string_view rest = skip_space(json.substr(at));
    if (!rest.starts_with(':')) continue;  // a value
    if (event && depth == 1) in_response = key == "response";
    if (!in_response || depth != wanted_depth || key != "id") continue;
    at = json.size() - skip_space(rest.substr(1)).size();
    if (at >= json.size() || json[at] != '"' || !take_string(json, at, value)) return {};
    const bool usable = value.size() <= response_id_bytes_max && value.find('\\') == std::string_view::npos;
    return usable ? value : std::string_view();
  }
  return {};
}

uint64_t response_key(std::string_view id) {
  const uint64_t hash = XXH3_64bits(id.data(), id.size());
  return hash == 0 ? 1 : hash;
}

}  // namespace penstock::openai
