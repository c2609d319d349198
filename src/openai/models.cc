#include "penstock/openai/models.h"

#include <simdjson.h>

#include "penstock/base/text.h"
#include "penstock/openai/error_body.h"

namespace penstock::openai {
namespace {

using Element = simdjson::simdjson_result<simdjson::ondemand::value>;

void read_text(Element& element, const char* key, std::string& out) {
  std::string_view text;
  if (!element[key].get_string().get(text)) out = text;
}

// 0 for what is no whole number between 1 and `most`.
int64_t read_count(Element& element, const char* key, int64_t most) {
  int64_t number = 0;
  return !element[key].get_int64().get(number) && number > 0 && number <= most ? number : 0;
}

}  // namespace

Result<std::vector<ModelInfo>> parse_models(std::string_view json) {
  if (json.size() > models_answer_bytes_max) return Message{"the model list is too long"};
  const simdjson::padded_string padded(json);
  simdjson::ondemand::parser parser;
  simdjson::ondemand::document document;
  simdjson::ondemand::array data;
  if (parser.iterate(padded).get(document) || document["data"].get_array().get(data)) {
    return Message{"the model list is not a JSON object with an array \"data\""};
  }
  std::vector<ModelInfo> models;
  for (auto element : data) {
    std::string_view id;
    if (element["id"].get_string().get(id)) return Message{"an entry of the model list has no string \"id\""};
    if (models.size() == models_max) return Message{"the model list has too many entries"};
    ModelInfo& model = models.emplace_back(ModelInfo{.id = std::string(id)});
    model.created = read_count(element, "created", INT64_MAX);
    read_text(element, "owned_by", model.owned_by);
    read_text(element, "root", model.root);
    read_text(element, "parent", model.parent);
    model.max_model_len = static_cast<uint32_t>(read_count(element, "max_model_len", UINT32_MAX));
  }
  return models;
}

void append_model(std::string& out, const ModelInfo& model) {
  out += R"({"id":)";
  append_json_string(out, model.id);
  out += R"(,"object":"model","created":)";
  out += std::to_string(model.created);
  out += R"(,"owned_by":)";
  append_json_string(out, model.owned_by);
  out += R"(,"root":)";
  append_json_string_or_null(out, model.root);
  out += R"(,"parent":)";
  append_json_string_or_null(out, model.parent);
  out += R"(,"max_model_len":)";
  out += model.max_model_len > 0 ? std::to_string(model.max_model_len) : "null";
  out += '}';
}

void append_models(std::string& out, std::span<const ModelInfo> models) {
  out += R"({"object":"list","data":[)";
  bool first = true;
  for (const ModelInfo& model : models) {
    if (!first) out += ',';
    first = false;
    append_model(out, model);
  }
  out += "]}";
}

}  // namespace penstock::openai
