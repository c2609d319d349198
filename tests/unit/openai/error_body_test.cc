#include "penstock/openai/error_body.h"

#include <doctest/doctest.h>
#include <simdjson.h>

#include <string>
#include <utility>
#include <vector>

#include "penstock/base/random.h"
#include "penstock/base/text.h"

namespace penstock::openai {
namespace {

std::string json_string(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

TEST_CASE("an error body has OpenAI's shape, with null for what is not known, or Anthropic's") {
  std::string out = "kept:";
  append_error(out, ErrorShape::openai,
               {.message = "No \"model\".", .type = "invalid_request_error", .param = "model", .request_id = "r"});
  CHECK(out ==
        R"(kept:{"error":{"message":"No \"model\".","type":"invalid_request_error","param":"model","code":null}})");
  out.clear();
  append_error(out, ErrorShape::responses, {.type = "server_error", .code = "503"});
  CHECK(out == R"({"error":{"message":"","type":"server_error","param":null,"code":"503"}})");
  const auto message = [](uint16_t status) {
    std::string text;
    append_error(text, ErrorShape::messages,
                 {.status = status, .message = "x", .type = "server_error", .code = "c", .request_id = "r"});
    return text;
  };
  const auto expected = [](const std::string& type) {
    return R"({"type":"error","error":{"type":")" + type + R"(","message":"x"},"request_id":"r"})";
  };
  for (const auto& [status, type] : std::vector<std::pair<uint16_t, std::string>>{{400, "invalid_request_error"},
                                                                                  {401, "authentication_error"},
                                                                                  {403, "permission_error"},
                                                                                  {404, "not_found_error"},
                                                                                  {408, "invalid_request_error"},
                                                                                  {413, "request_too_large"},
                                                                                  {429, "rate_limit_error"},
                                                                                  {500, "api_error"},
                                                                                  {502, "api_error"},
                                                                                  {503, "overloaded_error"},
                                                                                  {504, "timeout_error"}}) {
    CHECK(message(status) == expected(type));
  }
}

TEST_CASE("an error event has the shape that the clients of its API read") {
  const ErrorText error{.status = 502, .message = "m", .type = "server_error", .code = "c", .request_id = "r"};
  const auto event = [&](ErrorShape shape) {
    std::string out;
    append_error_event(out, shape, error, 7);
    return out;
  };
  const std::string object = R"({"message":"m","type":"server_error","param":null,"code":"c"})";
  CHECK(event(ErrorShape::openai) == R"(data: {"error":)" + object + "}\n\n");
  CHECK(event(ErrorShape::responses) ==
        "event: error\ndata: "
        R"({"type":"error","code":"c","message":"m","param":null,"sequence_number":7,"error":)" +
            object + "}\n\n");
  CHECK(event(ErrorShape::messages) ==
        "event: error\ndata: "
        R"({"type":"error","error":{"type":"api_error","message":"m"},"request_id":"r"})"
        "\n\n");
}

TEST_CASE("the path decides the shape of an error") {
  CHECK(error_shape_of("/v1/messages") == ErrorShape::messages);
  CHECK(error_shape_of("/anthropic/v1/messages/?beta=true") == ErrorShape::messages);
  CHECK(error_shape_of("/v1/messages/count_tokens") == ErrorShape::messages);
  CHECK(error_shape_of("/v1/responses") == ErrorShape::responses);
  for (const char* path : {"/v1/chat/completions", "/v1/messages2", "/", "", "/x?a=/v1/messages"}) {
    CAPTURE(path);
    CHECK(error_shape_of(path) == ErrorShape::openai);
  }
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
