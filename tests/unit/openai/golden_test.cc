// Each tests/golden/openai/NAME.json is scanned and described; the description must equal NAME.txt, whose first line
// names the API. Ranges are offset+size and followed by the bytes found there.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "penstock/base/text.h"
#include "penstock/openai/request.h"
#include "tests/unit/openai/padded_body.h"

namespace penstock::openai {
namespace {

std::string read_whole(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  REQUIRE_MESSAGE(in.good(), path.string());
  return std::string(std::istreambuf_iterator<char>(in), {});
}

Api api_named(std::string_view name) {
  for (const Api api : {Api::completions, Api::chat_completions, Api::responses, Api::conversations, Api::embeddings,
                        Api::messages, Api::other}) {
    if (name == to_string(api)) return api;
  }
  FAIL("unknown api " << name);
  return Api::other;
}

const char* name_of(ScanError error) {
  switch (error) {
    case ScanError::none:
      return "none";
    case ScanError::not_json:
      return "not_json";
    case ScanError::no_model:
      return "no_model";
    case ScanError::model_not_string:
      return "model_not_string";
    case ScanError::no_prompt:
      return "no_prompt";
    case ScanError::bad_type:
      return "bad_type";
    case ScanError::too_deep:
      return "too_deep";
    case ScanError::too_long:
      return "too_long";
    case ScanError::no_memory:
      return "no_memory";
  }
  return "?";
}

void append_range(std::string& out, const char* label, const Range& range, std::string_view shown) {
  out += std::string(label) + ": " + std::to_string(range.begin) + "+" + std::to_string(range.size) + " ";
  append_json_string(out, shown);
  out += '\n';
}

void append_text(std::string& out, const char* label, std::string_view text) {
  if (text.empty()) return;
  out += std::string(label) + ": ";
  append_json_string(out, text);
  out += '\n';
}

std::string describe(Api api, std::string_view body, const Request& request, const ScanFailure& failure) {
  std::string out = std::string("api: ") + to_string(api) + "\n";
  if (failure.error != ScanError::none) {
    return out + "error: " + name_of(failure.error) + "\nparam: " + failure.param + "\nmessage: " + failure.message +
           "\n";
  }
  if (!request.model_value.empty()) append_range(out, "model", request.model_value, request.model);
  if (request.stream) out += "stream\n";
  if (request.include_usage) out += "include_usage\n";
  if (request.continuous_usage) out += "continuous_usage\n";
  if (request.has_tools) out += "has_tools\n";
  if (request.multimodal) out += "multimodal\n";
  if (!request.media.empty()) out += "media: " + std::to_string(request.media.size()) + "\n";
  if (request.max_tokens) out += "max_tokens: " + std::to_string(*request.max_tokens) + "\n";
  if (request.n != 1) out += "n: " + std::to_string(request.n) + "\n";
  append_text(out, "cache_salt", request.cache_salt);
  append_text(out, "session", request.session);
  if (request.prompt_token_ids != 0) out += "token_ids: " + std::to_string(request.prompt_token_ids) + "\n";
  for (const Range& range : request.prompt) append_range(out, "prompt", range, range.in(body));
  return out;
}

TEST_CASE("every golden body is described as its file says, whatever stands behind it in memory") {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(GOLDEN_DIR)) {
    if (entry.path().extension() == ".json") paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  CHECK(paths.size() >= 90);
  RequestScanner scanner;
  Request request;
  for (const auto& path : paths) {
    CAPTURE(path.filename().string());
    const std::string text = read_whole(path);
    const std::string expected = read_whole(std::filesystem::path(path).replace_extension(".txt"));
    REQUIRE(expected.starts_with("api: "));
    const Api api = api_named(std::string_view(expected).substr(5, expected.find('\n') - 5));
    // What looks like the missing rest of a cut body must not complete it.
    for (const char behind : {' ', '}', ']', ',', '"', '\xFF'}) {
      const PaddedBody body(text, behind);
      const ScanFailure failure = scanner.scan(api, body.view(), request);
      CHECK(describe(api, body.view(), request, failure) == expected);
    }
  }
}

}  // namespace
}  // namespace penstock::openai
