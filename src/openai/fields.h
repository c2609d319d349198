// The top-level fields of a request body that mean something to the gateway, by API.
#pragma once

#include <cstdint>
#include <string_view>

#include "penstock/openai/request.h"

namespace penstock::openai {

enum class Field : uint8_t {
  model,
  stream,
  stream_options,
  max_tokens,
  max_completion_tokens,
  max_output_tokens,
  n,
  cache_salt,
  session_id,
  user,
  prompt_cache_key,
  metadata,
  previous_response,
  lead,  // instructions or system
  tools,
  documents,
  chat_template,
  chat_template_kwargs,
  prompt,    // a string, strings, or token ids
  messages,  // an array of messages
  items,     // a string, or an array of anything
  unknown,
};

// What a top-level key means in a body of `api`.
Field field_of(std::string_view key, Api api);
// The key that the prompt of `api` has in error messages; "" for Api::other, which needs none.
std::string_view prompt_name(Api api);

// Whether a part of a message's content is image, audio or video: by its "type", or by a key that it has.
bool is_media_type(std::string_view type);
bool is_media_key(std::string_view key);

}  // namespace penstock::openai
