#include "bench.h"

#include <doctest/doctest.h>
#include <simdjson.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "penstock/http/sse.h"

namespace penstock::sim {
namespace {

namespace json = simdjson::dom;

std::string string_of(const json::element& element, std::string_view pointer) {
  std::string_view text;
  return element.at_pointer(pointer).get(text) == simdjson::SUCCESS ? std::string(text) : std::string();
}

void keep(const json::element& element, std::string_view pointer, std::string& out) {
  if (std::string text = string_of(element, pointer); !text.empty()) out = std::move(text);
}

// The number there, or else what `out` is.
void keep(const json::element& element, std::string_view pointer, uint64_t& out) {
  uint64_t number = 0;
  if (element.at_pointer(pointer).get(number) == simdjson::SUCCESS) out = number;
}

// The body of an answer, without its chunks.
std::string body_of(const std::string& received) {
  const size_t at = received.find("\r\n\r\n");
  if (at == std::string::npos) return "";
  std::string_view rest = std::string_view(received).substr(at + 4);
  if (received.substr(0, at).find("chunked") == std::string::npos) return std::string(rest);
  std::string body;
  while (!rest.empty()) {
    const size_t line = rest.find("\r\n");
    if (line == std::string_view::npos) break;
    const size_t size = std::stoul(std::string(rest.substr(0, line)), nullptr, 16);
    body += rest.substr(line + 2, size);
    rest.remove_prefix(std::min(rest.size(), line + 2 + size + 2));
  }
  return body;
}

struct Reader : http::SseEvents {
  explicit Reader(Said& said) : out(said) {}
  void on_sse_event(std::string_view, std::string_view data) override {
    if (data == "[DONE]") out.done = true;
    else read(data, true);
  }
  void read(std::string_view text, bool streamed) {
    const simdjson::padded_string padded(text);
    json::element element;
    CAPTURE(std::string(text));
    REQUIRE(parser.parse(padded).get(element) == simdjson::SUCCESS);
    if (element.at_pointer("/error").error() == simdjson::SUCCESS) out.error = true;
    std::string piece;
    uint64_t index = 0;
    keep(element, "/choices/0/index", index);
    for (const char* place :
         {"/choices/0/text", "/choices/0/delta/content", "/choices/0/message/content", "/delta/text"}) {
      piece += string_of(element, place);
    }
    if (index == 1) out.other_text += std::exchange(piece, {});
    if (streamed && !piece.empty()) out.pieces.push_back(piece);
    out.text += piece;
    keep(element, "/choices/0/delta/role", out.role);
    for (const char* place : {"/choices/0/finish_reason", "/delta/stop_reason"}) keep(element, place, out.finish);
    for (const char* place : {"/choices/0/stop_reason", "/delta/stop_sequence"}) keep(element, place, out.stop_reason);
    keep(element, "/prompt", out.prompt);
    keep(element, "/usage/prompt_tokens", out.prompt_tokens);
    keep(element, "/usage/completion_tokens", out.completion_tokens);
    json::array tokens;
    if (element.at_pointer("/tokens").get(tokens) != simdjson::SUCCESS) return;
    for (const json::element token : tokens) out.tokens.push_back(static_cast<uint32_t>(token.get_uint64().value()));
    CHECK(element.at_pointer("/count").get_uint64().value() == out.tokens.size());
  }
  Said& out;
  json::parser parser;
};

}  // namespace

Client::Client(const net::Address& to) {
  fd = socket(to.family(), SOCK_STREAM | SOCK_CLOEXEC, 0);
  REQUIRE(fd >= 0);
  REQUIRE(connect(fd, to.data(), to.size()) == 0);
}

void Client::hang_up() {
  if (fd >= 0) close(fd);
  fd = -1;
}

void Client::send(std::string_view bytes) {
  REQUIRE(::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
}

void Client::post(std::string_view path, std::string_view body, std::string_view headers) {
  send("POST " + std::string(path) + " HTTP/1.1\r\nHost: sim\r\n" + std::string(headers) +
       "Content-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
       std::string(body));
}

void Client::poll() {
  char buffer[65536];
  while (fd >= 0 && !ended()) {
    const ssize_t n = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (n > 0) received.append(buffer, static_cast<size_t>(n));
    else if (n == 0) eof = true;
    else if (errno == EAGAIN) return;
    else reset = true;
  }
}

bool Client::whole() const {
  const size_t length = received.find("content-length: ");
  return length != std::string::npos && received.find("\r\n\r\n") != std::string::npos &&
         received.size() >= body_at() + std::stoul(received.substr(length + 16));
}

Bench::Bench(net::RingKind kind, const Options& options)
    : ring(std::move(net::make_ring({.kind = kind}, net::probe_rings())).value()),
      loop(*ring, net::system_clock()),
      server(loop, pool, options) {
  const auto bound = server.listen();
  REQUIRE(bound.ok());
  address = *bound;
}

Options Bench::instant() {
  Options options;
  options.port = 0;
  options.models = {"base"};
  options.max_model_len = 16384 * 16;
  options.engine.prefill_tokens_per_s = options.engine.decode_ms = options.engine.step_overhead_ms = 0;
  options.engine.decode_ms_per_seq = options.engine.decode_ms_per_1k_tokens = 0;
  return options;
}

void Bench::until(Client& client, const std::function<bool()>& done) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!done()) {
    REQUIRE(std::chrono::steady_clock::now() < deadline);
    loop.run_turn(milliseconds(2));
    client.poll();
  }
}

bool Bench::engine_empty() {
  Engine& engine = server.engine();
  return engine.running() + engine.waiting() == 0 && engine.cache().free_blocks() == engine.cache().blocks();
}

void Bench::until_empty() {
  Client idle(address);
  until(idle, [&] { return engine_empty(); });
}

Said Bench::ask(std::string_view path, std::string_view body, std::string_view headers) {
  Client client(address);
  client.post(path, body, headers);
  until(client, [&] { return client.whole() || client.stream_ended() || client.ended(); });
  return read_answer(client.received);
}

std::vector<uint32_t> Bench::ids_of(std::string_view fields) {
  const Said said = ask("/tokenize", "{" + std::string(fields) + "}");
  REQUIRE(said.status == 200);
  return said.tokens;
}

Said read_answer(const std::string& received) {
  Said said;
  if (received.empty()) return said;
  said.status = std::stoi(received.substr(9, 3));
  Reader reader(said);
  const std::string body = body_of(received);
  if (received.find("text/event-stream") == std::string::npos) {
    if (!body.empty()) reader.read(body, false);
    return said;
  }
  http::SseScanner scanner(reader);
  scanner.feed(body);
  return said;
}

std::string json_of(const std::vector<uint32_t>& ids) {
  std::string out = "[";
  for (const uint32_t id : ids) out.append(out.size() > 1 ? "," : "").append(std::to_string(id));
  return out + "]";
}

}  // namespace penstock::sim
