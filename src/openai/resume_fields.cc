#include "resume_fields.h"

#include <algorithm>
#include <iterator>

#include "json_text.h"

namespace penstock::openai {
namespace {

using Obstacle = ResumeObstacle;
using Use = ResumeUse;
using Nothing = AsksNothing;

constexpr uint8_t text = 1, chat = 2, both = text | chat;
constexpr uint8_t message = 4, response = 8;  // the messages and responses APIs
constexpr uint8_t all = both | message | response;

constexpr uint8_t bit_of(Api api) {
  switch (api) {
    case Api::completions:
      return text;
    case Api::chat_completions:
      return chat;
    case Api::messages:
      return message;
    case Api::responses:
      return response;
    default:
      return 0;
  }
}

// The names are those of vLLM, with some of OpenAI's and SGLang's that their clients send.
constexpr ResumeField fields[] = {
    {"model", all, Use::own},
    {"messages", chat | message, Use::own},
    {"system", message, Use::own},
    {"input", response, Use::own},
    {"instructions", response, Use::own},
    {"include", response, Use::own},
    {"prompt", text, Use::own},
    {"stream", all, Use::own},
    {"stream_options", both, Use::own},
    {"max_tokens", both | message, Use::own},
    {"max_output_tokens", response, Use::own},
    {"max_completion_tokens", both, Use::own},
    {"min_tokens", both, Use::own},

    // A parser reads the output, from its beginning.
    {"tools", chat | message | response, Use::obstacle, Obstacle::tools},
    {"tool_choice", chat | response, Use::obstacle, Obstacle::tools, Nothing::no_tool},
    {"functions", chat, Use::obstacle, Obstacle::tools},
    {"function_call", chat, Use::obstacle, Obstacle::tools, Nothing::no_tool},
    {"tool_choice", message, Use::obstacle, Obstacle::tools},
    {"mcp_servers", message, Use::obstacle, Obstacle::tools},
    {"thinking", message, Use::obstacle, Obstacle::reasoning, Nothing::null_only},
    {"include_reasoning", chat | response, Use::obstacle, Obstacle::reasoning, Nothing::true_only},
    {"separate_reasoning", chat, Use::obstacle, Obstacle::reasoning, Nothing::true_only},
    {"stream_reasoning", chat, Use::obstacle, Obstacle::reasoning, Nothing::true_only},
    {"thinking_token_budget", both, Use::obstacle, Obstacle::reasoning, Nothing::null_only},

    // A grammar's state begins at the root with each request.
    {"response_format", both, Use::obstacle, Obstacle::structured_output, Nothing::text_type},
    {"output_config", message, Use::nested},
    {"output_config.format", message, Use::obstacle, Obstacle::structured_output},
    {"output_format", message, Use::obstacle, Obstacle::structured_output},
    {"text", response, Use::nested},
    {"text.format", response, Use::obstacle, Obstacle::structured_output, Nothing::text_type},
    {"text.verbosity", response, Use::left_out},
    {"structured_outputs", both | response, Use::obstacle, Obstacle::structured_output},
    {"guided_json", both, Use::obstacle, Obstacle::structured_output},
    {"guided_regex", both, Use::obstacle, Obstacle::structured_output},
    {"guided_choice", both, Use::obstacle, Obstacle::structured_output},
    {"guided_grammar", both, Use::obstacle, Obstacle::structured_output},
    {"guided_json_object", both, Use::obstacle, Obstacle::structured_output},
    {"guided_decoding_backend", both, Use::left_out},
    {"guided_whitespace_pattern", both, Use::left_out},
    {"structural_tag", both, Use::obstacle, Obstacle::structured_output},
    {"json_schema", both, Use::obstacle, Obstacle::structured_output},
    {"regex", both, Use::obstacle, Obstacle::structured_output},
    {"ebnf", both, Use::obstacle, Obstacle::structured_output},
    {"grammar", both, Use::obstacle, Obstacle::structured_output},

    {"n", both, Use::obstacle, Obstacle::several_choices, Nothing::one},
    {"best_of", both, Use::obstacle, Obstacle::several_choices, Nothing::one},
    {"use_beam_search", both, Use::obstacle, Obstacle::beam_search},

    // Completions with "logprobs": 0 have that of the chosen token; in a chat the field is true or false.
    {"logprobs", text, Use::obstacle, Obstacle::logprobs, Nothing::null_only},
    {"logprobs", chat, Use::obstacle, Obstacle::logprobs},
    {"top_logprobs", chat | response, Use::obstacle, Obstacle::logprobs},
    {"prompt_logprobs", both, Use::obstacle, Obstacle::logprobs},
    {"logprob_token_ids", both, Use::obstacle, Obstacle::logprobs},
    {"return_tokens_as_token_ids", both, Use::left_out},  // of log probabilities

    {"echo", both, Use::obstacle, Obstacle::echo},
    {"suffix", text, Use::obstacle, Obstacle::suffix},

    // These count what was generated. repetition_penalty counts the prompt as well, so that nothing changes.
    {"presence_penalty", both | response, Use::obstacle, Obstacle::penalties},
    {"frequency_penalty", both | response, Use::obstacle, Obstacle::penalties},
    {"repetition_detection", both, Use::obstacle, Obstacle::penalties},

    {"prompt_embeds", both, Use::obstacle, Obstacle::embedded_prompt},
    {"truncate_prompt_tokens", both, Use::obstacle, Obstacle::truncated_prompt, Nothing::null_only},
    {"truncation_side", both, Use::left_out},  // of a truncated prompt
    {"truncation", response, Use::obstacle, Obstacle::truncated_prompt, Nothing::disabled},
    {"mm_processor_kwargs", chat | response, Use::obstacle, Obstacle::media},
    {"media_io_kwargs", chat | response, Use::obstacle, Obstacle::media},
    {"audio", chat, Use::obstacle, Obstacle::media},
    {"modalities", chat, Use::obstacle, Obstacle::media, Nothing::text_list},

    // What the client would miss in the events of the continuation.
    {"return_token_ids", both, Use::obstacle, Obstacle::token_ids},
    {"return_prompt_text", chat, Use::obstacle, Obstacle::token_ids},
    {"return_hidden_states", both, Use::obstacle, Obstacle::token_ids},
    {"enable_response_messages", response, Use::obstacle, Obstacle::token_ids},

    // Servers keep these in their own memory, or are asked to. That is what "store" means when it is not there as well,
    // but vLLM keeps nothing unless it was started so.
    {"store", response, Use::obstacle, Obstacle::stored},
    {"background", response, Use::obstacle, Obstacle::stored},
    {"previous_response_id", response, Use::obstacle, Obstacle::stored},
    {"conversation", response, Use::obstacle, Obstacle::stored},
    {"prompt", response, Use::obstacle, Obstacle::stored},

    // The tokenizer's endpoint takes some of what a chat's prompt is rendered with. A final message that is continued
    // is cut at its end by rules of the template, so that the text behind it may be joined otherwise.
    {"chat_template", chat, Use::rendering},
    {"chat_template_kwargs", chat | message | response, Use::rendering},
    {"add_generation_prompt", chat, Use::rendering},
    {"add_special_tokens", both, Use::rendering},
    {"continue_final_message", chat, Use::obstacle, Obstacle::template_input},
    {"documents", chat, Use::obstacle, Obstacle::template_input},
    {"reasoning_effort", chat, Use::obstacle, Obstacle::template_input, Nothing::null_only},
    {"reasoning", chat, Use::obstacle, Obstacle::template_input, Nothing::null_only},
    {"reasoning", response, Use::nested},
    {"reasoning.effort", response, Use::obstacle, Obstacle::template_input, Nothing::null_only},
    {"reasoning.summary", response, Use::left_out},
    {"reasoning.generate_summary", response, Use::left_out},
    {"previous_input_messages", response, Use::obstacle, Obstacle::template_input},
    {"output_config.effort", message, Use::obstacle, Obstacle::template_input, Nothing::null_only},

    {"temperature", all, Use::sampling},
    {"top_p", all, Use::sampling},
    {"top_k", all, Use::sampling},
    {"min_p", both | response, Use::sampling},
    {"seed", both | response, Use::sampling},
    {"stop", both | response, Use::sampling},
    {"stop_sequences", message, Use::sampling, Obstacle::none, Nothing::usual, "stop"},
    {"stop_token_ids", both | response, Use::sampling},
    {"include_stop_str_in_output", both | response, Use::sampling},
    {"ignore_eos", both | response, Use::sampling},
    {"repetition_penalty", both | response, Use::sampling},
    {"length_penalty", both, Use::sampling},
    {"skip_special_tokens", both | response, Use::sampling},
    {"spaces_between_special_tokens", both, Use::sampling},
    {"logit_bias", both | response, Use::sampling},
    {"bad_words", both, Use::sampling},
    {"allowed_token_ids", both, Use::sampling},
    {"watermarking", all, Use::sampling},
    {"stream_interval", both, Use::sampling},
    {"priority", both | response, Use::sampling},
    {"cache_salt", all, Use::sampling},
    {"session_id", both | response, Use::sampling},
    {"user", both | response, Use::sampling},
    {"lora_path", both, Use::sampling},
    {"vllm_xargs", all, Use::sampling},

    // Names, records and hints. The handles of a prefill that ran elsewhere can be used once.
    {"request_id", both | response, Use::left_out},
    {"rid", both, Use::left_out},
    {"metadata", all, Use::left_out},
    {"store", both, Use::left_out},
    {"service_tier", all, Use::left_out},
    {"safety_identifier", both | response, Use::left_out},
    {"prompt_cache_key", both | response, Use::left_out},
    {"prompt_cache_retention", both | response, Use::left_out},
    {"prediction", chat, Use::left_out},
    {"max_tool_calls", response, Use::left_out},
    {"parallel_tool_calls", chat | response, Use::left_out},
    {"return_token_offsets", both, Use::left_out},
    {"mm_payload", message | response, Use::left_out},
    {"return_mm_kwargs", all, Use::left_out},
    {"routed_experts_prompt_start", both, Use::left_out},
    {"kv_transfer_params", all, Use::left_out},
    {"ec_transfer_params", all, Use::left_out},
    {"bootstrap_host", both, Use::left_out},
    {"bootstrap_port", both, Use::left_out},
    {"bootstrap_room", both, Use::left_out},
};

// "0", "-0.0", "0e3".
bool is_zero(std::string_view value) {
  if (!is_number(value)) return false;
  const std::string_view digits = value.substr(0, value.find_first_of("eE"));
  return digits.find_first_of("123456789") == std::string_view::npos;
}

bool is_empty_container(std::string_view value) {
  if (value.size() < 2 || (value.front() != '[' && value.front() != '{')) return false;
  return skip_space(value.substr(1)).size() == 1;
}

// The value of the only element of `[x]` or of the only field `{"type":x}`.
std::string_view only_element(std::string_view value, std::string_view key) {
  if (value.size() < 2) return "";
  value = trim_end(skip_space(value.substr(1, value.size() - 2)));
  if (key.empty()) return value;
  if (value_after_key(value, key) == 0) return "";
  return skip_space(skip_space(value.substr(key.size())).substr(1));
}

bool is_usual(std::string_view value) {
  return value == "null" || value == "false" || value == R"("")" || is_zero(value) || is_empty_container(value);
}

}  // namespace

const ResumeField* resume_field(std::string_view key, Api api) {
  const uint8_t bit = bit_of(api);
  const auto* const found = std::find_if(std::begin(fields), std::end(fields), [&](const ResumeField& field) {
    return field.name == key && (field.apis & bit) != 0;
  });
  return found == std::end(fields) ? nullptr : found;
}

bool asks_nothing(AsksNothing rule, std::string_view value) {
  if (value == "null") return rule != AsksNothing::disabled;
  switch (rule) {
    case AsksNothing::usual:
      return is_usual(value);
    case AsksNothing::null_only:
      return false;
    case AsksNothing::one:
      return is_usual(value) || value == "1" || value == "1.0";
    case AsksNothing::true_only:
      return value == "true";
    case AsksNothing::text_type:
      return value.starts_with('{') && only_element(value, R"("type")") == R"("text")";
    case AsksNothing::text_list:
      return is_usual(value) || (value.starts_with('[') && only_element(value, "") == R"("text")");
    case AsksNothing::no_tool:
      return is_usual(value) || value == R"("none")" || value == R"("auto")";
    case AsksNothing::disabled:
      return value == R"("disabled")";
  }
  return false;
}

}  // namespace penstock::openai
