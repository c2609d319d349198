#include "penstock/config/api_key.h"

#include <algorithm>

#include "check.h"
#include "penstock/base/file.h"
#include "penstock/base/text.h"

namespace penstock::config {
namespace {

constexpr size_t kKeyBytesMax = 8192;
constexpr std::string_view white_space = " \t\r\n";

}  // namespace

Result<std::string> read_api_key(const std::string& path) {
  const Result<std::string> text = read_file(path);
  if (!text.ok()) return Message{"cannot read the key in " + in_quotes(path) + ": " + text.error().text};
  const size_t begin = std::min(text->find_first_not_of(white_space), text->size());
  const size_t end = text->find_last_not_of(white_space) + 1;  // 0 where there is nothing else
  if (begin >= end) return Message{"there is no key in " + in_quotes(path) + ": the file is empty"};
  const std::string key = text->substr(begin, end - begin);
  if (key.size() > kKeyBytesMax) return Message{"the key in " + in_quotes(path) + " is longer than 8 KiB"};
  if (!std::all_of(key.begin(), key.end(), [](char c) { return c > ' ' && c < 0x7f; })) {
    return Message{"the key in " + in_quotes(path) + " is not one word of visible ASCII"};
  }
  return key;
}

void check_api_keys(LoadResult& result, const Places& places, const std::string& file) {
  const Options& o = result.options;
  if (!o.metrics.api_key_file.empty()) {
    const auto key = read_api_key(o.metrics.api_key_file);
    if (!key.ok()) {
      result.problems.push_back(problem_of(places, file, "metrics.api_key_file", key.error().text));
    }
  }
  for (size_t i = 0; i < o.endpoints.size(); ++i) {
    if (o.endpoints[i].api_key_file.empty()) continue;
    const auto key = read_api_key(o.endpoints[i].api_key_file);
    if (key.ok()) continue;
    result.problems.push_back(
        {places.file, places.endpoints[i].line, places.endpoints[i].key + ".api_key_file", key.error().text});
  }
}

}  // namespace penstock::config
