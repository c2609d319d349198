#include "sim/request.h"

#include <doctest/doctest.h>

using namespace penstock::sim;

namespace {

struct Reader {
  std::optional<BadRequest> read(Api api, std::string body) {
    const size_t size = body.size();
    body.resize(size + 64);
    return reader.read(api, std::string_view(body).substr(0, size), request);
  }
  RequestReader reader{{}};
  Request request;
};

}  // namespace

TEST_CASE("The fields of a completion are read in any order") {
  Reader reader;
  REQUIRE_FALSE(reader.read(Api::completions, R"({"max_tokens":7,"stream_options":{"continuous_usage_stats":true,
      "include_usage":true},"n":2,"prompt":"hello there","seed":-3,"ignore_eos":true,"model":"m","stream":true,
      "min_tokens":3,"cache_salt":"pepper","temperature":0.5,"unknown":{"stream":false}})"));
  const Request& request = reader.request;
  CHECK(request.model == "m");
  CHECK(request.stream);
  CHECK(request.include_usage);
  CHECK(request.continuous_usage);
  CHECK(request.max_tokens == 7);
  CHECK(request.min_tokens == 3);
  CHECK(request.n == 2);
  CHECK(request.seed == static_cast<uint64_t>(-3));
  CHECK(request.ignore_eos);
  CHECK(request.cache_salt == "pepper");
  REQUIRE(request.prompt_count == 1);
  CHECK(request.prompts[0].stream.tokens() == 3);
}

TEST_CASE("Prompts may be a string, strings, token ids or arrays of token ids") {
  Reader reader;
  struct Case {
    const char* prompt;
    std::vector<uint32_t> tokens;
  };
  const Case cases[] = {
      {R"("12345678")", {2}}, {R"(["1234","123456789"])", {1, 3}}, {"[1,2,3]", {3}}, {"[[1,2],[3,4,5]]", {2, 3}}};
  for (const Case& c : cases) {
    CAPTURE(c.prompt);
    REQUIRE_FALSE(reader.read(Api::completions, std::string("{\"prompt\":") + c.prompt + "}"));
    REQUIRE(reader.request.prompt_count == c.tokens.size());
    for (size_t i = 0; i < c.tokens.size(); ++i) CHECK(reader.request.prompts[i].stream.tokens() == c.tokens[i]);
  }
}

TEST_CASE("What is wrong with a body is said with the field at fault") {
  struct Case {
    Api api;
    const char* body;
    const char* param;
  };
  const Case cases[] = {
      {Api::completions, "", ""},
      {Api::completions, "[1]", ""},
      {Api::completions, R"({"prompt":"x"} trailing)", ""},
      {Api::completions, "{\"prompt\":\"\xff\"}", ""},
      {Api::completions, R"({"model":"m"})", "prompt"},
      {Api::completions, R"({"prompt":""})", "prompt"},
      {Api::completions, R"({"prompt":[]})", "prompt"},
      {Api::completions, R"({"prompt":[1,"x"]})", "prompt"},
      {Api::completions, R"({"prompt":[-1]})", "prompt"},
      {Api::completions, R"({"prompt":5})", "prompt"},
      {Api::completions, R"({"prompt":"x","model":5})", "model"},
      {Api::completions, R"({"prompt":"x","stream":"yes"})", "stream"},
      {Api::completions, R"({"prompt":"x","max_tokens":0})", "max_tokens"},
      {Api::completions, R"({"prompt":"x","max_tokens":1.5})", "max_tokens"},
      {Api::completions, R"({"prompt":"x","n":1000})", "n"},
      {Api::completions, R"({"prompt":"x","max_tokens":2,"min_tokens":3})", "min_tokens"},
      {Api::completions, R"({"prompt":"x","stream_options":{"include_usage":true}})", "stream_options"},
      {Api::chat, R"({"messages":[]})", "messages"},
      {Api::chat, R"({"messages":["x"]})", "messages"},
      {Api::chat, R"({"messages":[{"role":"user","content":7}]})", "messages"},
      {Api::messages, R"({"messages":[{"role":"user","content":"x"}]})", "max_tokens"},
      {Api::score, R"({"text_1":["a","b"],"text_2":["a","b","c"]})", "text_1"},
      {Api::completions, R"({"prompt":"x","stop":5})", "stop"},
      {Api::completions, R"({"prompt":"x","stop":["a",5]})", "stop"},
      {Api::completions, R"({"prompt":"x","stop":["a",""]})", "stop"},
      {Api::chat, R"({"messages":[{"role":"user","content":"x"}],"continue_final_message":true})",
       "continue_final_message"},
      {Api::chat, R"({"messages":[{"role":"user","content":"x"}],"chat_template_kwargs":[1]})", "chat_template_kwargs"},
      {Api::tokenize, R"({})", "prompt"},
      {Api::tokenize, R"({"prompt":["x"]})", "prompt"},
      {Api::tokenize, R"({"prompt":[1]})", "prompt"},
      {Api::tokenize, R"({"prompt":"x","return_token_strs":1})", "return_token_strs"},
      {Api::tokenize, R"({"messages":[]})", "messages"},
      {Api::detokenize, R"({})", "tokens"},
      {Api::detokenize, R"({"tokens":["x"]})", "tokens"},
      {Api::detokenize, R"({"tokens":[4294967296]})", "tokens"},
      {Api::load_lora, R"({})", "lora_name"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.body);
    Reader reader;
    const auto bad = reader.read(c.api, c.body);
    REQUIRE(bad.has_value());
    CHECK(bad->param == c.param);
    CHECK_FALSE(bad->message.empty());
  }
}

TEST_CASE("A field that is null is a field that is not there") {
  Reader reader;
  REQUIRE_FALSE(
      reader.read(Api::completions, R"({"prompt":"x","model":null,"max_tokens":null,"stream":null,"n":null})"));
  CHECK(reader.request.model.empty());
  CHECK_FALSE(reader.request.max_tokens.has_value());
}

TEST_CASE("A conversation's next turn begins with all of the turn before and its answer") {
  Reader first, second;
  const std::string question(200, 'q'), answer = " the and for are";
  REQUIRE_FALSE(first.read(
      Api::chat,
      R"({"messages":[{"role":"system","content":"be brief"},{"role":"user","content":")" + question + "\"}]}"));
  REQUIRE_FALSE(second.read(
      Api::chat, R"({"messages":[{"role":"system","content":"be brief"},{"content":[{"type":"text","text":")" +
                     question + R"("}],"role":"user"},{"role":"assistant","content":")" + answer +
                     R"("},{"role":"user","content":"go on"}],"tools":null})"));
  TokenStream spoken = first.request.prompts[0].stream;
  spoken.append(answer);
  const std::vector<uint64_t>& before = spoken.chain();
  const std::vector<uint64_t>& after = second.request.prompts[0].stream.chain();
  REQUIRE(before.size() == 4);
  REQUIRE(after.size() >= before.size());
  for (size_t i = 0; i < before.size(); ++i) CHECK(before[i] == after[i]);
}

TEST_CASE("Tools, roles and escaped text change the prompt") {
  const char* bodies[] = {
      R"({"messages":[{"role":"user","content":"hello"}]})",
      R"({"messages":[{"role":"system","content":"hello"}]})",
      R"({"messages":[{"role":"user","content":"hello"}],"tools":[{"type":"function"}]})",
      R"({"messages":[{"role":"user","content":"hello","tool_calls":[{"id":"1"}]}]})",
      R"({"messages":[{"role":"user","content":"hell\u006f!"}]})",
      R"({"messages":[{"role":"user","content":"hello"}],"chat_template_kwargs":{"enable_thinking":false}})",
      R"({"messages":[{"role":"user","content":"hello"}],"chat_template":"other"})",
      R"({"messages":[{"role":"user","content":"hello"}],"add_generation_prompt":false})",
  };
  std::vector<uint64_t> digests;
  for (const char* body : bodies) {
    Reader reader;
    REQUIRE_FALSE(reader.read(Api::chat, body));
    digests.push_back(reader.request.prompts[0].stream.digest());
  }
  for (size_t i = 0; i < digests.size(); ++i) {
    for (size_t k = 0; k < i; ++k) CHECK(digests[i] != digests[k]);
  }
  Reader escaped;
  REQUIRE_FALSE(escaped.read(Api::chat, R"({"messages":[{"role":"user","content":"hell\u006f"}]})"));
  CHECK(escaped.request.prompts[0].stream.digest() == digests[0]);
}

TEST_CASE("An image costs a fixed number of tokens, whatever the length of its address") {
  const auto tokens = [](const std::string& url) {
    Reader reader;
    REQUIRE_FALSE(reader.read(
        Api::chat,
        R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":")" + url + R"("}}]}]})"));
    return reader.request.prompts[0].stream.tokens();
  };
  CHECK(tokens("http://a/b.png") == tokens("data:" + std::string(5000, 'x')));
  CHECK(tokens("x") > 256);
}

TEST_CASE("The responses and messages shapes of a prompt are read") {
  Reader reader;
  REQUIRE_FALSE(reader.read(Api::responses, R"({"input":"hi","instructions":"be nice","max_output_tokens":3})"));
  CHECK(reader.request.max_tokens == 3);
  REQUIRE_FALSE(reader.read(Api::responses,
                            R"({"input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"hi"}]},
      {"type":"function_call_output","call_id":"1","output":"42"}]})"));
  REQUIRE_FALSE(reader.read(Api::messages, R"({"system":[{"type":"text","text":"be nice"}],"max_tokens":3,
      "messages":[{"role":"user","content":"hi"}]})"));
  CHECK(reader.request.prompt_count == 1);
}

TEST_CASE("What /tokenize reads is the prompt that the API would read") {
  const char* messages[] = {
      R"({"messages":[{"role":"user","content":"hello"}],"tools":[{"type":"function"}]})",
      R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"chat_template_kwargs":{"x":1}})",
      R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://a"}}]}]})",
  };
  for (const char* body : messages) {
    CAPTURE(body);
    Reader chat, tokenize;
    REQUIRE_FALSE(chat.read(Api::chat, body));
    REQUIRE_FALSE(tokenize.read(Api::tokenize, body));
    CHECK(tokenize.request.prompts[0].stream.digest() == chat.request.prompts[0].stream.digest());
    TokenStream again;
    again.append(tokenize.request.prompts[0].text);
    CHECK(again.digest() == chat.request.prompts[0].stream.digest());
  }
}

TEST_CASE("A conversation whose last message goes on is its prompt and that message") {
  Reader open, begun;
  REQUIRE_FALSE(open.read(Api::chat, R"({"messages":[{"role":"user","content":"hello"}]})"));
  REQUIRE_FALSE(begun.read(Api::chat, R"({"messages":[{"role":"user","content":"hello"},
      {"role":"assistant","content":" the and"}],"continue_final_message":true,"add_generation_prompt":false})"));
  open.request.prompts[0].append(" the and");
  CHECK(open.request.prompts[0].stream.digest() == begun.request.prompts[0].stream.digest());
}

TEST_CASE("Stop strings are one or several, under the name that the API has for them") {
  Reader reader;
  REQUIRE_FALSE(reader.read(Api::completions, R"({"prompt":"x","stop":"END","include_stop_str_in_output":true})"));
  CHECK(reader.request.stop == std::vector<std::string>{"END"});
  CHECK(reader.request.include_stop);
  REQUIRE_FALSE(reader.read(Api::messages, R"({"messages":[{"role":"user","content":"x"}],"max_tokens":1,
      "stop_sequences":["a","é"],"stop":"not here"})"));
  CHECK(reader.request.stop == std::vector<std::string>{"a", "é"});
  CHECK_FALSE(reader.request.include_stop);
}

TEST_CASE("Rerank and score pair their texts") {
  Reader reader;
  REQUIRE_FALSE(reader.read(Api::rerank, R"({"query":"q","documents":["a",{"text":"b"}],"top_n":1})"));
  CHECK(reader.request.prompt_count == 2);
  CHECK(reader.request.documents == std::vector<std::string>{"a", "b"});
  CHECK(reader.request.top_n == 1);
  REQUIRE_FALSE(reader.read(Api::score, R"({"text_1":["a","b"],"text_2":["c","d"]})"));
  CHECK(reader.request.prompt_count == 2);
}
