#include "sim/routes.h"

namespace penstock::sim {
namespace {

struct Path {
  std::string_view path;
  http::Method method;
  Route route;
};
constexpr Path kPaths[] = {
    {"/v1/chat/completions", http::Method::post, {Page::inference, Api::chat}},
    {"/v1/completions", http::Method::post, {Page::inference, Api::completions}},
    {"/v1/responses", http::Method::post, {Page::inference, Api::responses}},
    {"/v1/messages", http::Method::post, {Page::inference, Api::messages}},
    {"/v1/embeddings", http::Method::post, {Page::inference, Api::embeddings}},
    {"/v1/rerank", http::Method::post, {Page::inference, Api::rerank}},
    {"/v1/score", http::Method::post, {Page::inference, Api::score}},
    {"/metrics", http::Method::get, {Page::metrics}},
    {"/health", http::Method::get, {Page::health}},
    {"/ping", http::Method::get, {Page::health}},
    {"/ping", http::Method::post, {Page::health}},
    {"/v1/models", http::Method::get, {Page::models}},
    {"/version", http::Method::get, {Page::version}},
    {"/reset_prefix_cache", http::Method::post, {Page::reset_cache}},
    {"/rerank", http::Method::post, {Page::inference, Api::rerank}},
    {"/v2/rerank", http::Method::post, {Page::inference, Api::rerank}},
    {"/score", http::Method::post, {Page::inference, Api::score}},
    {"/tokenize", http::Method::post, {Page::local, Api::tokenize}},
    {"/detokenize", http::Method::post, {Page::local, Api::detokenize}},
    {"/v1/load_lora_adapter", http::Method::post, {Page::local, Api::load_lora}},
    {"/v1/unload_lora_adapter", http::Method::post, {Page::local, Api::unload_lora}},
};

}  // namespace

Route route_of(std::string_view path, http::Method method, bool tokenizer) {
  const http::Method wanted = method == http::Method::head ? http::Method::get : method;
  Route route;
  for (const Path& known : kPaths) {
    if (path != known.path) continue;
    if (!tokenizer && (known.route.api == Api::tokenize || known.route.api == Api::detokenize)) continue;
    if (known.method == wanted) return known.route;
    route.page = Page::wrong_method;
  }
  return route;
}

}  // namespace penstock::sim
