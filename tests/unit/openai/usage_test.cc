#include "penstock/openai/usage.h"

#include <doctest/doctest.h>

#include <string>

namespace penstock::openai {
namespace {

using Kind = AnswerObserver::Kind;

struct Numbers {
  uint32_t prompt, completion;
  int64_t cached;  // -1: not said
  bool operator==(const Numbers&) const = default;
};

Numbers numbers(const AnswerObserver& observer) {
  REQUIRE(observer.usage().has_value());
  const Usage& usage = *observer.usage();
  return {usage.prompt_tokens, usage.completion_tokens,
          usage.cached_tokens ? static_cast<int64_t>(*usage.cached_tokens) : -1};
}

std::string chunk(std::string_view content, std::string_view rest) {
  return R"({"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":)" +
         std::string(content) + R"(},"logprobs":null,"finish_reason":)" + std::string(rest);
}

TEST_CASE("a chat stream tells its end and its usage, and ordinary chunks tell nothing") {
  AnswerObserver observer;
  CHECK(observer.on_event("", chunk(R"("Hi")", "null}]}")) == Kind::content);
  CHECK(observer.on_event("", chunk(R"("Hi")", R"(null}],"usage":null})")) == Kind::content);
  CHECK_FALSE(observer.usage().has_value());
  CHECK(observer.finish_reason() == "");
  CHECK(observer.on_event("", chunk(R"("")", R"("length"}]})")) == Kind::content);
  CHECK(observer.finish_reason() == "length");
  CHECK_FALSE(observer.saw_done());
  CHECK(observer.on_event("", R"({"id":"c","choices":[],"usage":{"prompt_tokens":7,"total_tokens":10,)"
                              R"("completion_tokens":3,"prompt_tokens_details":{"cached_tokens":4}}})") ==
        Kind::usage_only);
  CHECK(numbers(observer) == Numbers{7, 3, 4});
  CHECK(observer.on_event("", "[DONE]") == Kind::done);
  CHECK(observer.saw_done());

  observer.reset();
  CHECK_FALSE(observer.usage().has_value());
  CHECK(observer.finish_reason() == "");
  CHECK_FALSE(observer.saw_done());
}

TEST_CASE("generated text that looks like usage, an end or an error is only text") {
  AnswerObserver observer;
  for (const char* content : {
           R"("usage")",
           R"("finish_reason")",
           R"("error")",
           R"("\"usage\":{\"prompt_tokens\":9}")",
           R"("{\"finish_reason\":\"stop\"}")",
           R"("\\\"usage\":{")",
           R"("[DONE]")",
           R"("{\"error\":{\"message\":\"x\"}}")",
           R"("\"usage\\\":{\\\"prompt_tokens\\\":9}")",
       }) {
    CAPTURE(content);
    CHECK(observer.on_event("", chunk(content, "null}]}")) == Kind::content);
  }
  CHECK_FALSE(observer.usage().has_value());
  CHECK(observer.finish_reason() == "");
  CHECK_FALSE(observer.saw_done());
}

TEST_CASE("keys are found wherever they lie in the blocks that are compared at once") {
  for (size_t padding = 0; padding < 70; ++padding) {
    CAPTURE(padding);
    AnswerObserver observer;
    const std::string id(padding, 'x');
    CHECK(observer.on_event("", R"({"id":")" + id + R"(","choices":[{"finish_reason" : "stop"}]})") == Kind::content);
    CHECK(observer.finish_reason() == "stop");
    CHECK(observer.on_event("", R"({"usage":{"prompt_tokens":1,"completion_tokens":2},"id":")" + id + R"("})") ==
          Kind::usage_only);
    CHECK(numbers(observer) == Numbers{1, 2, -1});
    CHECK(observer.on_event("", R"({"id":")" + id + R"(","error":{"message":"x","code":500}})") == Kind::error);
  }
}

TEST_CASE("of many usages in one stream the last counts") {
  AnswerObserver observer;
  for (int tokens = 1; tokens <= 3; ++tokens) {
    CHECK(observer.on_event("", chunk(R"("x")", R"(null}],"usage":{"prompt_tokens":5,"completion_tokens":)" +
                                                    std::to_string(tokens) + "}}")) == Kind::content);
  }
  CHECK(numbers(observer) == Numbers{5, 3, -1});
}

TEST_CASE("errors in a stream are seen in each of their shapes") {
  AnswerObserver observer;
  CHECK(observer.on_event("", R"({"error":{"message":"out of memory","type":"x","param":null,"code":500}})") ==
        Kind::error);
  CHECK(observer.on_event("", R"({"error": "plain"})") == Kind::error);
  CHECK(observer.on_event("", R"({"object":"error","message":"old shape","code":400})") == Kind::error);
  CHECK(observer.on_event("error", R"({"type":"error","error":{"type":"overloaded_error","message":"x"}})") ==
        Kind::error);
  CHECK(observer.on_event("", R"({"type":"error","error":{"type":"overloaded_error","message":"x"}})") == Kind::error);
  CHECK(observer.on_event("response.failed", R"({"type":"response.failed","response":{"status":"failed"}})") ==
        Kind::error);
  CHECK(observer.on_event("", R"({"choices":[{"text":"x","finish_reason":null}],"error":null})") == Kind::content);
  CHECK_FALSE(observer.saw_done());
}

TEST_CASE("an error in a stream is the server's unless its code is a client's") {
  const auto blames_server = [](std::string_view name, std::string_view data) {
    AnswerObserver observer;
    CHECK(observer.on_event(name, data) == Kind::error);
    const bool blamed = observer.server_failed();
    observer.reset();
    CHECK_FALSE(observer.server_failed());
    return blamed;
  };
  CHECK(blames_server("", R"({"error": {"message": "EngineCore", "type": "InternalServerError", "code": 500}})"));
  CHECK(blames_server("", R"({"error":{"message":"no code"}})"));
  CHECK(blames_server("", R"({"error":{"message":"x","code":"stream_broken"}})"));
  CHECK(blames_server("error", R"({"type":"error","error":{"type":"internal_error","message":"x"}})"));
  CHECK(blames_server("response.failed", R"({"type":"response.failed","response":{"status":"failed"}})"));
  CHECK_FALSE(blames_server("", R"({"error":{"message":"too long","type":"BadRequestError","code":400}})"));
  CHECK_FALSE(blames_server("", R"({"object":"error","message":"old shape","code":499})"));
  CHECK_FALSE(blames_server("", R"({"error":{"type":"invalid_request_error","code":"context_length_exceeded"}})"));
  CHECK_FALSE(blames_server("", R"({"error":{"message":"x","type":"BadRequestError","code":"400"}})"));
  AnswerObserver busy;
  CHECK(busy.on_event("", R"({"error": {"message": "busy", "type": "Service Unavailable", "code": 503}})") ==
        Kind::error);
  CHECK((busy.server_busy() && busy.server_failed()));
  busy.reset();
  CHECK_FALSE(busy.server_busy());
  CHECK(busy.on_event("error", R"({"type":"error","error":{"type":"overloaded_error","message":"x"}})") == Kind::error);
  CHECK((busy.server_busy() && busy.server_failed()));
  AnswerObserver text;
  CHECK_FALSE(text.server_busy());
  CHECK(text.on_event("", chunk(R"("{\"error\":{\"code\":500}}")", "null}]}")) == Kind::content);
  CHECK_FALSE(text.server_failed());
}

TEST_CASE("what ends a stream is counted, and an end for which an engine is to blame is known") {
  AnswerObserver observer;
  observer.on_event("", R"({"choices":[{"index":0,"finish_reason":""}]})");
  CHECK(observer.finishes() == 0);
  observer.on_event("", R"({"choices":[{"index":0,"finish_reason":"stop"},{"index":1,"finish_reason":"length"}]})");
  CHECK(observer.finishes() == 2);
  CHECK_FALSE(observer.bad());
  for (const char* reason : {"abort", "error"}) {
    observer.reset();
    CHECK(observer.finishes() == 0);
    observer.on_event("", R"({"choices":[{"index":0,"finish_reason":")" + std::string(reason) + "\"}]}");
    CHECK((observer.gave_up() && observer.bad()));
    observer.reset();
    CHECK(observer.on_answer(R"({"choices":[{"index":0,"finish_reason":")" + std::string(reason) + "\"}]}"));
    CHECK(observer.gave_up());
  }
  observer.reset();
  observer.on_event("message_delta", R"({"type":"message_delta","delta":{"stop_reason":"end_turn"}})");
  CHECK(observer.finishes() == 1);
  observer.on_event("", R"({"error":{"message":"x","code":400}})");
  CHECK((observer.refused() && observer.bad() && observer.error_object() && !observer.error_named()));
  observer.on_event("error", R"({"type":"error","message":"x"})");
  CHECK((observer.error_named() && !observer.error_object()));
}

TEST_CASE("an answer that is cut off is not whole") {
  const std::string whole = R"({"id":"[{","choices":[{"index":0,"text":"}]","finish_reason":"stop"}],"usage":null} )";
  for (size_t size = 1; size < whole.size() - 1; ++size) {
    CAPTURE(size);
    CHECK_FALSE(AnswerObserver().on_answer(whole.substr(0, size)));
  }
  CHECK(AnswerObserver().on_answer(whole));
  CHECK(AnswerObserver().on_answer(R"({"id":1,"data":[1,2,{"x":[]}]})"));
  CHECK(AnswerObserver().on_tail(R"("usage":{}}} )"));
  CHECK_FALSE(AnswerObserver().on_tail(R"("usage":{}}, )"));
}

TEST_CASE("a 503 says in its body that the server is full by an error object with that number, or with such a type") {
  CHECK(says_full(R"({"error":{"message":"busy","type":"Service Unavailable","param":null,"code":503}})"));
  CHECK(says_full(R"({ "error" : { "code" : 503 } })"));
  CHECK(says_full(R"({"object":"error","message":"The request queue is full.","type":"503","param":null,"code":503})"));
  CHECK(says_full(R"({"type":"error","error":{"type":"Service Unavailable","message":"busy"}})"));
  CHECK(says_full(R"({"type":"error","error":{"message":"busy","type":"overloaded_error"},"request_id":null})"));
  for (const std::string_view other :
       {"", "busy", "503", R"({"error":"scaling"})", R"({"error":{"message":"x","code":500}})",
        R"({"error":{"message":"x","code":"no_endpoint"}})", R"({"message":"code 503","code":503})",
        R"({"type":"error","error":{"type":"api_error","message":"x"}})",
        R"({"error":{"type":"Service Unavailable","code":500}})", R"({"type":"overloaded_error","message":"x"})",
        R"({"error":{"code":503)", R"({"error":{"message":""code":503"}})", R"([{"error":{"code":503}}])"}) {
    CAPTURE(other);
    CHECK_FALSE(says_full(other));
  }
}

TEST_CASE("the events of the responses API are known by name") {
  AnswerObserver observer;
  CHECK(observer.on_event("response.created", R"({"response":{"status":"in_progress","usage":null}})") == Kind::other);
  CHECK(observer.on_event("response.output_text.delta", R"({"delta":"\"usage\""})") == Kind::content);
  CHECK(observer.on_event("response.output_text.done", R"({"text":"x"})") == Kind::other);
  CHECK(observer.finish_reason() == "");
  CHECK(observer.on_event("response.completed",
                          R"({"response":{"status":"completed","error":null,"output":[{"type":"message","usage":{}}],)"
                          R"("usage":{"input_tokens":11,"input_tokens_details":{"cached_tokens":8},"output_tokens":2,)"
                          R"("total_tokens":13}},"type":"response.completed"})") == Kind::done);
  CHECK(numbers(observer) == Numbers{11, 2, 8});
  CHECK(observer.finish_reason() == "completed");
  CHECK(observer.saw_done());

  observer.reset();
  CHECK(observer.on_event("response.incomplete",
                          R"({"type":"response.incomplete","response":{"incomplete_details":)"
                          R"({"reason":"max_output_tokens"},"status":"incomplete"}})") == Kind::done);
  CHECK(observer.finish_reason() == "max_output_tokens");

  observer.reset();
  const std::string cancelled = R"({"response":{"status":"cancelled","incomplete_details":null}})";
  CHECK(observer.on_event("response.completed", cancelled) == Kind::done);
  CHECK(observer.gave_up());
  CHECK_FALSE(observer.saw_done());
  CHECK(observer.finish_reason() == "abort");
  observer.reset();
  CHECK(observer.on_event("response.cancelled", cancelled) == Kind::done);
  CHECK_FALSE(observer.gave_up());
  CHECK(observer.saw_done());
}

TEST_CASE("the events of the messages API are known by name, or by the type in their data") {
  for (const bool named : {true, false}) {
    CAPTURE(named);
    AnswerObserver observer;
    const auto event = [&](const char* name, const char* data) { return observer.on_event(named ? name : "", data); };
    CHECK(event("message_start",
                R"({"type":"message_start","message":{"id":"1","content":[],"stop_reason":null,)"
                R"("usage":{"input_tokens":25,"cache_read_input_tokens":16,"output_tokens":1}}})") == Kind::other);
    CHECK(numbers(observer) == Numbers{25, 1, 16});
    CHECK(event("content_block_start", R"({"type":"content_block_start","index":0})") == Kind::other);
    CHECK(event("ping", R"({"type":"ping"})") == Kind::other);
    CHECK(event("content_block_delta",
                R"({"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}})") ==
          Kind::content);
    CHECK(event("message_delta", R"({"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},)"
                                 R"("usage":{"output_tokens":15}})") == Kind::usage_only);
    CHECK(numbers(observer) == Numbers{25, 15, 16});
    CHECK(observer.finish_reason() == "end_turn");
    CHECK(event("message_stop", R"({"type":"message_stop"})") == Kind::done);
    CHECK(observer.saw_done());
    CHECK_FALSE(observer.gave_up());
  }
}

TEST_CASE("a message that stops for no reason was given up") {
  AnswerObserver observer;
  observer.on_event("message_start", R"({"type":"message_start","message":{"id":"1","stop_reason":null}})");
  observer.on_event("message_delta",
                    R"({"type":"message_delta","delta":{"stop_reason":null},"usage":{"output_tokens":15}})");
  CHECK_FALSE(observer.gave_up());  // another delta may follow
  observer.on_event("message_stop", R"({"type":"message_stop"})");
  CHECK(observer.gave_up());
  CHECK_FALSE(observer.saw_done());
  CHECK(observer.finish_reason() == "abort");
  observer.reset();
  observer.on_event("message_start", R"({"type":"message_start","message":{"id":"1","stop_reason":null}})");
  observer.on_event("message_stop", R"({"type":"message_stop"})");
  CHECK(observer.saw_done());  // nobody said null of it
}

TEST_CASE("events that are cut, odd or not JSON change nothing") {
  AnswerObserver observer;
  for (const char* data : {"", "hello", "[]", "{\"usage\":{\"prompt_tokens\":1", "{\"usage\":{",
                           "{\"choices\":[{\"finish_reason\":\"", "{\"usage\":{\"prompt_tokens\":{}}"}) {
    CAPTURE(data);
    CHECK(observer.on_event("", data) == Kind::other);
  }
  CHECK(observer.finish_reason() == "");
  CHECK_FALSE(observer.saw_done());
  CHECK(observer.on_event("", R"({"choices":3,"usage":{"prompt_tokens":"7","completion_tokens":-1},"x":[]})") ==
        Kind::usage_only);
  CHECK(numbers(observer) == Numbers{0, 0, -1});
}

TEST_CASE("a whole answer of each API is read") {
  struct Row {
    const char* json;
    Numbers numbers;
    const char* reason;
  };
  for (
      const Row& row : {
          Row{R"({"object":"chat.completion","choices":[{"message":{"content":"\"usage\":{}"},"finish_reason":"stop"}],)"
              R"("usage":{"prompt_tokens":1,"completion_tokens":2,"prompt_tokens_details":null}})",
              {1, 2, -1},
              "stop"},
          Row{R"({"object":"text_completion","usage":{"completion_tokens":5,"prompt_tokens":4},)"
              R"("choices":[{"text":"x","finish_reason":"length"}]})",
              {4, 5, -1},
              "length"},
          Row{R"({"object":"response","status":"completed","incomplete_details":null,"output":[],)"
              R"("usage":{"input_tokens":3,"output_tokens":4,"input_tokens_details":{"cached_tokens":0}}})",
              {3, 4, 0},
              "completed"},
          Row{R"({"type":"message","content":[{"type":"tool_use","input":{"usage":{"input_tokens":99}}}],)"
              R"("stop_reason":"tool_use","usage":{"input_tokens":6,"output_tokens":7}})",
              {6, 7, -1},
              "tool_use"},
          Row{R"({"object":"list","data":[{"embedding":[0.1]}],"usage":{"prompt_tokens":8,"total_tokens":8}})",
              {8, 0, -1},
              ""},
      }) {
    CAPTURE(row.json);
    AnswerObserver observer;
    observer.on_answer(row.json);
    CHECK(numbers(observer) == row.numbers);
    CHECK(observer.finish_reason() == row.reason);
  }
}

TEST_CASE("an answer beyond 1 MiB is read from its tail, and only at its top level") {
  const std::string filler(2 * 1024 * 1024, 'x');
  AnswerObserver observer;
  observer.on_answer(R"({"choices":[{"text":")" + filler +
                     R"("}], "usage" : {"prompt_tokens":1,"completion_tokens":2},"kv":{"usage":{"prompt_tokens":9}}})");
  CHECK(numbers(observer) == Numbers{1, 2, -1});

  observer.reset();
  observer.on_answer(R"({"type":"message","content":[{"text":")" + filler +
                     R"("}],"stop_reason":"max_tokens","usage":{"input_tokens":3,"output_tokens":4}})");
  CHECK(numbers(observer) == Numbers{3, 4, -1});
  CHECK(observer.finish_reason() == "max_tokens");

  observer.reset();  // usage in front, and only generated JSON that looks like it in the tail
  observer.on_answer(R"({"usage":{"input_tokens":3},"text":")" + filler +
                     R"(","content":[{"type":"tool_use","input":{"usage":{"input_tokens":99},"stop_reason":"x"}}]})");
  CHECK_FALSE(observer.usage().has_value());
  CHECK(observer.finish_reason() == "");

  observer.on_answer(R"({"text":")" + filler + R"(\",\"usage\":{\"prompt_tokens\":5}}"})");
  observer.on_answer(R"({"usage":{"prompt_tokens":7},"text":")" + filler + R"(","end\",\"usage":{"prompt_tokens":5}})");
  CHECK_FALSE(observer.usage().has_value());
}

TEST_CASE("of the end of an answer as much is read as of a long one's") {
  AnswerObserver observer;
  observer.on_tail(R"(5,0.25]}],"model":"m","usage":{"prompt_tokens":3,"total_tokens":3}})");
  CHECK(numbers(observer) == Numbers{3, 0, -1});
  observer.reset();
  observer.on_tail("");
  observer.on_tail("}");
  CHECK_FALSE(observer.usage().has_value());
}

TEST_CASE("numbers beyond 32 bits are held at the largest") {
  AnswerObserver observer;
  observer.on_answer(R"({"usage":{"prompt_tokens":99999999999,"completion_tokens":1e3}})");
  CHECK(numbers(observer) == Numbers{4294967295U, 0, -1});
}

}  // namespace
}  // namespace penstock::openai
