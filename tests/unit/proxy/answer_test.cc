#include "src/proxy/answer.h"

#include "fixture.h"

namespace penstock::proxy {
namespace {

using downstream::BodyForm;
using downstream::Sent;

constexpr const char* json = "content-type: application/json";
constexpr const char* events = "content-type: text/event-stream\r\ntransfer-encoding: chunked";

struct Given {
  explicit Given(Scene& of, const std::string& start = "POST /v1/completions", const std::string& fields = {})
      : scene(of),
        asked(of, start, fields,
              start.starts_with("POST") ? R"({"model":"m","prompt":"p","stream":true})" : std::string_view()),
        answer(of.context, asked.intake, of.client, kept) {
    REQUIRE(asked.verdict.goes_on());
  }
  void begin(const std::string& head, bool gathers = false) {
    answer.begin(answer_head(head).head(), {.endpoint = "pod", .request_id = asked.intake.head().request_id}, gathers);
  }

  Scene& scene;
  Asked asked;
  Answer::Kept kept;
  Answer answer;
};

TEST_CASE("each kind of body is relayed in its form, and nothing before its first piece") {
  struct Case {
    std::string start, head;
    bool client_takes_chunks;
    BodyForm form;
    bool raw;  // how the pieces are taken
  };
  const Case cases[] = {
      {"POST /v1/completions", "200 OK\r\ncontent-length: 5", true, BodyForm::sized, true},
      {"POST /v1/completions", "200 OK\r\ntransfer-encoding: chunked", true, BodyForm::chunked, true},
      {"POST /v1/completions", "200 OK\r\ntransfer-encoding: chunked", false, BodyForm::open, false},
      {"POST /v1/completions", "200 OK\r\nconnection: close", true, BodyForm::open, false},
      {"HEAD /v1/models/m", "200 OK\r\ncontent-length: 5", true, BodyForm::none, true},
      {"POST /v1/completions", "204 No Content", true, BodyForm::none, true},
  };
  for (const Case& one : cases) {
    CAPTURE(one.head);
    Scene scene;
    scene.client.chunks = one.client_takes_chunks;
    Given given(scene, one.start);
    given.begin(one.head);
    CHECK_FALSE(given.answer.started());
    CHECK(scene.client.status == 0);
    if (one.form != BodyForm::none) {
      CHECK(given.answer.take("hello") == Relayed::nothing);
      CHECK_FALSE(given.answer.started());
      CHECK(given.answer.take_raw("HELLO", true, false) == Relayed::some);
    }
    CHECK(given.answer.end({}) == Relayed::some);
    CHECK(given.answer.started());
    CHECK(scene.client.form == one.form);
    CHECK(scene.client.body == (one.form == BodyForm::none ? "." : one.raw ? "HELLO." : "hello."));
    CHECK(scene.client.fields.get("x-penstock-endpoint") == "pod");
    CHECK(scene.client.fields.has("content-length") == (one.head.find("content-length") != std::string::npos));
    CHECK(given.answer.bytes() == (one.form == BodyForm::none ? 0 : 5));
  }
}

TEST_CASE("the client's name for the model comes back, in a stream and in one piece") {
  const std::string renamed = "x-gateway-model-name-rewrite: theirs\r\n";
  {
    Scene scene;
    Given given(scene, "POST /v1/completions", renamed);
    given.begin(std::string("200 OK\r\ncontent-length: 40\r\n") + json);
    CHECK(given.answer.take(R"({"model":"theirs","choices":)") == Relayed::nothing);
    CHECK(given.answer.take("[]}") == Relayed::nothing);
    CHECK_FALSE(given.answer.started());
    CHECK(given.answer.end({}) == Relayed::some);
    CHECK(scene.client.body == R"({"model":"m","choices":[]})");
    CHECK(scene.client.fields.get("content-length") == "26");
  }
  Scene scene;
  Given given(scene, "POST /v1/completions", renamed);
  given.begin(std::string("200 OK\r\n") + events);
  const std::string theirs = "data: {\"model\":\"theirs\"}\n\n", ours = "data: {\"model\":\"m\"}\n\n";
  CHECK(given.answer.take(theirs) == Relayed::nothing);
  CHECK(given.answer.take(theirs) == Relayed::nothing);
  CHECK(given.answer.take_raw("raw", true, false) == Relayed::some);
  CHECK(scene.client.form == BodyForm::open);
  CHECK(scene.client.body == ours + ours);
  CHECK(given.answer.take(theirs) == Relayed::some);
  CHECK(given.answer.take_raw("raw", true, false) == Relayed::nothing);
  CHECK(scene.client.body == ours + ours + ours);

  Scene packed;
  Given compressed(packed, "POST /v1/completions", renamed);
  compressed.begin(std::string("200 OK\r\ncontent-encoding: gzip\r\n") + events);
  CHECK(packed.observer.not_restored == 1);
}

TEST_CASE("a stream that reports an error keeps its good part, and the client hears why it ends") {
  Scene scene;
  Given given(scene);
  given.begin("200 OK\r\ncontent-type: text/event-stream\r\nconnection: close");
  CHECK(given.answer.take("data: {\"choices\":[{\"text\":\"a\"}]}\n\n") == Relayed::nothing);
  CHECK(given.answer.take_raw("raw", true, false) == Relayed::some);
  const std::string good = "data: {\"choices\":[{\"text\":\"b\"}]}\n\n";
  const std::string last = good + "data: {\"choices\":[{\"finish_reason\":\"abort\"}]}\n\n";
  CHECK(given.answer.take(last) == Relayed::failed);
  CHECK(given.answer.failure() == AttemptFailure::aborted);
  bool whole_chunks = false;
  scene.client.body.clear();
  CHECK(given.answer.relay_good(nullptr, &whole_chunks) == Relayed::some);
  CHECK(scene.client.body == good);
  CHECK(whole_chunks);
  scene.client.body.clear();
  CHECK(given.answer.say_why(ErrorCode::stream_broken, whole_chunks));
  CHECK(scene.client.body.starts_with("<data: {\"error\""));
}

TEST_CASE("a failure that is read together with the first piece finds nothing sent, in every form") {
  const std::string text = "data: {\"choices\":[{\"text\":\"a\"}]}\n\n";
  for (const bool takes_chunks : {true, false}) {
    for (const bool ends : {true, false}) {
      CAPTURE(takes_chunks);
      CAPTURE(ends);
      Scene scene;
      scene.client.chunks = takes_chunks;
      Given given(scene);
      given.begin(std::string("200 OK\r\n") + events);
      scene.context.piece = "of another exchange, in the meantime";
      CHECK(given.answer.take(text) == Relayed::nothing);
      if (ends) CHECK(given.answer.take_raw("raw", true, true) == Relayed::failed);
      else CHECK(given.answer.take("data: {\"choices\":[{\"finish_reason\":\"abort\"}]}\n\n") == Relayed::failed);
      CHECK_FALSE(given.answer.started());
      CHECK(scene.client.body.empty());
      // No other endpoint may answer: what was good is sent at last.
      if (takes_chunks || ends) continue;
      bool whole_chunks = false;
      CHECK(given.answer.relay_good(nullptr, &whole_chunks) == Relayed::some);
      CHECK(scene.client.body == text);
    }
  }
}

TEST_CASE("what other exchanges leave in the piece between two reads is not in the answer") {
  for (const bool renamed : {false, true}) {
    CAPTURE(renamed);
    Scene scene;
    scene.client.chunks = false;
    Given given(scene, "POST /v1/completions", renamed ? "x-gateway-model-name-rewrite: theirs\r\n" : "");
    given.begin(std::string("200 OK\r\n") + json);
    scene.context.piece = "of somebody else ";
    CHECK(given.answer.take("{\"a\":") == Relayed::nothing);
    CHECK(given.answer.take("1,") == Relayed::nothing);
    CHECK(given.answer.take_raw("{\"a\":1,", true, false) == Relayed::some);
    scene.context.piece = "of somebody else ";
    static_cast<void>(given.answer.take("\"b\":2}"));
    CHECK(given.answer.take_raw("\"b\":2}", true, false) == Relayed::nothing);
    CHECK(given.answer.end({}) == Relayed::some);
    CHECK(scene.client.body == "{\"a\":1,\"b\":2}.");
  }
}

TEST_CASE("a stream without its end has failed, though HTTP says that it is over") {
  Scene scene(2, {.resume = {.enabled = false}});
  Given given(scene);
  given.begin(std::string("200 OK\r\n") + events);
  CHECK(given.answer.take("data: {\"choices\":[{\"text\":\"a\"}]}\n\n") == Relayed::nothing);
  CHECK(given.answer.take_raw("chunk", true, false) == Relayed::some);
  CHECK(given.answer.take_raw("0\r\n\r\n", true, true) == Relayed::failed);
  CHECK(given.answer.failure() == AttemptFailure::unfinished);
  CHECK(scene.client.body == "chunk");
}

TEST_CASE("between two chunks alone something may be inserted into chunks") {
  Scene scene(2, {.resume = {.enabled = false}});
  Given given(scene);
  given.begin(std::string("200 OK\r\n") + events);
  CHECK(given.answer.take("data: {\"choices\":[{\"text\":\"a\"}]}\n\n") == Relayed::nothing);
  CHECK(given.answer.take_raw("chunk", true, false) == Relayed::some);
  CHECK(given.answer.say_why(ErrorCode::shutting_down, false));
  CHECK(scene.client.body == "chunk");
  CHECK(given.answer.say_why(ErrorCode::shutting_down, true));
  CHECK(scene.client.body.starts_with("chunk<data: "));
}

TEST_CASE("of a stream that may go on elsewhere only whole events are relayed, however they are cut") {
  const std::string whole[] = {R"(data: {"id":"1","choices":[{"index":0,"text":"a"}]})"
                               "\n\n",
                               ": still here\n", "\n",
                               R"(data: {"id":"1","choices":[{"index":0,"text":"b"}]})"
                               "\n\n"};
  const std::string all = whole[0] + whole[1] + whole[2] + whole[3];
  for (size_t cut = 0; cut <= all.size(); ++cut) {
    CAPTURE(cut);
    Scene scene;
    scene.client.chunks = false;
    Given given(scene);
    given.begin(std::string("200 OK\r\n") + events);
    CHECK(given.answer.resume_obstacle() == openai::ResumeObstacle::none);
    std::string relayed;
    for (const std::string_view piece : {std::string_view(all).substr(0, cut), std::string_view(all).substr(cut)}) {
      CHECK(given.answer.take(piece) != Relayed::failed);
      given.answer.take_raw("as it came", true, false);
      relayed.clear();
      const size_t given_bytes = cut == all.size() || piece.size() != cut ? all.size() : cut;
      for (const std::string& event : whole) {
        if (relayed.size() + event.size() <= given_bytes) relayed += event;
        else break;
      }
      if (piece.data() == all.data()) CHECK(scene.client.body == relayed);
    }
    CHECK(scene.client.body == all);
    CHECK(given.answer.remembered()->delivered().text() == "ab");
  }
}

TEST_CASE("chunks of such a stream are relayed as they come, but where chunks and events are out of step") {
  const std::string one = "data: {\"choices\":[{\"index\":0,\"text\":\"a\"}]}\n\n", size = "2c\r\n";
  Scene scene;
  Given given(scene);
  given.begin(std::string("200 OK\r\n") + events);
  CHECK(given.answer.take(one) == Relayed::nothing);
  CHECK(given.answer.take_raw("CHUNK", true, false) == Relayed::some);
  CHECK(scene.client.body == "CHUNK");
  // A read ends within a chunk, and the next one with it.
  CHECK(given.answer.take(one) == Relayed::nothing);
  const std::string first = one.substr(0, 10), rest = one.substr(10);
  CHECK(given.answer.take(first) == Relayed::nothing);
  CHECK(given.answer.take_raw("RAW", false, false) == Relayed::some);
  CHECK(given.answer.take(rest) == Relayed::nothing);
  CHECK(given.answer.take_raw("RAW", true, false) == Relayed::some);
  const std::string ours =
      "CHUNK" + size + one + "\r\n" + "a\r\n" + one.substr(0, 10) + "\r\n" + "22\r\n" + one.substr(10) + "\r\n";
  CHECK(scene.client.body == ours);
  CHECK(given.answer.take(one) == Relayed::nothing);
  CHECK(given.answer.take_raw("CHUNK", true, false) == Relayed::some);
  CHECK(scene.client.body == ours + "CHUNK");
  CHECK(given.answer.take("data: [DONE]\n\n") == Relayed::nothing);
  CHECK(given.answer.take_raw("LAST", true, true) == Relayed::some);
  CHECK(given.answer.end({}) == Relayed::some);
  CHECK(scene.client.body == ours + "CHUNKLAST.");
  CHECK(given.answer.remembered()->delivered().text() == "aaaa");
}

TEST_CASE("a stream that cannot be remembered is relayed all the same") {
  for (const size_t rest : {size_t{100}, size_t{70 * 1024}}) {
    Scene scene;
    scene.client.chunks = false;
    Given given(scene);
    given.begin(std::string("200 OK\r\n") + events);
    const std::string one = "data: {\"choices\":[{\"index\":0,\"text\":\"a\"}]}\n\n",
                      half = "data: " + std::string(rest, 'x');
    CHECK(given.answer.take(one + half) != Relayed::lost);
    given.answer.take_raw("raw", true, false);
    const bool kept = rest < 64 * 1024;
    CHECK(scene.client.body == (kept ? one : one + half));
    CHECK((given.answer.resume_obstacle() == openai::ResumeObstacle::none) == kept);
    CHECK(given.answer.take("y\n\n") != Relayed::lost);
    given.answer.take_raw("raw", true, false);
    CHECK(scene.client.body == one + half + "y\n\n");
  }
}

TEST_CASE("a stream that cannot go on any more is broken between two events") {
  const std::string one = "data: {\"choices\":[{\"index\":0,\"text\":\"\xEF\xBF\xBD\"}]}\n\n";
  for (const size_t half : {size_t{100}, size_t{70 * 1024}}) {
    for (const bool chunks : {true, false}) {
      CAPTURE(half);
      CAPTURE(chunks);
      Scene scene;
      scene.client.chunks = chunks;
      Given given(scene);
      given.begin(std::string("200 OK\r\n") + events);
      CHECK(given.answer.take(one) != Relayed::lost);
      CHECK(given.answer.take_raw("CHUNK", true, false) == Relayed::some);
      CHECK(given.answer.resume_obstacle() == openai::ResumeObstacle::replacement_character);
      const std::string beginning = "data: " + std::string(half, 'x');
      CHECK(given.answer.take(beginning) != Relayed::lost);
      given.answer.take_raw("RAW", false, false);
      const bool kept = half < 64 * 1024;
      CHECK((scene.client.body.find("xxx") == std::string::npos) == kept);
      CHECK(given.answer.say_why(ErrorCode::stream_broken, true));
      CHECK((scene.client.body.find("stream_broken") != std::string::npos) == kept);
    }
  }
}

TEST_CASE("what may keep a stream from going on elsewhere is known when it begins") {
  using enum openai::ResumeObstacle;
  struct Case {
    std::string start, fields, body, head;
    openai::ResumeObstacle obstacle;
  };
  const std::string chat = "POST /v1/chat/completions", stream = std::string("200 OK\r\n") + events;
  const auto body = [](const std::string& more) {
    return R"({"model":"m","messages":[{"role":"user","content":"x"}],"stream":true)" + more + "}";
  };
  const Case cases[] = {
      {chat, "", body(""), stream, none},
      {chat, "x-penstock-resume: off\r\n", body(""), stream, off},
      {chat, "", body(R"(,"tools":[{"type":"function"}])"), stream, tools},
      {chat, "", body(R"(,"n":2)"), stream, several_choices},
      {chat, "", body(R"(,"stream_options":{"continuous_usage_stats":true})"), stream, usage_in_chunks},
      {chat, "", body(""), std::string("200 OK\r\ncontent-length: 5\r\n") + json, not_streamed},
      {"POST /v1/messages", "", body(R"(,"max_tokens":5)"), stream, none},
      {"POST /v1/responses", "", R"({"model":"m","input":"x","stream":true})", stream, none},
      {"POST /v1/embeddings", "", R"({"model":"m","input":"x","stream":true})", stream, api},
  };
  for (const Case& one : cases) {
    CAPTURE(one.body);
    Scene scene;
    Asked asked(scene, one.start, one.fields, one.body);
    REQUIRE(asked.verdict.goes_on());
    Answer::Kept kept;
    Answer answer(scene.context, asked.intake, scene.client, kept);
    answer.begin(answer_head(one.head).head(), {.endpoint = "pod", .request_id = "1"}, false);
    CHECK(openai::to_string(answer.resume_obstacle()) == std::string_view(openai::to_string(one.obstacle)));
    CHECK((answer.remembered() != nullptr) == (one.obstacle == none));
  }
}

TEST_CASE("an answer that does not stream is relayed when it is whole") {
  const std::string whole = R"({"choices":[{"text":"a","finish_reason":"stop"}]})";
  Scene scene;
  Given given(scene);
  given.begin("200 OK\r\ncontent-length: " + std::to_string(whole.size()) + "\r\n" + json);
  for (const size_t at : {0, 20}) {
    const std::string piece = whole.substr(at, at == 0 ? 20 : std::string::npos);
    CHECK(given.answer.take(piece) == Relayed::nothing);
    CHECK(given.answer.take_raw(piece, true, at > 0) == Relayed::nothing);
    CHECK_FALSE(given.answer.started());
  }
  CHECK(given.answer.end({}) == Relayed::some);
  CHECK(scene.client.body == whole + ".");
  CHECK(scene.client.fields.get("content-length") == std::to_string(whole.size()));
  CHECK(given.answer.watch().answer().finish_reason() == "stop");
}

TEST_CASE("who is congested is congested until it has drained, and who is lost is lost") {
  Scene scene;
  Given given(scene);
  given.begin("200 OK\r\ncontent-length: 5");
  scene.client.result = Sent::congested;
  CHECK(given.answer.take_raw("ab", true, false) == Relayed::some);
  CHECK(given.answer.congested());
  given.answer.drained();
  CHECK_FALSE(given.answer.congested());
  scene.client.result = Sent::lost;
  CHECK(given.answer.take_raw("cd", true, false) == Relayed::lost);
}

TEST_CASE("a short refusal is read before it is relayed") {
  Scene scene;
  Given given(scene);
  const std::string head = std::string("503 Service Unavailable\r\ncontent-length: 15\r\n") + json;
  CHECK(Answer::can_gather(given.asked.intake, answer_head(head).head()));
  given.begin(head, true);
  CHECK(given.answer.take(R"({"error":"full"})") == Relayed::nothing);
  CHECK(given.answer.gathered() == R"({"error":"full"})");
  CHECK(given.answer.end({}) == Relayed::some);
  CHECK(scene.client.status == 503);
  CHECK(scene.client.fields.get("content-length") == "16");
  CHECK(given.answer.refused());
}

}  // namespace
}  // namespace penstock::proxy
