// What the paths of model servers mean: which API a request uses, whether it costs the server's GPU work, whether its
// body is JSON, and whether clients may reach it by default. One table of the inference, tokenizer, health and version
// paths of vLLM, SGLang, TensorRT-LLM, llama.cpp and TGI. Everything that controls or inspects a server (/shutdown,
// /sleep, /v1/load_lora_adapter, /metrics, /docs ...) is not in it. Paths must be canonical (base/url_path.h). Pure;
// any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "penstock/openai/request.h"

namespace penstock::openai {

struct PathInfo {
  // How its body is read. By the end of the path after "/v1": "/openai/v1/completions" is completions as well, if
  // clients may reach it. Also the names without "/v1" that llama.cpp has. `other` for everything else.
  Api api = Api::other;
  bool listed = false;  // in the table, with this method
  // Costs a model server work, as far as is known, so it waits for room like all others: POST, PUT and PATCH, but for
  // listed paths that cost next to nothing (tokenizers, cancellation).
  bool costs_work = false;
  bool json = false;  // the body is a JSON object, whatever type it is announced as; or it is empty
};
// `target` may have a query.
PathInfo path_info(std::string_view method, std::string_view target);

// The id in "/v1/responses/{id}" and in paths below it; "" for all other paths and for what only looks like an id
// ("compact", "input_tokens").
std::string_view response_id_in_path(std::string_view target);

// The listed paths, one per line with their methods, for documentation and tests.
std::string describe_listed_paths();
// The path of a known engine by which a client controls or inspects a server, that satisfies `reaches`; "" if none
// does. To warn of settings that open them.
template <typename Reaches>
std::string_view first_control_path(Reaches reaches);

// Some of them, each with its own effect: see first_control_path().
inline constexpr std::string_view control_paths[] = {
    "/shutdown",
    "/sleep",
    "/wake_up",
    "/v1/load_lora_adapter",
    "/v1/unload_lora_adapter",
    "/load_lora_adapter",
    "/collective_rpc",
    "/reset_prefix_cache",
    "/flush_cache",
    "/update_weights_from_disk",
    "/start_profile",
    "/abort_requests",
    "/release_memory_occupation",
    "/slots",
    "/server_info",
    "/get_server_info",
    "/metrics",
    "/openapi.json",
    "/docs",
};

template <typename Reaches>
std::string_view first_control_path(Reaches reaches) {
  for (const std::string_view path : control_paths) {
    if (reaches(path)) return path;
  }
  return {};
}

}  // namespace penstock::openai
