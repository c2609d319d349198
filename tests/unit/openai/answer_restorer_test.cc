#include "penstock/openai/answer_restorer.h"

#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include "penstock/base/random.h"
#include "tests/support/restored_answer.h"

using namespace penstock;
using openai::AnswerRestorer;
using Shape = AnswerRestorer::Shape;

namespace {

constexpr std::string_view kAsked = "chat";

std::string restored(Shape shape, std::string_view text, const AnswerRestorer::Changes& changes = {kAsked}) {
  AnswerRestorer restorer;
  restorer.begin(shape, changes);
  std::string out;
  restorer.feed(text, out);
  return out;
}

// In two pieces cut anywhere, and byte by byte, the result is that of one piece.
void check_pieces(Shape shape, std::string_view text, std::string_view expected,
                  const AnswerRestorer::Changes& changes = {kAsked}) {
  CHECK(restored(shape, text, changes) == expected);
  AnswerRestorer restorer;
  for (size_t cut = 1; cut < text.size(); ++cut) {
    restorer.begin(shape, changes);
    std::string out;
    restorer.feed(text.substr(0, cut), out);
    restorer.feed(text.substr(cut), out);
    REQUIRE(out == expected);
  }
  restorer.begin(shape, changes);
  std::string out;
  for (const char c : text) restorer.feed({&c, 1}, out);
  CHECK(out == expected);
}

void check_json(std::string_view text, std::string_view expected, const AnswerRestorer::Changes& changes = {kAsked}) {
  check_pieces(Shape::json, text, expected, changes);
  CHECK(test::RestoredAnswer::of(text, changes) == expected);
}

}  // namespace

TEST_CASE("the model at the top level of an answer gets the client's name") {
  check_json(
      R"({"id":"1","object":"chat.completion","model":"meta/llama-3.1-8b","choices":[{"index":0}],"usage":null})",
      R"({"id":"1","object":"chat.completion","model":"chat","choices":[{"index":0}],"usage":null})");
  check_json(R"( { "a" : [1, {"b":[]}], "t":true ,"model" : "meta/llama-3.1-8b" } )",
             R"( { "a" : [1, {"b":[]}], "t":true ,"model" : "chat" } )");
}

TEST_CASE("whatever the server calls the model, the client sees its own name") {
  for (const char* name :
       {"", "base", "/models/private-base-v2", R"(a\/b\\)", R"(\"model\":\"x\")", R"(\u006d\n)", "chat"}) {
    check_json(R"({"model":")" + std::string(name) + R"(","x":")" + name + R"("})",
               R"({"model":"chat","x":")" + std::string(name) + R"("})");
  }
  check_json(R"({"model":"a","model":"b"})", R"({"model":"chat","model":"chat"})");
  CHECK(restored(Shape::json, R"({"model":"a"})", {"x\"\\"}) == R"({"model":"x\"\\"})");
  const std::string lengthy(100'000, 'm');
  CHECK(restored(Shape::json, R"({"model":")" + lengthy + R"("})") == R"({"model":"chat"})");
}

TEST_CASE("what is no name stays") {
  for (const char* text : {
           R"({"models":"meta/llama-3.1-8b","mode":"meta/llama-3.1-8b","a\\model":"x","mod\u0065l":"x"})",
           R"({"model":null,"x":"model"})",
           R"({"model":{"model":"meta/llama-3.1-8b"}})",
           R"({"model":["meta/llama-3.1-8b"]})",
           R"(["model","meta/llama-3.1-8b"])",
           R"("model")",
       }) {
    check_pieces(Shape::json, text, text);
  }
}

TEST_CASE("of the responses and messages APIs the inner object has the model") {
  check_json(R"({"type":"response.created","response":{"id":"r","model":"meta/llama-3.1-8b","output":[]},"n":1})",
             R"({"type":"response.created","response":{"id":"r","model":"chat","output":[]},"n":1})");
  check_json(R"({"type":"message_start","message":{"model":"meta/llama-3.1-8b"},"model":"meta/llama-3.1-8b"})",
             R"({"type":"message_start","message":{"model":"chat"},"model":"chat"})");
  const char* deeper = R"({"response":{"response":{"model":"meta/llama-3.1-8b"},"message":[]}})";
  check_json(deeper, deeper);
}

TEST_CASE("generated text is never touched") {
  for (const char* text : {
           R"({"choices":[{"text":"{\"model\":\"meta/llama-3.1-8b\"}"}]})",
           R"({"choices":[{"message":{"model":"meta/llama-3.1-8b","content":"x"}}]})",
           R"({"text":"\\\",\"model\":\"meta/llama-3.1-8b","a\"model":"meta/llama-3.1-8b"})",
           R"({"delta":{"model":"meta/llama-3.1-8b"},"output":[{"model":"meta/llama-3.1-8b"}]})",
       }) {
    check_json(text, text);
  }
}

TEST_CASE("in a stream every event's model is restored") {
  check_pieces(Shape::events,
               ": keep-alive\n\ndata: {\"model\":\"meta/llama-3.1-8b\",\"choices\":[{\"text\":\"data: {\"}]}\n\n"
               "event: response.created\r\ndata:{\"response\":{\"model\":\"meta/llama-3.1-8b\"}}\r\n\r\n"
               "data: {\"choices\":[],\rdata: \"model\":\"meta/llama-3.1-8b\"}\r\rdata: [DONE]\n\n",
               ": keep-alive\n\ndata: {\"model\":\"chat\",\"choices\":[{\"text\":\"data: {\"}]}\n\n"
               "event: response.created\r\ndata:{\"response\":{\"model\":\"chat\"}}\r\n\r\n"
               "data: {\"choices\":[],\rdata: \"model\":\"chat\"}\r\rdata: [DONE]\n\n");
}

TEST_CASE("what is broken passes as it is, until the next event") {
  check_pieces(Shape::events,
               "data: {\"model\":\"meta/llama\n\ndata: {\"a\":\"\ndata: \",\"model\":\"meta/llama-3.1-8b\"}\n\n"
               "dat: {\"model\":\"meta/llama-3.1-8b\"}\n\ndata: {]\n\ndata: {\"model\":\"meta/llama-3.1-8b\"}",
               "data: {\"model\":\"chat\"\n\ndata: {\"a\":\"\ndata: \",\"model\":\"meta/llama-3.1-8b\"}\n\n"
               "dat: {\"model\":\"meta/llama-3.1-8b\"}\n\ndata: {]\n\ndata: {\"model\":\"chat\"}");
  check_pieces(Shape::json, "{\"model\":\"meta/llama-3", "{\"model\":\"chat\"");
}

TEST_CASE("random answers in random pieces come out as a JSON parser has them") {
  Random random(7);
  constexpr std::string_view parts[] = {R"("model":"meta/llama-3.1-8b")",
                                        R"("model":"meta\/llama-3.1-8b")",
                                        R"("x":"\"model\":\"meta/llama-3.1-8b\"")",
                                        R"("response":{"model":"meta/llama-3.1-8b","y":[{}]})",
                                        R"("choices":[{"model":"meta/llama-3.1-8b"}])",
                                        R"("n":-1.5e3)",
                                        R"("model":"meta/llama")",
                                        R"("message":{})",
                                        R"("a":null)"};
  size_t changed = 0;
  for (int round = 0; round < 2000; ++round) {
    std::string text = "{";
    for (uint64_t i = 0, count = random.below(5); i < count; ++i) {
      if (i > 0) text += random.chance(0.5) ? "," : " , ";
      text += parts[random.below(std::size(parts))];
    }
    text += "}";
    AnswerRestorer restorer;
    restorer.begin(Shape::json, {kAsked});
    std::string out;
    for (size_t at = 0; at < text.size();) {
      const size_t size = 1 + random.below(9);
      restorer.feed(std::string_view(text).substr(at, size), out);
      at += size;
    }
    REQUIRE(test::RestoredAnswer::of(text, {kAsked}) == out);
    changed += out != text;
  }
  CHECK(changed > 500);
}

TEST_CASE("token ids that nobody but the gateway asked for become null") {
  const AnswerRestorer::Changes ids{.model = {}, .token_ids = true};
  const std::string_view chat =
      R"({"model":"m","choices":[{"index":0,"delta":{"content":"token_ids\":[1]"},"token_ids":[12, 345]}],"prompt_token_ids":[1,2]})";
  const std::string_view without =
      R"({"model":"m","choices":[{"index":0,"delta":{"content":"token_ids\":[1]"},"token_ids":null}],"prompt_token_ids":null})";
  check_json(chat, without, ids);
  check_json(chat, chat, {.model = "m"});
  check_json(R"({"choices":[{"text":"a","prompt_token_ids":[],"token_ids":[ ] },{"token_ids":[7]}],"model":"m"})",
             R"({"choices":[{"text":"a","prompt_token_ids":null,"token_ids":null },{"token_ids":null}],"model":"c"})",
             {.model = "c", .token_ids = true});
  check_json(R"({"choices":[],"token_ids":[1],"usage":{"token_ids":[1]},"prompt_token_ids":[3]})",
             R"({"choices":[],"token_ids":[1],"usage":{"token_ids":[1]},"prompt_token_ids":null})", ids);
  check_json(R"({"choices":[{"delta":{"token_ids":[1],"model":"x"},"model":"y"}]})",
             R"({"choices":[{"delta":{"token_ids":[1],"model":"x"},"model":"y"}]})", {.model = "c", .token_ids = true});
  check_pieces(Shape::events,
               "data: {\"choices\":[{\"token_ids\":[1,\ndata: 2]}]}\n\ndata: {\"prompt_token_ids\":[1]}\n\n",
               "data: {\"choices\":[{\"token_ids\":null\ndata:}]}\n\ndata: {\"prompt_token_ids\":null}\n\n", ids);
  check_pieces(Shape::events,
               R"(data: {"choices":[1,{"token_ids":[1]}],"prompt_token_ids":[2]})"
               "\n\n",
               R"(data: {"choices":[1,{"token_ids":[1]}],"prompt_token_ids":[2]})"
               "\n\n",
               ids);
}
