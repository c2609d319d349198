#include <doctest/doctest.h>

#include <cstring>

#include "penstock/http/sse.h"
#include "sim/answer.h"
#include "sim/catalog.h"
#include "sim/fault.h"
#include "sim/metrics.h"
#include "sim/pages.h"

using namespace penstock;
using namespace penstock::sim;

// ---- faults ----

TEST_CASE("Faults are read with value, probability and count") {
  const auto fault = parse_fault("reset-after=100@0.25x5");
  REQUIRE(fault.ok());
  CHECK(fault->kind == Fault::Kind::reset_after);
  CHECK(fault->value == 100);
  CHECK(fault->probability == doctest::Approx(0.25));
  CHECK(fault->count == 5);
  for (const char* text : {"refuse", "refuse@0.5", "stall-after=0", "status=503x2", "slow-header=20",
                           "truncate-chunkx1", "reset-after=1..4000", "reset-after-tokens=5", "end-after-tokens=0..0",
                           "error-after-tokens=1", "abort-after-tokens=1..40@0.5x3", "stall-after-tokens=0"}) {
    CAPTURE(text);
    CHECK(parse_fault(text).ok());
  }
  for (const char* text :
       {"", "crash", "reset-after", "reset-after=", "reset-after=-1", "refuse=1", "status=200", "status=503@2",
        "status=503@", "slow-header=1.5", "refusex", "status=500..503", "end-after-tokens", "end-after-tokens=5..4",
        "end-after-tokens=1..", "end-after-tokens=..4", "end-after-tokens=1.4"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_fault(text).ok());
  }
}

TEST_CASE("A fault strikes as often and as likely as it says") {
  FaultPlan counted({*parse_fault("status=503x3"), *parse_fault("refusex1")}, 1);
  int struck = 0;
  for (int i = 0; i < 100; ++i) struck += counted.next_request().kind == Fault::Kind::status;
  CHECK(struck == 3);
  CHECK(counted.refuse_connection());
  CHECK_FALSE(counted.refuse_connection());

  FaultPlan likely({*parse_fault("status=503@0.2")}, 42);
  for (int i = 0; i < 1000; ++i) struck += likely.next_request().kind == Fault::Kind::status;
  CHECK(struck > 150);
  CHECK(struck < 260);
}

TEST_CASE("Drawing a place changes nothing else that the seed decides") {
  const auto statuses = [](const char* other) {
    FaultPlan plan({*parse_fault("status=503@0.5"), *parse_fault(other)}, 7);
    std::string out;
    for (int i = 0; i < 50; ++i) out += plan.next_request().kind == Fault::Kind::status ? 's' : '.';
    return out;
  };
  CHECK(statuses("end-after-tokens=5") == statuses("reset-after=5"));
  const Fault fault = *parse_fault("end-after-tokens=3..5@0.5x9");
  CHECK(fault.value == 3);
  CHECK(fault.value_max == 5);
  FaultPlan plan({}, 1);
  for (int i = 0; i < 50; ++i) {
    const uint64_t value = plan.drawn(fault).value;
    CHECK(value >= 3);
    CHECK(value <= 5);
  }
}

// ---- answers ----

TEST_CASE("Text in JSON: what must be escaped is, and more if it shall be ASCII") {
  const auto json = [](std::string_view text, bool ascii) {
    std::string out;
    append_json_text(out, text, ascii);
    return out;
  };
  CHECK(json(" the", false) == " the");
  CHECK(json("\"\\\n\r\t\x01\x7f", false) == "\\\"\\\\\\n\\r\\t\\u0001\x7f");
  CHECK(json("é日😀", false) == "é日😀");
  CHECK(json("é日😀 ", true) == "\\u00e9\\u65e5\\ud83d\\ude00 ");
  CHECK(json("a\xF0\x9F\x98", false) == "a\\ufffd\\ufffd\\ufffd");
}

namespace {

struct Events : http::SseEvents {
  void on_sse_event(std::string_view name, std::string_view data) override {
    names.emplace_back(name);
    events.emplace_back(data);
  }
  std::vector<std::string> names, events;
};

AnswerShape shape_of(Api api) {
  AnswerShape shape;
  shape.api = api;
  shape.id = "x-1";
  shape.model = "m";
  shape.created = 5;
  return shape;
}

std::vector<std::string> stream_of(const AnswerShape& shape) {
  AnswerWriter writer;
  writer.start(shape);
  std::string out;
  const Tally tally{10, 4, 2};
  writer.open(out, 1, tally);
  writer.text(out, 0, " the", tally);
  writer.end_choice(out, 0, " end", FinishReason::stop, tally);
  writer.close(out, tally, " the end", FinishReason::stop);
  Events events;
  http::SseScanner scanner(events);
  scanner.feed(out);
  CHECK(scanner.at_boundary());
  return events.events;
}

}  // namespace

TEST_CASE("A chat stream has a role, text, a reason, usage when asked for, and an end") {
  AnswerShape shape = shape_of(Api::chat);
  shape.include_usage = true;
  const std::vector<std::string> events = stream_of(shape);
  const std::string head = R"({"id":"x-1","object":"chat.completion.chunk","created":5,"model":"m","choices":[)";
  REQUIRE(events.size() == 5);
  CHECK(events[0] ==
        head + R"({"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]})");
  CHECK(events[1] == head + R"({"index":0,"delta":{"content":" the"},"logprobs":null,"finish_reason":null}]})");
  CHECK(events[2] ==
        head + R"({"index":0,"delta":{"content":" end"},"logprobs":null,"finish_reason":"stop","stop_reason":null}]})");
  CHECK(
      events[3] ==
      head +
          R"(],"usage":{"prompt_tokens":10,"total_tokens":12,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":4}}})");
  CHECK(events[4] == "[DONE]");
}

TEST_CASE("Continuous usage stands in every chunk, and no usage in none") {
  AnswerShape shape = shape_of(Api::completions);
  for (const std::string& event : stream_of(shape)) CHECK(event.find("usage") == std::string::npos);
  shape.include_usage = shape.continuous_usage = true;
  std::vector<std::string> events = stream_of(shape);
  CHECK(events.back() == "[DONE]");
  events.pop_back();
  for (const std::string& event : events) CHECK(event.find("\"usage\":{\"prompt_tokens\":10,") != std::string::npos);
}

TEST_CASE("Each event of a chunked stream is a chunk of its own size") {
  AnswerShape shape = shape_of(Api::completions);
  shape.chunked = true;
  shape.chunk_bytes = 8;
  AnswerWriter writer;
  writer.start(shape);
  std::string out;
  writer.text(out, 3, " the and", {});
  writer.text(out, 3, " for are", {});
  const size_t line = out.find("\r\n");
  const size_t size = std::stoul(out.substr(0, line), nullptr, 16);
  CHECK(out.size() == 2 * (line + 2 + size + 2));
  CHECK(out.substr(line + 2, size).ends_with("}\n\n"));
  CHECK(out.find("\"index\":3,\"text\":\" the and\"") != std::string::npos);
  CHECK(out.find("\"index\":3,\"text\":\" for are\"") > out.size() / 2);
  out.clear();
  writer.close(out, {}, "", FinishReason::stop);
  CHECK(out == "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
}

TEST_CASE("Errors have the type that belongs to their status, and escape what they quote") {
  std::string body;
  append_error_body(body, 404, "no \"such\" model", "model");
  CHECK(body == R"({"error":{"message":"no \"such\" model","type":"NotFoundError","param":"model","code":404}})");
  body.clear();
  append_error_body(body, 503, "busy", "");
  CHECK(body == R"({"error":{"message":"busy","type":"Service Unavailable","param":null,"code":503}})");
}

// ---- pages ----

TEST_CASE("Tokens of a text turn back into the text") {
  std::string body;
  append_tokens(body, "hello", 100, false);
  CHECK(body == R"({"count":2,"max_model_len":100,"tokens":[1819043176,4244635759],"token_strs":null})");
  body.clear();
  const uint32_t tokens[] = {1819043176, 4244635759};
  append_detokenized(body, tokens);
  CHECK(body == R"({"prompt":"hello"})");
}

TEST_CASE("A token that ends inside a character shows so, and its neighbour completes it") {
  std::string body;
  append_tokens(body, "abcé\"", 100, true);
  CHECK(body.find("\"token_strs\":[\"abc\xEF\xBF\xBD\",\"\xEF\xBF\xBD\\\"\"]") != std::string::npos);
  body.clear();
  const uint32_t tokens[] = {token_id_of("abc\xC3"), token_id_of("\xA9\"")};
  append_detokenized(body, tokens);
  CHECK(body == "{\"prompt\":\"abcé\\\"\"}");
  body.clear();
  append_detokenized(body, std::span(tokens).first(1));
  CHECK(body == R"({"prompt":"abc\ufffd"})");
}

TEST_CASE("An embedding as base64 holds the same numbers") {
  const uint64_t digests[] = {12345};
  std::string numbers, base64;
  append_embeddings(numbers, shape_of(Api::embeddings), digests, {.dimensions = 2}, {});
  append_embeddings(base64, shape_of(Api::embeddings), digests, {.dimensions = 2, .base64 = true}, {});
  const size_t at = numbers.find("\"embedding\":[");
  REQUIRE(at != std::string::npos);
  const float x = std::stof(numbers.substr(at + 13)), y = std::stof(numbers.substr(numbers.find(',', at + 13) + 1));
  CHECK(x * x + y * y == doctest::Approx(1).epsilon(0.001));
  const size_t from = base64.find("\"embedding\":\"") + 13;
  const std::string text = base64.substr(from, base64.find('"', from) - from);
  REQUIRE(text.size() == 12);
  const std::string alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  for (size_t i = 0; i < 12; i += 4) {
    uint32_t three = 0;
    for (size_t k = 0; k < 4; ++k) {
      const size_t digit = alphabet.find(text[i + k]);
      three = three << 6 | static_cast<uint32_t>(digit == std::string::npos ? 0 : digit);
    }
    for (int shift : {16, 8, 0}) bytes += static_cast<char>(three >> shift);
  }
  float decoded[2];
  std::memcpy(decoded, bytes.data(), sizeof decoded);
  CHECK(decoded[0] == doctest::Approx(x).epsilon(0.001));
  CHECK(decoded[1] == doctest::Approx(y).epsilon(0.001));
}

TEST_CASE("Rerank puts the best first and stops at top_n") {
  const uint64_t digests[] = {1, 2, 3, 4, 5};
  const std::string documents[] = {"a", "b", "c", "d", "e"};
  std::string all, two;
  append_rerank(all, shape_of(Api::rerank), digests, documents, 0, {});
  append_rerank(two, shape_of(Api::rerank), digests, documents, 2, {});
  double before = 2;
  size_t results = 0;
  for (size_t at = all.find("relevance_score\":"); at != std::string::npos;
       at = all.find("relevance_score\":", at + 1)) {
    const double score = std::stod(all.substr(at + 17));
    CHECK(score <= before);
    before = score;
    ++results;
  }
  CHECK(results == 5);
  const size_t cut = two.find("]}");
  CHECK(all.compare(0, cut, two, 0, cut) == 0);
  CHECK(two.size() < all.size());
}

TEST_CASE("Adapters can be loaded and unloaded while their slot stays theirs") {
  Catalog catalog({"base", "alias"}, {"one"});
  CHECK(catalog.find("") == -1);
  CHECK(catalog.find("alias") == -1);
  CHECK(catalog.find("one") == 0);
  CHECK_FALSE(catalog.find("two").has_value());
  CHECK(catalog.load_lora("two") == Catalog::Change::done);
  CHECK(catalog.load_lora("two") == Catalog::Change::exists);
  CHECK(catalog.unload_lora("one") == Catalog::Change::done);
  CHECK(catalog.unload_lora("one") == Catalog::Change::unknown);
  CHECK_FALSE(catalog.find("one").has_value());
  std::string body;
  catalog.append_models(body, 5, 100);
  CHECK(body.find("\"one\"") == std::string::npos);
  CHECK(body.find(R"({"id":"two","object":"model","created":5,"owned_by":"vllm","root":"two","parent":"base")") !=
        std::string::npos);
  CHECK(catalog.load_lora("one") == Catalog::Change::done);
  CHECK(catalog.find("one") == 0);
}

// ---- metrics ----

TEST_CASE("Metrics carry vLLM's names, labels and buckets") {
  Engine engine({});
  std::vector<LoraSeries> loras = {{"a,b", "c", 17.5}};
  std::string text;
  append_metrics(text, engine, {.model_name = "my \"model\"", .max_loras = 2, .lora_series = &loras});
  const std::string labels = R"({engine="0",model_name="my \"model\""})";
  for (const char* name :
       {"num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "prompt_tokens_total",
        "generation_tokens_total", "prefix_cache_queries_total", "prefix_cache_hits_total", "num_preemptions_total",
        "time_to_first_token_seconds_sum", "inter_token_latency_seconds_count", "e2e_request_latency_seconds_count",
        "request_prompt_tokens_sum", "request_generation_tokens_sum"}) {
    CAPTURE(name);
    CHECK(text.find(std::string("\nvllm:") + name + labels + " 0.0\n") != std::string::npos);
  }
  CHECK(text.find(R"(vllm:time_to_first_token_seconds_bucket{engine="0",model_name="my \"model\"",le="0.001"} 0.0)") !=
        std::string::npos);
  CHECK(text.find(R"(le="2560.0"} 0.0)") != std::string::npos);
  CHECK(text.find(R"(le="+Inf"} 0.0)") != std::string::npos);
  CHECK(text.find(R"(vllm:request_success_total{engine="0",model_name="my \"model\"",finished_reason="abort"} 0.0)") !=
        std::string::npos);
  CHECK(text.find(R"(block_size="16",)") != std::string::npos);
  CHECK(text.find(R"(num_gpu_blocks="16384")") != std::string::npos);
  CHECK(text.find(
            R"(vllm:lora_requests_info{max_lora="2",running_lora_adapters="a,b",waiting_lora_adapters="c"} 17.5)") !=
        std::string::npos);
  CHECK(text.find("# TYPE vllm:num_requests_running gauge\n") != std::string::npos);
}

TEST_CASE("Histogram buckets are cumulative in the text") {
  struct Ignore : SequenceEvents {
    void on_token(Sequence&, const Piece&) override {}
    void on_finished(Sequence&, FinishReason) override {}
  } ignore;
  EngineOptions options;
  options.prefill_tokens_per_s = 1000;
  options.step_overhead_ms = 0;
  Engine engine(options);
  Instant now(seconds(1));
  for (const uint32_t tokens : {1u, 3u, 3u, 500u}) {  // first tokens after as many milliseconds
    Sequence sequence(16);
    sequence.stream.append(std::string(tokens * bytes_per_token, static_cast<char>('a' + tokens % 26)));
    sequence.max_tokens = 1;
    sequence.events = &ignore;
    engine.submit(sequence, now);
    now += seconds(10);
    engine.advance(now);
  }
  std::string text;
  append_metrics(text, engine, {.model_name = "m"});
  const auto bucket = [&](const std::string& le, const std::string& count) {
    return text.find(R"(vllm:time_to_first_token_seconds_bucket{engine="0",model_name="m",le=")" + le + "\"} " + count +
                     "\n") != std::string::npos;
  };
  CHECK(bucket("0.001", "1.0"));
  CHECK(bucket("0.005", "3.0"));
  CHECK(bucket("0.25", "3.0"));
  CHECK(bucket("0.5", "4.0"));
  CHECK(bucket("+Inf", "4.0"));
  CHECK(text.find("vllm:prompt_tokens_total{engine=\"0\",model_name=\"m\"} 507.0\n") != std::string::npos);
}
