// The chat that a server makes of a request of the messages or the responses API: its tokenizer takes chats. Made as
// vLLM 0.30 and later make it; what they make otherwise than others, or one version otherwise than another, is an
// obstacle. Pure.
#pragma once

#include <string>
#include <string_view>

#include "penstock/openai/resume_obstacle.h"

namespace penstock::openai {

struct ResumePrompt {
  std::string messages;  // of the chat: a JSON array
  ResumeObstacle obstacle = ResumeObstacle::none;
};

// The fields `system` ("": it is not there) and `messages`, as written.
ResumePrompt prompt_of_messages(std::string_view system, std::string_view messages);
// The fields `instructions` ("": it is not there) and `input`.
ResumePrompt prompt_of_responses(std::string_view instructions, std::string_view input);

}  // namespace penstock::openai
