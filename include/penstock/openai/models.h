// The model list (GET /v1/models): read from a model server's answer, and built for the pool's own. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/base/result.h"

namespace penstock::openai {

struct ModelInfo {
  std::string id;
  int64_t created = 0;  // seconds since 1970
  std::string owned_by;
  std::string root;            // what is really served; "" is written as null
  std::string parent;          // base model of an adapter; "" is written as null
  uint32_t max_model_len = 0;  // tokens; 0 is written as null
  bool operator==(const ModelInfo&) const = default;
};

// Limits of an answer that is believed; more is an error, not a longer list.
inline constexpr size_t models_answer_bytes_max = 4 * 1024 * 1024;
inline constexpr size_t models_max = 16 * 1024;

// The entries of {"object":"list","data":[{"id":...},...]}, in order. What is missing beside the id, or is not of its
// type, stays zero or "". Needs no padding behind `json`.
Result<std::vector<ModelInfo>> parse_models(std::string_view json);
// Appends {"id":...,"object":"model",...}.
void append_model(std::string& out, const ModelInfo& model);
// Appends {"object":"list","data":[...]}.
void append_models(std::string& out, std::span<const ModelInfo> models);

}  // namespace penstock::openai
