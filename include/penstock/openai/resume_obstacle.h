// Why a broken stream cannot be continued on another endpoint: one list for what a request asks for and for what its
// stream brought. Pure.
#pragma once

#include <cstddef>
#include <cstdint>

namespace penstock::openai {

enum class ResumeObstacle : uint8_t {
  none,
  // In the request, the first of these when there are several.
  unreadable,
  api,
  not_streamed,
  tools,
  structured_output,
  several_choices,
  several_prompts,
  logprobs,
  echo,
  penalties,
  media,
  embedded_prompt,
  truncated_prompt,
  suffix,
  beam_search,
  usage_in_chunks,  // also where a stream has it unasked
  token_ids,
  template_input,
  reasoning,
  stored,
  unknown_field,
  // In what was delivered.
  replacement_character,
  too_long,
  unknown_event,
  // In what the gateway may do, and in what the endpoints can.
  off,
  path,
  memory,
  too_often,
  no_tokenizer,
  refused,
  no_limit,
  no_endpoint,
  finished,
};
inline constexpr size_t resume_obstacles = static_cast<size_t>(ResumeObstacle::finished) + 1;

const char* to_string(ResumeObstacle obstacle);  // a word for metrics and logs: "tools"
const char* reason_of(ResumeObstacle obstacle);  // a sentence that says why

}  // namespace penstock::openai
