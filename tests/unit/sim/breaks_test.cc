// The ways in which engines lose an answer, each at any token of it.
#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "bench.h"

using namespace penstock;
using namespace penstock::sim;

namespace {

constexpr size_t kTokens = 7;

struct Way {
  const char* name;
  bool stream_ends;  // the last chunk of the body comes
  bool done, error;
  const char* finish;
};
constexpr Way kWays[] = {
    {"reset", false, false, false, ""},    {"end", true, false, false, ""},    {"error", true, true, true, ""},
    {"abort", true, true, false, "abort"}, {"stall", false, false, false, ""},
};

std::string body_of(std::string_view path, std::string_view more) {
  const std::string prompt =
      path == "/v1/completions" ? R"({"prompt":"hello gateway")" : R"({"messages":[{"role":"user","content":"hello"}])";
  return prompt + ",\"max_tokens\":" + std::to_string(kTokens) + std::string(more) + "}";
}
constexpr std::string_view kStream = R"(,"stream":true,"stream_options":{"include_usage":true})";

std::string header_of(const Way& way, size_t after) {
  return "x-sim-fail: " + std::string(way.name) + "-after-tokens=" + std::to_string(after) + "\r\n";
}

struct Broken {
  Said said;
  bool reset, eof, stream_ended;
};

// What a client has when nothing more comes: for a stall, once the engine is done and another answer has gone out.
Broken broken(Bench& bench, std::string_view path, std::string_view body, std::string_view header) {
  Client client(bench.address);
  client.post(path, body, header);
  if (header.find("stall") == std::string_view::npos) {
    bench.until(client, [&] { return client.whole() || client.stream_ended() || client.ended(); });
  } else {
    const auto& engine = bench.server.engine().stats();
    const uint64_t before = engine.finished_length;
    bench.until(client, [&] { return engine.finished_length > before; });
    CHECK(bench.ask("/v1/completions", R"({"prompt":"x","max_tokens":1})").status == 200);
    client.poll();
  }
  return {read_answer(client.received), client.reset, client.eof, client.stream_ended()};
}

}  // namespace

TEST_CASE("A stream breaks in each way after each number of tokens") {
  for (const uint32_t per_chunk : {1u, 4u}) {
    Options options = Bench::instant();
    options.tokens_per_chunk = per_chunk;
    Bench bench(net::RingKind::epoll, options);
    for (const std::string_view path : {"/v1/completions", "/v1/chat/completions"}) {
      const bool chat = path == "/v1/chat/completions";
      const std::string body = body_of(path, kStream);
      const Said unbroken = bench.ask(path, body);
      REQUIRE(unbroken.text.size() == kTokens * bytes_per_token);
      for (const Way& way : kWays) {
        for (size_t after = 0; after <= kTokens; ++after) {
          CAPTURE(path);
          CAPTURE(way.name);
          CAPTURE(after);
          const Broken got = broken(bench, path, body, header_of(way, after));
          CHECK(got.said.status == 200);
          CHECK(got.said.text == unbroken.text.substr(0, after * bytes_per_token));
          CHECK(got.said.role == (chat ? "assistant" : ""));
          CHECK(got.said.done == way.done);
          CHECK(got.said.error == way.error);
          CHECK(got.said.finish == way.finish);
          CHECK(got.stream_ended == way.stream_ends);
          CHECK(got.reset == (std::string_view(way.name) == "reset"));
          CHECK_FALSE(got.eof);
          CHECK(got.said.completion_tokens == (std::string_view(way.name) == "abort" ? after : 0));
          bench.until_empty();
        }
        CHECK(broken(bench, path, body, header_of(way, kTokens + 1)).said.text == unbroken.text);
        CHECK(bench.ask(path, body, header_of(way, kTokens + 1)).finish == "length");
      }
    }
  }
}

TEST_CASE("Answers that are no streams break in the same ways, before a byte of them has been sent") {
  Bench bench(net::RingKind::epoll);
  const std::string_view path = "/v1/chat/completions";
  const std::string body = body_of(path, "");
  const Said unbroken = bench.ask(path, body);
  for (const size_t after : {size_t{0}, size_t{3}, kTokens}) {
    CAPTURE(after);
    const auto got = [&](const Way& way) { return broken(bench, path, body, header_of(way, after)); };
    const Broken reset = got(kWays[0]), ended = got(kWays[1]), error = got(kWays[2]), abort = got(kWays[3]);
    CHECK(reset.said.status == 0);
    CHECK(reset.reset);
    CHECK(ended.said.status == 0);
    CHECK(ended.eof);
    CHECK(error.said.status == 500);
    CHECK(error.said.error);
    CHECK(abort.said.status == 200);
    CHECK(abort.said.text == unbroken.text.substr(0, after * bytes_per_token));
    CHECK(abort.said.finish == "abort");
    CHECK(abort.said.completion_tokens == after);
    bench.until_empty();
  }
  const Broken stalled = broken(bench, path, body, header_of(kWays[4], 3));
  CHECK(stalled.said.status == 0);
  CHECK_FALSE(stalled.reset);
  CHECK_FALSE(stalled.eof);
  for (const Way& way : kWays) CHECK(bench.ask(path, body, header_of(way, kTokens + 1)).text == unbroken.text);
}

TEST_CASE("The tokens of all choices count together, and every choice is aborted") {
  Bench bench(net::RingKind::epoll);
  Client client(bench.address);
  client.post("/v1/completions", body_of("/v1/completions", std::string(kStream) + R"(,"n":2)"),
              header_of(kWays[3], kTokens + 2));
  bench.until(client, [&] { return client.stream_ended(); });
  const Said said = read_answer(client.received);
  CHECK(said.text.size() + said.other_text.size() == (kTokens + 2) * bytes_per_token);
  CHECK(said.completion_tokens == kTokens + 2);
  size_t aborted = 0;
  for (size_t at = 0; (at = client.received.find("\"abort\"", at)) != std::string::npos; ++at) ++aborted;
  CHECK(aborted == 1);  // the other one was whole before the place came
}

TEST_CASE("The other two APIs tell an error in their own events") {
  Bench bench(net::RingKind::epoll);
  const auto streamed = [&](std::string_view path, std::string_view body) {
    Client client(bench.address);
    client.post(path, body, header_of(kWays[2], 2));
    bench.until(client, [&] { return client.stream_ended(); });
    CHECK(client.received.find("[DONE]") == std::string::npos);
    return client.received;
  };
  const std::string responses = streamed("/v1/responses", R"({"input":"x","max_output_tokens":7,"stream":true})");
  CHECK(responses.find("event: error\ndata: {\"type\":\"error\",") != std::string::npos);
  CHECK(responses.find("response.completed") == std::string::npos);
  const std::string messages =
      streamed("/v1/messages", R"({"messages":[{"role":"user","content":"x"}],"max_tokens":7,"stream":true})");
  CHECK(messages.find("event: error\ndata: {\"type\":\"error\",\"error\":{") != std::string::npos);
  CHECK(messages.find("message_stop") == std::string::npos);
}

TEST_CASE("A range breaks anywhere in it, the same way for the same seed") {
  const auto places = [](uint64_t seed) {
    Options options = Bench::instant();
    options.engine.seed = seed;
    options.faults = {*parse_fault("end-after-tokens=2..6")};
    Bench bench(net::RingKind::epoll, options);
    std::vector<size_t> out;
    for (int i = 0; i < 40; ++i)
      out.push_back(bench.ask("/v1/completions", body_of("/v1/completions", kStream)).pieces.size());
    return out;
  };
  const std::vector<size_t> once = places(1);
  CHECK(std::set<size_t>(once.begin(), once.end()) == std::set<size_t>{2, 3, 4, 5, 6});
  CHECK(places(1) == once);
  CHECK(places(2) != once);
}

TEST_CASE("Answers without tokens are left alone by faults that strike at tokens") {
  Bench bench(net::RingKind::epoll);
  for (const Way& way : kWays) {
    CHECK(bench.ask("/v1/embeddings", R"({"input":"x"})", header_of(way, 0)).status == 200);
  }
}
