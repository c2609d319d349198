#include "penstock/openai/resume_obstacle.h"

#include <algorithm>
#include <iterator>

namespace penstock::openai {
namespace {

struct Words {
  ResumeObstacle obstacle;
  const char* word;
  const char* reason;
};
constexpr Words words[] = {
    {ResumeObstacle::none, "none", "The stream can be continued."},
    {ResumeObstacle::unreadable, "unreadable", "The request's body, or its prompt, cannot be read."},
    {ResumeObstacle::api, "api", "Streams of this API cannot be continued."},
    {ResumeObstacle::not_streamed, "not_streamed", "The answer does not stream: it can only be asked for again."},
    {ResumeObstacle::tools, "tools", "The server's parser of tool calls cannot be put where it was in the text."},
    {ResumeObstacle::structured_output, "structured_output", "The grammar would begin anew in the middle of the text."},
    {ResumeObstacle::several_choices, "several_choices", "Several texts were being generated."},
    {ResumeObstacle::several_prompts, "several_prompts", "There are several prompts."},
    {ResumeObstacle::logprobs, "logprobs", "The log probabilities at the seam would be those of other tokens."},
    {ResumeObstacle::echo, "echo", "The prompt is part of the answer."},
    {ResumeObstacle::penalties, "penalties",
     "Penalties count the generated tokens alone, of which those delivered would be prompt."},
    {ResumeObstacle::media, "media", "Images, audio and video cannot be given as token ids."},
    {ResumeObstacle::embedded_prompt, "embedded_prompt", "A prompt of embeddings has no text and no token ids."},
    {ResumeObstacle::truncated_prompt, "truncated_prompt", "Which part of the prompt the server read is not known."},
    {ResumeObstacle::suffix, "suffix", "The text was generated to stand before another one."},
    {ResumeObstacle::beam_search, "beam_search", "Beam search keeps several texts, of which one was delivered."},
    {ResumeObstacle::usage_in_chunks, "usage_in_chunks",
     "Each chunk says the usage, which is not known token by token."},
    {ResumeObstacle::token_ids, "token_ids", "The client reads tokens, and those of the text may be others."},
    {ResumeObstacle::template_input, "template_input",
     "The prompt is rendered with something that the tokenizer's endpoint does not take."},
    {ResumeObstacle::reasoning, "reasoning",
     "The reasoning is part of what was generated, and its marks are not known."},
    {ResumeObstacle::stored, "stored", "A server keeps, or is asked to keep, a part of it in its own memory."},
    {ResumeObstacle::unknown_field, "unknown_field", "The request has a field of which the meaning is not known."},
    {ResumeObstacle::replacement_character, "replacement_character",
     "The text has U+FFFD, which stands for bytes that are not known and becomes other tokens."},
    {ResumeObstacle::too_long, "too_long", "More text was delivered than is remembered of a stream."},
    {ResumeObstacle::unknown_event, "unknown_event", "The stream brought an event of which the meaning is not known."},
    {ResumeObstacle::off, "off", "The configuration or the request turns resuming off."},
    {ResumeObstacle::path, "path",
     "The paths of the tokenizer and of completions do not follow from the request's path."},
    {ResumeObstacle::memory, "memory", "The memory budget had no room to remember the stream."},
    {ResumeObstacle::too_often, "too_often", "The stream has broken as often as it may (resume.per_stream)."},
    {ResumeObstacle::no_tokenizer, "no_tokenizer", "The endpoints have no tokenizer, or not for this model."},
    {ResumeObstacle::refused, "refused", "Another endpoint refused to continue the stream."},
    {ResumeObstacle::no_limit, "no_limit", "No endpoint says how many tokens may still follow."},
    {ResumeObstacle::no_endpoint, "no_endpoint", "No endpoint took the stream in time (resume.wait)."},
    {ResumeObstacle::finished, "finished", "The text was whole, but the usage that was asked for had not come."},
};
static_assert(std::size(words) == resume_obstacles);
static_assert(std::is_sorted(std::begin(words), std::end(words),
                             [](const Words& a, const Words& b) { return a.obstacle < b.obstacle; }));

}  // namespace

const char* to_string(ResumeObstacle obstacle) {
  return words[static_cast<size_t>(obstacle)].word;
}
const char* reason_of(ResumeObstacle obstacle) {
  return words[static_cast<size_t>(obstacle)].reason;
}

}  // namespace penstock::openai
