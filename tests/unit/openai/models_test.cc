#include "penstock/openai/models.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace penstock::openai {
namespace {

TEST_CASE("a model list is read in order, with what can be read of each model") {
  const auto models = parse_models(
      R"({"object":"list","data":[{"id":"base","object":"model","created":1,"root":"/w","permission":[{"id":"p"}],)"
      R"("max_model_len":4096},{"max_model_len":-1,"created":"x","object":"model","parent":"base","owned_by":7,)"
      R"("root":null,"id":"lora-\u0031"}]})");
  REQUIRE(models.ok());
  REQUIRE(models.value().size() == 2);
  CHECK(models.value()[0] == ModelInfo{.id = "base", .created = 1, .root = "/w", .max_model_len = 4096});
  CHECK(models.value()[1] == ModelInfo{.id = "lora-1", .parent = "base"});
  const auto none = parse_models(R"({"data":[]})");
  REQUIRE(none.ok());
  CHECK(none.value().empty());
}

TEST_CASE("an answer that is not a model list is an error with a reason") {
  for (const char* json : {"", "[]", "{}", "null", R"({"data":{}})", R"({"data":[)", R"({"data":["id"]})",
                           R"({"data":[{"name":"x"}]})", R"({"data":[{"id":7}]})", R"({"data":[{"id":"a"},{"id":"b")",
                           R"({"data":[{"id":"a"}]} trailing)", R"({"error":{"message":"x"}})", "<html>", "\xFF"}) {
    CAPTURE(json);
    const auto ids = parse_models(json);
    REQUIRE_FALSE(ids.ok());
    CHECK_FALSE(ids.error().text.empty());
  }
}

TEST_CASE("a model list beyond its limits is an error") {
  CHECK_FALSE(parse_models(R"({"data":[{"id":")" + std::string(models_answer_bytes_max, 'x') + R"("}]})").ok());
  std::string many = R"({"data":[{"id":"0"})";
  for (size_t i = 1; i < models_max; ++i) many += R"(,{"id":"x"})";
  const auto full = parse_models(many + "]}");
  REQUIRE(full.ok());
  CHECK(full.value().size() == models_max);
  CHECK_FALSE(parse_models(many + R"(,{"id":"x"}]})").ok());
}

TEST_CASE("a model list that was built reads back") {
  std::string out;
  const std::vector<ModelInfo> models = {{"a \"b\"", 1700000000, "penstock", "", ""},
                                         {"lora", 0, "x", "base", "base", 512}};
  append_models(out, models);
  CHECK(
      out ==
      R"({"object":"list","data":[{"id":"a \"b\"","object":"model","created":1700000000,"owned_by":"penstock",)"
      R"("root":null,"parent":null,"max_model_len":null},{"id":"lora","object":"model","created":0,"owned_by":"x","root":"base",)"
      R"("parent":"base","max_model_len":512}]})");
  const auto read = parse_models(out);
  REQUIRE(read.ok());
  CHECK(read.value() == models);
  out.clear();
  append_models(out, {});
  CHECK(out == R"({"object":"list","data":[]})");
}

}  // namespace
}  // namespace penstock::openai
