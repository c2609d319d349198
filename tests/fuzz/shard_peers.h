// The peers of the shard fuzz target: a client and a model server that do what a byte script says, and that check what
// the gateway sends them. While nobody has sent bytes of the script's own, they also know what must arrive.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "penstock/http/parser.h"
#include "penstock/http/websocket.h"
#include "penstock/http/writer.h"
#include "tests/support/sim_peer.h"

namespace penstock::test {

inline constexpr std::string_view served_name = "served/other-name";

// One request that a client made of a number in the script (not of its own bytes), and what was answered to it.
struct Asked {
  std::string body;
  bool rewritten = false;             // for another model: the server sees served_name, the client must not
  std::vector<std::string> answered;  // "200 body", as the client may get it
  bool ends_anywhere = false;         // by the end of the connection: what came until then is the answer
  // It asks for a WebSocket: what the client has sent behind it, and what each server that agreed has sent.
  std::string from_client;
  std::map<const void*, std::string> from_servers;
};

inline constexpr std::string_view websocket_key = "dGhlIHNhbXBsZSBub25jZQ==";

// What came through a session is what was sent, or the beginning of that; perhaps with a Close frame of the gateway's,
// or the beginning of one.
inline bool passed_on(std::string_view got, std::string_view sent, bool may_close) {
  const size_t same =
      static_cast<size_t>(std::mismatch(got.begin(), got.end(), sent.begin(), sent.end()).first - got.begin());
  const std::string_view rest = got.substr(same);
  constexpr std::string_view going_away("\x88\x02\x03\xe9", 4), try_again("\x88\x02\x03\xf5", 4);
  if (rest.empty()) return true;
  // What was sent may begin like such a frame.
  for (size_t back = 0; back < 4 && back <= same; ++back) {
    const std::string_view end = got.substr(same - back);
    if (may_close && (going_away.starts_with(end) || try_again.starts_with(end))) return true;
  }
  return false;
}

// What all peers know.
struct Ledger {
  explicit Ledger(SimNetwork& at) : network(at) {}
  SimNetwork& network;
  std::vector<Asked> asked;          // by the number that x-number bears
  bool clients_are_honest = true;    // no client has sent bytes of the script's own
  bool endpoints_are_honest = true;  // nor has an endpoint
  bool pools_rename = false;         // a pool may also rename the model of who did not ask for it
  std::set<std::string> forwarded;   // the values of x-request-id that endpoints have seen
};

// Requests that are made of a number.
struct RequestKind {
  enum Bits : uint8_t { kind = 7, rewrites = 8, batch = 16, closes = 32, large = 64, old = 128 };
  enum Kind : uint8_t { completion, stream, chat_stream, models, head_of_models, unread, chunked, waits_for_continue };
};

inline bool asks_for_websocket(uint8_t bits) {
  return (bits & RequestKind::kind) == RequestKind::models && (bits & RequestKind::large) != 0;
}

inline std::string request_body(uint8_t bits, size_t number) {
  const int kind = bits & RequestKind::kind;
  if (kind == RequestKind::models || kind == RequestKind::head_of_models) return "";
  const std::string text((bits & RequestKind::large) != 0 ? 3000 : 20 + number % 3, 'p');
  if (kind == RequestKind::unread) return text;
  const bool streams = kind == RequestKind::stream || kind == RequestKind::chat_stream;
  const std::string prompt = kind == RequestKind::chat_stream
                                 ? R"("messages":[{"role":"user","content":")" + text + "\"}]"
                                 : R"("prompt":")" + text + '"';
  return R"({"model":"m",)" + prompt + (streams ? R"(,"stream":true})" : R"(,"max_tokens":5})");
}

// `more`: another field, whole.
inline std::string request_text(uint8_t bits, size_t number, const std::string& body, const std::string& more) {
  static constexpr const char* kStarts[] = {"POST /v1/completions", "POST /v1/completions", "POST /v1/chat/completions",
                                            "GET /v1/models",       "HEAD /v1/models",      "PUT /other?a=b",
                                            "POST /v1/completions", "POST /v1/completions"};
  const int kind = bits & RequestKind::kind;
  std::string text = asks_for_websocket(bits) ? "GET /v1/realtime?model=m" : kStarts[kind];
  text += (bits & RequestKind::old) != 0 ? " HTTP/1.0\r\n" : " HTTP/1.1\r\n";
  text += "Host: sim\r\nx-number: " + std::to_string(number) + "\r\n" + more;
  if ((bits & RequestKind::rewrites) != 0) text += "x-llm-d-model-name-rewrite: " + std::string(served_name) + "\r\n";
  if ((bits & RequestKind::batch) != 0) text += "x-gateway-inference-objective: batch\r\n";
  if (asks_for_websocket(bits)) {
    text += "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: " + std::string(websocket_key) + "\r\n";
  }
  if ((bits & RequestKind::closes) != 0) text += "Connection: close\r\n";
  if (kind == RequestKind::waits_for_continue) text += "Expect: 100-continue\r\n";
  if (kind == RequestKind::chunked && (bits & RequestKind::old) == 0) {
    text += "Transfer-Encoding: chunked\r\n\r\n";
    http::append_chunk(text, std::string_view(body).substr(0, body.size() / 2));
    http::append_chunk(text, std::string_view(body).substr(body.size() / 2));
    return text + (number % 2 == 0 ? "0\r\n\r\n" : "0\r\nx-sum: 5\r\n\r\n");
  }
  if (!body.empty()) text += "Content-Length: " + std::to_string(body.size()) + "\r\n";
  return text + "\r\n" + body;
}

// Reads what a client sends, to know what it must be answered.
class SentRequests final : private http::ParserEvents {
 public:
  void sent(std::string_view bytes) {
    while (!bytes.empty() && !failed_) {
      const auto fed = parser_.feed(bytes);
      bytes.remove_prefix(fed.consumed);
      failed_ = fed.error != http::ParseError::none;
    }
  }
  std::deque<http::Method> unanswered;
  // Of the next request that is answered. GET also stands for what cannot be read.
  http::Method next() const {
    if (!unanswered.empty()) return unanswered.front();
    return parser_.asks_for_head() ? http::Method::head : http::Method::get;
  }

 private:
  void on_head(http::Head& head) override {
    unanswered.push_back(head.method);
    upgrades_ = http::asks_for_websocket(head);
  }
  void on_body(std::string_view) override {}
  void on_message_end(bool keep_alive) override { failed_ |= !keep_alive || upgrades_; }  // what follows is not read
  http::Parser parser_{http::Parser::Kind::request, *this};
  bool failed_ = false, upgrades_ = false;
};

// Fields of an answer that only an endpoint writes: an answer with it is relayed, not the gateway's own.
inline constexpr std::string_view told_field = "x-told";

// Whole events, and the gateway's error event, or the beginning of it, behind them.
inline bool breaks_off(std::string_view is, std::string_view answer) {
  static constexpr std::string_view kErrors[] = {"data: {\"error\"", "event: error\ndata: {\"type\":\"error\""};
  const auto differs = std::mismatch(is.begin(), is.end(), answer.begin(), answer.end()).first;
  const size_t common = static_cast<size_t>(differs - is.begin());
  const size_t boundary = is.substr(0, common).rfind("\n\n");
  const std::string_view rest = is.substr(boundary == std::string_view::npos ? 4 : boundary + 2);
  return std::any_of(std::begin(kErrors), std::end(kErrors),
                     [&](std::string_view error) { return rest.starts_with(error) || error.starts_with(rest); });
}

// Whether this ("200 body") is what some endpoint sent in answer to the request, or, if not `whole`, the beginning of
// it.
inline bool was_sent(const Asked& asked, const std::string& is, bool whole) {
  for (const std::string& answer : asked.answered) {
    if (whole ? is == answer : answer.starts_with(is) || breaks_off(is, answer)) return true;
  }
  std::fprintf(stderr, "%s: %s\n", whole ? "whole" : "begun", is.c_str());
  return false;
}

class ScriptClient final : private http::ParserEvents {
 public:
  ScriptClient(Ledger& ledger, const net::Address& gateway) : ledger_(ledger), peer_(ledger.network) {
    peer_.on_event = [this](SimPeer&) { hear(); };
    peer_.connect(gateway);
  }
  SimPeer& peer() { return peer_; }
  bool can_send() const { return !finished_ && peer_.is_open(); }

  // `whole`: otherwise only the head of a request that waits for 100 Continue, and half of others; go_on() sends more.
  void ask(uint8_t bits, const std::string& more, bool whole) {
    go_on(0);
    const size_t number = ledger_.asked.size();
    ledger_.asked.push_back({.body = request_body(bits, number), .rewritten = (bits & RequestKind::rewrites) != 0});
    numbers_.push_back(number);
    if (asks_for_websocket(bits)) upgrade_ = std::min(upgrade_, number);
    later_ = request_text(bits, number, ledger_.asked.back().body, more);
    const bool waits = (bits & RequestKind::kind) == RequestKind::waits_for_continue;
    go_on(whole ? 0 : waits ? later_.find("\r\n\r\n") + 4 : later_.size() / 2);
  }
  // Sends so much of what was asked; 0: all.
  void go_on(size_t bytes) {
    if (later_.empty() || !can_send()) return;
    if (bytes == 0 || bytes > later_.size()) bytes = later_.size();
    const bool behind = upgrade_ < ledger_.asked.size() && !numbers_.empty() && numbers_.back() != upgrade_;
    if (behind) ledger_.asked[upgrade_].from_client += later_.substr(0, bytes);
    send(std::string_view(later_).substr(0, bytes));
    later_.erase(0, bytes);
  }
  void send_raw(std::string_view bytes) {
    ledger_.clients_are_honest = false;
    raw_ = true;
    go_on(0);
    send(bytes);
  }
  void finish() {
    finished_ = true;
    peer_.finish();
  }

 private:
  void send(std::string_view bytes) {
    if (begun_.size() < http::Parser::http2_line.size()) begun_ += bytes.substr(0, http::Parser::http2_line.size());
    sent_.sent(bytes);
    peer_.send(bytes);
  }
  // Of its own bytes, which then are no business of this class.
  bool speaks_http2() const { return raw_ && begun_.starts_with(http::Parser::http2_line); }

  void hear() {
    const std::string heard = peer_.take();
    std::string_view bytes = heard;
    if (speaks_http2()) return;
    while (!bytes.empty()) {
      if (switched_) return hear_session(bytes);
      if (over_) ledger_.network.fail("something came behind the answer that was to be the last");
      if (parser_.idle()) parser_.expect_response_to(sent_.next());
      const auto fed = parser_.feed(bytes);
      if (fed.error != http::ParseError::none) ledger_.network.fail("a client got something that is not HTTP");
      bytes.remove_prefix(fed.consumed);
    }
    if (status_ != 0) check(/*whole=*/false);
  }

  void hear_session(std::string_view bytes) {
    session_ += bytes;
    if (raw_ || !ledger_.endpoints_are_honest || upgrade_ >= ledger_.asked.size()) return;
    for (const auto& [line, sent] : ledger_.asked[upgrade_].from_servers) {
      if (passed_on(session_, sent, /*may_close=*/true)) return;
    }
    ledger_.network.fail("a client got in its session what no endpoint sent");
  }

  void on_head(http::Head& head) override {
    switched_ = head.status == 101;
    if (switched_) {
      if (!raw_ && (numbers_.empty() || numbers_.front() != upgrade_))
        ledger_.network.fail("a 101 that nobody asked for");
      return;
    }
    status_ = head.status;
    body_.clear();
    relayed_ = false;
    for (const http::Header& header : head.headers()) relayed_ |= header.name == told_field;
  }
  void on_body(std::string_view bytes) override { body_ += bytes; }
  void on_message_end(bool keep_alive) override {
    if (switched_) return;
    check(/*whole=*/true);
    status_ = 0;
    over_ = !keep_alive;
    if (!sent_.unanswered.empty()) {
      sent_.unanswered.pop_front();
    } else if (++answers_to_nothing_ > 1) {  // one: a head that could not be read, or not in time
      ledger_.network.fail("more answers than requests");
    }
    if (!numbers_.empty()) numbers_.pop_front();
  }

  // What came is what an endpoint sent in answer to this very request, or the beginning of that.
  void check(bool whole) const {
    if (raw_ || !ledger_.endpoints_are_honest || !relayed_ || numbers_.empty()) return;
    const std::string is = std::to_string(status_) + ' ' + body_;
    const Asked& asked = ledger_.asked[numbers_.front()];
    if (was_sent(asked, is, whole && !asked.ends_anywhere)) return;
    ledger_.network.fail("a client got what no endpoint sent in answer to it");
  }

  Ledger& ledger_;
  SimPeer peer_;
  SentRequests sent_;
  http::Parser parser_{http::Parser::Kind::response, *this};
  std::deque<size_t> numbers_;  // in Ledger::asked, in order, not answered
  int answers_to_nothing_ = 0;
  uint16_t status_ = 0;  // of the answer that has begun; 0: none has
  std::string body_, later_, session_;
  std::string begun_;          // the first bytes that it has sent
  size_t upgrade_ = SIZE_MAX;  // number of its first request for a WebSocket
  bool raw_ = false, finished_ = false, relayed_ = false, over_ = false, switched_ = false;
};

// Answers that are made of a number.
struct AnswerKind {
  enum Bits : uint8_t { kind = 15, closes = 16, empty = 32, large = 64, until_close = 128 };
  enum Kind : uint8_t {
    json,
    json_in_chunks,
    events,
    events_with_usage,
    full,
    full_in_words,
    failed,
    bad_gateway,
    not_found,
    no_content,
    error_event,
    aborted,
    late_error_event,
    behind_interim,
    encoded,
    with_trailers
  };
};

// One connection of the gateway to an endpoint.
class EndpointLine final : private http::ParserEvents {
 public:
  EndpointLine(Ledger& ledger, SimPeer& peer) : ledger_(ledger), peer_(peer) {
    peer.on_event = [this](SimPeer&) { hear(); };
  }
  SimPeer& peer() { return peer_; }

  // Answers the request that waits, if one does. Sends nothing yet.
  void answer(uint8_t bits) {
    if (switched_) return speak(bits);
    if (!waits_) return;
    waits_ = false;
    if (upgrades_ && (bits & AnswerKind::kind) == AnswerKind::json) return agree();
    const bool bare = head_of_ || (bits & AnswerKind::kind) == AnswerKind::no_content;
    const std::string body = bare ? "" : answer_body(bits);
    pending_ += answer_head(bits, bare, body.size());
    if (!bare) pending_ += framed(bits, body);
    closes_ = (bits & AnswerKind::until_close) != 0;
    if (number_ >= ledger_.asked.size()) return;
    Asked& asked = ledger_.asked[number_];
    const bool restored = may_rename(asked) && renamed_ && (bits & AnswerKind::kind) != AnswerKind::encoded;
    asked.ends_anywhere |= closes_;
    asked.answered.push_back(status_of(bits) + ' ' + (restored ? with_model(body, served_name, "m") : body));
  }
  // Sends so much of what was answered; 0: all.
  void flow(size_t bytes) {
    if (pending_.empty() || finished_) return;
    if (bytes == 0 || bytes > pending_.size()) bytes = pending_.size();
    peer_.send(std::string_view(pending_).substr(0, bytes));
    pending_.erase(0, bytes);
    if (pending_.empty() && closes_) peer_.close();
  }
  void send_raw(std::string_view bytes) {
    ledger_.endpoints_are_honest = false;
    if (!finished_) peer_.send(bytes);
  }
  void finish() {
    finished_ = true;
    peer_.finish();
  }

 private:
  void agree() {
    switched_ = true;
    if (number_ < ledger_.asked.size()) ledger_.asked[number_].from_servers[this] = "";
    pending_ += "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: " +
                http::websocket_accept(websocket_key) + "\r\n\r\n";
  }
  // A frame: the bits choose its length and whether it is a Close.
  void speak(uint8_t bits) {
    const std::string payload((bits & AnswerKind::large) != 0 ? 6000 : 5, 's');
    const bool closes = (bits & AnswerKind::closes) != 0;
    std::string frame = closes ? "\x88" : "\x82";
    if (payload.size() < 126) frame += static_cast<char>(payload.size());
    else
      frame.append("\x7e").append({static_cast<char>(payload.size() >> 8), static_cast<char>(payload.size() & 0xff)});
    frame += payload;
    pending_ += frame;
    if (number_ < ledger_.asked.size()) ledger_.asked[number_].from_servers[this] += frame;
    closes_ = (bits & AnswerKind::until_close) != 0;
  }
  void hear_session(std::string_view bytes) {
    session_ += bytes;
    if (!ledger_.clients_are_honest || number_ >= ledger_.asked.size()) return;
    if (!passed_on(session_, ledger_.asked[number_].from_client, /*may_close=*/false)) {
      ledger_.network.fail("an endpoint got in a session what no client sent");
    }
  }

  static std::string with_model(std::string text, std::string_view from, std::string_view to) {
    const std::string was = "\"model\":\"" + std::string(from) + '"', is = "\"model\":\"" + std::string(to) + '"';
    for (size_t at = text.find(was); at != std::string::npos; at = text.find(was, at + is.size())) {
      text.replace(at, was.size(), is);
    }
    return text;
  }

  static std::string status_of(uint8_t bits) {
    switch (bits & AnswerKind::kind) {
      case AnswerKind::full:
      case AnswerKind::full_in_words:
        return "503";
      case AnswerKind::failed:
        return "500";
      case AnswerKind::bad_gateway:
        return "502";
      case AnswerKind::not_found:
        return "404";
      case AnswerKind::no_content:
        return "204";
      default:
        return "200";
    }
  }
  static bool is_events(int kind) {
    return kind == AnswerKind::events || kind == AnswerKind::events_with_usage || kind == AnswerKind::error_event ||
           kind == AnswerKind::aborted || kind == AnswerKind::late_error_event;
  }
  static bool in_chunks(uint8_t bits) {
    const int kind = bits & AnswerKind::kind;
    return (bits & AnswerKind::until_close) == 0 &&
           (is_events(kind) || kind == AnswerKind::json_in_chunks || kind == AnswerKind::with_trailers);
  }

  std::string answer_body(uint8_t bits) const {
    if ((bits & AnswerKind::empty) != 0) return "";
    const std::string model = "{\"model\":\"" + std::string(renamed_ ? served_name : "m") + "\",";
    const std::string text((bits & AnswerKind::large) != 0 ? 6000 : 5, 'a');
    const std::string event = "data: " + model + R"("choices":[{"index":0,"text":")" + text + "\"}]}\n\n";
    const std::string error = "data: {\"error\":{\"message\":\"it broke\",\"code\":500}}\n\n";
    const std::string usage = R"("usage":{"prompt_tokens":9,"completion_tokens":2}})";
    switch (bits & AnswerKind::kind) {
      case AnswerKind::events:
        return event + event + "data: [DONE]\n\n";
      case AnswerKind::events_with_usage:
        return event + ": keep\n\n" + "data: " + model + usage + "\n\ndata: [DONE]\n\n";
      case AnswerKind::error_event:
        return error;
      case AnswerKind::late_error_event:
        return event + error;
      case AnswerKind::aborted:
        return "data: " + model + R"("choices":[{"finish_reason":"abort"}]})" + "\n\n";
      case AnswerKind::full_in_words:
        return R"({"error":{"message":"full","code":503}})";
      case AnswerKind::full:
      case AnswerKind::failed:
      case AnswerKind::bad_gateway:
      case AnswerKind::not_found:
        return R"({"error":")" + text + "\"}";
      default:
        return model + R"("choices":[{"text":")" + text + "\"}]," + usage;
    }
  }

  static std::string answer_head(uint8_t bits, bool bare, size_t size) {
    const int kind = bits & AnswerKind::kind;
    std::string text = kind == AnswerKind::behind_interim ? "HTTP/1.1 103 Early\r\nx: y\r\n\r\n" : "";
    text += "HTTP/1.1 " + status_of(bits) + " Said\r\n" + std::string(told_field) + ": yes\r\n";
    text += is_events(kind) ? "content-type: text/event-stream\r\n" : "content-type: application/json\r\n";
    if (kind == AnswerKind::full) text += "retry-after: 1\r\n";
    if (kind == AnswerKind::encoded) text += "content-encoding: br\r\n";
    if ((bits & (AnswerKind::closes | AnswerKind::until_close)) != 0) text += "connection: close\r\n";
    if (!bare && in_chunks(bits)) text += "transfer-encoding: chunked\r\n";
    else if (!bare && (bits & AnswerKind::until_close) == 0) text += "content-length: " + std::to_string(size) + "\r\n";
    return text + "\r\n";
  }

  static std::string framed(uint8_t bits, const std::string& body) {
    if (!in_chunks(bits)) return body;
    std::string text;
    const size_t cut = body.size() / 3;  // in the middle of an event, or between two
    if (cut > 0) http::append_chunk(text, std::string_view(body).substr(0, cut));
    if (!body.empty()) http::append_chunk(text, std::string_view(body).substr(cut));
    return text + ((bits & AnswerKind::kind) == AnswerKind::with_trailers ? "0\r\nx-sum: 5\r\n\r\n" : "0\r\n\r\n");
  }

  void hear() {
    const std::string heard = peer_.take();
    std::string_view bytes = heard;
    while (!bytes.empty()) {
      if (switched_) return hear_session(bytes);
      const auto fed = parser_.feed(bytes);
      if (fed.error != http::ParseError::none) ledger_.network.fail("an endpoint got something that is not HTTP");
      bytes.remove_prefix(fed.consumed);
    }
  }

  void on_head(http::Head& head) override {
    if (ledger_.endpoints_are_honest && (waits_ || !pending_.empty())) {
      ledger_.network.fail("a request came before the answer to the one before it was over");
    }
    int ids = 0, ways = 0;
    upgrades_ = http::asks_for_websocket(head);
    for (const http::Header& header : head.headers()) {
      const bool upgrade = header.field == http::Field::upgrade && header.value == "websocket";
      const bool connection = header.field == http::Field::connection && header.value == "upgrade";
      if (must_not_come(header.field) && !(upgrades_ && (upgrade || connection)))
        ledger_.network.fail("a field that ends at the gateway was passed on");
      ids += header.field == http::Field::x_request_id;
      ways += header.field == http::Field::via;
      if (header.name == "x-number") number_ = std::strtoul(std::string(header.value).c_str(), nullptr, 10);
    }
    if (ids != 1 || ways != 1) ledger_.network.fail("the gateway's own fields are not there once");
    ledger_.forwarded.emplace(head.get(http::Field::x_request_id));
    head_of_ = head.method == http::Method::head;
    body_.clear();
  }
  void on_body(std::string_view bytes) override { body_ += bytes; }
  void on_message_end(bool) override {
    waits_ = true;
    renamed_ = body_.find(served_name) != std::string::npos;
    if (!ledger_.clients_are_honest) return;
    if (number_ >= ledger_.asked.size()) ledger_.network.fail("an endpoint got a request that nobody sent");
    const Asked& asked = ledger_.asked[number_];
    if (body_ != (renamed_ && may_rename(asked) ? with_model(asked.body, "m", served_name) : asked.body)) {
      ledger_.network.fail("an endpoint got another body than the client sent");
    }
  }

  bool may_rename(const Asked& asked) const { return asked.rewritten || ledger_.pools_rename; }

  static bool must_not_come(http::Field field) {
    using http::Field;
    for (const Field one :
         {Field::connection, Field::keep_alive, Field::te, Field::transfer_encoding, Field::upgrade, Field::expect,
          Field::x_session_token, Field::x_gateway_inference_objective, Field::x_gateway_inference_fairness_id,
          Field::x_gateway_model_name_rewrite, Field::x_gateway_destination_endpoint,
          Field::x_gateway_destination_endpoint_subset, Field::x_prefiller_host_port, Field::x_slo_ttft_ms,
          Field::x_slo_tpot_ms, Field::x_penstock_explain, Field::test_epp_endpoint_selection}) {
      if (field == one) return true;
    }
    return false;
  }

  Ledger& ledger_;
  SimPeer& peer_;
  http::Parser parser_{http::Parser::Kind::request, *this};
  std::string body_, pending_, session_;
  size_t number_ = SIZE_MAX;
  bool upgrades_ = false, switched_ = false;  // the request asks for a WebSocket; it has got one
  bool waits_ = false, head_of_ = false, renamed_ = false, closes_ = false, finished_ = false;
};

// A model server: may stop listening and come back.
class ScriptEndpoint {
 public:
  ScriptEndpoint(Ledger& ledger, uint16_t port) : ledger_(ledger), address_(sim_address(port)) { start(); }
  const net::Address& address() const { return address_; }
  const std::vector<std::unique_ptr<EndpointLine>>& lines() const { return lines_; }

  void start() {
    if (listening_) return;
    listening_ = true;
    servers_.push_back(std::make_unique<SimServer>(ledger_.network, address_, [this](SimPeer& peer) {
      lines_.push_back(std::make_unique<EndpointLine>(ledger_, peer));
    }));
  }
  void stop() {
    if (std::exchange(listening_, false)) servers_.back()->stop();
  }

 private:
  Ledger& ledger_;
  const net::Address address_;
  bool listening_ = false;
  std::vector<std::unique_ptr<EndpointLine>> lines_;
  std::vector<std::unique_ptr<SimServer>> servers_;  // the peers, which tell the lines, go first
};

}  // namespace penstock::test
