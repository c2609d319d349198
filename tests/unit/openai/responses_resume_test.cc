// Streams of the responses API that go on: which requests, what is remembered of their events, and what continues them.
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

// As vLLM 0.32 streams them, but for some of the fields of a response.
std::string response(const std::string& status, const std::string& details, const std::string& output,
                     const std::string& usage) {
  return R"({"id":"resp_1","created_at":7,"incomplete_details":)" + details +
         R"(,"instructions":"Be \"brief\".","model":"m","object":"response","output":[)" + output +
         R"(],"tools":[],"temperature":0.0,"status":")" + status + R"(","usage":)" + usage + R"(,"user":null})";
}
std::string numbered(const std::string& type, const std::string& fields, int number, const std::string& more = "") {
  return "{" + fields + R"(,"sequence_number":)" + std::to_string(number) + more + R"(,"type":"response.)" + type +
         "\"}";
}
const std::string begun = response("in_progress", "null", "", "null");
const std::string created = numbered("created", R"("response":)" + begun, 0);
const std::string in_progress = numbered("in_progress", R"("response":)" + begun, 1);

std::string part(const std::string& text, const std::string& logprobs = "null") {
  return R"({"annotations":[],"text":")" + text + R"(","type":"output_text","logprobs":)" + logprobs + "}";
}
std::string item(const std::string& content, const std::string& status, const std::string& id = "msg_2") {
  return R"({"id":")" + id + R"(","content":[)" + content + R"(],"role":"assistant","status":")" + status +
         R"(","type":"message","phase":null})";
}
std::string item_begins(int number = 2, const std::string& id = "msg_2") {
  return numbered("output_item.added", R"("item":)" + item("", "in_progress", id) + R"(,"output_index":0)", number);
}
std::string part_begins(int number = 3, const std::string& id = "msg_2") {
  return numbered("content_part.added",
                  R"("content_index":0,"item_id":")" + id + R"(","output_index":0,"part":)" + part("", "[]"), number);
}
std::string text_data(const std::string& escaped, int number, const std::string& id = "msg_2") {
  return numbered(
      "output_text.delta",
      R"("content_index":0,"delta":")" + escaped + R"(","item_id":")" + id + R"(","logprobs":[],"output_index":0)",
      number);
}
std::string text_ends(const std::string& text, int number, const std::string& id = "msg_2") {
  return numbered("output_text.done", R"("content_index":0,"item_id":")" + id + R"(","logprobs":[],"output_index":0)",
                  number, R"(,"text":")" + text + "\"");
}
std::string part_ends(const std::string& text, int number, const std::string& id = "msg_2") {
  return numbered("content_part.done",
                  R"("content_index":0,"item_id":")" + id + R"(","output_index":0,"part":)" + part(text), number);
}
std::string item_ends(const std::string& text, int number, const std::string& id = "msg_2") {
  return numbered("output_item.done", R"("item":)" + item(part(text), "completed", id) + R"(,"output_index":0)",
                  number);
}
std::string usage(int input, int output) {
  return R"({"input_tokens":)" + std::to_string(input) + R"(,"input_tokens_details":{"cached_tokens":0},)" +
         R"("output_tokens":)" + std::to_string(output) +
         R"(,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":)" + std::to_string(input + output) + "}";
}
std::string ends(const std::string& output, bool cut, const std::string& usage_json, int number) {
  const std::string details = cut ? R"({"reason":"max_output_tokens"})" : "null";
  return numbered("completed",
                  R"("response":)" + response(cut ? "incomplete" : "completed", details, output, usage_json), number);
}
// An event as clients get it.
std::string named(const std::string& data) {
  const size_t begin = data.rfind(R"("type":")") + 8;
  return "event: " + data.substr(begin, data.find('"', begin) - begin) + "\ndata: " + data + "\n\n";
}
// All that ends a text.
std::string last_events(const std::string& text, bool cut, const std::string& usage_json, int number,
                        const std::string& id = "msg_2") {
  return named(text_ends(text, number, id)) + named(part_ends(text, number + 1, id)) +
         named(item_ends(text, number + 2, id)) +
         named(ends(item(part(text), "completed", id), cut, usage_json, number + 3));
}

const std::vector<std::string> opened = {created, in_progress, item_begins(), part_begins()};

Delivered delivered_with(const std::vector<std::string>& events) {
  Delivered delivered(Api::responses);
  for (const std::string& event : events) delivered.take(event);
  return delivered;
}
std::string obstacle_after(const std::vector<std::string>& more) {
  Delivered delivered = delivered_with(opened);
  for (const std::string& event : more) delivered.take(event);
  if (!delivered.can_go_on()) CHECK(delivered.text().empty());
  return to_string(delivered.obstacle());
}
std::string obstacle_of_events(const std::vector<std::string>& events) {
  return to_string(delivered_with(events).obstacle());
}

TEST_CASE("the text of a response is remembered until the response ends") {
  Delivered delivered(Api::responses);
  CHECK_FALSE(delivered.has_shape());
  CHECK(delivered.take(created) == Took::other);
  CHECK(delivered.has_shape());
  for (const std::string& event : {in_progress, item_begins(), part_begins()}) {
    CHECK(delivered.take(event) == Took::other);
  }
  int number = 4;
  for (const char* piece : {"Hello", " \\\"you\\\"", "", "\\n", "\xC3\xA9", "a piece that is longer than a block"}) {
    CHECK(delivered.take(text_data(piece, number++)) == Took::text);
  }
  CHECK(delivered.text() ==
        "Hello \\\"you\\\"\\n\xC3\xA9"
        "a piece that is longer than a block");
  CHECK(delivered.events() == 6);
  const std::string text(delivered.text());
  for (const std::string& event : {text_ends(text, 10), part_ends(text, 11), item_ends(text, 12)}) {
    CHECK(delivered.take(event) == Took::other);
    CHECK(delivered.holds());
  }
  CHECK_FALSE(delivered.finished());
  CHECK(delivered.take(ends(item(part(text), "completed"), false, usage(9, 6), 13)) == Took::other);
  CHECK_FALSE(delivered.holds());
  CHECK(delivered.finished());
  CHECK(delivered.can_go_on());
}

TEST_CASE("a response that was given up is held back to its end") {
  for (const std::string& last :
       {numbered("completed", R"("response":)" + response("cancelled", "null", "", "null"), 8),
        numbered("incomplete", R"("response":)" + response("incomplete", R"({"reason":"abort"})", "", "null"), 8)}) {
    std::vector<std::string> events = opened;
    events.insert(events.end(), {text_data("a", 4), text_ends("a", 5), part_ends("a", 6), item_ends("a", 7), last});
    const Delivered delivered = delivered_with(events);
    CHECK(delivered.holds());
    CHECK(delivered.can_go_on());
    CHECK_FALSE(delivered.finished());
    CHECK(delivered.text() == "a");
  }
}

TEST_CASE("responses that cannot be continued are found in their events") {
  CHECK(obstacle_after({text_data("x", 4), text_data("y", 5)}) == "none");
  CHECK(obstacle_after({text_data("x", 4), text_ends("x", 5), item_begins(6)}) == "unknown_event");
  CHECK(obstacle_after({text_data("x", 4), text_ends("x", 5), text_data("y", 6)}) == "unknown_event");
  CHECK(obstacle_after({text_data("x", 4), ends("", false, "null", 5), text_data("y", 6)}) == "unknown_event");
  CHECK(obstacle_after({numbered("reasoning_text.delta", R"("delta":"x")", 4)}) == "reasoning");
  CHECK(obstacle_after({numbered("function_call_arguments.delta", R"("delta":"x")", 4)}) == "tools");
  CHECK(obstacle_after({numbered("refusal.delta", R"("delta":"x")", 4)}) == "unknown_event");
  CHECK(obstacle_after({text_data("\xEF\xBF\xBD", 4)}) == "replacement_character");
  CHECK(obstacle_after({text_data("x", 4), text_data("\xEF\xBF\xBD", 5)}) == "replacement_character");
  CHECK(obstacle_after({R"({"delta":"x","type":"response.output_text.delta"})"}) == "unknown_event");  // no number
  CHECK(obstacle_after({numbered("output_text.delta", R"("delta":"x","obfuscation":"y")", 4)}) == "unknown_event");
  CHECK(obstacle_after({numbered("output_text.delta", R"("delta":"x","output_index":1)", 4)}) == "unknown_event");
  CHECK(obstacle_after({numbered("output_text.delta", R"("delta":["x"])", 4)}) == "unknown_event");
  CHECK(obstacle_after({numbered("output_text.delta", R"("delta":"x","delta":"y")", 4)}) == "unknown_event");
  CHECK(obstacle_after({numbered("output_text.delta", R"("delta":"x","logprobs":[{"token":"x"}])", 4)}) == "logprobs");
  CHECK(obstacle_after({created}) == "unknown_event");
  CHECK(obstacle_after({item_begins(4)}) == "unknown_event");
  CHECK(obstacle_after({part_begins(4)}) == "unknown_event");
  CHECK(obstacle_of_events({text_data("x", 0)}) == "unknown_event");
  CHECK(obstacle_of_events({created, text_data("x", 1)}) == "unknown_event");
  CHECK(obstacle_of_events({created, part_begins(1)}) == "unknown_event");
  const auto first_item = [](const std::string& written) {
    return obstacle_of_events({created, numbered("output_item.added", R"("item":)" + written, 1)});
  };
  CHECK(first_item(R"({"id":"x","type":"message"})") == "none");
  CHECK(first_item(R"({"id":"x","type":"reasoning"})") == "reasoning");
  CHECK(first_item(R"({"id":"x","type":"function_call"})") == "tools");
  CHECK(first_item(R"({"id":"x","type":"image"})") == "unknown_event");
  CHECK(first_item(R"({"type":"message"})") == "unknown_event");
}

// The fast look and the parser must be of one mind about what is text.
TEST_CASE("a numbered event taken for text says nothing else") {
  const std::string_view insertions[] = {"\"", "\\", "\\\"", "{", "}", ",", "\x01", "\\q", "0", "1", "\xEF\xBF\xBD"};
  const std::string whole = text_data("some text", 5);
  for (size_t at = 0; at <= whole.size(); ++at) {
    for (const std::string_view insertion : insertions) {
      const std::string event = whole.substr(0, at) + std::string(insertion) + whole.substr(at);
      Delivered known = delivered_with(opened), fresh = delivered_with(opened);
      known.take(text_data("x", 4));
      const Took took = known.take(event), parsed = fresh.take(event);
      CAPTURE(event);
      CHECK(known.can_go_on() == fresh.can_go_on());
      if (known.can_go_on()) CHECK(took == parsed);
      if (known.can_go_on()) CHECK(known.text() == "x" + std::string(fresh.text()));
    }
  }
}

TEST_CASE("numbers go on without a gap, whatever the order of an event's fields") {
  for (const bool in_front : {false, true}) {
    Delivered delivered = delivered_with(opened);
    for (int number = 4; number < 13; ++number) {
      const std::string event = in_front ? R"({"type":"response.output_text.delta","sequence_number":)" +
                                               std::to_string(number) + R"(,"delta":"x","output_index":0})"
                                         : text_data("x", number);
      CHECK(delivered.take(event) == Took::text);
    }
    std::string out;
    delivered.append_text_event(out, "y");
    CHECK(out == named(text_data("y", 13)));
  }
}

TEST_CASE("events of a completion become events of the response") {
  std::vector<std::string> events = opened;
  events.push_back(text_data("Hello", 4));
  Delivered delivered = delivered_with(events);
  Continuation continuation(delivered, {}, false);
  std::string out;
  CHECK(continuation.take(text_event(" \\\"wor"), out) == State::going);
  CHECK(out == named(text_data(" \\\"wor", 5)));
  out.clear();
  CHECK(continuation.take(text_event("ld\\\"", R"("stop")", "42"), out) == State::finished);
  CHECK(out == named(text_data("ld\\\"", 6)));
  CHECK_FALSE(delivered.finished());
  out.clear();
  CHECK(continuation.take(usage_event(23, 2), out) == State::finished);
  delivered.append_end_events(out, Usage{20, 4, std::nullopt});
  CHECK(out == last_events("Hello \\\"world\\\"", false, usage(20, 4), 7));
}

TEST_CASE("a response of which the end was held back is given another one, with the same numbers") {
  std::vector<std::string> events = opened;
  events.insert(events.end(), {text_data("a", 4), text_ends("a", 5), part_ends("a", 6)});
  Delivered delivered = delivered_with(events);
  Continuation continuation(delivered, {}, false);
  std::string out;
  continuation.take(text_event("b", R"("length")"), out);
  CHECK(out == named(text_data("b", 5)));
  out.clear();
  delivered.append_end_events(out, Usage{1, 2, std::nullopt});
  CHECK(out == last_events("ab", true, usage(1, 2), 6));
}

TEST_CASE("a response without any text yet is given an item and a part, once") {
  Delivered delivered = delivered_with({created, in_progress});
  Continuation continuation(delivered, {}, false);
  std::string out;
  continuation.take(text_event("a"), out);
  continuation.take(text_event("b", R"("length")"), out);
  CHECK(out == named(item_begins(2, "msg_1")) + named(part_begins(3, "msg_1")) + named(text_data("a", 4, "msg_1")) +
                   named(text_data("b", 5, "msg_1")));
  out.clear();
  delivered.append_end_events(out, Usage{1, 2, std::nullopt});
  CHECK(out == last_events("ab", true, usage(1, 2), 6, "msg_1"));

  Delivered item_alone = delivered_with({created, in_progress, item_begins()});
  out.clear();
  item_alone.append_text_event(out, "a");
  CHECK(out == named(part_begins(3)) + named(text_data("a", 4)));
}

TEST_CASE("a response may end without any output") {
  Delivered delivered = delivered_with({created});
  Continuation continuation(delivered, {}, false);
  std::string out;
  continuation.take(text_event("", R"("stop")"), out);
  delivered.append_end_events(out, Usage{1, 1, std::nullopt});
  CHECK(out == named(ends("", false, usage(1, 1), 1)));
}

TEST_CASE("what a response did not say when it began is said at its end") {
  Delivered delivered = delivered_with({numbered("created", R"("response":{"model":"m","output":[],"output":[]})", 0)});
  std::string out;
  delivered.finish("stop", "");
  delivered.append_end_events(out, Usage{1, 1, std::nullopt});
  CHECK(out == named(numbered("completed",
                              R"("response":{"model":"m","output":[],"incomplete_details":null,)"
                              R"("status":"completed","usage":)" +
                                  usage(1, 1) + "}",
                              1)));
}

TEST_CASE("the last events say all of a text, or none are made") {
  std::vector<std::string> events = opened;
  events.push_back(text_data("a", 4));
  Delivered delivered = delivered_with(events);
  delivered.add("\\ufffd");
  delivered.add("b");
  CHECK_FALSE(delivered.can_go_on());
  CHECK(delivered.obstacle() == ResumeObstacle::replacement_character);
  CHECK(delivered.can_end());
  CHECK(delivered.text() == "a\\ufffdb");
  delivered.give_up(ResumeObstacle::memory);
  CHECK_FALSE(delivered.can_end());
  CHECK(delivered.text().empty());

  Delivered narrow(Api::responses, 4);
  for (const std::string& event : events) narrow.take(event);
  narrow.add("bcd");
  CHECK(narrow.can_end());
  narrow.add("e");
  CHECK(narrow.obstacle() == ResumeObstacle::too_long);
  CHECK_FALSE(narrow.can_end());
  Delivered chat(Api::chat_completions, 1);
  chat.add("ab");
  CHECK_FALSE(chat.can_go_on());
  CHECK(chat.can_end());
}

// The request

struct Body {
  PaddedBody bytes;
  ResumeRequest request;
  ResumeObstacle obstacle;

  explicit Body(const std::string& fields)
      : bytes(R"({"model":"m","stream":true,)" + fields + "}"),
        obstacle(ResumeRequest::read(Api::responses, bytes.view(), "M", request)) {}
};
constexpr const char* hi = R"("input":"Hi")";

std::string obstacle_of(const std::string& field) {
  return to_string(Body(std::string(hi) + "," + field).obstacle);
}
// The messages that the tokenizer is asked for.
std::string chat_of(const std::string& fields) {
  const Body body(fields);
  if (body.obstacle != ResumeObstacle::none) return to_string(body.obstacle);
  const std::string asked = body.request.tokenize_prompt();
  const std::string lead = R"({"model":"M","messages":)", end = R"(,"add_special_tokens":true})";
  if (!asked.starts_with(lead) || !asked.ends_with(end)) return asked;
  return asked.substr(lead.size(), asked.size() - lead.size() - end.size());
}
std::string chat_of_items(const std::string& items) {
  return chat_of(R"("input":[)" + items + "]");
}

TEST_CASE("the chat that servers make of a response's input is made") {
  CHECK(chat_of(hi) == R"([{"role":"user","content":"Hi"}])");
  CHECK(chat_of(std::string(R"("instructions":"Be \"short\".",)") + hi) ==
        R"([{"role":"system","content":"Be \"short\"."},{"role":"user","content":"Hi"}])");
  for (const char* none : {R"("")", "null"}) {
    CHECK(chat_of(std::string(R"("instructions":)") + none + "," + hi) == R"([{"role":"user","content":"Hi"}])");
  }
  CHECK(chat_of_items(R"({"role":"developer","content":"a\n"}, {"type":"message","role":"user","content":"b"},)"
                      R"({"role":"assistant","content":"c"},{"role":"system","content":""})") ==
        R"([{"role":"developer","content":"a\n"},{"role":"user","content":"b"},{"role":"assistant","content":"c"},)"
        R"({"role":"system","content":""}])");
  CHECK(chat_of_items(R"({"role":"user","content":[{"type":"input_text","text":"a"}]},)"
                      R"({"id":"msg_1","type":"message","role":"assistant","status":"completed","content":)"
                      R"([{"type":"output_text","text":"b","annotations":[],"logprobs":[]}]},)"
                      R"({"role":"user","content":[{"text":"c","type":"input_text"},{"type":"text","text":"d"}]})") ==
        R"([{"role":"user","content":[{"type":"text","text":"a"}]},{"role":"assistant","content":"b"},)"
        R"({"role":"user","content":[{"type":"text","text":"c"},{"type":"text","text":"d"}]}])");
}

TEST_CASE("an input that servers may read in several ways is not continued") {
  CHECK(chat_of_items(R"({"role":"tool","content":"x"})") == "template_input");
  CHECK(chat_of_items(R"({"role":"user","content":[]})") == "template_input");
  CHECK(chat_of_items(R"({"role":"user"})") == "template_input");
  CHECK(chat_of_items(R"({"role":"user","content":[{"type":"output_text","text":"x"}]})") == "template_input");
  CHECK(chat_of_items(R"({"role":"assistant","content":[{"type":"input_text","text":"x"}]})") == "template_input");
  CHECK(chat_of_items(R"({"role":"assistant","content":[{"type":"refusal","refusal":"x"}]})") == "template_input");
  CHECK(chat_of_items(R"({"role":"assistant","content":[{"type":"output_text","text":"x"},)"
                      R"({"type":"output_text","text":"y"}]})") == "template_input");
  CHECK(chat_of_items(R"({"role":"assistant","status":"incomplete","content":"x"})") == "template_input");
  CHECK(chat_of_items(R"({"role":"user","content":"x","name":"y"})") == "unknown_field");
  CHECK(chat_of_items(R"({"role":"user","content":[{"type":"input_text","text":"x","what":1}]})") == "unknown_field");
  CHECK(chat_of_items(R"({"role":"user","content":[{"type":"input_image","image_url":"x"}]})") == "media");
  CHECK(chat_of_items(R"({"role":"user","content":[{"type":"input_file","file_id":"x"}]})") == "media");
  CHECK(chat_of_items(R"({"role":"user","content":"x"},{"type":"function_call","name":"f","arguments":""})") ==
        "tools");
  CHECK(chat_of_items(R"({"type":"reasoning","summary":[]},{"role":"user","content":"x"})") == "reasoning");
  CHECK(chat_of_items(R"({"type":"item_reference","id":"x"},{"role":"user","content":"x"})") == "stored");
  CHECK(chat_of(std::string(R"("instructions":["x"],)") + hi) == "unreadable");
}

TEST_CASE("each field of a response has its place in the table") {
  const std::pair<const char*, const char*> fields[] = {
      {R"("tools":[{"type":"function","name":"f"}])", "tools"},
      {R"("tool_choice":"required")", "tools"},
      {R"("text":{"format":{"type":"json_object"}})", "structured_output"},
      {R"("structured_outputs":{"regex":"x"})", "structured_output"},
      {R"("include":["message.output_text.logprobs"])", "logprobs"},
      {R"("top_logprobs":2)", "logprobs"},
      {R"("presence_penalty":0.5)", "penalties"},
      {R"("truncation":"auto")", "truncated_prompt"},
      {R"("truncation":null)", "truncated_prompt"},
      {R"("store":true)", "stored"},
      {R"("background":true)", "stored"},
      {R"("previous_response_id":"resp_1")", "stored"},
      {R"("conversation":"conv_1")", "stored"},
      {R"("prompt":{"id":"x"})", "stored"},
      {R"("reasoning":{"effort":"low"})", "template_input"},
      {R"("reasoning":{"what":1})", "unknown_field"},
      {R"("previous_input_messages":[{}])", "template_input"},
      {R"("include_reasoning":false)", "reasoning"},
      {R"("enable_response_messages":true)", "token_ids"},
      {R"("max_tokens":3)", "unknown_field"},
      {R"("stream_options":{"include_obfuscation":true})", "unknown_field"},
      {R"("min_tokens":3)", "unknown_field"},
  };
  for (const auto& [field, word] : fields) {
    CAPTURE(field);
    CHECK(obstacle_of(field) == word);
  }
  for (const char* field :
       {R"("tools":[],"tool_choice":"auto")", R"("text":{"format":{"type":"text"},"verbosity":"low"})",
        R"("include":["reasoning.encrypted_content"])", R"("truncation":"disabled")", R"("store":false)",
        R"("store":null)", R"("reasoning":null)", R"("reasoning":{"effort":null,"summary":"auto"})",
        R"("metadata":{"a":"b"},"service_tier":"auto","parallel_tool_calls":false)", R"("max_output_tokens":null)",
        R"("previous_response_id":null,"background":false,"conversation":null,"prompt":null)"}) {
    CAPTURE(field);
    CHECK(obstacle_of(field) == "none");
  }
}

TEST_CASE("a response goes on as a completion with its settings") {
  const Body body(std::string(hi) + R"(,"max_output_tokens":9,"temperature":0,"top_p":0.9,"stop":["END","\n"],)" +
                  R"("seed":3,"chat_template_kwargs":{"a":1},"user":"u","request_id":"r")");
  REQUIRE(body.obstacle == ResumeObstacle::none);
  CHECK(body.request.include_usage());
  CHECK(body.request.stops() == std::vector<std::string>{"END", "\n"});
  CHECK(body.request.tokenize_prompt().ends_with(R"(,"chat_template_kwargs":{"a":1},"add_special_tokens":true})"));
  CHECK(body.request.continuation({1, 2}, {3}, 100) ==
        R"({"model":"M","prompt":[1,2,3],"max_tokens":8,"stream":true,"stream_options":{"include_usage":true},)"
        R"("temperature":0,"top_p":0.9,"stop":["END","\n"],"seed":3,"user":"u"})");
  CHECK_FALSE(body.request.text_prompt());
  CHECK(Body(hi).request.tokens_left(10, 20, 100) == 70u);
}

}  // namespace
}  // namespace penstock::openai
