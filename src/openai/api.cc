#include "penstock/openai/request.h"

namespace penstock::openai {

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
  previous_response = 0;
  prompt_bytes = 0;
  prompt_token_ids = 0;
}

}  // namespace penstock::openai
