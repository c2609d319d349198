// Objects for tests, from JSON text.
#pragma once

#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include "penstock/objects/decode.h"
#include "penstock/objects/resolve.h"

namespace penstock::objects {

inline std::string numbered(const char* word, int64_t number) {
  return std::string(word).append(std::to_string(number));
}

inline Object object_of(Kind kind, std::string_view json) {
  Decoder decoder;
  Result<Object, DecodeError> object = decoder.decode(kind, json);
  if (!object) FAIL(object.error().text());
  return std::move(object).value();
}

inline Object pod(const std::string& name, const std::string& uid, const std::string& ip, bool ready = true,
                  bool deleting = false, const std::string& app = "vllm", const std::string& version = "1") {
  return object_of(Kind::pod, R"({"metadata":{"namespace":"default","name":")" + name + R"(","uid":")" + uid +
                                  R"(","resourceVersion":")" + version + "\"" +
                                  (deleting ? R"(,"deletionTimestamp":"2025-01-01T00:00:00Z")" : "") +
                                  R"(,"labels":{"app":")" + app + R"("}},"status":{"phase":"Running","podIP":")" + ip +
                                  R"(","conditions":[{"type":"Ready","status":")" + (ready ? "True" : "False") +
                                  R"("}]}})");
}

inline Object inference_pool(const std::string& name, const std::string& app = "vllm", int generation = 1) {
  return object_of(Kind::inference_pool, R"({"metadata":{"namespace":"default","name":")" + name +
                                             R"(","generation":)" + std::to_string(generation) +
                                             R"(},"spec":{"selector":{"matchLabels":{"app":")" + app +
                                             R"("}},"targetPorts":[{"number":8000}]}})");
}

}  // namespace penstock::objects
