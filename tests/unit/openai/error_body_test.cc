#include "penstock/openai/error_body.h"

#include <doctest/doctest.h>
#include <simdjson.h>

#include <string>

#include "penstock/base/random.h"
#include "penstock/base/text.h"

namespace penstock::openai {
namespace {

std::string json_string(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

TEST_CASE("an error body has OpenAI's shape, with null for what is not known") {
  std::string out = "kept:";
  append_error(out, "No \"model\".", "invalid_request_error", "model", "");
  CHECK(out ==
        R"(kept:{"error":{"message":"No \"model\".","type":"invalid_request_error","param":"model","code":null}})");
  out.clear();
  append_error(out, "", "server_error", "", "503");
  CHECK(out == R"({"error":{"message":"","type":"server_error","param":null,"code":"503"}})");
}

TEST_CASE("random bytes always make a JSON string that a parser accepts") {
  simdjson::dom::parser parser;
  for (uint64_t seed = 1; seed <= 5'000; ++seed) {
    Random random(seed);
    std::string text;
    for (uint64_t count = random.below(20); count > 0; --count) {
      text += static_cast<char>(random.chance(0.5) ? 0xC0 + random.below(64) : random.below(256));
    }
    CAPTURE(seed);
    simdjson::dom::element element;
    CHECK(parser.parse("[" + json_string(text) + "]").get(element) == simdjson::SUCCESS);
  }
}

}  // namespace
}  // namespace penstock::openai
