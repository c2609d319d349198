// The events of the completions and chat completions APIs: each has the id, the time and the model of the answer.
#include "penstock/base/text.h"
#include "stream_format.h"

namespace penstock::openai {
namespace {

constexpr std::string_view done = "data: [DONE]\n\n";

class CompletionsFormat final : public StreamFormat {
 public:
  explicit constexpr CompletionsFormat(bool chat) : chat_(chat) {}

  bool read(std::string_view data, Chunk& out) const override { return read_chunk(chat_, data, out); }

  ResumeObstacle note(const Chunk& chunk, StreamState& state) const override {
    if (!state.begun) state.head = head_of(chunk);
    state.begun = true;
    return ResumeObstacle::none;
  }

  // Only one that says the same of the stream as the first.
  bool can_repeat(const Chunk& chunk, const StreamState& state) const override { return head_of(chunk) == state.head; }

  bool repeats_text() const override { return false; }
  std::string_view text_lead() const override { return "data: "; }

  void append_text(std::string& out, StreamState& state, std::string_view escaped) const override {
    append_head(out, state);
    if (chat_) {
      append_all(out, R"(,"choices":[{"index":0,"delta":{"content":")", escaped,
                 "\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n");
    } else {
      append_all(out, R"(,"choices":[{"index":0,"text":")", escaped,
                 "\",\"logprobs\":null,\"finish_reason\":null,\"stop_reason\":null}]}\n\n");
    }
  }

  bool says_reason_first() const override { return true; }

  void append_finish(std::string& out, const StreamState& state, const StreamEnd& end) const override {
    append_head(out, state);
    append_all(out, R"(,"choices":[{"index":0,)", chat_ ? R"("delta":{"content":""})" : R"("text":"")",
               R"(,"logprobs":null,"finish_reason":")", end.reason, R"(","stop_reason":)",
               end.stop_reason_json.empty() ? "null" : end.stop_reason_json, "}]}\n\n");
  }

  void append_end(std::string& out, StreamState& state, const StreamEnd& end) const override {
    if (end.usage) append_usage(out, state, *end.usage);
    out += done;
  }

  void append_last(std::string& out) const override { out += done; }

 private:
  // `{"id":..,"object":..,"created":..,"model":..`
  std::string head_of(const Chunk& chunk) const {
    std::string head = "{";
    if (!chunk.id.empty()) append_all(head, R"("id":)", chunk.id, ",");
    head += object();
    if (!chunk.created.empty()) append_all(head, R"(,"created":)", chunk.created);
    if (!chunk.model.empty()) append_all(head, R"(,"model":)", chunk.model);
    return head;
  }

  std::string_view object() const {
    return chat_ ? R"("object":"chat.completion.chunk")" : R"("object":"text_completion")";
  }

  void append_head(std::string& out, const StreamState& state) const {
    out += "data: ";
    if (state.begun) {
      out += state.head;
    } else {  // nothing came that had an id
      append_all(out, "{", object());
    }
  }

  void append_usage(std::string& out, const StreamState& state, const Usage& usage) const {
    const auto number = [](uint64_t value) { return std::to_string(value); };
    append_head(out, state);
    append_all(out, R"(,"choices":[],"usage":{"prompt_tokens":)", number(usage.prompt_tokens), R"(,"total_tokens":)",
               number(uint64_t{usage.prompt_tokens} + usage.completion_tokens), R"(,"completion_tokens":)",
               number(usage.completion_tokens));
    if (usage.cached_tokens) {
      append_all(out, R"(,"prompt_tokens_details":{"cached_tokens":)", number(*usage.cached_tokens), "}");
    }
    out += "}}\n\n";
  }

  const bool chat_;
};

constexpr CompletionsFormat text(false), chat(true);

}  // namespace

const StreamFormat& text_format = text;
const StreamFormat& chat_format = chat;

}  // namespace penstock::openai
