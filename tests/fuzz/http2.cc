// A server that speaks HTTP/2, fed from a byte script: frames whole or broken, requests, what answers them, how time
// passes and how slowly the client reads. Nothing that a client does may make it assert, leak memory, forget a request,
// tell a handler twice that its client is gone, or end an answer with END_STREAM that was not finished.
//
// Script: options, faults (1 byte each), then steps of {operation, argument}; some are followed by as many bytes as the
// argument says.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/downstream/connection.h"
#include "script.h"
#include "tests/support/http2_client.h"

namespace penstock::downstream {
namespace {

using test::http2_block;
using test::http2_frame;
using test::Script;

enum Operation : uint8_t {
  sends,          // argument: how many bytes of the script follow, and are sent
  sends_frame,    // the same as a payload; before them type, flags and stream
  asks,           // argument: a stream and, in its high bits, what is asked
  adds_body,      // argument: a stream, and in its high bits how much and whether it ends
  time_passes,    // argument x 10 ms; from 128 on (argument - 127) x 5 s
  reads,          // argument % 2: not any more, or again
  ends,           // argument % 3: closes, resets, finishes sending
  begins_answer,  // argument: which request, and in its high bits the form
  gives,          // argument: the same, and how much
  finishes,       // argument: the same, and how: ends, aborts, abandons
  server_does,    // argument: drains, tells of the end, evicts
  opens_windows,  // argument: a stream, and how far
};

void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

struct Asked final : RequestHandler {
  explicit Asked(Responder& responder) : client(&responder) {}
  void on_body(std::string_view) override { expect(client != nullptr && !complete, "a body that nobody waits for"); }
  void on_request_end() override {
    expect(client != nullptr && !complete, "a request ends twice");
    complete = true;
  }
  void on_request_failed(const RequestFailure&) override {
    expect(client != nullptr && !complete, "a request fails that is complete");
    if (!begun) begin(BodyForm::sized);
    end(0);
  }
  void on_drained() override { expect(client != nullptr, "somebody drains who is gone"); }
  void on_gone(Gone) override {
    expect(client != nullptr, "a client is gone twice");
    static_cast<void>(client->unsent());
    client = nullptr;
  }
  void on_ending() override {
    if (begun) end(1);
  }
  void begin(BodyForm form) {
    if (client == nullptr || begun) return;
    begun = true;
    has_body = form != BodyForm::none;
    http::Fields fields;
    fields.add("x-what", "it is");
    if (client->begin({.status = 200, .fields = fields, .form = form}, has_body ? "first" : "") == Sent::lost) end(2);
  }
  void give(size_t bytes) {
    if (client == nullptr || !begun || !has_body) return;
    if (client->send(std::string(bytes, 'x')) == Sent::lost) end(2);
  }
  void end(int how) {
    if (client == nullptr || (how < 2 && !begun)) return;
    Responder& responder = *std::exchange(client, nullptr);
    if (how == 0) static_cast<void>(responder.end(complete ? "X-Sum: 1\r\nTE: x\r\n\r\n" : ""));
    how == 0 ? responder.finish() : how == 1 ? responder.abort() : responder.abandon();
    finished = how == 0;
  }
  Responder* client;
  bool complete = false, begun = false, has_body = false, finished = false;
};

class Answers final : public Service {
 public:
  RequestHandler* on_request(Responder& client, http::Head& head) override {
    expect(!head.target.empty() && head.has(http::Field::host), "a head that HTTP/1.1 would refuse");
    all.push_back(std::make_unique<Asked>(client));
    if (head.target != "/now") return all.back().get();
    all.back()->begin(BodyForm::sized);
    all.back()->end(0);
    return nullptr;
  }
  void on_bad_head(Responder& client, const RequestFailure&) override {
    http::Fields fields;
    static_cast<void>(client.begin({.status = 400, .fields = fields}, "no"));
  }
  Asked* at(uint8_t index) { return all.empty() ? nullptr : all[index % all.size()].get(); }
  std::vector<std::unique_ptr<Asked>> all;
};

ServerOptions options_of(uint8_t bits) {
  ServerOptions options;
  options.http2.enabled = true;
  if (bits & 1) options.http2.streams = 3;
  if (bits & 2) options.http2.resets = 5, options.http2.idle_frames = 100;
  if (bits & 4) options.parser = {.head_bytes_max = 256, .headers_max = 8, .uri_bytes_max = 100};
  if (bits & 8) options.unfinished_heads = 600;
  if (bits & 16) options.min_rate = 1000, options.rate_grace = seconds(2);
  if (bits & 32) options.write_timeout = options.body_timeout = options.header_timeout = seconds(1);
  if (bits & 64) options.idle_timeout = seconds(2);
  return options;
}

test::SimFaults faults_of(uint8_t bits) {
  test::SimFaults faults;
  if (bits & 1) faults.fragment = faults.short_delivery = faults.short_send = 0.5;
  if (bits & 2) faults.late_bytes = faults.late_fin = 0.5;
  if (bits & 4) faults.reset = 0.02;
  if (bits & 8) faults.socket_buffer_min = 64, faults.socket_buffer_max = 256;
  return faults;
}

test::Http2Fields fields_of(uint8_t what) {
  test::Http2Fields fields = {{":method", what & 1 ? "POST" : "GET"},
                              {":scheme", "http"},
                              {":authority", "a"},
                              {":path", what & 2 ? "/now" : "/"}};
  if (what & 4) fields.emplace_back("x", std::string(300, 'x'));
  return fields;
}

class Play {
 public:
  Play(std::string_view bytes)
      : script_(bytes),
        options_(script_.byte()),
        network_(1, faults_of(script_.byte())),
        loop_(network_, options_ & 128 ? 100 * 1024 : 8 * 1024 * 1024),
        server_(loop_.loop(), loop_.pool(), answers_, options_of(options_)),
        peer_(network_) {}

  void run() {
    const Result<net::Address> at = server_.listen(test::sim_address(8080), false);
    if (!peer_.connect(*at)) return;
    peer_.send(test::http2_preface);
    while (!script_.over()) step();
    network_.run_for(seconds(1));
    peer_.close();
    server_.stop_listening();
    network_.run_for(seconds(1));
    server_.cut_all();
    network_.run_for(seconds(1));
    expect(server_.connections() == 0, "a connection is left");
    for (const auto& one : answers_.all) expect(one->client == nullptr, "a request is forgotten");
    expect(loop_.pool().budget().taken() == 0, "memory is left");
  }

 private:
  void step() {
    const uint8_t operation = script_.byte() % 12, argument = script_.byte();
    const uint32_t stream = (argument % 16) * 2 + 1, high = argument / 16;
    switch (operation) {
      case sends:
        return send(script_.bytes(argument));
      case sends_frame: {
        const uint8_t type = script_.byte(), flags = script_.byte(), on = script_.byte();
        return send(http2_frame(type, flags, on, script_.bytes(argument)));
      }
      case asks:
        return send(http2_frame(1, high & 8 ? 4 : 5, stream, http2_block(fields_of(static_cast<uint8_t>(high)))));
      case adds_body:
        return send(http2_frame(0, high & 1, stream, std::string(high * 100, 'b')));
      case time_passes:
        return network_.run_for(argument < 128 ? milliseconds(argument * 10) : seconds((argument - 127) * 5));
      case reads:
        return argument % 2 ? peer_.resume() : peer_.pause();
      case ends:
        finished_ = true;
        return argument % 3 == 2 ? peer_.finish() : peer_.close(argument % 3 == 1);
      case server_does:
        return do_as_server(argument);
      case opens_windows: {
        const std::string update = {0, static_cast<char>(high), 0, 1};
        return send(http2_frame(8, 0, argument % 16 == 15 ? 0 : stream, update));
      }
      default:
        if (Asked* const asked = answers_.at(argument % 16)) answer(*asked, operation, high);
    }
  }
  void send(std::string_view bytes) {
    if (!finished_) peer_.send(bytes);
  }
  void answer(Asked& asked, uint8_t operation, uint32_t high) {
    if (operation == begins_answer)
      asked.begin(high == 0 ? BodyForm::none : high == 1 ? BodyForm::sized : BodyForm::open);
    if (operation == gives) asked.give(high * high * 200);
    if (operation == finishes) asked.end(static_cast<int>(high % 3));
  }
  void do_as_server(uint8_t what) {
    if (what % 4 == 0) server_.announce_drain();
    if (what % 4 == 1) server_.drain();
    if (what % 4 == 2) server_.announce_end();
    if (what % 4 == 3) server_.evict_idle();
  }

  Script script_;
  uint8_t options_;
  test::SimNetwork network_;
  test::SimLoop loop_;
  Answers answers_;
  Server server_;
  test::SimPeer peer_;
  bool finished_ = false;  // nothing more can be sent
};

}  // namespace
}  // namespace penstock::downstream

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 4096) return 0;
  penstock::downstream::Play({reinterpret_cast<const char*>(data), size}).run();
  return 0;
}
