// The end of a completion's answer must say what the whole answer says. An object in front of the choices has the whole
// answer read.
#include "src/openai/completion_tail.h"

#include <doctest/doctest.h>

#include <iterator>
#include <string>

#include "penstock/base/random.h"
#include "penstock/openai/usage.h"
#include "src/openai/plain_tail.h"

namespace penstock::openai {
namespace {

constexpr const char* head = R"({"id":"c","object":"text_completion","created":1,"model":"m","choices":[)";
constexpr const char* used = R"("usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7})";

std::string describe(const std::string& json) {
  AnswerObserver observer;
  observer.on_answer(json);
  std::string out(observer.finish_reason());
  if (!observer.usage()) return out;
  const Usage& usage = *observer.usage();
  out += " " + std::to_string(usage.prompt_tokens) + " " + std::to_string(usage.completion_tokens);
  return usage.cached_tokens ? out + " " + std::to_string(*usage.cached_tokens) : out;
}

std::string read_in_full(const std::string& json) {
  const std::string other = R"({"unknown":{},)" + json.substr(1);
  REQUIRE(completion_tail(other).empty());
  return describe(other);
}

TEST_CASE("the usual answers are read from their end") {
  struct Row {
    std::string rest, expected;
  };
  const std::string usage = used;
  for (const Row& row : {
           Row{R"({"index":0,"text":"x","finish_reason":"length"}],)" + usage + "}", "length 3 4"},
           Row{R"({"text":"x","logprobs":null,"finish_reason":"stop","stop_reason":null}],"service_tier":null,)" +
                   usage + R"(,"kv_transfer_params":null})",
               "stop 3 4"},
           Row{R"({"text":"a","finish_reason":"stop"},{"text":"b","finish_reason":"length"}],)" + usage + "}",
               "length 3 4"},
           Row{R"({"text":"a","finish_reason":"stop"},{"text":"b"}],)" + usage + "}", "stop 3 4"},
           Row{R"({"message":{"content":"say \"usage\":{} and \"finish_reason\":\"x\"","tool_calls":[]},)"
               R"("finish_reason":"stop"}],)" +
                   usage + "}",
               "stop 3 4"},
           Row{R"({"text":"an array [1, 2] in text","finish_reason" : "stop" } ] , )" + usage + " } \n", "stop 3 4"},
           Row{R"({"text":"x","finish_reason":"st\u006fp"}],"usage":null})", "stop"},
           Row{R"({"text":"x","finish_reason":"stop"}]})", "stop"},
           Row{R"({"text":"x","finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2,)"
               R"("prompt_tokens_details":{"cached_tokens":5}},"x":{"usage":{"prompt_tokens":9}}})",
               "stop 1 2 5"},
           Row{R"({"text":"x","finish_reason":"stop"}],"status":"odd",)" + usage + "}", "odd 3 4"},
       }) {
    const std::string json = head + row.rest;
    CAPTURE(json);
    CHECK_FALSE(completion_tail(json).empty());
    CHECK(describe(json) == row.expected);
    CHECK(read_in_full(json) == row.expected);
  }
}

TEST_CASE("an answer whose end may not say all is read in full") {
  const std::string usage = used;
  for (const std::string& json : {
           // no reason that is a string, or not the last one
           head + std::string(R"({"text":"x","finish_reason":null}],)") + usage + "}",
           head + std::string(R"({"finish_reason":"a"},{"finish_reason":null}],)") + usage + "}",
           head + std::string(R"({"finish_reason":"a","x":"finish_reason"}],)") + usage + "}",
           // usage, or something else that counts, in front
           "{" + usage + R"(,"choices":[{"text":"x","finish_reason":"stop"}]})",
           "{\"status\":\"s\"," + usage + R"(,"choices":[{"text":"x","finish_reason":"stop"}]})",
           std::string(R"({"id":"a\"b","choices":[{"finish_reason":"stop"}]})"),
           std::string(R"({"id":"a\"choices\":[","choices":[{"finish_reason":"stop"}]})"),
           "{\"id\":\"x\",\"detail\":{" + usage + R"(,"choices":[{"text":"x","finish_reason":"stop"}]}})",
           "{\"id\":\"x\",\"model\":\"some name\",\"response\":{" + usage +
               R"(,"choices":[{"text":"x","finish_reason":"stop"}]}})",
           "{\"stop_reason\":\"s\"," + usage + R"(,"choices":[]})",
           std::string(R"({"id":"x","finish_reason":"f","choices":[{"finish_reason":"stop"}]})"),
           std::string(R"({"id":"x","model":"model-m","status":"s","choices":[{"text":"t","finish_reason":"stop"}]})"),
           // reasons that are not those of a choice
           head + std::string(R"({"finish_reason":"a"}],"others":[{"finish_reason":"b"}],)") + usage + "}",
           head + std::string(R"({"finish_reason":"a"}],"others" : [ {"finish_reason":"b"}],)") + usage + "}",
           std::string(R"({"model":"m","content":[{"finish_reason":"b"}],"choices":[{"finish_reason":"a"}]})"),
           head + std::string(R"({"finish_reason":"a","x":{"finish_reason":"b"}}],)") + usage + "}",
           head + std::string(R"({"finish_reason":"a","x":[{"finish_reason":"b"}]}],)") + usage + "}",
           head + std::string(R"({"finish_reason":"a"}],"finish_reason":"b",)") + usage + "}",
           head + std::string(R"([{"finish_reason":"b"}],{"finish_reason":"a","y":[{"finish_reason":"c"}]}],)") +
               usage + "}",
           // messages
           std::string(R"({"type":"message","content":[{"input":{"finish_reason":"b"}}],"stop_reason":"end",)") +
               usage + "}",
       }) {
    CAPTURE(json);
    CHECK(describe(json) == read_in_full(json));
  }
}

TEST_CASE("fields in front of the choices that say nothing of the answer have only the end read") {
  for (const std::string front : {
           R"("id":"c")",
           R"("model":"stop_reason-finish_reason", "service_tier" : "status")",
           R"("created":1.5,"system_fingerprint":"f","service_tier":null,"object":"object that is long enough")",
       }) {
    const std::string json = "{" + front + R"( , "choices" : [{"text":"[x]","finish_reason":"stop"}],)" + used + "}";
    CAPTURE(json);
    CHECK(completion_tail(json).empty() == (front.find("\"status\"") != std::string::npos));
    CHECK(describe(json) == "stop 3 4");
    CHECK(describe(json) == read_in_full(json));
  }
}

TEST_CASE("a field that counts is found wherever it stands in front of the choices") {
  for (size_t before = 0; before < 40; ++before) {
    for (size_t behind = 0; behind < 20; ++behind) {
      const std::string json = R"({"id":")" + std::string(before, 'x') + R"(","status":"odd","model":")" +
                               std::string(behind, 'x') + R"(","choices":[{"index":0,"finish_reason":"stop"}]})";
      CAPTURE(json);
      CHECK(completion_tail(json).empty());
    }
  }
}

TEST_CASE("plain ends are read without a parser, and say what the whole says") {
  for (const std::string& rest : {
           R"("finish_reason":"length"}],)" + std::string(used) + "}",
           std::string(R"("finish_reason":"stop","stop_reason":null,"token_ids":null}],"service_tier":null,)"
                       R"("system_fingerprint":"fp_1","usage":{"prompt_tokens":1,"completion_tokens":2,)"
                       R"("prompt_tokens_details":null},"kv_transfer_params":null})"),
           std::string(R"("finish_reason" : "stop", "stop_reason" : "status" } ] , "usage" : { } } )"),
           std::string(R"("finish_reason":"stop"}],"usage":{"prompt_tokens":-5,"completion_tokens":"7"}})"),
           std::string(R"("finish_reason":"stop"}],"usage":{"input_tokens":999999999,"output_tokens":0,"x":-1.5E+7,)"
                       R"("input_tokens_details":{"a":1,"cached_tokens":3}}})"),
           std::string(R"("finish_reason":"stop"}],"usage":{"prompt_tokens":1,"cache_read_input_tokens":9,)"
                       R"("completion_tokens_details":{"cached_tokens":3},"prompt_tokens_details":{}}})"),
           std::string(R"("finish_reason":"stop"}],"usage":{"prompt_tokens":1},"usage":{"completion_tokens":2}})"),
           std::string(R"("finish_reason":""}],"usage":null,"status":null,"stop_reason":3})"),
           std::string(R"("finish_reason":"stop"}],"usage":"none"})"),
       }) {
    const std::string json = head + std::string(R"({"text":"x",)") + rest;
    CAPTURE(json);
    CHECK(read_plain_tail(rest));
    CHECK(completion_tail(json) == rest);
    CHECK(describe(json) == read_in_full(json));
  }
}

TEST_CASE("ends that are not plain are left to the parser") {
  for (const std::string rest : {
           R"("finish_reason":"st\u006fp"}]})",
           R"("finish_reason":"stop","x":"\n"}]})",
           R"("finish_reason":"stop","x":[]}]})",
           R"("finish_reason":"stop","x":{}}]})",
           R"("finish_reason":"stop"},{"text":"x"}]})",
           R"("finish_reason":"stop"}],"choices":[]})",
           R"("finish_reason":"stop"}],"status":"odd"})",
           R"("finish_reason":"stop"}],"stop_reason":"odd"})",
           R"("finish_reason":"stop"}],"message":{"status":"odd"}})",
           R"("finish_reason":"stop"}],"usage":{"prompt_tokens":1.5}})",
           R"("finish_reason":"stop"}],"usage":{"prompt_tokens":1e3}})",
           R"("finish_reason":"stop"}],"usage":{"prompt_tokens":4294967296}})",
           R"("finish_reason":"stop"}],"usage":{"prompt_tokens":18446744073709551616}})",
           R"("finish_reason":"stop"}],"usage":{"prompt_tokens":{}}})",
           R"("finish_reason":"stop"}],"usage":{"prompt_tokens_details":{"x":{"cached_tokens":1}}}})",
           R"("finish_reason":"stop"}],"usage":{"prompt_tokens_details":[{"cached_tokens":1}]}})",
       }) {
    const std::string json = head + std::string(R"({"text":"x",)") + rest;
    CAPTURE(json);
    CHECK_FALSE(read_plain_tail(rest));
    CHECK(describe(json) == read_in_full(json));
  }
  const std::string whole = R"("finish_reason":"stop"}],)" + std::string(used) + "}";
  REQUIRE(read_plain_tail(whole));
  for (size_t size = 0; size < whole.size(); ++size) CHECK_FALSE(read_plain_tail(whole.substr(0, size)));
  for (const std::string behind : {"}", ",", "x", "\"", "{}"}) CHECK_FALSE(read_plain_tail(whole + behind));
  CHECK_FALSE(read_plain_tail(whole + '\0'));
}

TEST_CASE("a reason is found wherever it lies in the blocks that are compared at once, and not beyond the tail") {
  for (size_t behind = 0; behind < 70; ++behind) {
    CAPTURE(behind);
    const std::string json =
        head + std::string(R"({"finish_reason":"stop","fill":")") + std::string(behind, 'x') + "\"}]}";
    CHECK(completion_tail(json).starts_with(R"("finish_reason")"));
    CHECK(describe(json) == "stop");
  }
  const std::string far = head + std::string(R"({"finish_reason":"stop","fill":")") + std::string(5000, 'x') + "\"}]}";
  CHECK(completion_tail(far).empty());
  CHECK(describe(far) == "stop");
}

// Fields that matter, and fields that look as if they did; at random.
std::string some_fields(Random& random, int depth) {
  static constexpr const char* keys[] = {
      "id",    "model",         "choices",       "usage",         "finish_reason",          "stop_reason",
      "index", "status",        "text",          "message",       "prompt_tokens_details",  "input_tokens_details",
      "error", "prompt_tokens", "cached_tokens", "output_tokens", "cache_read_input_tokens"};
  static constexpr const char* scalars[] = {"null",
                                            "true",
                                            "0",
                                            "7",
                                            "-1",
                                            "1.5",
                                            "4294967295",
                                            "99999999999",
                                            R"("stop")",
                                            R"("a[b")",
                                            R"(":[{")",
                                            R"("\"usage\":{")",
                                            R"("finish_reason")",
                                            R"("")",
                                            "1e2"};
  std::string out;
  const uint64_t count = random.below(5);
  for (uint64_t i = 0; i < count; ++i) {
    out += std::string(out.empty() ? "" : ",") + "\"" + keys[random.below(std::size(keys))] + "\":";
    const uint64_t kind = depth == 0 ? 0 : random.below(8);
    if (kind == 7) {
      out += "[{" + some_fields(random, depth - 1) + "}]";
    } else if (kind >= 5) {
      out += "{" + some_fields(random, depth - 1) + "}";
    } else {
      out += scalars[random.below(std::size(scalars))];
    }
  }
  return out;
}

TEST_CASE("whatever fields there are, the end says what the whole says") {
  Random random(1);
  int plain = 0, from_end = 0;
  for (int round = 0; round < 20000; ++round) {
    const std::string before = some_fields(random, round % 2), inside = some_fields(random, round % 3),
                      behind = some_fields(random, 2);
    const std::string json = "{" + before + (before.empty() ? "" : ",") + R"("choices":[{)" + inside +
                             (inside.empty() ? "" : ",") + R"("finish_reason":"length"}])" +
                             (behind.empty() ? "" : ",") + behind + "}";
    CAPTURE(json);
    const std::string_view tail = completion_tail(json);
    from_end += !tail.empty();
    plain += !tail.empty() && read_plain_tail(tail).has_value();
    REQUIRE(describe(json) == read_in_full(json));
  }
  CHECK(from_end > 2000);
  CHECK(plain > 500);
  CHECK(plain < from_end);
}

TEST_CASE("answers that are cut or followed by something are read as far as they go") {
  const std::string whole = head + std::string(R"({"text":"x","finish_reason":"length"}],)") + used + "}";
  CHECK(describe(whole) == "length 3 4");
  for (size_t size = 1; size < whole.size(); ++size) {
    CAPTURE(size);
    CHECK(describe(whole.substr(0, size)) == read_in_full(whole.substr(0, size)));
  }
  for (const char* behind : {"}", "]", ",", "{}", " x", " {", "\n{}", "\""}) {
    CAPTURE(behind);
    CHECK(describe(whole + behind) == read_in_full(whole + behind));
  }
}

}  // namespace
}  // namespace penstock::openai
