#include "penstock/objects/decode.h"

#include <cstring>
#include <vector>

#include "tests/unit/objects/build.h"

namespace penstock::objects {
namespace {

std::string error_of(Kind kind, std::string_view json, Strictness strictness = Strictness::lenient) {
  Decoder decoder(strictness);
  const auto object = decoder.decode(kind, json);
  return object ? "" : object.error().text();
}

TEST_CASE("unknown fields, nulls and missing lists are fine") {
  CHECK(error_of(Kind::pod, R"({"metadata":{"name":"a","labels":null,"managedFields":[{"x":{"f:y":{}}}]},
    "spec":null,"status":{"conditions":null,"podIP":null,"new":[[{}]]},"later":1})") == "");
  CHECK(error_of(Kind::endpoint_slice, R"({"metadata":{"name":"a"},"endpoints":null,"ports":null})") == "");
  CHECK(error_of(Kind::endpoint_slice, R"({"metadata":{"name":"a"},"endpoints":[null,{"addresses":null}],
    "ports":[{"port":null,"name":null}]})") == "");
  CHECK(error_of(Kind::http_route, R"({"metadata":{"name":"a"}})") == "");
}

TEST_CASE("features of a GatewayClass are names, or objects that have one") {
  for (const char* list : {R"(["A","B"])", R"([{"name":"A","new":[]},null,{"name":"B"}])"}) {
    const Object object = object_of(Kind::gateway_class, R"({"metadata":{"name":"a"},"spec":{"controllerName":"c"},)"
                                                         R"("status":{"supportedFeatures":)" +
                                                             std::string(list) + "}}");
    CHECK(std::get<GatewayClass>(object).status.features == std::vector<std::string>{"A", "B"});
  }
  CHECK(error_of(Kind::gateway_class, R"({"metadata":{"name":"a"},"status":{"supportedFeatures":[1]}})") != "");
}

TEST_CASE("wrong types are errors that name the field") {
  CHECK(error_of(Kind::pod, R"({"metadata":{"name":"a","labels":[]}})") ==
        "metadata.labels is a list; expected an object");
  CHECK(error_of(Kind::pod, R"({"metadata":{"name":1}})") == "metadata.name is a number; expected text (in quotes)");
  CHECK(error_of(Kind::pod, R"({"metadata":{"name":"a"},"status":{"conditions":[{"type":"a"},{"type":{}}]}})") ==
        "status.conditions[1].type is an object; expected text");
  CHECK(error_of(Kind::objective, R"({"metadata":{"name":"a"},"spec":{"poolRef":{"name":"p"},"priority":1.5}})") ==
        "spec.priority is not a whole number");
  CHECK(
      error_of(Kind::objective, R"({"metadata":{"name":"a"},"spec":{"poolRef":{"name":"p"},"priority":3000000000}})") ==
      "spec.priority is 3000000000; expected a whole number from -2147483648 to 2147483647");
  CHECK(error_of(Kind::pod, R"({"metadata":{}})") == "metadata.name is missing or empty; expected the object's name");
  CHECK(error_of(Kind::pod, R"({"metadata":{"name":"a","creationTimestamp":"yesterday"}})") ==
        "metadata.creationTimestamp is not a time; expected one like 2025-01-31T12:00:00Z");
}

TEST_CASE("what is not JSON is an error") {
  for (const char* text :
       {"", "null", "[]", "1", "{", R"({"metadata")", R"({"metadata":{"name":"a)", R"({"metadata":{"name":"\x"}})",
        R"({"metadata":{"name":"a"},})", "{\"metadata\":{\"name\":\"\xff\"}}", R"({"metadata":tru})"}) {
    INFO(text);
    CHECK(error_of(Kind::pod, text) != "");
  }
}

TEST_CASE("many problems of one object are all told, but not without limit") {
  std::string json = R"({"metadata":{"name":"a"},"status":{"conditions":[)";
  for (int i = 0; i < 500; ++i) json += R"({"type":1},)";
  json += "{}]}}";
  Decoder decoder;
  const auto object = decoder.decode(Kind::pod, json);
  REQUIRE(!object.ok());
  CHECK(object.error().problems.size() == 100);
}

TEST_CASE("unknown keys are mistakes only in files and only where the schema is known whole") {
  const char* const pool =
      R"({"metadata":{"name":"a","x":1},"spec":{"selector":{"matchLabels":{"a":"b"}},"targetPorts":[{"number":1,"nmae":2}]}})";
  CHECK(error_of(Kind::inference_pool, pool) == "");
  CHECK(error_of(Kind::inference_pool, pool, Strictness::strict) ==
        "spec.targetPorts[0].nmae is not a known key (known here: number)");
  CHECK(error_of(Kind::pod, R"({"metadata":{"name":"a"},"spec":{"x":1}})", Strictness::strict) == "");
}

TEST_CASE("the fields of a pod") {
  const Object object = object_of(Kind::pod, R"({"status":{"phase":"Running","podIP":"10.0.0.1","conditions":[
    {"type":"Ready","status":"True"}]},"spec":{"nodeName":"n"},"metadata":{"uid":"u","namespace":"ns","name":"p",
    "resourceVersion":"7","generation":3,"creationTimestamp":"2025-01-01T00:00:01Z","deletionTimestamp":"x",
    "labels":{"b":"2","a":"1","b":"3"},"annotations":{"other":"x","llm-d.ai/active-ports":"1"}}})");
  const Pod& p = std::get<Pod>(object);
  CHECK(p.meta.ns == "ns");
  CHECK(p.meta.uid == "u");
  CHECK(p.meta.resource_version.text == "7");
  CHECK(p.meta.generation == 3);
  CHECK(p.meta.created == 1'735'689'601'000'000'000);
  CHECK(p.meta.deleting);
  CHECK(p.meta.labels == Labels{{"a", "1"}, {"b", "3"}});
  CHECK(p.meta.annotations == Labels{{"llm-d.ai/active-ports", "1"}});
  CHECK(p.ip == "10.0.0.1");
  CHECK(p.node == "n");
  CHECK(p.ready);
}

TEST_CASE("text with padding behind it is read in place, whatever the padding holds") {
  const std::string json = R"({"metadata":{"name":"a"}})";
  std::vector<char> bytes(json.size() + Decoder::padding, '}');
  std::memcpy(bytes.data(), json.data(), json.size());
  Decoder decoder;
  for (int i = 0; i < 2; ++i) {  // the second time with what the first left
    const auto object = decoder.decode_padded(Kind::pod, {bytes.data(), json.size()});
    REQUIRE(object.ok());
    CHECK(meta_of(*object).name == "a");
  }
}

TEST_CASE("times") {
  CHECK(parse_timestamp("1970-01-01T00:00:01Z") == 1'000'000'000);
  CHECK(parse_timestamp("1970-01-01T01:00:00.25+01:00") == 250'000'000);
  CHECK(parse_timestamp("2024-02-29T00:00:00-00:30") == parse_timestamp("2024-02-29T00:30:00Z"));
  CHECK(parse_timestamp("0001-01-01T00:00:00Z") == 0);
  for (const char* text : {"", "2025", "2025-13-01T00:00:00Z", "2025-02-30T00:00:00Z", "2025-01-01T00:00:00",
                           "2025-01-01T00:00:00Zx", "2025-01-01 00:00:00Z", "2025-01-01T00:00:00+0100"}) {
    INFO(text);
    CHECK(!parse_timestamp(text));
  }
  CHECK(format_timestamp(1'709'164'800) == "2024-02-29T00:00:00Z");
}

TEST_CASE("kinds are known by group and name") {
  CHECK(kind_of("v1", "Pod") == Kind::pod);
  CHECK(kind_of("gateway.networking.k8s.io/v1beta1", "HTTPRoute") == Kind::http_route);
  CHECK(kind_of("inference.networking.x-k8s.io/v1alpha2", "InferenceObjective") == Kind::objective_legacy);
  CHECK(!kind_of("serving.knative.dev/v1", "Service"));
  for (size_t i = 0; i < kind_count; ++i) {
    const Kind kind = static_cast<Kind>(i);
    CHECK(kind_of(api_version(kind), api_of(kind).name) == kind);
  }
}

}  // namespace
}  // namespace penstock::objects
