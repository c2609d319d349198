// How answers end, and what the gateway makes of it: each way in which a model server breaks a stream, in each framing
// and for each API, before and after the first byte has reached the client; and the ends that are proper ones although
// they look odd.
#include <doctest/doctest.h>

#include <optional>
#include <string>
#include <vector>

#include "penstock/http/parser.h"
#include "penstock/http/writer.h"
#include "world.h"

namespace penstock::test {
namespace {

using proxy::AttemptFailure;
using proxy::Outcome;

enum class Framing { chunked, length, until_close };
enum class Break { eof, reset, unfinished, error, aborted, silence };

// The events of one API.
struct Api {
  const char* path;
  const char* prompt;
  std::string text, aborted, error, end;
};

std::string event(const std::string& data, const std::string& name = "") {
  return (name.empty() ? "" : "event: " + name + "\n") + "data: " + data + "\n\n";
}

std::vector<Api> apis() {
  const std::string done = event("[DONE]");
  const std::string error = event(R"({"error":{"message":"EngineDead","type":"InternalServerError","code":500}})");
  const auto choice = [](const std::string& inner, const char* reason) {
    return event(R"({"id":"1","choices":[{"index":0,)" + inner + R"(,"finish_reason":)" + reason + "}]}");
  };
  const std::string text = R"("text":"hello")", delta = R"("delta":{"content":"hello"})";
  const std::string typed = R"({"type":"error","error":{"type":"api_error","message":"EngineDead"}})";
  return {
      {"/v1/completions", R"("prompt":"hi")", choice(text, "null"), choice(text, R"("abort")"), error,
       choice(text, R"("stop")") + done},
      {"/v1/chat/completions", R"("messages":[{"role":"user","content":"hi"}])", choice(delta, "null"),
       choice(delta, R"("abort")"), error, choice(delta, R"("stop")") + done},
      {"/v1/responses", R"("input":"hi")",
       event(R"({"type":"response.output_text.delta","delta":"hello"})", "response.output_text.delta"),
       event(R"({"response":{"status":"cancelled"},"type":"response.completed"})", "response.completed"),
       event(R"({"type":"error","code":"500","message":"EngineDead","param":null})", "error"),
       event(R"({"type":"response.completed","response":{"status":"completed"}})", "response.completed")},
      {"/v1/messages", R"("messages":[{"role":"user","content":"hi"}])",
       event(R"({"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hello"}})",
             "content_block_delta"),
       event(R"({"type":"message_delta","delta":{"stop_reason":"abort"}})", "message_delta"), event(typed, "error"),
       event(R"({"type":"message_stop"})", "message_stop")},
  };
}

// An answer as its client has it.
class ReadAnswer final : private http::ParserEvents {
 public:
  explicit ReadAnswer(const SimPeer& client, bool length_known_by_close = false) {
    static_cast<void>(parser_.feed(client.received()));
    if (!whole && length_known_by_close && client.error() == 0 && parser_.body_until_close()) whole = true;
  }
  uint16_t status = 0;
  bool whole = false;
  std::string body;

 private:
  void on_head(http::Head& head) override { status = head.status; }
  void on_body(std::string_view bytes) override { body += bytes; }
  void on_message_end(bool) override { whole = true; }
  http::Parser parser_{http::Parser::Kind::response, *this};
};

size_t count_of(const std::string& text, std::string_view word) {
  size_t count = 0;
  for (size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) ++count;
  return count;
}

std::string head_of(Framing framing, size_t size, const std::string& fields = "content-type: text/event-stream\r\n") {
  const std::string length = framing == Framing::chunked  ? "transfer-encoding: chunked\r\n"
                             : framing == Framing::length ? "content-length: " + std::to_string(size) + "\r\n"
                                                          : "connection: close\r\n";
  return "HTTP/1.1 200 OK\r\n" + fields + length + "\r\n";
}

std::string framed(Framing framing, const std::vector<std::string>& events, bool ended) {
  std::string out;
  for (const std::string& one : events) {
    if (framing == Framing::chunked) http::append_chunk(out, one);
    else out += one;
  }
  return framing == Framing::chunked && ended ? out + "0\r\n\r\n" : out;
}

// One shard, and model servers that send what the test says.
class Place {
 public:
  explicit Place(size_t servers = 1, uint64_t seed = 1)
      : network_(seed), shard_(network_, listen(servers), seen, options()) {}
  ~Place() {
    client_.reset();
    shard_.close_and_check(network_);
    for (const auto& server : servers_) {
      server->stop();
      for (const auto& peer : server->peers()) peer->close();
    }
    network_.run_for(seconds(1));
  }

  SimPeer& ask(const std::string& path, const std::string& prompt, const std::string& more = "",
               const char* version = "HTTP/1.1") {
    const std::string body = R"({"model":"m","stream":true,)" + prompt + more + "}";
    client_ = std::make_unique<SimPeer>(network_);
    client_->connect(shard_.address());
    client_->send("POST " + path + " " + version + "\r\nHost: h\r\nConnection: close\r\nContent-Length: " +
                  std::to_string(body.size()) + "\r\n\r\n" + body);
    run(milliseconds(20));
    return *client_;
  }
  SimPeer& client() { return *client_; }
  void run(Duration time) { network_.run_for(time); }
  void wait_end() {
    network_.run_until([&] { return client_->ended(); }, seconds(60));
    run(milliseconds(20));
  }
  // What the servers answer at once to each request; "": nothing yet.
  std::vector<std::string> answers;
  bool close_after = false;
  // The connection of the server that got the last request.
  SimPeer& line() { return *line_; }
  uint64_t ended(Outcome outcome) const { return seen.outcomes[static_cast<size_t>(outcome)]; }
  uint64_t failed(AttemptFailure failure) const { return seen.failures[static_cast<size_t>(failure)]; }
  SimShard& shard() { return shard_; }
  const net::Address& server() const { return servers_[0]->address(); }
  Instant now() const { return network_.now(); }

  CountingObserver seen;
  size_t requests[2] = {};

 private:
  static proxy::Options options() {
    proxy::Options options;
    options.chunk_idle_timeout = seconds(20);
    options.ejection.consecutive_failures = 1000;
    options.resume.enabled = false;  // resume_test.cc
    return options;
  }
  std::vector<net::Address> listen(size_t count) {
    std::vector<net::Address> addresses;
    for (size_t i = 0; i < count; ++i) {
      const auto on_peer = [this, i](SimPeer& peer) { peer.on_event = [this, i](SimPeer& p) { serve(i, p); }; };
      servers_.push_back(std::make_unique<SimServer>(network_, sim_address(static_cast<uint16_t>(9001 + i)), on_peer));
      addresses.push_back(servers_.back()->address());
    }
    return addresses;
  }
  void serve(size_t i, SimPeer& peer) {
    const std::string& got = peer.received();
    if (got.find("\r\n\r\n") == std::string::npos || !got.ends_with('}')) return;
    peer.take();
    ++requests[i];
    line_ = &peer;
    if (i >= answers.size() || answers[i].empty()) return;
    peer.send(answers[i]);
    if (close_after && i == 0) peer.finish();
  }

  SimNetwork network_;
  std::vector<std::unique_ptr<SimServer>> servers_;
  SimPeer* line_ = nullptr;
  std::unique_ptr<SimPeer> client_;
  SimShard shard_;
};

// What a server sends behind its first event, and does then.
void break_it(Place& place, const Api& api, Framing framing, Break how) {
  SimPeer& line = place.line();
  const bool ends = how == Break::unfinished || how == Break::error || how == Break::aborted;
  std::vector<std::string> more;
  if (how == Break::error) more = {api.error, api.end};
  if (how == Break::aborted) more = {api.aborted, api.end};
  if (how == Break::unfinished && framing == Framing::length) more = {": bye\n\n"};
  line.send(framed(framing, more, ends));
  if (how == Break::reset) line.close(/*reset=*/true);
  if (how == Break::eof || (ends && framing == Framing::until_close)) line.finish();
}

size_t length_of(const Api& api, Break how) {
  switch (how) {
    case Break::error:
      return api.text.size() + api.error.size() + api.end.size();
    case Break::aborted:
      return api.text.size() + api.aborted.size() + api.end.size();
    case Break::unfinished:
      return api.text.size() + std::string_view(": bye\n\n").size();
    default:
      return 100'000;
  }
}

AttemptFailure failure_of(Break how, Framing framing) {
  switch (how) {
    case Break::eof:
      return AttemptFailure::closed_in_body;
    case Break::reset:
      return AttemptFailure::reset_in_body;
    case Break::unfinished:
      return framing == Framing::until_close ? AttemptFailure::closed_in_body : AttemptFailure::unfinished;
    case Break::error:
      return AttemptFailure::error_event;
    case Break::aborted:
      return AttemptFailure::aborted;
    case Break::silence:
      return AttemptFailure::idle_timeout;
  }
  return AttemptFailure::bad_response;
}

constexpr Break breaks[] = {Break::eof, Break::reset, Break::unfinished, Break::error, Break::aborted, Break::silence};
constexpr Framing framings[] = {Framing::chunked, Framing::length, Framing::until_close};

TEST_CASE("a stream that breaks after its first byte ends with one error event, and never properly") {
  for (const Api& api : apis()) {
    for (const Framing framing : framings) {
      for (const Break how : breaks) {
        for (const char* version : {"HTTP/1.1", "HTTP/1.0"}) {
          CAPTURE(std::string(api.path));
          CAPTURE(static_cast<int>(framing));
          CAPTURE(static_cast<int>(how));
          CAPTURE(version);
          Place place;
          place.ask(api.path, api.prompt, "", version);
          place.line().send(head_of(framing, length_of(api, how)) + framed(framing, {api.text}, false));
          place.run(milliseconds(20));
          REQUIRE(ReadAnswer(place.client()).body == api.text);
          break_it(place, api, framing, how);
          place.wait_end();
          const ReadAnswer got(place.client(), /*length_known_by_close=*/true);
          CHECK(place.client().ended());
          CHECK_FALSE(got.whole);
          CHECK(got.body.starts_with(api.text));
          CHECK(got.body.find(api.end) == std::string::npos);
          CHECK(got.body.find("[DONE]") == std::string::npos);
          CHECK(got.body.find("abort") == std::string::npos);
          // In a body of known length nothing can be inserted; the server's own error fits.
          const bool reported = framing != Framing::length || how == Break::error;
          CHECK(count_of(got.body, "rror\"") >= (reported ? 1 : 0));
          const std::string ours = got.body.substr(api.text.size());
          CHECK(count_of(ours, "data: ") == (reported ? 1 : 0));
          if (how == Break::error) CHECK(ours == api.error);
          else if (reported) CHECK(ours.find("stream_broken") != (api.path[5] == 'e' ? 0 : 1));
          CHECK(place.ended(Outcome::stream_broken) == 1);
          CHECK(place.failed(failure_of(how, framing)) == 1);
          CHECK(place.seen.retries == 0);
        }
      }
    }
  }
}

TEST_CASE("each API gets the error in its own shape") {
  const std::string expected[] = {
      R"(data: {"error":{"message":"The model server failed in the middle of its answer.","type":"server_error",)"
      R"("param":null,"code":"stream_broken"}})",
      "",
      "event: error\n"
      R"(data: {"type":"error","code":"stream_broken","message":"The model server failed in the middle of its answer.",)"
      R"("param":null,"sequence_number":1,"error":{)",
      "event: error\n"
      R"(data: {"type":"error","error":{"type":"api_error","message":"The model server failed in the middle of its )"
      R"(answer."},"request_id":")",
  };
  for (size_t i = 0; i < 4; ++i) {
    const Api api = apis()[i];
    CAPTURE(std::string(api.path));
    Place place;
    place.ask(api.path, api.prompt);
    place.line().send(head_of(Framing::chunked, 0) + framed(Framing::chunked, {api.text}, false));
    place.run(milliseconds(20));
    break_it(place, api, Framing::chunked, Break::eof);
    place.wait_end();
    const std::string ours = ReadAnswer(place.client()).body.substr(api.text.size());
    CHECK(ours.starts_with(expected[i].empty() ? expected[0] : expected[i]));
    CHECK(ours.ends_with("}\n\n"));
  }
}

TEST_CASE("an answer that fails before its first byte has been relayed is tried elsewhere") {
  for (const Api& api : apis()) {
    for (const Framing framing : framings) {
      for (const Break how : breaks) {
        if (how == Break::reset || how == Break::silence) continue;  // as any failure before an answer
        CAPTURE(std::string(api.path));
        CAPTURE(static_cast<int>(framing));
        CAPTURE(static_cast<int>(how));
        Place place(2);
        // What a close-framed answer brings is relayed as it comes: of those only what needs no end is noticed in time.
        const bool close_framed = framing == Framing::until_close;
        std::vector<std::string> bad;
        if (how != Break::eof && !(close_framed && how == Break::unfinished)) bad.push_back(api.text);
        if (how == Break::error) bad.insert(bad.end(), {api.error, api.end});
        if (how == Break::aborted) bad.insert(bad.end(), {api.aborted, api.end});
        std::string body = framed(framing, bad, how != Break::eof);
        const size_t size = how == Break::eof ? 100 : body.size();
        if (close_framed && how >= Break::error) body = how == Break::error ? api.error : api.aborted;
        place.close_after = how == Break::eof || close_framed;
        const std::string good = framed(Framing::chunked, {api.text, api.end}, true);
        place.answers = {head_of(framing, size) + body, head_of(Framing::chunked, 0) + good};
        for (int i = 0; i < 4; ++i) {
          place.ask(api.path, api.prompt);
          place.wait_end();
          const ReadAnswer got(place.client());
          CHECK(got.whole);
          CHECK(got.body == api.text + api.end);
        }
        CHECK(place.requests[0] > 0);
        CHECK(place.ended(Outcome::ok) == 4);
        CHECK(place.seen.retries == place.requests[0]);
      }
    }
  }
}

TEST_CASE("with nowhere else to go, such an answer becomes an error with a status") {
  for (const Api& api : apis()) {
    for (const Break how : {Break::unfinished, Break::error, Break::aborted}) {
      CAPTURE(std::string(api.path));
      Place place;
      std::vector<std::string> bad = {api.text};
      if (how == Break::error) bad.insert(bad.end(), {api.error, api.end});
      if (how == Break::aborted) bad.insert(bad.end(), {api.aborted, api.end});
      place.answers = {head_of(Framing::chunked, 0) + framed(Framing::chunked, bad, true)};
      place.ask(api.path, api.prompt);
      place.wait_end();
      const ReadAnswer got(place.client());
      CHECK(got.status == 503);
      CHECK(got.whole);
      CHECK(got.body.find("hello") == std::string::npos);
      CHECK(place.ended(Outcome::upstream_failed) == 1);
    }
  }
}

TEST_CASE("wherever the bytes are cut, an aborted stream does not end well, and its abort does not pass whole") {
  for (const Framing framing : framings) {
    const Api api = apis()[1];
    const std::string head = head_of(framing, length_of(api, Break::aborted));
    const std::string bytes = head + framed(framing, {api.text, api.aborted, api.end}, true);
    for (size_t cut = 1; cut < bytes.size(); ++cut) {
      CAPTURE(static_cast<int>(framing));
      CAPTURE(cut);
      Place place;
      place.ask(api.path, api.prompt);
      place.line().send(std::string_view(bytes).substr(0, cut));
      place.run(milliseconds(20));
      if (place.client().ended()) continue;  // the abort has come already
      place.line().send(std::string_view(bytes).substr(cut));
      if (framing == Framing::until_close) place.line().finish();
      place.wait_end();
      const ReadAnswer got(place.client());
      const bool relayed = place.ended(Outcome::stream_broken) == 1;
      CHECK((relayed || (place.ended(Outcome::upstream_failed) == 1 && got.status == 503)));
      if (!relayed) continue;
      CHECK_FALSE(got.whole);
      CHECK(got.body.find(api.aborted) == std::string::npos);
      CHECK(got.body.find("[DONE]") == std::string::npos);
    }
  }
}

TEST_CASE("wherever the bytes are cut, a stream without an end does not end well") {
  const Api api = apis()[0];
  const std::string bytes = head_of(Framing::chunked, 0) + framed(Framing::chunked, {api.text, api.text}, true);
  for (size_t cut = 1; cut < bytes.size(); ++cut) {
    CAPTURE(cut);
    Place place;
    place.ask(api.path, api.prompt);
    place.line().send(std::string_view(bytes).substr(0, cut));
    place.run(milliseconds(20));
    place.line().send(std::string_view(bytes).substr(cut));
    place.wait_end();
    const ReadAnswer got(place.client());
    CHECK(place.ended(Outcome::stream_broken) + place.ended(Outcome::upstream_failed) == 1);
    CHECK(got.whole == (place.ended(Outcome::upstream_failed) == 1));
  }
}

TEST_CASE("ends that look odd are proper ones") {
  struct Odd {
    const char* name;
    const char* path;
    std::string more;  // of the request
    std::vector<std::string> events;
    std::string fields = "content-type: text/event-stream\r\n";
  };
  const auto finish = [](int index, const char* reason = "stop") {
    return event(R"({"choices":[{"index":)" + std::to_string(index) + R"(,"text":"a","finish_reason":")" + reason +
                 R"("}]})");
  };
  const std::string text = event(R"({"choices":[{"index":0,"text":"a","finish_reason":null}]})");
  const std::string usage = event(R"({"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}})");
  const std::string done = event("[DONE]"), completions = "/v1/completions";
  const Odd odd[] = {
      {"a finish reason without [DONE]", "/v1/completions", "", {text, finish(0)}},
      {"[DONE] without a finish reason", "/v1/completions", "", {text, done}},
      {"an empty reason in each chunk", "/v1/completions", "", {finish(0, ""), done}},
      {"two choices", "/v1/completions", R"(,"n":2)", {finish(0), text, finish(1), usage}},
      {"usage behind the reason", "/v1/completions", "", {text, finish(0), usage, done}},
      {"keep-alives", "/v1/completions", "", {": ping\n\n", text, ": ping\n\n", finish(0, "length"), ": ping\n\n"}},
      {"a reason of a server's own", "/v1/completions", "", {finish(0, "content_filter")}},
      {"an error that is the request's", "/v1/completions", "", {event(R"({"error":{"code":400}})"), done}},
      {"another API", "/v1/embeddings", R"(,"input":"hi")", {text}},
      {"an unknown path", "/v1/audio/transcriptions", "", {text, event(R"({"error":{"code":500}})")}},
      {"compressed", "/v1/completions", "", {text}, "content-type: text/event-stream\r\ncontent-encoding: gzip\r\n"},
      {"no event stream", "/v1/completions", "", {"some text"}, "content-type: text/plain\r\n"},
      {"an event too long to be read", "/v1/completions", "", {event(R"({"x":")" + std::string(70'000, 'x') + "\"}")}},
      {"a message with a stop reason",
       "/v1/messages",
       R"(,"messages":[{"role":"user","content":"hi"}])",
       {event(R"({"type":"message_delta","delta":{"stop_reason":"end_turn"}})", "message_delta")}},
      {"a cancelled response",
       "/v1/responses",
       R"(,"input":"hi")",
       {event(R"({"type":"response.cancelled","response":{"status":"cancelled"}})", "response.cancelled")}},
  };
  for (const Odd& one : odd) {
    for (const Framing framing : framings) {
      for (const char* version : {"HTTP/1.1", "HTTP/1.0"}) {
        CAPTURE(one.name);
        CAPTURE(static_cast<int>(framing));
        CAPTURE(version);
        std::string body;
        for (const std::string& part : one.events) body += part;
        Place place;
        place.answers = {head_of(framing, body.size(), one.fields) + framed(framing, one.events, true)};
        place.close_after = framing == Framing::until_close;
        place.ask(one.path, R"("prompt":"hi")", one.more, version);
        place.wait_end();
        const ReadAnswer got(place.client(), /*length_known_by_close=*/true);
        CHECK(got.whole);
        CHECK(got.body == body);
        const bool refusal = body.find("400") != std::string::npos;
        CHECK(place.ended(refusal ? Outcome::endpoint_4xx : Outcome::ok) == 1);
      }
    }
  }
}

TEST_CASE("one finish reason of two is not enough") {
  const Api api = apis()[0];
  Place place;
  place.ask(api.path, api.prompt, R"(,"n":2)");
  const std::string half = event(R"({"choices":[{"index":0,"text":"a","finish_reason":"stop"}]})");
  place.line().send(head_of(Framing::chunked, 0) + framed(Framing::chunked, {half}, false));
  place.run(milliseconds(20));
  place.line().send("0\r\n\r\n");
  place.wait_end();
  CHECK(place.ended(Outcome::stream_broken) == 1);
  CHECK_FALSE(ReadAnswer(place.client()).whole);
}

TEST_CASE("JSON that a server gives up, or does not finish, is no answer") {
  const std::string fields = "content-type: application/json\r\n";
  const std::string aborted = R"({"choices":[{"index":0,"text":"a","finish_reason":"abort"}]})";
  const std::string whole = R"({"choices":[{"index":0,"text":"a","finish_reason":"stop"}]})";
  for (const Framing framing : framings) {
    for (const bool in_parts : {false, true}) {
      CAPTURE(static_cast<int>(framing));
      CAPTURE(in_parts);
      for (const std::string& body : {aborted, whole, whole.substr(0, whole.size() - 2)}) {
        CAPTURE(body);
        if (body.size() == whole.size() - 2 && framing != Framing::until_close) continue;  // HTTP's to notice
        Place place;
        place.ask("/v1/completions", R"("prompt":"hi")");
        place.line().send(head_of(framing, body.size(), fields) + framed(framing, {body.substr(0, 9)}, false));
        if (in_parts) place.run(milliseconds(20));
        place.line().send(framed(framing, {body.substr(9)}, true));
        if (framing == Framing::until_close) place.line().finish();
        place.wait_end();
        const ReadAnswer got(place.client());
        CHECK(place.ended(Outcome::ok) == (body == whole ? 1 : 0));
        CHECK(got.whole == (body == whole || got.status == 503));
      }
    }
  }
}

TEST_CASE("a silent stream of a server that answers no probe is broken off, and no other") {
  const Api api = apis()[0];
  const std::string begun = head_of(Framing::chunked, 0) + framed(Framing::chunked, {api.text}, false);
  const auto after = [&](Duration silence, std::optional<Duration> unanswered) {
    Place place;
    place.ask(api.path, api.prompt);
    place.line().send(begun);
    place.run(silence);
    const std::optional<Instant> since = unanswered ? std::optional<Instant>(place.now() - *unanswered) : std::nullopt;
    place.shard().leave_silent(place.server(), since);
    place.run(milliseconds(50));
    const bool broken = place.client().ended();
    CHECK(place.failed(AttemptFailure::probe_failed) == (broken ? 1 : 0));
    CHECK(place.ended(Outcome::stream_broken) == (broken ? 1 : 0));
    if (broken) CHECK(ReadAnswer(place.client()).body.find("stream_broken") != std::string::npos);
    return broken;
  };
  CHECK(after(seconds(6), seconds(3)));
  CHECK_FALSE(after(seconds(4), seconds(3)));    // not silent for timeouts.unresponsive
  CHECK_FALSE(after(seconds(6), seconds(8)));    // something came after the probes had begun to fail
  CHECK_FALSE(after(seconds(6), std::nullopt));  // its host refuses probes: it lives
}

}  // namespace
}  // namespace penstock::test
