// The lists of models that the gateway answers itself: GET and HEAD of /v1/models and /v1/models/{id}. Pure.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/endpoints/snapshot.h"
#include "penstock/openai/models.h"

namespace penstock::proxy {

// What a request for models asks for: "" all of them, else the one of this name. Nothing: it asks for something else.
std::optional<std::string> models_asked_for(std::string_view method, std::string_view path);

// The parameter `model` of a target's query; "": there is none.
std::string model_in_query(std::string_view target);

// Names that clients may ask these pools for, each once: aliases that lead somewhere, then what the endpoints list.
std::vector<std::string_view> model_names(std::span<const endpoints::Pool* const> pools);
// One of these names as the list shows it: what its endpoints say. Where they differ, the shortest context and the
// earliest time count, and for the rest the first that says it. An alias says nothing of what stands behind it.
openai::ModelInfo model_info(std::span<const endpoints::Pool* const> pools, std::string_view name);

}  // namespace penstock::proxy
