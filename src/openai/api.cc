#include <array>
#include <string_view>

#include "penstock/openai/request.h"

namespace penstock::openai {
namespace {

struct Suffix {
  std::string_view text;
  Api api;
};
// No entry is a suffix of another, since each begins with "/v1".
constexpr std::array<Suffix, 6> suffixes = {{
    {"/v1/completions", Api::completions},
    {"/v1/chat/completions", Api::chat_completions},
    {"/v1/responses", Api::responses},
    {"/v1/conversations", Api::conversations},
    {"/v1/embeddings", Api::embeddings},
    {"/v1/messages", Api::messages},
}};

}  // namespace

Api api_of(std::string_view path) {
  path = path.substr(0, path.find('?'));
  if (path.ends_with('/')) path.remove_suffix(1);
  for (const Suffix& suffix : suffixes) {
    if (path.ends_with(suffix.text)) return suffix.api;
  }
  return Api::other;
}

const char* to_string(Api api) {
  switch (api) {
    case Api::completions:
      return "completions";
    case Api::chat_completions:
      return "chat_completions";
    case Api::responses:
      return "responses";
    case Api::conversations:
      return "conversations";
    case Api::embeddings:
      return "embeddings";
    case Api::messages:
      return "messages";
    case Api::other:
      return "other";
  }
  return "other";
}

void Request::clear() {
  api = Api::other;
  model.clear();
  model_value = Range{};
  stream = include_usage = continuous_usage = false;
  max_tokens.reset();
  n = 1;
  has_tools = multimodal = false;
  media.clear();
  cache_salt.clear();
  session.clear();
  prompt.clear();
  prompt_bytes = 0;
  prompt_token_ids = 0;
}

}  // namespace penstock::openai
