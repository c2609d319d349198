#include "penstock/openai/paths.h"

#include <doctest/doctest.h>

#include <fstream>
#include <iterator>
#include <string>
#include <utility>

#include "penstock/openai/response_id.h"

namespace penstock::openai {
namespace {

Api api_of(std::string_view target) {
  return path_info("POST", target).api;
}

TEST_CASE("an API is known by the end of its path, without query and one trailing slash") {
  CHECK(api_of("/v1/completions") == Api::completions);
  CHECK(api_of("/v1/chat/completions") == Api::chat_completions);
  CHECK(api_of("/chat/completions") == Api::chat_completions);
  CHECK(api_of("/v1/chat/completions/") == Api::chat_completions);
  CHECK(api_of("/v1/chat/completions?api-version=1/v1/completions") == Api::chat_completions);
  CHECK(api_of("/openai/v1/completions?") == Api::completions);
  CHECK(api_of("/v1/responses") == Api::responses);
  CHECK(api_of("/v1/conversations") == Api::conversations);
  CHECK(api_of("/v1/embeddings") == Api::embeddings);
  CHECK(api_of("/v1/messages") == Api::messages);
  for (const char* path :
       {"", "/", "?", "/v1", "/v1/", "/v1/models", "/completions", "/v1/completions/x", "/V1/completions",
        "/v1/xcompletions", "/v1/messages/count_tokens", "/tokenize", "/x?/v1/completions"}) {
    CAPTURE(path);
    CHECK(api_of(path) == Api::other);
  }
  CHECK(path_info("PUT", "/v1/completions").api == Api::completions);
  CHECK(path_info("GET", "/v1/completions").api == Api::other);
}

TEST_CASE("what clients may reach by default depends on path and method") {
  const std::pair<const char*, const char*> listed[] = {
      {"POST", "/v1/completions"},
      {"POST", "/v1/completions/?x"},
      {"POST", "/v1/audio/transcriptions"},
      {"GET", "/v1/models"},
      {"HEAD", "/v1/models/org/name"},
      {"GET", "/health"},
      {"GET", "/version"},
      {"POST", "/tokenize"},
      {"POST", "/v1/messages/count_tokens"},
      {"GET", "/v1/responses/resp_1"},
      {"DELETE", "/v1/responses/r"},
      {"POST", "/v1/responses/resp_1/cancel"},
      {"GET", "/v1/responses/r/input_items?after=x"},
      {"OPTIONS", "/v1/chat/completions"},
      {"PUT", "/generate"},
  };
  for (const auto& [method, path] : listed) {
    INFO(method << " " << std::string(path));
    CHECK(path_info(method, path).listed);
  }
  const std::pair<const char*, const char*> others[] = {
      {"GET", "/v1/completions"},
      {"DELETE", "/v1/models/m"},
      {"POST", "/v1/models"},
      {"POST", "/health"},
      {"POST", "/v1/responses/r"},
      {"POST", "/v1/responses/r/other"},
      {"GET", "/v1/responses/r/s/t"},
      {"OPTIONS", "/shutdown"},
      {"GET", "/"},
      {"POST", "/V1/completions"},
      {"POST", "/openai/v1/completions"},
      {"OPTIONS", "*"},
      {"POST", "/v1/completions;x"},
      {"TRACE", "/v1/completions"},
      {"GET", "/v1"},
  };
  for (const auto& [method, path] : others) {
    INFO(method << " " << std::string(path));
    CHECK_FALSE(path_info(method, path).listed);
  }
  for (const std::string_view path : control_paths) {
    for (const char* method : {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}) {
      INFO(method << " " << std::string(path));
      CHECK_FALSE(path_info(method, path).listed);
    }
  }
}

TEST_CASE("the listed paths are those of the documentation") {
  std::ifstream in(PATHS_PAGE);
  REQUIRE(in.good());
  const std::string page(std::istreambuf_iterator<char>(in), {});
  std::string listed = describe_listed_paths();
  CHECK_MESSAGE(page.find("```text\n" + listed + "```") != std::string::npos, "docs/PATHS.md must have this list:\n"
                                                                                  << listed);
}

TEST_CASE("whatever may cost work waits, and what is cheap does not") {
  for (const auto& [method, path] : {std::pair{"POST", "/v1/completions"},
                                     {"PUT", "/v1/completions"},
                                     {"POST", "/v1/rerank"},
                                     {"POST", "/v1/audio/transcriptions"},
                                     {"POST", "/nobody/knows"},
                                     {"PATCH", "/nobody/knows"},
                                     {"PUT", "/x"}}) {
    INFO(method << " " << std::string(path));
    CHECK(path_info(method, path).costs_work);
  }
  for (const auto& [method, path] : {std::pair{"GET", "/v1/completions"},
                                     {"HEAD", "/x"},
                                     {"POST", "/tokenize"},
                                     {"DELETE", "/v1/responses/r"},
                                     {"POST", "/v1/responses/r/cancel"},
                                     {"OPTIONS", "/v1/completions"},
                                     {"GET", "/nobody/knows"}}) {
    INFO(method << " " << std::string(path));
    CHECK_FALSE(path_info(method, path).costs_work);
    CHECK_FALSE(path_info(method, path).json);
  }
  CHECK(path_info("POST", "/v1/rerank").json);
  CHECK(path_info("POST", "/openai/v1/completions").json);
  CHECK_FALSE(path_info("POST", "/v1/audio/transcriptions").json);
  CHECK_FALSE(path_info("POST", "/nobody/knows").json);
}

TEST_CASE("the id of a response is found in its paths") {
  CHECK(response_id_in_path("/v1/responses/resp_1") == "resp_1");
  CHECK(response_id_in_path("/v1/responses/resp_1/?stream=true") == "resp_1");
  CHECK(response_id_in_path("/v1/responses/resp_1/cancel") == "resp_1");
  CHECK(response_id_in_path("/v1/responses/resp_1?x=/y") == "resp_1");
  for (const char* path : {"/v1/responses", "/v1/responses/", "/v1/responses?x", "/v1/responsesx/y",
                           "/x/v1/responses/r", "/v1/responses/compact", "/v1/responses/input_tokens", "/"}) {
    CAPTURE(path);
    CHECK(response_id_in_path(path).empty());
  }
}

TEST_CASE("the id of a response is found at the beginning of its answer") {
  CHECK(response_id(R"({"id":"resp_1","object":"response"})", false) == "resp_1");
  CHECK(response_id(R"({ "object" : "response", "metadata":{"id":"no"}, "x":[{"id":"no"}], "id" : "resp_2" })",
                    false) == "resp_2");
  CHECK(response_id(R"({"a":"\"id\":\"no\"","id":"resp_3")", false) == "resp_3");
  CHECK(response_id(R"({"type":"response.created","response":{"id":"resp_4","x":1}})", true) == "resp_4");
  CHECK(response_id(R"({"id":"no","response":{"metadata":{"id":"no"},"id":"resp_5")", true) == "resp_5");
  CHECK(response_id(R"({"item":{"id":"no"},"response":{"error":null},"other":{"id":"no"}})", true) == "");
  for (const char* text :
       {"", "{", "{\"id", "{\"id\"", "{\"id\":", "{\"id\":\"resp", "{\"id\":5}", "{\"id\":null}", "[\"id\",\"x\"]",
        "{\"x\":\"id\",\"y\":\"z\"}", "{\"id\":\"a\\u0062\"}", "}{\"id\":\"x\"}"}) {
    CAPTURE(text);
    CHECK(response_id(text, false) == "");
  }
  CHECK(response_id("{\"id\":\"" + std::string(257, 'x') + "\"}", false) == "");
}

}  // namespace
}  // namespace penstock::openai
