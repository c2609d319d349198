// Streams that break and go on at another endpoint. The model servers here speak token by token: a token is a
// character, and which one comes next depends on all before it. So a continuation says what the unbroken run would have
// said only if it was given exactly the tokens of the prompt and of what the client has got.
#include <doctest/doctest.h>

#include <algorithm>
#include <charconv>
#include <string>
#include <vector>

#include "penstock/http/parser.h"
#include "penstock/http/writer.h"
#include "world.h"

namespace penstock::test {
namespace {

using Ids = std::vector<uint32_t>;

// As they stand in JSON; the id of one is its place and first_character, those of a prompt's bytes are below.
constexpr std::string_view characters[] = {"a", "b", " ", "\\\"", "\\n", "\\\\", "\xc3\xa9", "\xf0\x9f\x98\x80",
                                           "{", "}", ",", ":"};
constexpr uint32_t first_character = 1000;
constexpr const char* messages = R"([{"role":"user","content":"Say it \"so\"."}])";
// What is asked in the messages API, and the chat that servers make of it.
constexpr const char* message_fields =
    R"("system":[{"type":"text","text":"Be brief.","cache_control":{"type":"ephemeral"}}],)"
    R"("messages":[{"role":"user","content":[{"type":"text","text":"Say it \"so\"."}]}])";
// The same in the responses API.
constexpr const char* response_fields =
    R"("instructions":"Be brief.","input":[{"type":"message","role":"user","content":"Say it \"so\"."}])";
constexpr const char* message_chat =
    R"([{"role":"system","content":"Be brief."},{"role":"user","content":"Say it \"so\"."}])";

enum class Speaks { text, chat, message, response };
constexpr int apis = 4;

uint64_t mixed(const Ids& ids) {
  uint64_t hash = 14695981039346656037ull;
  for (const uint32_t id : ids) hash = (hash ^ id) * 1099511628211ull;
  return hash ^ hash >> 29;
}
std::string_view character(uint32_t id) {
  return characters[id - first_character];
}
Ids ids_of_prompt(std::string_view text) {
  return Ids(text.begin(), text.end());
}
Ids ids_of_text(std::string_view escaped) {
  Ids ids;
  while (!escaped.empty()) {
    for (uint32_t i = 0; i < std::size(characters); ++i) {
      if (!escaped.starts_with(characters[i])) continue;
      ids.push_back(first_character + i);
      escaped.remove_prefix(characters[i].size());
      break;
    }
  }
  return ids;
}
// The token that follows these.
uint32_t next_of(const Ids& ids) {
  return first_character + static_cast<uint32_t>(mixed(ids) % std::size(characters));
}

std::string between(std::string_view text, std::string_view lead, std::string_view end) {
  const size_t at = text.find(lead);
  if (at == std::string_view::npos) return "";
  text.remove_prefix(at + lead.size());
  return std::string(text.substr(0, text.find(end)));
}
uint32_t number_behind(std::string_view text, std::string_view lead, uint32_t otherwise) {
  const std::string digits = between(text, lead, "}");
  uint32_t out = otherwise;
  std::from_chars(digits.data(), digits.data() + digits.size(), out);
  return out;
}
Ids ids_in(std::string_view text) {
  Ids ids;
  for (const char* at = text.data(); at < text.data() + text.size(); ++at) {
    uint32_t id = 0;
    at = std::from_chars(at, text.data() + text.size(), id).ptr;
    ids.push_back(id);
  }
  return ids;
}

enum class Break { reset, eof, silence, error, aborted, unfinished };

Speaks api_of(std::string_view request) {
  if (request.starts_with("POST /v1/messages")) return Speaks::message;
  if (request.starts_with("POST /v1/responses")) return Speaks::response;
  return request.starts_with("POST /v1/chat/") ? Speaks::chat : Speaks::text;
}

// What a request is answered with.
struct Run {
  explicit Run(std::string_view request)
      : api(api_of(request)),
        chat(api == Speaks::chat),
        usage(request.find("include_usage") != std::string_view::npos),
        left(number_behind(request, api == Speaks::response ? R"("max_output_tokens":)" : R"("max_tokens":)", 16)) {
    if (request.find(R"("prompt":[)") != std::string_view::npos) ids = ids_in(between(request, R"("prompt":[)", "]"));
    else if (chat) ids = ids_of_prompt(messages);
    else if (api != Speaks::text) ids = ids_of_prompt(message_chat);
    else ids = ids_of_prompt(between(request, R"("prompt":")", "\""));
    prompt = ids.size();
  }
  std::string event(const std::string& choices, const std::string& more = "") const {
    return std::string(R"(data: {"id":")") + (chat ? "chat" : "text") + std::to_string(prompt) + R"(","object":")" +
           (chat ? "chat.completion.chunk" : "text_completion") + R"(","created":7,"model":"m","choices":[)" + choices +
           "]" + more + "}\n\n";
  }
  std::string choice(std::string_view text, const std::string& reason) const {
    const std::string inner =
        chat ? R"("delta":{"content":")" + std::string(text) + "\"}" : R"("text":")" + std::string(text) + '"';
    return R"({"index":0,)" + inner + R"(,"logprobs":null,"finish_reason":)" + reason + "}";
  }
  std::vector<std::string> events() {
    if (api == Speaks::response) return response_events();
    return api == Speaks::message ? message_events() : completion_events();
  }
  static std::string named(const std::string& name, const std::string& fields) {
    return "event: " + name + "\ndata: {\"type\":\"" + name + "\"" + fields + "}\n\n";
  }
  std::vector<std::string> message_events() {
    const std::string input = std::to_string(prompt);
    std::vector<std::string> out = {
        named("message_start",
              R"(,"message":{"id":"msg_1","type":"message","role":"assistant","content":[],"model":"m",)"
              R"("stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":)" +
                  input + R"(,"output_tokens":0}})"),
        named("content_block_start", R"(,"content_block":{"type":"text","text":""},"index":0)")};
    for (; left > 0; --left) {
      ids.push_back(next_of(ids));
      out.push_back(named("content_block_delta", R"(,"delta":{"type":"text_delta","text":")" +
                                                     std::string(character(ids.back())) + R"("},"index":0)"));
    }
    out.push_back(named("content_block_stop", R"(,"index":0)"));
    out.push_back(named("message_delta", R"(,"delta":{"stop_reason":"max_tokens","stop_sequence":null},"usage":)"
                                         R"({"input_tokens":)" +
                                             input + R"(,"output_tokens":)" + std::to_string(ids.size() - prompt) +
                                             "}"));
    out.push_back(named("message_stop", ""));
    return out;
  }
  static std::string numbered(const std::string& name, size_t number, const std::string& fields,
                              const std::string& more = "") {
    return "event: " + name + "\ndata: {" + fields + R"(,"sequence_number":)" + std::to_string(number) + more +
           R"(,"type":")" + name + "\"}\n\n";
  }
  static std::string response(const std::string& details, const std::string& output, const std::string& status,
                              const std::string& counts) {
    return R"("response":{"id":"resp_7","created_at":7,"incomplete_details":)" + details +
           R"(,"instructions":"Be brief.","model":"m","object":"response","output":[)" + output +
           R"(],"tools":[],"status":")" + status + R"(","usage":)" + counts + R"(,"user":null})";
  }
  static std::string part(const std::string& text, const std::string& logprobs) {
    return R"({"annotations":[],"text":")" + text + R"(","type":"output_text","logprobs":)" + logprobs + "}";
  }
  static std::string item(const std::string& content, const std::string& status) {
    return R"({"id":"msg_7","content":[)" + content + R"(],"role":"assistant","status":")" + status +
           R"(","type":"message","phase":null})";
  }
  std::vector<std::string> response_events() {
    const std::string begun = response("null", "", "in_progress", "null");
    const std::string place = R"("content_index":0,"item_id":"msg_7","output_index":0,"part":)";
    std::vector<std::string> out = {
        numbered("response.created", 0, begun), numbered("response.in_progress", 1, begun),
        numbered("response.output_item.added", 2, R"("item":)" + item("", "in_progress") + R"(,"output_index":0)"),
        numbered("response.content_part.added", 3, place + part("", "[]"))};
    std::string text;
    for (; left > 0; --left) {
      ids.push_back(next_of(ids));
      text += character(ids.back());
      out.push_back(numbered("response.output_text.delta", out.size(),
                             R"("content_index":0,"delta":")" + std::string(character(ids.back())) +
                                 R"(","item_id":"msg_7","logprobs":[],"output_index":0)"));
    }
    const std::string whole = item(part(text, "null"), "completed");
    out.push_back(numbered("response.output_text.done", out.size(),
                           R"("content_index":0,"item_id":"msg_7","logprobs":[],"output_index":0)",
                           R"(,"text":")" + text + '"'));
    out.push_back(numbered("response.content_part.done", out.size(), place + part(text, "null")));
    out.push_back(numbered("response.output_item.done", out.size(), R"("item":)" + whole + R"(,"output_index":0)"));
    const size_t said = ids.size() - prompt;
    const std::string counts = R"({"input_tokens":)" + std::to_string(prompt) +
                               R"(,"input_tokens_details":{"cached_tokens":0},"output_tokens":)" +
                               std::to_string(said) + R"(,"output_tokens_details":{"reasoning_tokens":0},)" +
                               R"("total_tokens":)" + std::to_string(prompt + said) + "}";
    out.push_back(numbered("response.completed", out.size(),
                           response(R"({"reason":"max_output_tokens"})", whole, "incomplete", counts)));
    return out;
  }
  std::vector<std::string> completion_events() {
    std::vector<std::string> out;
    if (chat) out.push_back(event(R"({"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null})"));
    for (; left > 0; --left) {
      ids.push_back(next_of(ids));
      out.push_back(event(choice(character(ids.back()), "null")));
    }
    out.push_back(event(choice("", R"("length")")));
    const size_t said = ids.size() - prompt;
    const std::string counts = R"(,"usage":{"prompt_tokens":)" + std::to_string(prompt) + R"(,"total_tokens":)" +
                               std::to_string(prompt + said) + R"(,"completion_tokens":)" + std::to_string(said) + "}";
    if (usage) out.push_back(event("", counts));
    out.push_back("data: [DONE]\n\n");
    return out;
  }

  Speaks api;
  bool chat, usage;
  uint32_t left;
  Ids ids;
  size_t prompt = 0;
};

// What a client makes of a stream.
struct Stream final : private http::ParserEvents {
  explicit Stream(std::string_view received) {
    static_cast<void>(parser_.feed(received));
    std::string_view rest = body;
    for (size_t end = rest.find("\n\n"); end != std::string_view::npos; end = rest.find("\n\n")) {
      read(rest.substr(0, end));
      rest.remove_prefix(end + 2);
    }
    well_formed = well_formed && rest.empty();
  }
  void read(std::string_view event) {
    if (event.starts_with("event: ")) return read_named(event);
    if (event == "data: [DONE]") return void(++done);
    const bool chat = event.find("chat.completion.chunk") != std::string_view::npos;
    const std::string_view lead = chat ? R"("content":")" : R"("text":")";
    well_formed = well_formed && event.starts_with("data: {") && event.ends_with("}") && done == 0;
    roles += event.find(R"("role")") != std::string_view::npos;
    errors += event.find(R"("error":)") != std::string_view::npos;
    finishes += event.find(R"("finish_reason":"length")") != std::string_view::npos;
    if (event.find(R"("usage":{)") != std::string_view::npos) usage = between(event, R"("usage":)", "}");
    const std::string id = between(event, R"("id":)", R"(,"choices")");
    if (ids.empty()) ids = id;
    well_formed = well_formed && (id == ids || errors > 0);
    read_text(event, lead);
  }
  // Clients take these by their names; the order of all but the pieces of text is what it is in an unbroken run.
  void read_named(std::string_view event) {
    const std::string name = between(event, "event: ", "\n");
    if (name.starts_with("response.") || event.find("sequence_number") != std::string_view::npos) {
      return read_numbered(event, name);
    }
    well_formed = well_formed && event.ends_with("}") && done == 0 &&
                  event.find("\ndata: {\"type\":\"" + name + '"') != std::string_view::npos;
    if (event.find(R"("usage":{)") != std::string_view::npos) usage = between(event, R"("usage":)", "}");
    if (name == "content_block_delta") return read_text(event, R"("text":")");
    order += name + " ";
    roles += name == "message_start";
    errors += name == "error";
    done += name == "message_stop";
    finishes += event.find(R"("stop_reason":"max_tokens")") != std::string_view::npos;
  }
  // Those that end the text say all of it: they are compared as a whole, but for their number.
  void read_numbered(std::string_view event, const std::string& name) {
    const std::string lead = R"("sequence_number":)", number = lead + std::to_string(numbers++);
    const size_t at = event.find(number + ",");
    well_formed = well_formed && done == 0 && event.find(R"("type":")" + name + '"') != std::string_view::npos &&
                  at != std::string_view::npos;
    errors += name == "error";
    if (name == "error" || at == std::string_view::npos) return;
    if (name == "response.output_text.delta") return read_text(event, R"("delta":")");
    if (name != "response.in_progress") order += std::string(event).erase(at, number.size()) + "\n";
    roles += name == "response.created";
    done += name == "response.completed";
    finishes += event.find(R"("status":"incomplete")") != std::string_view::npos;
  }
  void read_text(std::string_view event, std::string_view lead) {
    size_t at = event.find(lead);
    if (at == std::string_view::npos) return;
    for (at += lead.size(); at < event.size() && event[at] != '"'; ++at) {
      text += event[at];
      if (event[at] == '\\') text += event[++at];
    }
  }

  bool whole = false, well_formed = true;
  int done = 0, roles = 0, errors = 0, finishes = 0, numbers = 0;
  std::string body, text, ids, usage, order;

 private:
  void on_head(http::Head&) override {}
  void on_body(std::string_view bytes) override { body += bytes; }
  void on_message_end(bool) override { whole = true; }
  http::Parser parser_{http::Parser::Kind::response, *this};
};

struct ResumeObserver final : CountingObserver {
  void stream_resumed(Duration, uint64_t) override { ++resumed; }
  void stream_not_resumed(openai::ResumeObstacle why) override { obstacles.push_back(why); }
  int resumed = 0;
  std::vector<openai::ResumeObstacle> obstacles;
};

class Place {
 public:
  explicit Place(uint64_t seed) : random_(seed), network_(seed), shard_(network_, listen(6), seen, options()) {}
  ~Place() {
    client_.reset();
    shard_.close_and_check(network_);
    for (const auto& server : servers_) {
      server->stop();
      for (const auto& peer : server->peers()) peer->close();
    }
    network_.run_for(seconds(1));
  }
  // The whole answer of one request of which each attempt breaks while `breaks` are left.
  Stream ask(Speaks api, uint32_t tokens, bool usage) {
    const std::string prompt = api == Speaks::message    ? message_fields
                               : api == Speaks::response ? response_fields
                               : api == Speaks::chat     ? std::string(R"("messages":)") + messages
                                                         : R"("prompt":"once upon")";
    usage = usage && (api == Speaks::text || api == Speaks::chat);  // the others have it always
    const std::string body =
        R"({"model":"m","stream":true,)" + prompt + (usage ? R"(,"stream_options":{"include_usage":true})" : "") +
        (api == Speaks::response ? R"(,"max_output_tokens":)" : R"(,"max_tokens":)") + std::to_string(tokens) + "}";
    client_ = std::make_unique<SimPeer>(network_);
    client_->connect(shard_.address());
    client_->send(std::string("POST ") + paths[static_cast<size_t>(api)] + " HTTP/1.1\r\nHost: h\r\nConnection: " +
                  "close\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
    network_.run_until([&] { return client_->ended(); }, seconds(120));
    network_.run_for(milliseconds(20));
    return Stream(client_->received());
  }
  int breaks = 0;
  ResumeObserver seen;

 private:
  static constexpr const char* paths[] = {"/v1/completions", "/v1/chat/completions", "/v1/messages", "/v1/responses"};
  static proxy::Options options() {
    proxy::Options options;
    options.chunk_idle_timeout = seconds(2);
    options.attempts_max = 8;
    options.ejection.consecutive_failures = 1000;
    return options;
  }
  std::vector<net::Address> listen(size_t count) {
    std::vector<net::Address> addresses;
    for (size_t i = 0; i < count; ++i) {
      const auto on_peer = [this](SimPeer& peer) { peer.on_event = [this](SimPeer& p) { serve(p); }; };
      servers_.push_back(std::make_unique<SimServer>(network_, sim_address(static_cast<uint16_t>(9001 + i)), on_peer));
      addresses.push_back(servers_.back()->address());
    }
    return addresses;
  }
  void serve(SimPeer& peer) {
    const std::string& got = peer.received();
    if (got.find("\r\n\r\n") == std::string::npos || !got.ends_with('}')) return;
    const std::string request = peer.take();
    if (request.starts_with("POST /tokenize")) return tokenize(peer, request);
    const std::vector<std::string> events = Run(request).events();
    const std::string head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    if (breaks == 0) return peer.send(head + framed(events) + "0\r\n\r\n");
    --breaks;
    break_it(peer, head, events);
  }
  void tokenize(SimPeer& peer, std::string_view request) {
    const bool of_prompt = request.find("once upon") != std::string_view::npos;
    Ids ids;
    const std::string_view lead = R"("messages":)";
    const size_t chat = request.find(lead);
    const size_t end = request.rfind(']');
    if (chat != std::string_view::npos)
      ids = ids_of_prompt(request.substr(chat + lead.size(), end + 1 - chat - lead.size()));
    else if (of_prompt) ids = ids_of_prompt("once upon");
    else ids = ids_of_text(text_in(request));
    std::string list;
    for (const uint32_t id : ids) list += (list.empty() ? "" : ",") + std::to_string(id);
    const std::string body =
        R"({"count":)" + std::to_string(ids.size()) + R"(,"max_model_len":4096,"tokens":[)" + list + "]}";
    peer.send("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: " + std::to_string(body.size()) +
              "\r\n\r\n" + body);
  }
  // The prompt of a tokenizer's request, whose characters may be escaped.
  static std::string text_in(std::string_view request) {
    const size_t begin = request.find(R"("prompt":")") + 10;
    size_t end = begin;
    while (request[end] != '"') end += request[end] == '\\' ? 2 : 1;
    return std::string(request.substr(begin, end - begin));
  }
  static std::string framed(const std::vector<std::string>& events) {
    std::string out;
    for (const std::string& one : events) http::append_chunk(out, one);
    return out;
  }
  void break_it(SimPeer& peer, const std::string& head, std::vector<std::string> events) {
    const auto how = static_cast<Break>(random_.below(6));
    if (how >= Break::error) {
      if (events[0].starts_with("event: message_start")) lose_message(how, events);
      else if (events[0].starts_with("event: response.")) lose_response(how, events);
      else lose_completion(how, events);
      return peer.send(head + framed(events) + "0\r\n\r\n");
    }
    const std::string all = framed(events);
    // Behind its finish reason a stream is over, whether or not the rest comes; but not without the usage that was
    // asked for.
    const bool usage = all.find("event: ") == std::string::npos && all.find(R"("usage":{)") != std::string::npos;
    const size_t last = usage ? all.find(R"("finish_reason":"length")") : all.size();
    peer.send(head + all.substr(0, random_.below(last)));
    if (how == Break::reset) network_.after(milliseconds(5), [&peer] { peer.close(/*reset=*/true); });
    if (how == Break::eof) peer.finish();
  }

  void lose_completion(Break how, std::vector<std::string>& events) {
    events.resize(random_.below(events.size() - 2));
    if (how == Break::error)
      events.push_back("data: {\"error\":{\"message\":\"dead\",\"type\":\"InternalServerError\",\"code\":500}}\n\n");
    if (how == Break::aborted)
      events.push_back("data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"abort\"}]}\n\n");
    if (how != Break::unfinished) events.push_back("data: [DONE]\n\n");
  }
  // The block may have ended already; one that is aborted always has.
  void lose_message(Break how, std::vector<std::string>& events) {
    events.resize(random_.below(events.size() - 1));
    const bool closed = !events.empty() && events.back().starts_with("event: content_block_stop");
    if (how == Break::error)
      events.push_back(Run::named("error", R"(,"error":{"type":"internal_error","message":"dead"})"));
    if (how != Break::aborted) return;
    if (events.size() > 1 && !closed) events.push_back(Run::named("content_block_stop", R"(,"index":0)"));
    if (events.empty()) events.push_back(Run::named("message_start", R"(,"message":{"id":"msg_1"})"));
    events.push_back(Run::named("message_delta", R"(,"delta":{"stop_reason":null},"usage":{"output_tokens":3})"));
    events.push_back(Run::named("message_stop", ""));
  }

  // One that is aborted says all of what it had, as if it were complete.
  void lose_response(Break how, std::vector<std::string>& events) {
    const size_t closing = events.size() - 4;
    const std::vector<std::string> whole = events;
    events.resize(random_.below(events.size()));
    const size_t number = events.size();
    if (how == Break::error) {
      events.push_back(Run::numbered("error", number, R"("code":"server_error","message":"dead","param":null)"));
    }
    if (how != Break::aborted) return;
    if (number > 4) {
      const auto from = whole.begin() + static_cast<ptrdiff_t>(std::max(number, closing));
      events.insert(events.end(), from, whole.end() - 1);
    }
    events.push_back(Run::numbered("response.completed", events.size(), Run::response("null", "", "cancelled", "{}")));
  }

  Random random_;
  SimNetwork network_;
  std::vector<std::unique_ptr<SimServer>> servers_;
  std::unique_ptr<SimPeer> client_;
  SimShard shard_;
};

TEST_CASE("however and wherever a stream breaks, its client gets the text of an unbroken run, once") {
  uint64_t resumed = 0;
  for (uint64_t seed = 1; seed <= 6000; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    const auto api = static_cast<Speaks>(random.below(apis));
    const bool usage = random.below(2) == 0;
    const auto tokens = static_cast<uint32_t>(1 + random.below(60));
    Place place(seed);
    const Stream unbroken = place.ask(api, tokens, usage);
    REQUIRE(unbroken.whole);
    REQUIRE(ids_of_text(unbroken.text).size() == tokens);
    place.breaks = static_cast<int>(1 + random.below(3));
    const Stream stream = place.ask(api, tokens, usage);
    CHECK(stream.whole);
    CHECK(stream.well_formed);
    CHECK(stream.text == unbroken.text);
    CHECK(stream.usage == unbroken.usage);
    CHECK(stream.done == 1);
    CHECK(stream.roles == (api == Speaks::text ? 0 : 1));
    CHECK(stream.order == unbroken.order);
    CHECK(stream.finishes == 1);
    CHECK(stream.errors == 0);
    CHECK(place.seen.obstacles.empty());
    CHECK(place.seen.outcomes[static_cast<size_t>(proxy::Outcome::ok)] == 2);
    resumed += static_cast<uint64_t>(place.seen.resumed);
  }
  CHECK(resumed > 6000);  // some break before the first byte has reached the client
}

TEST_CASE("what breaks more often than it may is broken visibly") {
  int broken = 0;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    const auto api = static_cast<Speaks>(seed % apis);
    Place place(seed);
    const Stream unbroken = place.ask(api, 200, true);
    place.breaks = 1000;
    const Stream stream = place.ask(api, 200, true);
    CHECK(unbroken.text.starts_with(stream.text));
    CHECK(stream.done == (stream.whole ? 1 : 0));
    CHECK(stream.finishes == (stream.whole ? 1 : 0));
    if (stream.whole) CHECK(stream.text == unbroken.text);
    broken += !stream.whole;
  }
  CHECK(broken > 35);
}

}  // namespace
}  // namespace penstock::test
