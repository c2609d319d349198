// What the paths of the simulated server stand for. Pure.
#pragma once

#include <cstdint>
#include <string_view>

#include "penstock/http/head.h"
#include "sim/request.h"

namespace penstock::sim {

enum class Page : uint8_t { not_found, wrong_method, health, version, models, metrics, reset_cache, inference, local };
struct Route {
  Page page = Page::not_found;
  Api api = Api::completions;  // inference: answered by the engine; local: answered from the body alone
};
// Without a `tokenizer` there are no paths that turn text into token ids and back.
Route route_of(std::string_view path, http::Method method, bool tokenizer);

}  // namespace penstock::sim
