// What a gateway needs to go on with an answer on another server: ids of text, and a continuation that is the same
// text.
#include <doctest/doctest.h>

#include <algorithm>

#include "bench.h"
#include "penstock/base/text.h"

using namespace penstock;
using namespace penstock::sim;

namespace {

std::string as_json(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

Options options_of(TextStyle style, bool ascii = false, uint32_t eos_mean = 0) {
  Options options = Bench::instant();
  options.engine.text = style;
  options.engine.eos_mean = eos_mean;
  options.ascii = ascii;
  return options;
}

// One prompt for each API, of a length that no token size divides, with characters across the tokens' borders.
struct Question {
  const char* path;
  const char* prompt;  // as fields of the request, and of /tokenize
};
constexpr Question kQuestions[] = {
    {"/v1/completions", "\"prompt\":\"Hé, 日本の水門! \\\"\\n\""},
    {"/v1/chat/completions",
     R"("messages":[{"role":"system","content":"brief"},{"role":"user","content":"Was kostet die Öffnung? €"}],)"
     R"("chat_template_kwargs":{"enable_thinking":false})"},
};

constexpr uint32_t kTokens = 40;

// Continues from the first `k` pieces of the unbroken answer; `more`: further fields of the request.
Said continued(Bench& bench, const Question& question, const Said& unbroken, size_t k, bool stream,
               const std::string& more = "") {
  std::string delivered;
  for (size_t i = 0; i < k; ++i) delivered += unbroken.pieces[i];
  std::vector<uint32_t> ids = bench.ids_of(question.prompt);
  REQUIRE(ids.size() == unbroken.prompt_tokens);
  const auto more_ids = bench.ids_of("\"add_special_tokens\":false,\"prompt\":" + as_json(delivered));
  REQUIRE(more_ids.size() == k);
  ids.insert(ids.end(), more_ids.begin(), more_ids.end());
  const Said said = bench.ask(
      "/v1/completions", "{\"prompt\":" + json_of(ids) + ",\"seed\":5,\"max_tokens\":" + std::to_string(kTokens - k) +
                             more + (stream ? R"(,"stream":true,"stream_options":{"include_usage":true}})" : "}"));
  CHECK(said.status == 200);
  CHECK(said.prompt_tokens == ids.size());
  CHECK(delivered + said.text == unbroken.text);
  CHECK(said.finish == unbroken.finish);
  CHECK(said.completion_tokens + k == unbroken.completion_tokens);
  return said;
}

Said asked(Bench& bench, const Question& question, const std::string& more = "") {
  const Said said = bench.ask(question.path, "{" + std::string(question.prompt) +
                                                 ",\"seed\":5,\"max_tokens\":" + std::to_string(kTokens) + more +
                                                 R"(,"stream":true,"stream_options":{"include_usage":true}})");
  REQUIRE(said.status == 200);
  REQUIRE(said.done);
  return said;
}

}  // namespace

TEST_CASE("An answer is continued from every token with what the unbroken one says there, to the same end") {
  struct Style {
    TextStyle style;
    bool ascii;
    uint32_t eos_mean;
  };
  for (const Style& style :
       {Style{TextStyle::plain, false, 0}, Style{TextStyle::varied, false, 20}, Style{TextStyle::varied, true, 0}}) {
    // Each server has its own cache and has heard nothing of the other's answers.
    const Options options = options_of(style.style, style.ascii, style.eos_mean);
    Bench first(net::RingKind::epoll, options), second(net::RingKind::epoll, options);
    for (const Question& question : kQuestions) {
      CAPTURE(question.path);
      const Said unbroken = asked(first, question);
      const bool by_itself = style.eos_mean > 0;
      CHECK(unbroken.finish == (by_itself ? "stop" : "length"));
      REQUIRE(unbroken.pieces.size() > 2);
      REQUIRE(unbroken.pieces.size() + by_itself == unbroken.completion_tokens);
      // Also from all of the text, when only the end was lost.
      for (size_t k = 0; k < unbroken.completion_tokens; ++k) {
        CAPTURE(k);
        CHECK(continued(second, question, unbroken, k, true).done);
        continued(second, question, unbroken, k, false);
      }
    }
  }
}

TEST_CASE("Varied text has what is hard at a seam, and is the same escaped to ASCII") {
  Bench raw(net::RingKind::epoll, options_of(TextStyle::varied));
  Bench ascii(net::RingKind::epoll, options_of(TextStyle::varied, true));
  const std::string body = R"({"prompt":"x","max_tokens":400,"stream":true})";
  const Said said = raw.ask("/v1/completions", body);
  for (const char* part : {"\"", "\\", "\n", "\t", "é", "日", "😀", "[DON"}) {
    CAPTURE(part);
    CHECK(said.text.find(part) != std::string::npos);
  }
  for (const std::string& piece : said.pieces) CHECK(piece.size() == bytes_per_token);
  CHECK(ascii.ask("/v1/completions", body).text == said.text);
  Client client(ascii.address);
  client.post("/v1/completions", R"({"prompt":"x","max_tokens":400})");
  ascii.until(client, [&] { return client.whole(); });
  CHECK(std::all_of(client.received.begin(), client.received.end(), [](char c) { return c > 0; }));
  CHECK(client.received.find("\\ud83d\\ude00") != std::string::npos);
  CHECK(read_answer(client.received).text == said.text);
}

TEST_CASE("A stop string ends an answer in the middle of a token, and its continuation there, too") {
  Options options = options_of(TextStyle::varied);
  Bench bench(net::RingKind::epoll, options);
  options.engine.decode_ms = 1;
  Bench slow(net::RingKind::epoll, options);  // its tokens are sent one by one
  for (const Question& question : kQuestions) {
    CAPTURE(question.path);
    const Said whole = asked(bench, question);
    // From the middle of one plain word to the middle of the next one that follows it at once.
    size_t at = 0;
    for (size_t i = 10; i + 1 < whole.pieces.size() && at == 0; ++i) {
      const auto is_word = [](const std::string& piece) {
        return piece[0] == ' ' && piece.find_first_not_of("abcdefghijklmnopqrstuvwxyz", 1) == std::string::npos;
      };
      if (is_word(whole.pieces[i]) && is_word(whole.pieces[i + 1])) at = i * bytes_per_token + 2;
    }
    REQUIRE(at > 0);
    const std::string stop = whole.text.substr(at, 5);
    const std::string field = ",\"stop\":[\"never said\"," + as_json(stop) + "]";
    const Said stopped = asked(bench, question, field);
    CHECK(stopped.text == whole.text.substr(0, whole.text.find(stop)));
    CHECK(stopped.finish == "stop");
    CHECK(stopped.stop_reason == stop);
    const Said kept = asked(bench, question, field + ",\"include_stop_str_in_output\":true");
    CHECK(kept.text == stopped.text + stop);
    CHECK(asked(slow, question, field).text == stopped.text);
    CHECK(asked(slow, question, field + ",\"include_stop_str_in_output\":true").text == kept.text);
    for (size_t k = 0; k + 1 < stopped.pieces.size(); ++k) {
      CAPTURE(k);
      CHECK(continued(bench, question, stopped, k, k % 2 == 0, field).stop_reason == stop);
    }
    CHECK(asked(bench, question, field + ",\"min_tokens\":40").completion_tokens == kTokens);
  }
  CHECK(bench.engine_empty());
}

TEST_CASE("The messages API has stop strings under a name of its own") {
  Bench bench(net::RingKind::epoll);
  const std::string fields = R"("messages":[{"role":"user","content":"x"}],"max_tokens":20,"stream":true)";
  const Said whole = bench.ask("/v1/messages", "{" + fields + "}");
  REQUIRE(whole.text.size() == 20 * bytes_per_token);
  const std::string stop = whole.text.substr(41, 6);
  const Said stopped = bench.ask("/v1/messages", "{" + fields + ",\"stop_sequences\":[" + as_json(stop) + "]}");
  CHECK(stopped.text == whole.text.substr(0, whole.text.find(stop)));
  CHECK(stopped.finish == "stop_sequence");
  CHECK(stopped.stop_reason == stop);
}

TEST_CASE("Without a number of tokens an answer has the usual length, or the one that vLLM gives it") {
  Options options = Bench::instant();
  options.max_tokens_default = 7;
  options.max_model_len = 100;
  Bench usual(net::RingKind::epoll, options);
  options.max_tokens_default = 0;
  Bench vllm(net::RingKind::epoll, options);
  const std::string text = R"({"prompt":"12345678"})", chat = R"({"messages":[{"role":"user","content":"x"}]})";
  const auto said = [](Bench& bench, const char* path, const std::string& body) {
    const Said answer = bench.ask(path, body);
    return std::make_pair(answer.completion_tokens, answer.finish);
  };
  CHECK(said(usual, "/v1/completions", text) == std::make_pair(uint64_t{7}, std::string("stop")));
  CHECK(said(usual, "/v1/chat/completions", chat) == std::make_pair(uint64_t{7}, std::string("stop")));
  CHECK(said(vllm, "/v1/completions", text) == std::make_pair(uint64_t{16}, std::string("length")));
  const uint64_t room = 100 - vllm.ids_of(R"("messages":[{"role":"user","content":"x"}])").size();
  CHECK(said(vllm, "/v1/chat/completions", chat) == std::make_pair(room, std::string("length")));
}

TEST_CASE("Text becomes ids and text again, at once and without work for the engine") {
  Bench bench(net::RingKind::epoll);
  const std::string text = "Hé, 日本の水門! 😀\n\"\\";
  const Said ids = bench.ask("/tokenize", R"({"model":"base","prompt":)" + as_json(text) + "}");
  CHECK(ids.tokens.size() == (text.size() + 3) / 4);
  const Said back = bench.ask("/detokenize", R"({"model":"base","tokens":)" + json_of(ids.tokens) + "}");
  CHECK(back.prompt == text);
  CHECK(bench.ids_of(R"("prompt":"")").empty());
  CHECK(bench.server.engine().stats().steps == 0);
  CHECK(bench.server.metrics_text().find("vllm:prompt_tokens_total{engine=\"0\",model_name=\"base\"} 0.0") !=
        std::string::npos);

  for (const char* path : {"/tokenize", "/detokenize"}) {
    CAPTURE(path);
    CHECK(bench.ask(path, R"({"model":"other","prompt":"x","tokens":[1]})").status == 404);
    CHECK(bench.ask(path, R"({"model":"base"})").status == 400);
    CHECK(bench.ask(path, R"({"prompt":["x"],"tokens":"x"})").status == 400);
  }
  Options options = Bench::instant();
  options.tokenizer = false;
  Bench without(net::RingKind::epoll, options);
  for (const char* path : {"/tokenize", "/detokenize"}) {
    CHECK(without.ask(path, R"({"model":"base","prompt":"x","tokens":[1]})").status == 404);
  }
  CHECK(without.ask("/v1/completions", R"({"prompt":[1,2],"max_tokens":3})").completion_tokens == 3);
}

TEST_CASE("A prompt's first token is there for texts that ask for it, and for chats") {
  Options options = Bench::instant();
  options.bos = true;
  Bench bench(net::RingKind::epoll, options);
  const std::vector<uint32_t> with = bench.ids_of(R"("prompt":"four")");
  const std::vector<uint32_t> without = bench.ids_of(R"("prompt":"four","add_special_tokens":false)");
  REQUIRE(with.size() == 2);
  CHECK(without == std::vector<uint32_t>{with[1]});
  const std::vector<uint32_t> chat = bench.ids_of(R"("messages":[{"role":"user","content":"x"}])");
  CHECK(chat[0] == with[0]);
  CHECK(chat[1] != with[0]);
  const Said text = bench.ask("/v1/completions", R"({"prompt":"four","max_tokens":9,"echo":true})");
  CHECK(text.prompt_tokens == 2);
  CHECK(text.text.starts_with("four "));
  CHECK("four" + bench.ask("/v1/completions", "{\"max_tokens\":9,\"prompt\":" + json_of(with) + "}").text == text.text);
}
