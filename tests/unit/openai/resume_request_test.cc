#include "penstock/openai/resume_request.h"

#include <doctest/doctest.h>

#include <set>
#include <string>

#include "padded_body.h"

namespace penstock::openai {
namespace {

constexpr std::string_view chat_start = R"({"model":"m","messages":[{"role":"user","content":"Hi"}],"stream":true)";
constexpr std::string_view text_start = R"({"model":"m","prompt":"Hi","stream":true)";

// A body with these fields besides the necessary ones, read.
struct Body {
  PaddedBody bytes;
  ResumeRequest request;
  ResumeObstacle obstacle;

  Body(Api api, const std::string& body)
      : bytes(body), obstacle(ResumeRequest::read(api, bytes.view(), "M", request)) {}
};
Body chat(const std::string& fields) {
  return {Api::chat_completions, std::string(chat_start) + fields + "}"};
}
Body text(const std::string& fields) {
  return {Api::completions, std::string(text_start) + fields + "}"};
}
std::string chat_obstacle(const std::string& fields) {
  return to_string(chat("," + fields).obstacle);
}
std::string text_obstacle(const std::string& fields) {
  return to_string(text("," + fields).obstacle);
}

TEST_CASE("each obstacle has a word and a reason of its own") {
  std::set<std::string> words, reasons;
  for (size_t i = 0; i < resume_obstacles; ++i) {
    words.insert(to_string(static_cast<ResumeObstacle>(i)));
    reasons.insert(reason_of(static_cast<ResumeObstacle>(i)));
  }
  CHECK(words.size() == resume_obstacles);
  CHECK(reasons.size() == resume_obstacles);
}

TEST_CASE("what clients send by default is no obstacle") {
  for (const char* field : {R"("tools":null)",
                            R"("tools":[])",
                            R"("tools":[ ])",
                            R"("tool_choice":"none")",
                            R"("tool_choice":"auto")",
                            R"("response_format":null)",
                            R"("response_format":{"type":"text"})",
                            R"("response_format": { "type" : "text" } )",
                            R"("n":1)",
                            R"("n":null)",
                            R"("n":1.0)",
                            R"("logprobs":false)",
                            R"("logprobs":null)",
                            R"("top_logprobs":0)",
                            R"("echo":false)",
                            R"("presence_penalty":0)",
                            R"("frequency_penalty":0.0)",
                            R"("frequency_penalty":-0.0e5)",
                            R"("use_beam_search":false)",
                            R"("truncate_prompt_tokens":null)",
                            R"("return_token_ids":null)",
                            R"("include_reasoning":true)",
                            R"("documents":[])",
                            R"("reasoning_effort":null)",
                            R"("continue_final_message":false)",
                            R"("modalities":["text"])",
                            R"("stream_options":{"include_usage":true})",
                            R"("metadata":{"a":"b"})",
                            R"("store":true)",
                            R"("kv_transfer_params":{"x":1})",
                            R"("nobody_knows":null)"}) {
    CAPTURE(field);
    CHECK(chat_obstacle(field) == "none");
  }
  for (const char* field : {R"("best_of":1)", R"("suffix":null)", R"("suffix":"")", R"("logprobs":null)",
                            R"("prompt_embeds":null)", R"("echo":false)"}) {
    CAPTURE(field);
    CHECK(text_obstacle(field) == "none");
  }
}

TEST_CASE("what cannot be continued faithfully is an obstacle") {
  struct Case {
    const char* field;
    const char* obstacle;
  };
  for (const Case& one : {
           Case{R"("tools":[{"type":"function","function":{"name":"f"}}])", "tools"},
           Case{R"("tool_choice":"required")", "tools"},
           Case{R"("functions":[{"name":"f"}])", "tools"},
           Case{R"("response_format":{"type":"json_object"})", "structured_output"},
           Case{R"("response_format":{"type":"text","strict":true})", "structured_output"},
           Case{R"("structured_outputs":{"regex":"a"})", "structured_output"},
           Case{R"("guided_choice":["a","b"])", "structured_output"},
           Case{R"("n":2)", "several_choices"},
           Case{R"("logprobs":true)", "logprobs"},
           Case{R"("logprobs":true,"top_logprobs":0)", "logprobs"},
           Case{R"("prompt_logprobs":1)", "logprobs"},
           Case{R"("echo":true)", "echo"},
           Case{R"("presence_penalty":0.1)", "penalties"},
           Case{R"("frequency_penalty":-1e-3)", "penalties"},
           Case{R"("repetition_detection":{"max_pattern_size":3})", "penalties"},
           Case{R"("audio":{"voice":"x"})", "media"},
           Case{R"("modalities":["text","audio"])", "media"},
           Case{R"("prompt_embeds":"abc")", "embedded_prompt"},
           Case{R"("truncate_prompt_tokens":5)", "truncated_prompt"},
           Case{R"("truncate_prompt_tokens":-1)", "truncated_prompt"},
           Case{R"("use_beam_search":true)", "beam_search"},
           Case{R"("stream_options":{"continuous_usage_stats":true})", "usage_in_chunks"},
           Case{R"("return_token_ids":true)", "token_ids"},
           Case{R"("documents":[{"text":"x"}])", "template_input"},
           Case{R"("reasoning_effort":"low")", "template_input"},
           Case{R"("continue_final_message":true)", "template_input"},
           Case{R"("include_reasoning":false)", "reasoning"},
           Case{R"("thinking_token_budget":0)", "reasoning"},
           Case{R"("nobody_knows":false)", "unknown_field"},
           Case{R"("suffix":"x")", "unknown_field"},  // no field of chats
           Case{R"("max_output_tokens":5)", "unknown_field"},
           Case{R"("min_tokens":"many")", "unknown_field"},
           Case{R"("stop":[["x"]])", "unreadable"},
       }) {
    CAPTURE(one.field);
    CHECK(chat_obstacle(one.field) == one.obstacle);
  }
  CHECK(text_obstacle(R"("suffix":"x")") == "suffix");
  CHECK(text_obstacle(R"("best_of":2)") == "several_choices");
  CHECK(text_obstacle(R"("logprobs":0)") == "logprobs");  // has that of the chosen token
  CHECK(text_obstacle(R"("logprobs":5)") == "logprobs");
  CHECK(text_obstacle(R"("max_completion_tokens":5)") == "unknown_field");
  CHECK(text_obstacle(R"("max_completion_tokens":5,"max_tokens":6)") == "unknown_field");
  CHECK(text_obstacle(R"("max_completion_tokens":5,"max_tokens":5)") == "none");
}

TEST_CASE("the obstacle is told with its field, the same whatever the order") {
  for (const char* fields : {R"(,"nobody_knows":1,"tools":[1])", R"(,"tools":[1],"nobody_knows":1)"}) {
    const Body body = chat(fields);
    CHECK(body.obstacle == ResumeObstacle::tools);
    CHECK(body.request.field() == "tools");
  }
  CHECK(chat(R"(,"nobody_knows" : [1])").request.field() == "nobody_knows");
  CHECK(chat(R"(,"nobody\u005fknows":1)").request.field() == "");  // not as written
}

TEST_CASE("other APIs, answers that do not stream, media and bodies that cannot be read are obstacles") {
  const auto obstacle = [](Api api, const std::string& body) {
    return std::string(to_string(Body(api, body).obstacle));
  };
  CHECK(obstacle(Api::embeddings, R"({"model":"m","input":"x","stream":true})") == "api");
  CHECK(obstacle(Api::conversations, std::string(chat_start) + "}") == "api");
  CHECK(obstacle(Api::completions, R"({"model":"m","prompt":"x"})") == "not_streamed");
  CHECK(obstacle(Api::completions, R"({"model":"m","prompt":"x","stream":false})") == "not_streamed");
  CHECK(obstacle(Api::chat_completions,
                 R"({"model":"m","stream":true,"messages":[{"role":"user","content":[{"type":"image_url",)"
                 R"("image_url":{"url":"http://x"}}]}]})") == "media");
  CHECK(obstacle(Api::completions, std::string(text_start)) == "unreadable");
  CHECK(obstacle(Api::completions, R"({"model":"m","prompt":"","stream":true})") == "unreadable");
  CHECK(obstacle(Api::completions, "") == "unreadable");
}

TEST_CASE("a prompt is one text or the ids of one") {
  const auto with = [](const std::string& prompt) {
    return Body(Api::completions, R"({"model":"m","stream":true,"max_tokens":5,"prompt":)" + prompt + "}");
  };
  CHECK(with(R"("a\"b")").request.tokenize_prompt() == R"({"model":"M","prompt":"a\"b"})");
  CHECK(with(R"(["one"])").request.tokenize_prompt() == R"({"model":"M","prompt":"one"})");
  for (const char* ids : {"[1, 22,333]", "[[1, 22,333]]"}) {
    const Body body = with(ids);
    CHECK(body.obstacle == ResumeObstacle::none);
    CHECK_FALSE(body.request.text_prompt());
    CHECK(body.request.tokenize_prompt() == "");
    CHECK(body.request.prompt_ids() == std::vector<uint32_t>{1, 22, 333});
    CHECK(body.request.text_continuation("x", 1) == "");
  }
  for (const char* several : {R"(["a","b"])", R"(["","b"])", "[[1],[2]]"}) {
    CAPTURE(several);
    CHECK(with(several).obstacle == ResumeObstacle::several_prompts);
  }
  CHECK(with("[5000000000]").obstacle != ResumeObstacle::none);
}

TEST_CASE("the tokenizer gets what the prompt is rendered with, as written") {
  const Body body = chat(R"(,"chat_template_kwargs": {"enable_thinking": false}, "temperature":0.5,"user":"u",)"
                         R"("add_generation_prompt":true,"chat_template":null)");
  REQUIRE(body.obstacle == ResumeObstacle::none);
  CHECK(body.request.tokenize_prompt() == R"({"model":"M","messages":[{"role":"user","content":"Hi"}],)"
                                          R"("chat_template_kwargs":{"enable_thinking": false},)"
                                          R"("add_generation_prompt":true})");
  CHECK(body.request.tokenize_text(R"(a\n\"b)") == R"({"model":"M","prompt":"a\n\"b","add_special_tokens":false})");
  CHECK(text(R"(,"add_special_tokens":false)").request.tokenize_prompt() ==
        R"({"model":"M","prompt":"Hi","add_special_tokens":false})");
}

TEST_CASE("a continuation has the ids of prompt and text, the tokens that are left, and the sampling fields") {
  const Body body = chat(R"(,"max_tokens":10,"min_tokens":4,"temperature":0.5,"seed":7,"stop":["x","yy"],"top_p":null,)"
                         R"("request_id":"r","cache_salt":"s","skip_special_tokens":false,"temperature":0.25)");
  REQUIRE(body.obstacle == ResumeObstacle::none);
  CHECK(body.request.continuation({1, 2}, {3, 4, 5}, 100) ==
        R"({"model":"M","prompt":[1,2,3,4,5],"max_tokens":7,"min_tokens":1,"stream":true,)"
        R"("stream_options":{"include_usage":true},"seed":7,"stop":["x","yy"],"cache_salt":"s",)"
        R"("skip_special_tokens":false,"temperature":0.25})");
  CHECK(body.request.continuation({1, 2}, {3, 4, 5, 6}, 8) ==
        R"({"model":"M","prompt":[1,2,3,4,5,6],"max_tokens":2,"stream":true,)"
        R"("stream_options":{"include_usage":true},"seed":7,"stop":["x","yy"],"cache_salt":"s",)"
        R"("skip_special_tokens":false,"temperature":0.25})");
  CHECK(body.request.stops() == std::vector<std::string>{"x", "yy"});
  CHECK(body.request.continuation({1}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 0) == "");
}

TEST_CASE("a text continuation has the prompt and the text as one") {
  const Body body =
      text(R"(,"max_tokens":10,"add_special_tokens":true,"stop":"a\nb","include_stop_str_in_output":true)");
  CHECK(body.request.text_continuation(R"( \"x)", 4) ==
        R"({"model":"M","prompt":"Hi \"x","add_special_tokens":true,"max_tokens":6,"stream":true,)"
        R"("stream_options":{"include_usage":true},"stop":"a\nb","include_stop_str_in_output":true})");
  CHECK(body.request.stops() == std::vector<std::string>{"a\nb"});
  CHECK(body.request.include_stop_in_output());
  CHECK(body.request.text_continuation("x", 10) == "");
}

TEST_CASE("the tokens that are left are those of the request, of the API or of the context") {
  const auto left = [](const Body& body) { return body.request.tokens_left(10, 6, 20); };
  CHECK(left(chat("")) == 4);
  CHECK(left(chat(R"(,"max_tokens":8)")) == 2);
  CHECK(left(chat(R"(,"max_tokens":8,"max_completion_tokens":9)")) == 3);
  CHECK(left(chat(R"(,"max_tokens":3)")) == 0);
  CHECK(left(chat(R"(,"max_tokens":100)")) == 4);
  CHECK(text("").request.tokens_left(6) == 10);  // vLLM's default of 16
  CHECK(text(R"(,"max_tokens":null)").request.tokens_left(20) == 0);
  CHECK_FALSE(chat("").request.tokens_left(6).has_value());
  CHECK_FALSE(chat("").request.tokens_left(10, 6, 0).has_value());
  CHECK(chat("").request.continuation({1}, {2}, 0) == "");
  CHECK(left(chat(R"(,"max_tokens":4294967295)")) == 4);
}

TEST_CASE("whether the client wants the usage is known") {
  CHECK(chat(R"(,"stream_options":{"include_usage":true})").request.include_usage());
  CHECK_FALSE(chat(R"(,"stream_options":{"include_usage":false})").request.include_usage());
  CHECK_FALSE(chat("").request.include_usage());
}

TEST_CASE("an answer of the tokenizer is read, and nothing else") {
  Tokenized answer;
  CHECK(read_tokenized(R"({"count":3,"max_model_len":4096,"tokens":[1,4294967295,0],"token_strs":null})", answer));
  CHECK(answer.ids == std::vector<uint32_t>{1, 4294967295, 0});
  CHECK(answer.max_model_len == 4096);
  CHECK(read_tokenized(R"({"tokens":[],"max_model_len":null})", answer));
  CHECK(answer.ids.empty());
  CHECK(answer.max_model_len == 0);
  for (const char* wrong : {"", "[1]", R"({"count":0})", R"({"tokens":[-1]})", R"({"tokens":[4294967296]})",
                            R"({"tokens":[1.5]})", R"({"tokens":["1"]})", R"({"tokens":[[1]]})", R"({"tokens":[1)",
                            R"({"tokens":[1]}x)", R"({"tokens":{"a":1}})", R"({"tokens":null})"}) {
    CAPTURE(wrong);
    CHECK_FALSE(read_tokenized(wrong, answer));
  }
}

TEST_CASE("what the ids of the tokens stand for is compared with what was delivered") {
  using Ids = Seam::Ids;
  const auto seam = [](std::string_view delivered, std::string_view made) { return seam_of(delivered, made); };
  CHECK(seam("", "").ids == Ids::all);
  CHECK(seam("a\\n\\u00e9", "a\n\xC3\xA9").ids == Ids::all);
  CHECK(seam("a\\n\\u00e9", "a\n\xC3\xA9").gap == "");
  CHECK(seam("some", "some\"EN").gap == "\\\"EN");
  CHECK(seam("some \xEF\xBF\xBD", "some \xEF\xBF\xBD").ids == Ids::all);
  CHECK(seam("some \\ufffd", "some \xEF\xBF\xBD more").gap == " more");
  // A character whose rest is still to come, for which the client waits.
  CHECK(seam("some ", "some \xEF\xBF\xBD").ids == Ids::fewer);
  CHECK(seam("some", "som").ids == Ids::none);
  CHECK(seam("some", "tome").ids == Ids::none);
  // The space in front of the first token.
  CHECK(seam(" some", "some more").gap == " more");
  CHECK(seam("some", " some").ids == Ids::none);
}

TEST_CASE("ids are asked for and said with the model") {
  ResumeRequest request;
  PaddedBody body(R"({"model":"m","prompt":"p","stream":true,"max_tokens":9})");
  REQUIRE(ResumeRequest::read(Api::completions, body.view(), "M", request) == ResumeObstacle::none);
  CHECK(request.detokenize({1, 22}) == R"({"model":"M","tokens":[1,22]})");
  CHECK(request.detokenize({}) == R"({"model":"M","tokens":[]})");
  const std::string asks = request.continuation({1}, {2}, 0, true);
  CHECK(asks.find(R"(,"return_token_ids":true)") != std::string::npos);
  CHECK(request.continuation({1}, {2}, 0).find("return_token_ids") == std::string::npos);
  std::string text;
  CHECK(read_detokenized(R"({"prompt":"a\n"})", text));
  CHECK(text == "a\n");
  for (const char* wrong : {"", "[]", "{}", R"({"prompt":1})", R"({"prompt":"a")"}) {
    CHECK_FALSE(read_detokenized(wrong, text));
  }
}

}  // namespace
}  // namespace penstock::openai
