#include "penstock/openai/models.h"

#include <simdjson.h>

#include "penstock/openai/error_body.h"

namespace penstock::openai {
Result<std::vector<std::string>> parse_models(std::string_view json, std::vector<std::string>* adapters) {
  if (json.size() > models_answer_bytes_max) return Message{"the model list is too long"};
  const simdjson::padded_string padded(json);
  simdjson::ondemand::parser parser;
  simdjson::ondemand::document document;
  simdjson::ondemand::array data;
  if (parser.iterate(padded).get(document) || document["data"].get_array().get(data)) {
    return Message{"the model list is not a JSON object with an array \"data\""};
  }
  std::vector<std::string> ids;
  for (auto element : data) {
    std::string_view id;
    if (element["id"].get_string().get(id)) return Message{"an entry of the model list has no string \"id\""};
    if (ids.size() == models_max) return Message{"the model list has too many entries"};
    ids.emplace_back(id);
    std::string_view parent;
    if (adapters != nullptr && !element["parent"].get_string().get(parent)) adapters->push_back(ids.back());
  }
  return ids;
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
