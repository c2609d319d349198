// A server that speaks HTTP/2, and the requests that reach it, for the tests of downstream::Http2Connection.
#pragma once

#include <doctest/doctest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "penstock/downstream/connection.h"
#include "tests/support/http2_client.h"

namespace penstock::downstream {

using penstock::test::http2_block;
using penstock::test::http2_frame;
using penstock::test::http2_preface;
using penstock::test::Http2Client;
using penstock::test::Http2Fields;
using penstock::test::sim_address;
using penstock::test::SimLoop;
using penstock::test::SimNetwork;
using penstock::test::SimPeer;

// One request: what came, and how it ended. Answers only what a test tells it to.
struct Request final : RequestHandler {
  explicit Request(Responder& responder) : client(responder) {}
  void on_body(std::string_view bytes) override { body += bytes; }
  void on_request_end() override { complete = true; }
  void on_request_failed(const RequestFailure& failure) override {
    failed = failure.timed_out ? "late" : failure.error == http::ParseError::head_too_large ? "too-large" : "bad";
    answer(failure.timed_out ? 408 : 431, "no");
  }
  void on_drained() override { ++drained; }
  void on_ending() override { ++endings; }
  void on_gone(Gone why) override {
    CHECK_FALSE(over);
    over = true;
    gone = why == Gone::closed          ? "closed"
           : why == Gone::reset         ? "reset"
           : why == Gone::write_timeout ? "write-timeout"
           : why == Gone::too_slow      ? "too-slow"
                                        : "cut";
    unsent = client.unsent();
  }
  Sent begin(uint16_t status, BodyForm form = BodyForm::open, std::string_view piece = "") {
    http::Fields fields;
    fields.add("X-Case", "Kept Value");
    return client.begin({.status = status, .fields = fields, .form = form}, piece);
  }
  void answer(uint16_t status, std::string_view text) {
    http::Fields fields;
    fields.add("content-length", text.size());
    CHECK(client.begin({.status = status, .fields = fields}, text) != Sent::lost);
    finish();
  }
  void finish(std::string_view trailers = {}) {
    CHECK(client.end(trailers) == Sent::ok);
    over = true;
    client.finish();
  }
  void abort() {
    over = true;
    client.abort();
  }
  void abandon() {
    over = true;
    client.abandon();
  }

  Responder& client;
  std::string head, body, failed, gone;
  bool complete = false, over = false;
  int drained = 0, endings = 0;
  uint64_t unsent = 0;
};

class Requests final : public Service {
 public:
  RequestHandler* on_request(Responder& client, http::Head& head) override {
    all.push_back(std::make_unique<Request>(client));
    Request& request = *all.back();
    request.head = std::string(head.method_text) + ' ' + std::string(head.target);
    if (head.chunked) request.head += " chunked";
    for (const http::Header& header : head.headers()) {
      request.head.append(" ").append(header.name).append("=").append(header.value);
    }
    if (head.target == "/now") {
      request.answer(200, "at once");
      return nullptr;
    }
    return &request;
  }
  void on_bad_head(Responder& client, const RequestFailure& failure) override {
    const int status = failure.timed_out                                   ? 408
                       : failure.no_memory || failure.crowded_out          ? 503
                       : failure.error == http::ParseError::head_too_large ? 431
                       : failure.error == http::ParseError::uri_too_long   ? 414
                       : failure.error == http::ParseError::unknown_method ? 501
                                                                           : 400;
    bad_heads += std::to_string(status) + (failure.head_request ? "-head " : " ");
    http::Fields fields;
    fields.add("content-length", uint64_t{3});
    const BodyForm form = failure.head_request ? BodyForm::none : BodyForm::sized;
    static_cast<void>(client.begin({.status = static_cast<uint16_t>(status), .fields = fields, .form = form},
                                   failure.head_request ? "" : "bad"));
  }
  void on_connections_changed(int delta) override { connections += delta; }
  void on_limit(std::string_view limit) override { limits += std::string(limit) + ' '; }
  void on_idle_evicted() override { ++evicted; }

  std::vector<std::unique_ptr<Request>> all;
  std::string bad_heads, limits;
  int connections = 0, evicted = 0;
};

struct Http2Scene {
  explicit Http2Scene(ServerOptions options = {}, size_t budget = 64 * 1024 * 1024)
      : loop(network, budget), server(loop.loop(), loop.pool(), service, with_http2(options)) {
    const Result<net::Address> listening = server.listen(sim_address(8080), false);
    REQUIRE(listening.ok());
    at = *listening;
  }
  ~Http2Scene() {
    server.stop_listening();
    server.cut_all();
    run(seconds(1));
    CHECK(server.connections() == 0);
    CHECK(service.connections == 0);
    for (const auto& request : service.all) CHECK(request->over);
    CHECK(loop.pool().budget().taken() == 0);
  }
  static ServerOptions with_http2(ServerOptions options) {
    options.http2.enabled = true;
    return options;
  }
  void run(Duration time = milliseconds(100)) { network.run_for(time); }
  Request& request(size_t index) {
    REQUIRE(service.all.size() > index);
    return *service.all[index];
  }

  SimNetwork network{1};
  SimLoop loop;
  Requests service;
  Server server;
  net::Address at;
};

// ---- frames as bytes ----

inline constexpr uint8_t kData = 0, kHeaders = 1, kPriority = 2, kReset = 3, kSettings = 4, kPing = 6, kWindow = 8,
                         kContinuation = 9;
inline constexpr uint8_t kEndStream = 1, kEndHeaders = 4;
inline const Http2Fields plain_get = {{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/a"}};

inline std::string get_frame(uint32_t stream, uint8_t flags = kEndStream | kEndHeaders) {
  return http2_frame(kHeaders, flags, stream, http2_block(plain_get));
}

// The error of the GOAWAY that the server has sent last; -1: none.
inline int goaway_of(const std::string& received) {
  int error = -1;
  for (size_t at = 0; at + 9 <= received.size();) {
    const auto byte = [&](size_t i) { return static_cast<size_t>(static_cast<uint8_t>(received[at + i])); };
    const size_t size = byte(0) << 16 | byte(1) << 8 | byte(2);
    if (byte(3) == 7) error = static_cast<int>(byte(13) << 24 | byte(14) << 16 | byte(15) << 8 | byte(16));
    at += 9 + size;
  }
  return error;
}

struct Raw {
  explicit Raw(Http2Scene& scene) : peer(scene.network) {
    REQUIRE(peer.connect(scene.at));
    peer.send(http2_preface);
    scene.run();
  }
  SimPeer peer;
};

}  // namespace penstock::downstream
