// The request scanner, fed with anything. The first byte chooses the API, the second what lies behind the body in
// memory. What it says lies inside the body, is what a full parser says, and survives the splicing of another model
// name.
#include <simdjson.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "penstock/openai/request.h"
#include "penstock/openai/splice.h"
#include "tests/unit/openai/padded_body.h"

namespace {

using namespace penstock::openai;

void require(bool ok, const char* what, std::string_view body) {
  if (ok) return;
  std::fprintf(stderr, "%s\n%.*s\n", what, static_cast<int>(body.size()), body.data());
  std::abort();
}

bool inside(const Range& range, std::string_view body) {
  return range.begin <= body.size() && range.size <= body.size() - range.begin;
}

void check_against_full_parser(std::string_view body, const ScanFailure& failure) {
  if (body.starts_with("\xEF\xBB\xBF")) body.remove_prefix(3);
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  const auto verdict = parser.parse(body.data(), body.size()).get(root);
  if (verdict == simdjson::SUCCESS && root.is_object()) {
    require(failure.error != ScanError::not_json, "a JSON object was refused as not JSON", body);
    return;
  }
  // Those that Python takes for numbers are none for a full parser.
  const bool odd = body.find("NaN") != std::string_view::npos || body.find("Infinity") != std::string_view::npos;
  if (odd) return;
  // The two may differ on escapes that are not decoded, on numbers too large to be held, and on the limit of depth.
  switch (verdict) {
    case simdjson::SUCCESS:  // JSON, but no object
    case simdjson::EMPTY:
    case simdjson::TAPE_ERROR:
    case simdjson::UTF8_ERROR:
    case simdjson::UNCLOSED_STRING:
    case simdjson::UNESCAPED_CHARS:
    case simdjson::T_ATOM_ERROR:
    case simdjson::F_ATOM_ERROR:
    case simdjson::N_ATOM_ERROR:
      require(failure.error != ScanError::none, "what is not a JSON object was accepted", body);
      break;
    default:
      break;
  }
}

void check_request(std::string_view body, const Request& request) {
  size_t bytes = 0;
  for (const Range& range : request.prompt) {
    require(inside(range, body) && !range.empty(), "a range of the prompt is not inside the body", body);
    bytes += range.size;
  }
  require(bytes == request.prompt_bytes, "prompt_bytes is not the sum of the ranges", body);
  require(inside(request.model_value, body), "the range of the model is not inside the body", body);
  if (request.model_value.empty()) return;
  const std::string value(request.model_value.in(body));
  simdjson::dom::parser parser;
  std::string_view model;
  require(parser.parse(value).get_string().get(model) == simdjson::SUCCESS && model == request.model,
          "the range of the model does not hold the model", body);
}

void check_splice(Api api, std::string_view body, const Request& request) {
  if (request.model_value.empty()) return;
  const std::string other = request.model + "\"\n\xC3\xA9";
  const Spliced spliced = splice_model(body, request.model_value, other);
  // Escaped it may be longer than what a scanner takes; nobody scans it again.
  if (spliced.value.size() > RequestScanner::text_bytes_max) return;
  const std::string joined = std::string(spliced.before) + spliced.value + std::string(spliced.after);
  const PaddedBody padded(joined);
  RequestScanner scanner;
  Request again;
  require(scanner.scan(api, padded.view(), again).error == ScanError::none, "the spliced body is refused", joined);
  require(again.model == other && spliced.size() == joined.size(), "the spliced body has another model", joined);
  require(again.prompt_bytes == request.prompt_bytes && again.prompt.size() == request.prompt.size() &&
              again.stream == request.stream && again.max_tokens == request.max_tokens,
          "splicing changed more than the model", joined);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const Api api = static_cast<Api>(data[0] % (static_cast<unsigned>(Api::other) + 1));
  const PaddedBody body({reinterpret_cast<const char*>(data) + 2, size - 2}, static_cast<char>(data[1]));
  static RequestScanner scanner;  // reused, as a shard does
  static Request request;
  const ScanFailure failure = scanner.scan(api, body.view(), request);
  require((failure.error == ScanError::none) == failure.message.empty(), "a failure has no message", body.view());
  check_against_full_parser(body.view(), failure);
  if (failure.error != ScanError::none) return 0;
  check_request(body.view(), request);
  check_splice(api, body.view(), request);
  return 0;
}
