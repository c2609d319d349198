#include "fields.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>

namespace penstock::openai {
namespace {

constexpr uint8_t bit(Api api) {
  return static_cast<uint8_t>(1U << static_cast<unsigned>(api));
}
constexpr uint8_t everywhere = 0xFF;
constexpr uint8_t chats = bit(Api::chat_completions) | bit(Api::embeddings) | bit(Api::other);

struct FieldName {
  std::string_view name;
  Field field;
  uint8_t apis;  // bits of the Apis in which it means this
};
constexpr FieldName field_names[] = {
    {"model", Field::model, everywhere},
    {"messages", Field::messages, chats | bit(Api::messages)},
    {"stream", Field::stream, everywhere},
    {"stream_options", Field::stream_options, everywhere},
    {"prompt", Field::prompt, bit(Api::completions) | bit(Api::other)},
    {"prompt_embeds", Field::prompt, bit(Api::completions)},
    {"input", Field::prompt, bit(Api::embeddings)},
    {"input", Field::items, bit(Api::responses) | bit(Api::other)},
    {"items", Field::items, bit(Api::conversations)},
    {"max_tokens", Field::max_tokens, everywhere},
    {"max_completion_tokens", Field::max_completion_tokens, everywhere},
    {"max_output_tokens", Field::max_output_tokens, everywhere},
    {"n", Field::n, everywhere},
    {"tools", Field::tools, chats | bit(Api::responses) | bit(Api::messages)},
    {"system", Field::lead, bit(Api::messages)},
    {"instructions", Field::lead, bit(Api::responses)},
    {"documents", Field::documents, bit(Api::chat_completions)},
    {"chat_template", Field::chat_template, chats},
    {"chat_template_kwargs", Field::chat_template_kwargs, chats},
    {"cache_salt", Field::cache_salt, everywhere},
    {"session_id", Field::session_id, everywhere},
    {"user", Field::user, everywhere},
    {"prompt_cache_key", Field::prompt_cache_key, everywhere},
    {"previous_response_id", Field::previous_response, bit(Api::responses)},
    {"metadata", Field::metadata, bit(Api::messages)},
};

// A look-up compares only with the names that are as long.
constexpr auto names_by_length = [] {
  std::array<FieldName, std::size(field_names)> names{};
  std::copy(std::begin(field_names), std::end(field_names), names.begin());
  std::sort(names.begin(), names.end(),
            [](const FieldName& a, const FieldName& b) { return a.name.size() < b.name.size(); });
  return names;
}();
constexpr size_t name_max = names_by_length.back().name.size();

// For each length the first of names_by_length that is not shorter.
constexpr auto first_of_length = [] {
  std::array<uint8_t, name_max + 2> first{};
  for (size_t length = 0; length < first.size(); ++length) {
    while (first[length] < names_by_length.size() && names_by_length[first[length]].name.size() < length) {
      ++first[length];
    }
  }
  return first;
}();

// What a part of a message's content is called, or what it holds, when it is not text.
constexpr std::string_view media_types[] = {
    "image_url", "input_image", "image",       "image_pil", "image_embeds", "input_audio",        "audio_url",
    "audio",     "video_url",   "input_video", "video",     "audio_embeds", "computer_screenshot"};
constexpr std::string_view media_keys[] = {"image_url",    "input_audio", "audio_url",   "video_url",
                                           "image_embeds", "image_pil",   "audio_embeds"};

template <size_t size>
bool contains(const std::string_view (&list)[size], std::string_view word) {
  return std::find(std::begin(list), std::end(list), word) != std::end(list);
}

}  // namespace

Field field_of(std::string_view key, Api api) {
  if (key.size() > name_max) return Field::unknown;
  for (size_t i = first_of_length[key.size()]; i < first_of_length[key.size() + 1]; ++i) {
    const FieldName& entry = names_by_length[i];
    const bool alike = entry.name[0] == key[0] && (entry.apis & bit(api)) != 0;
    if (alike && std::memcmp(entry.name.data(), key.data(), key.size()) == 0) return entry.field;
  }
  return Field::unknown;
}

std::string_view prompt_name(Api api) {
  switch (api) {
    case Api::completions:
      return "prompt";
    case Api::chat_completions:
    case Api::messages:
      return "messages";
    case Api::responses:
    case Api::embeddings:
      return "input";
    case Api::conversations:
      return "items";
    case Api::other:
      break;
  }
  return "";
}

bool is_media_type(std::string_view type) {
  return contains(media_types, type);
}
bool is_media_key(std::string_view key) {
  return contains(media_keys, key);
}

}  // namespace penstock::openai
