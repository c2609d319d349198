// Streams of the messages API that go on: which requests, what is remembered of their events, and what continues them.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "padded_body.h"
#include "penstock/openai/continuation.h"
#include "penstock/openai/resume_request.h"
#include "stream_events.h"

namespace penstock::openai {
namespace {

using Took = Delivered::Took;
using State = Continuation::State;

// As vLLM 0.32 streams them.
const std::string begin_data =
    R"({"type":"message_start","message":{"id":"chatcmpl-1","type":"message","role":"assistant","content":[],)"
    R"("model":"m","stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":21,"output_tokens":0}}})";
const std::string open_data = R"({"type":"content_block_start","content_block":{"type":"text","text":""},"index":0})";
const std::string close_data = R"({"type":"content_block_stop","index":0})";
const std::string stop_data = R"({"type":"message_stop"})";
const std::string given_up_data =
    R"({"type":"message_delta","delta":{"stop_reason":null,"stop_sequence":null},"usage":{"input_tokens":21,)"
    R"("output_tokens":3}})";

std::string block_data(const std::string& block) {
  return R"({"type":"content_block_start","content_block":)" + block + R"(,"index":0})";
}
std::string delta_data(const std::string& delta) {
  return R"({"type":"content_block_delta","delta":)" + delta + R"(,"index":0})";
}
std::string text_data(const std::string& escaped) {
  return delta_data(R"({"type":"text_delta","text":")" + escaped + "\"}");
}
std::string end_data(const std::string& reason, const std::string& sequence, int output) {
  return R"({"type":"message_delta","delta":{"stop_reason":")" + reason + R"(","stop_sequence":)" + sequence +
         R"(},"usage":{"input_tokens":21,"output_tokens":)" + std::to_string(output) + "}}";
}
// An event as clients get it.
std::string named(const std::string& data) {
  const size_t begin = data.find(R"(:")") + 2;
  return "event: " + data.substr(begin, data.find('"', begin) - begin) + "\ndata: " + data + "\n\n";
}

Delivered delivered_with(const std::vector<std::string>& events) {
  Delivered delivered(Api::messages);
  for (const std::string& event : events) delivered.take(event);
  return delivered;
}
std::string obstacle_after(const std::vector<std::string>& events) {
  return to_string(delivered_with(events).obstacle());
}

TEST_CASE("the text of a message is remembered until its reason comes") {
  Delivered delivered(Api::messages);
  CHECK_FALSE(delivered.has_shape());
  CHECK(delivered.take(begin_data) == Took::other);
  CHECK(delivered.has_shape());
  CHECK(delivered.take(R"({"type":"ping"})") == Took::other);
  CHECK(delivered.take(open_data) == Took::other);
  for (const char* piece : {"Hello", " \\\"you\\\"", "\\n", "\xC3\xA9"}) {
    CHECK(delivered.take(text_data(piece)) == Took::text);
  }
  CHECK(delivered.text() == "Hello \\\"you\\\"\\n\xC3\xA9");
  CHECK_FALSE(delivered.holds());
  CHECK(delivered.take(close_data) == Took::other);
  CHECK(delivered.holds());
  CHECK(delivered.take(R"({"type":"ping"})") == Took::other);
  CHECK(delivered.holds());
  CHECK_FALSE(delivered.finished());
  CHECK(delivered.take(end_data("end_turn", "null", 5)) == Took::other);
  CHECK_FALSE(delivered.holds());
  CHECK(delivered.finished());
  CHECK(delivered.finish_reason() == "end_turn");
  CHECK(delivered.take(stop_data) == Took::other);
  CHECK(delivered.can_go_on());
}

TEST_CASE("a message that was given up is held back to its end") {
  const Delivered delivered =
      delivered_with({begin_data, open_data, text_data("a"), close_data, given_up_data, stop_data});
  CHECK(delivered.holds());
  CHECK(delivered.can_go_on());
  CHECK_FALSE(delivered.finished());
  CHECK(delivered.text() == "a");
}

TEST_CASE("messages that cannot be continued are found in their events") {
  CHECK(obstacle_after({begin_data, open_data, text_data("x")}) == "none");
  CHECK(obstacle_after({begin_data, block_data(R"({"type":"thinking","thinking":""})")}) == "reasoning");
  CHECK(obstacle_after({begin_data, block_data(R"({"type":"redacted_thinking","data":"x"})")}) == "reasoning");
  CHECK(obstacle_after({begin_data, open_data, delta_data(R"({"type":"thinking_delta","thinking":"x"})")}) ==
        "reasoning");
  CHECK(obstacle_after({begin_data, block_data(R"({"type":"tool_use","id":"t","name":"f","input":{}})")}) == "tools");
  CHECK(obstacle_after({begin_data, open_data, delta_data(R"({"type":"input_json_delta","partial_json":"{"})")}) ==
        "tools");
  CHECK(obstacle_after({begin_data, open_data, delta_data(R"({"type":"citations_delta","citation":{}})")}) ==
        "unknown_event");
  CHECK(obstacle_after({begin_data, block_data(R"({"type":"text","text":"x"})")}) == "unknown_event");
  CHECK(obstacle_after({begin_data, open_data, text_data("x"), close_data, open_data}) == "unknown_event");
  CHECK(obstacle_after({begin_data, open_data, text_data("x"), close_data, text_data("x")}) == "unknown_event");
  CHECK(obstacle_after({begin_data, begin_data}) == "unknown_event");
  CHECK(obstacle_after({begin_data, text_data("x")}) == "unknown_event");
  CHECK(obstacle_after({text_data("x")}) == "unknown_event");
  CHECK(obstacle_after({begin_data, R"({"type":"message_pause"})"}) == "unknown_event");
  CHECK(obstacle_after(
            {begin_data, R"({"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}})"}) ==
        "unknown_event");
  CHECK(obstacle_after({begin_data, open_data, text_data("\xEF\xBF\xBD")}) == "replacement_character");
}

TEST_CASE("events of a completion become events of the message") {
  Delivered delivered = delivered_with({begin_data, open_data, text_data("Hello")});
  Continuation continuation(delivered, {}, false);
  std::string out;
  CHECK(continuation.take(text_event(" \\\"wor"), out) == State::going);
  CHECK(out == named(text_data(" \\\"wor")));
  out.clear();
  CHECK(continuation.take(text_event("ld\\\"", R"("stop")", "42"), out) == State::finished);
  CHECK(out == named(text_data("ld\\\"")));
  CHECK_FALSE(delivered.finished());  // the reason comes with the usage
  out.clear();
  CHECK(continuation.take(usage_event(23, 2), out) == State::finished);
  delivered.append_end_events(out, Usage{20, 4, std::nullopt});
  CHECK(out == named(close_data) + named(end_data("end_turn", "null", 4)) + named(stop_data));
}

TEST_CASE("a message without any text yet is given a block, once") {
  Delivered delivered = delivered_with({begin_data});
  Continuation continuation(delivered, {}, false);
  std::string out;
  continuation.take(text_event("a"), out);
  continuation.take(text_event("b", R"("length")"), out);
  CHECK(out == named(open_data) + named(text_data("a")) + named(text_data("b")));
  out.clear();
  delivered.append_end_events(out, Usage{1, 2, std::nullopt});
  CHECK(out == named(close_data) + named(end_data("max_tokens", "null", 2)) + named(stop_data));
}

TEST_CASE("a message may end without text, and for a stop string") {
  Delivered delivered = delivered_with({begin_data});
  Continuation continuation(delivered, {}, false);
  std::string out;
  continuation.take(text_event("", R"("stop")", R"("\n\"")"), out);
  delivered.append_end_events(out, Usage{1, 0, std::nullopt});
  CHECK(out == named(end_data("stop_sequence", R"("\n\"")", 0)) + named(stop_data));
}

TEST_CASE("the prompt's tokens are told as they were, or as they were counted") {
  const auto usage_of = [](const std::string& begin) {
    Delivered delivered = delivered_with({begin});
    std::string out;
    delivered.finish("stop", "");
    delivered.append_end_events(out, Usage{7, 2, std::nullopt});
    const size_t at = out.find(R"("usage":)") + 8;
    return out.substr(at, out.find('}', at) + 1 - at);
  };
  const std::string lead = R"({"type":"message_start","message":{"id":"x")";
  CHECK(usage_of(lead + R"(,"usage":{"output_tokens":1,"cache_read_input_tokens":16,"input_tokens":5,)" +
                 R"("cache_creation":{"a":1},"service_tier":"x"}}})") ==
        R"({"cache_read_input_tokens":16,"input_tokens":5,"output_tokens":2})");
  CHECK(usage_of(lead + "}}") == R"({"input_tokens":7,"output_tokens":2})");
}

// The request

struct Body {
  PaddedBody bytes;
  ResumeRequest request;
  ResumeObstacle obstacle;

  explicit Body(const std::string& fields)
      : bytes(R"({"model":"m","max_tokens":9,"stream":true,)" + fields + "}"),
        obstacle(ResumeRequest::read(Api::messages, bytes.view(), "M", request)) {}
};
constexpr const char* hi = R"("messages":[{"role":"user","content":"Hi"}])";

std::string obstacle_of(const std::string& field) {
  return to_string(Body(std::string(hi) + "," + field).obstacle);
}
// The messages that the tokenizer is asked for.
std::string chat_of(const std::string& fields) {
  const Body body(fields);
  if (body.obstacle != ResumeObstacle::none) return to_string(body.obstacle);
  const std::string asked = body.request.tokenize_prompt();
  const std::string lead = R"({"model":"M","messages":)";
  return asked.starts_with(lead) ? asked.substr(lead.size(), asked.size() - lead.size() - 1) : asked;
}

TEST_CASE("the chat that servers make of a message is made") {
  CHECK(chat_of(hi) == R"([{"role":"user","content":"Hi"}])");
  CHECK(chat_of(std::string(R"("system":"Be \"short\".",)") + hi) ==
        R"([{"role":"system","content":"Be \"short\"."},{"role":"user","content":"Hi"}])");
  for (const char* none : {R"("")", "null", "[]", R"([{"type":"text","text":""}])"}) {
    CAPTURE(none);
    CHECK(chat_of(std::string(R"("system":)") + none + "," + hi) == R"([{"role":"user","content":"Hi"}])");
  }
  CHECK(chat_of(std::string(R"("system":[{"type":"text","text":"a\n","cache_control":{"type":"ephemeral"}},)") +
                R"({"text":"b","type":"text"}],)" + hi) ==
        R"([{"role":"system","content":"a\nb"},{"role":"user","content":"Hi"}])");
  CHECK(chat_of(R"("messages":[{"role":"user","content":[{"type":"text","text":"a"}]},)"
                R"({"content":[{"type":"text","text":"b"},{"type":"text","text":""},{"type":"text","text":"c"}],)"
                R"("role":"assistant"}, {"role":"user","content":""}])") ==
        R"([{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"text","text":"b"},)"
        R"({"type":"text","text":"c"}]},{"role":"user","content":""}])");
}

TEST_CASE("a message that servers may read in several ways is not continued") {
  const auto chat = [](const std::string& message) { return chat_of(R"("messages":[)" + message + "]"); };
  CHECK(chat(R"({"role":"system","content":"x"})") == "template_input");
  CHECK(chat(R"({"role":"user","content":[]})") == "template_input");
  CHECK(chat(R"({"role":"user","content":"x","name":"y"})") == "unknown_field");
  CHECK(chat(R"({"role":"user","content":[{"type":"text","text":"x","what":1}]})") == "unknown_field");
  CHECK(chat(R"({"role":"user","content":[{"type":"image","source":{}}]})") == "media");
  CHECK(chat(R"({"role":"user","content":[{"type":"document","source":{}}]})") == "media");
  CHECK(chat(R"({"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":"x"}]})") == "tools");
  CHECK(chat(R"({"role":"assistant","content":[{"type":"thinking","thinking":"x","signature":"s"}]})") == "reasoning");
  CHECK(chat_of(std::string(R"("system":[{"type":"text","text":"x-anthropic-billing-header: 1"}],)") + hi) ==
        "template_input");
}

TEST_CASE("each field of a message has its place in the table") {
  CHECK(obstacle_of(R"("tools":[{"name":"f","input_schema":{}}])") == "tools");
  CHECK(obstacle_of(R"("tool_choice":{"type":"auto"})") == "tools");
  CHECK(obstacle_of(R"("thinking":{"type":"enabled","budget_tokens":1024})") == "reasoning");
  CHECK(obstacle_of(R"("thinking":{"type":"disabled"})") == "reasoning");
  CHECK(obstacle_of(R"("output_config":{"format":{"type":"json_schema","schema":{}}})") == "structured_output");
  CHECK(obstacle_of(R"("output_config":{"effort":"low"})") == "template_input");
  CHECK(obstacle_of(R"("output_config":{"effort":null,"format":null})") == "none");
  CHECK(obstacle_of(R"("output_config":{"what":1})") == "unknown_field");
  for (const char* field :
       {R"("n":2)", R"("seed":1)", R"("stop":["x"])", R"("messages_extra":1)", R"("max_completion_tokens":3)"}) {
    CAPTURE(field);
    CHECK(obstacle_of(field) == "unknown_field");
  }
  for (const char* field : {R"("tools":[])", R"("thinking":null)", R"("metadata":{"user_id":"u"})",
                            R"("service_tier":"auto")", R"("kv_transfer_params":{"x":1})"}) {
    CAPTURE(field);
    CHECK(obstacle_of(field) == "none");
  }
  CHECK(to_string(Body(R"("messages":[{"role":"user","content":"x"}],"stream_options":{})").obstacle) ==
        std::string("unknown_field"));
}

TEST_CASE("a message goes on as a completion with its settings") {
  const Body body(std::string(hi) + R"(,"temperature":0,"top_p":0.9,"top_k":4,"stop_sequences":["END","\n"],)" +
                  R"("chat_template_kwargs":{"a":1},"metadata":{"user_id":"u"})");
  REQUIRE(body.obstacle == ResumeObstacle::none);
  CHECK(body.request.include_usage());
  CHECK(body.request.stops() == std::vector<std::string>{"END", "\n"});
  CHECK(body.request.tokenize_prompt().ends_with(R"(,"chat_template_kwargs":{"a":1}})"));
  CHECK(body.request.continuation({1, 2}, {3}, 100) ==
        R"({"model":"M","prompt":[1,2,3],"max_tokens":8,"stream":true,"stream_options":{"include_usage":true},)"
        R"("temperature":0,"top_p":0.9,"top_k":4,"stop":["END","\n"]})");
  CHECK_FALSE(body.request.text_prompt());
}

}  // namespace
}  // namespace penstock::openai
