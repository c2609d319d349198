#include "penstock/openai/delivered.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "penstock/openai/usage.h"
#include "stream_events.h"
#include "tests/support/allocations.h"

namespace penstock::openai {
namespace {

using Took = Delivered::Took;

// The obstacle after these events.
template <typename... Events>
std::string obstacle(Api api, const Events&... events) {
  Delivered delivered(api);
  (delivered.take(events), ...);
  CHECK(delivered.can_go_on() == (delivered.obstacle() == ResumeObstacle::none));
  if (!delivered.can_go_on()) CHECK(delivered.text().empty());
  return to_string(delivered.obstacle());
}

TEST_CASE("the text of a chat is remembered as it was delivered") {
  Delivered delivered(Api::chat_completions);
  CHECK_FALSE(delivered.has_shape());
  CHECK(delivered.take(chat_role()) == Took::other);
  CHECK(delivered.has_shape());
  CHECK(delivered.events() == 0);
  for (const char* piece :
       {"Hello", " \\\"world\\\"", "", "\\n\\u00e9\\ud83d\\ude00", "\xC3\xA9\xF0\x9F\x98\x80\xEF\xBC\x81"}) {
    CAPTURE(piece);
    CHECK(delivered.take(chat_text(piece)) == Took::text);
  }
  CHECK(delivered.events() == 5);
  CHECK(delivered.text() == "Hello \\\"world\\\"\\n\\u00e9\\ud83d\\ude00\xC3\xA9\xF0\x9F\x98\x80\xEF\xBC\x81");
  CHECK_FALSE(delivered.finished());
  CHECK(delivered.take(chat_finish("length", "!")) == Took::other);
  CHECK(delivered.finished());
  CHECK(delivered.finish_reason() == "length");
  CHECK(delivered.text().ends_with("!"));
  CHECK(delivered.take(usage_event(1, 2)) == Took::other);
  CHECK(delivered.take("[DONE]") == Took::other);
  CHECK(delivered.can_go_on());
}

TEST_CASE("the text of a completion is remembered, whatever order its fields have") {
  Delivered delivered(Api::completions);
  CHECK(delivered.take(text_event("a")) == Took::text);
  CHECK(delivered.take(text_event("b")) == Took::text);
  CHECK(delivered.take(R"( {"x":1})") == Took::other);  // no object at its beginning: not for clients of this API
  const std::string other = R"({"choices":[{"text":"c","index":0}],"model":"m","id":"x","created":1})";
  CHECK(delivered.take(other) == Took::text);
  CHECK(delivered.take(text_event("d")) == Took::text);
  CHECK(delivered.text() == "abcd");
  CHECK(delivered.can_go_on());
}

TEST_CASE("text that looks like the end of its event is no text") {
  for (const char* rest : {
           R"(a","logprobs":null,"finish_reason":"stop","stop_reason":"x)",
           R"(a\","logprobs":1)",
           R"(a"},{"index":1,"text":")",
       }) {
    CAPTURE(rest);
    Delivered delivered(Api::completions);
    delivered.take(text_event("x"));
    const std::string event = text_event(rest);
    delivered.take(event);
    const std::string text(delivered.text());
    CHECK((text.empty() || text == "x" || text == "xa" || text == R"(xa\",\"logprobs\":1)"));
    CHECK((!delivered.can_go_on() || delivered.finished() || text == "xa"));
  }
}

// The fast look and the parser must be of one mind about what is text: it is tried with the end of the event's text cut
// at every place and other bytes put there.
TEST_CASE("an event taken for text says nothing else") {
  const std::string_view insertions[] = {"\"", "\\", "\\\"", "{", "}", ",", "\x01", "\\u12", "\\q", "\xEF\xBF\xBD"};
  const std::string whole = text_event("some text");
  for (size_t at = 0; at <= whole.size(); ++at) {
    for (const std::string_view insertion : insertions) {
      const std::string event = whole.substr(0, at) + std::string(insertion) + whole.substr(at);
      Delivered known(Api::completions), fresh(Api::completions);
      known.take(text_event("x"));
      const Took took = known.take(event), parsed = fresh.take(event);
      CAPTURE(event);
      CHECK(known.can_go_on() == fresh.can_go_on());
      if (known.can_go_on()) CHECK(took == parsed);
      if (known.can_go_on()) CHECK(known.text() == "x" + std::string(fresh.text()));
    }
  }
}

TEST_CASE("what cannot be continued is found in the events") {
  const Api chat = Api::chat_completions;
  CHECK(obstacle(chat, chat_role(), chat_text("x")) == "none");
  CHECK(obstacle(chat, chat_event(R"({"tool_calls":[{"index":0}]})")) == "tools");
  CHECK(obstacle(chat, chat_event(R"({"content":"x","tool_calls":[]})")) == "none");
  CHECK(obstacle(chat, chat_event(R"({"function_call":{}})")) == "tools");
  CHECK(obstacle(chat, chat_event(R"({"reasoning":"hm"})"), chat_text("x")) == "reasoning");
  CHECK(obstacle(chat, chat_event(R"({"reasoning_content":"hm"})")) == "reasoning");
  CHECK(obstacle(chat, chat_event(R"({"role":null,"content":"x","reasoning_content":null,"tool_calls":null})")) ==
        "none");
  CHECK(obstacle(chat, chat_event(R"({"refusal":"no"})")) == "unknown_event");
  CHECK(obstacle(chat, chat_event(R"({"content":["x"]})")) == "unknown_event");
  CHECK(obstacle(chat, chat_event(R"({"content":"x","content":"y"})")) == "unknown_event");
  CHECK(obstacle(chat, R"({"choices":[],"choices":[]})") == "unknown_event");
  CHECK(obstacle(chat, R"({"choices":[{"index":0,"delta":{"content":"a"},"delta":{}}]})") == "unknown_event");
  CHECK(obstacle(chat, chat_event("{}", R"("index":1,"finish_reason":null})")) == "several_choices");
  CHECK(obstacle(chat, chat_event("{}", R"("finish_reason":null},{"index":0})")) == "several_choices");
  CHECK(obstacle(chat, chat_event("{}", R"("token_ids":[1],"finish_reason":null})")) == "token_ids");
  CHECK(obstacle(chat, chat_event("{}", R"("token_ids":null,"finish_reason":null})")) == "none");
  CHECK(obstacle(chat, R"({"choices":[{"index":0,"delta":{},"logprobs":{"content":[]}}]})") == "logprobs");
  CHECK(obstacle(chat, R"({"choices":[{"index":0,"delta":{"content":"a"}}],"usage":{"prompt_tokens":1}})") ==
        "usage_in_chunks");
  CHECK(obstacle(chat, R"({"choices":[{"index":0,"delta":{"content":"a"}}],"usage":null})") == "none");
  CHECK(obstacle(chat, R"({"prompt_token_ids":[1],"choices":[]})") == "token_ids");
  CHECK(obstacle(chat, chat_finish("stop"), chat_text("x")) == "unknown_event");
  CHECK(obstacle(chat, R"({"choices":[{"index":0)") == "unknown_event");
  CHECK(obstacle(chat, text_event("x")) == "unknown_event");  // of the other API
  CHECK(obstacle(chat, chat_text("x"), chat_text("\xEF\xBF\xBD")) == "replacement_character");
  CHECK(obstacle(chat, chat_text("x"), chat_text("\\uFFFD")) == "replacement_character");
  CHECK(obstacle(chat, chat_text("x"), chat_text("\\ufffd")) == "replacement_character");
  CHECK(obstacle(chat, chat_text("x"), chat_text("\\ud83d")) == "replacement_character");
  CHECK(obstacle(chat, chat_text("x"), chat_text("\\ude00")) == "replacement_character");
  CHECK(obstacle(chat, chat_text("x"), chat_text("\\q")) == "unknown_event");
  CHECK(obstacle(chat, "", ": keep-alive", "ping", "[DONE]") == "none");
}

TEST_CASE("an event that says that the engine failed is not delivered") {
  Delivered delivered(Api::chat_completions);
  delivered.take(chat_text("x"));
  CHECK(delivered.take(chat_finish("abort", "lost")) == Took::other);
  CHECK(delivered.take(chat_finish("error", "lost")) == Took::other);
  CHECK(delivered.take(R"({"error":{"message":"x","code":500}})") == Took::other);
  CHECK(delivered.take(R"({"object":"error","message":"x"})") == Took::other);
  CHECK(delivered.text() == "x");
  CHECK(delivered.can_go_on());
  CHECK_FALSE(delivered.finished());
}

TEST_CASE("more text than the longest is not remembered") {
  Delivered delivered(Api::completions, 100);
  for (int i = 0; i < 25; ++i) CHECK(delivered.take(text_event("word")) == Took::text);
  CHECK(delivered.can_go_on());
  CHECK(delivered.take(text_event("")) == Took::text);
  CHECK(delivered.take(text_event("x")) == Took::other);
  CHECK(delivered.obstacle() == ResumeObstacle::too_long);
  CHECK(delivered.memory() < 1000);
  CHECK(delivered.take(text_event("x")) == Took::other);
}

TEST_CASE("what is remembered takes at most 8 bytes a token of 4 bytes, and few allocations") {
  constexpr size_t tokens = 4096, fixed = 512;
  Delivered delivered(Api::completions);
  const std::string event = text_event("word");
  delivered.take(event);
  const size_t before = test::allocations();
  for (size_t i = 1; i < tokens; ++i) delivered.take(event);
  CHECK(test::allocations() - before <= 32);
  CHECK(delivered.text().size() == 4 * tokens);
  CHECK(delivered.memory() <= 8 * tokens);
  CHECK(delivered.memory() >= 4 * tokens);
  CHECK(delivered.memory() <= 5 * tokens + fixed);
}

TEST_CASE("events of ours have the form of the stream's own") {
  Delivered delivered(Api::chat_completions);
  delivered.take(chat_role());
  std::string out;
  delivered.append_text_event(out, "a\\n");  // before any text was delivered
  CHECK(out == sent(chat_text("a\\n")));
  delivered.take(
      R"({"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"m","system_fingerprint":"f",)"
      R"("choices":[{"index":0,"delta":{"content":"x"}}]})");
  out.clear();
  delivered.append_text_event(out, "a");
  CHECK(out ==
        sent(R"({"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"m","system_fingerprint":)"
             R"("f","choices":[{"index":0,"delta":{"content":"a"}}]})"));
  out.clear();
  delivered.append_finish_event(out, "stop", R"("\n")");
  CHECK(out == sent(chat_event(R"({"content":""})", R"("finish_reason":"stop","stop_reason":"\n"})")));
  out.clear();
  delivered.append_end_events(out, Usage{4000000000, 4000000000, std::nullopt});
  CHECK(out ==
        sent(R"({"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"m","choices":[],"usage":)"
             R"({"prompt_tokens":4000000000,"total_tokens":8000000000,"completion_tokens":4000000000}})") +
            sent("[DONE]"));
  AnswerObserver observer;
  CHECK(observer.on_event("", out.substr(6, out.find('\n') - 6)) == AnswerObserver::Kind::usage_only);
}

TEST_CASE("events of ours keep the id and the time of the first event") {
  Delivered delivered(Api::completions);
  delivered.take(text_event("a", "null", "null", "cmpl-1"));
  delivered.take(text_event("b", "null", "null", "cmpl-2"));
  std::string out;
  delivered.append_text_event(out, "c");
  delivered.append_finish_event(out, "length", "");
  CHECK(out == sent(text_event("c", "null", "null", "cmpl-1")) + sent(text_event("", R"("length")", "null", "cmpl-1")));
  out.clear();
  delivered.append_end_events(out, Usage{3, 4, 2});
  CHECK(out == sent(R"({"id":"cmpl-1","object":"text_completion","created":8,"model":"M","choices":[],"usage":)"
                    R"({"prompt_tokens":3,"total_tokens":7,"completion_tokens":4,"prompt_tokens_details":)"
                    R"({"cached_tokens":2}}})") +
                   sent("[DONE]"));
}

TEST_CASE("a role that comes with the first text is not said again, and one that comes with each is") {
  const std::string with_role = chat_event(R"({"role":"assistant","content":"x"})");
  Delivered delivered(Api::chat_completions);
  delivered.take(with_role);
  CHECK(delivered.text() == "x");
  std::string out;
  delivered.append_text_event(out, "a");
  CHECK(out == sent(chat_text("a")));
  CHECK(delivered.take(with_role) == Took::text);
  CHECK(delivered.take(with_role) == Took::text);
  out.clear();
  delivered.append_text_event(out, "x");
  CHECK(out == sent(with_role));
  CHECK(delivered.text() == "xxx");
}

TEST_CASE("an unusual field is not said again") {
  Delivered delivered(Api::chat_completions);
  const std::string event = R"({"id":"i","nonce":"1","choices":[{"index":0,"delta":{"content":"x"}}]})";
  CHECK(delivered.take(event) == Took::text);
  CHECK(delivered.take(event) == Took::text);
  CHECK(delivered.text() == "xx");
  std::string out;
  delivered.append_text_event(out, "a");
  CHECK(out.find("nonce") == std::string::npos);
  CHECK(out.starts_with(
      R"(data: {"id":"i","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"a"})"));
}

std::string with_ids(std::string_view escaped, std::string_view ids) {
  return chat_event(R"({"content":")" + std::string(escaped) + "\"}",
                    R"("finish_reason":null,"token_ids":)" + std::string(ids) + "}");
}

TEST_CASE("ids of tokens are kept where they were asked for, and make any text one that can be continued") {
  Delivered delivered(Api::chat_completions, 1000, true);
  delivered.take(chat_role());
  CHECK(delivered.take(with_ids("a", "[1, 4294967295]")) == Took::text);
  CHECK(delivered.take(with_ids("", "[3]")) == Took::text);
  CHECK(delivered.take(with_ids("\\ufffdb", "[4]")) == Took::text);
  CHECK(delivered.ids() == std::vector<uint32_t>{1, 4294967295, 3, 4});
  CHECK(delivered.text() == "a\\ufffdb");
  CHECK(delivered.keeps_ids());
  std::string out;
  delivered.append_text_event(out, "c");  // with no ids in it
  CHECK(out == sent(chat_text("c")));
  delivered.cut_ids(3);
  CHECK(delivered.ids().size() == 3);
  delivered.forget_ids();
  CHECK(delivered.obstacle() == ResumeObstacle::replacement_character);
}

TEST_CASE("an event with text and without ids ends that, and nothing else") {
  Delivered delivered(Api::chat_completions, 1000, true);
  delivered.take(with_ids("a", "[1]"));
  delivered.take(with_ids("", "null"));
  CHECK(delivered.keeps_ids());
  delivered.take(with_ids("b", "null"));
  CHECK_FALSE(delivered.keeps_ids());
  CHECK(delivered.ids().empty());
  CHECK(delivered.can_go_on());
  delivered.take(with_ids("c", "null"));
  CHECK(delivered.text() == "abc");
  CHECK(obstacle(Api::chat_completions, with_ids("c", "[1]")) == "token_ids");
}

TEST_CASE("ids that are too many, or none, are not kept") {
  Delivered many(Api::chat_completions, 100, true);
  for (int i = 0; i < 101; ++i) many.take(with_ids("", "[1]"));
  CHECK(many.obstacle() == ResumeObstacle::too_long);
  CHECK(many.ids().empty());
  Delivered wrong(Api::chat_completions, 100, true);
  wrong.take(with_ids("a", "[\"1\"]"));
  CHECK_FALSE(wrong.keeps_ids());
  CHECK(wrong.can_go_on());
}

}  // namespace
}  // namespace penstock::openai
