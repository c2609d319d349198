// Events as vLLM streams them, for the tests of what reads and continues streams.
#pragma once

#include <string>
#include <string_view>

namespace penstock::openai {

inline std::string chat_event(std::string_view delta, std::string_view rest = R"("finish_reason":null})") {
  return R"({"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":)" +
         std::string(delta) + R"(,"logprobs":null,)" + std::string(rest) + "]}";
}
inline std::string chat_text(std::string_view escaped) {
  return chat_event(R"({"content":")" + std::string(escaped) + "\"}");
}
inline std::string chat_role() {
  return chat_event(R"({"role":"assistant","content":""})");
}
inline std::string chat_finish(std::string_view reason, std::string_view escaped = "") {
  return chat_event(R"({"content":")" + std::string(escaped) + "\"}",
                    R"("finish_reason":")" + std::string(reason) + R"(","stop_reason":null})");
}

// Of a completion, `finish` and `stop` as JSON.
inline std::string text_event(std::string_view escaped, std::string_view finish = "null",
                              std::string_view stop = "null", std::string_view id = "cmpl-9") {
  return R"({"id":")" + std::string(id) +
         R"(","object":"text_completion","created":8,"model":"M","choices":[{"index":0,)" + R"("text":")" +
         std::string(escaped) + R"(","logprobs":null,"finish_reason":)" + std::string(finish) + R"(,"stop_reason":)" +
         std::string(stop) + "}]}";
}
inline std::string usage_event(int prompt, int completion) {
  return R"({"id":"cmpl-9","object":"text_completion","created":8,"model":"M","choices":[],"usage":{"prompt_tokens":)" +
         std::to_string(prompt) + R"(,"total_tokens":)" + std::to_string(prompt + completion) +
         R"(,"completion_tokens":)" + std::to_string(completion) + "}}";
}

inline std::string sent(const std::string& data) {
  return "data: " + data + "\n\n";
}

}  // namespace penstock::openai
