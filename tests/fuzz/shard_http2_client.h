// A client of HTTP/2 for the shard fuzz target: many requests at a time on one connection, made of numbers as those of
// a ScriptClient (shard_peers.h), which may be reset, or read slowly. nghttp2 checks that what comes is HTTP/2.
#pragma once

#include "shard_peers.h"
#include "tests/support/http2_client.h"

namespace penstock::test {

class ScriptHttp2Client {
 public:
  ScriptHttp2Client(Ledger& ledger, const net::Address& gateway) : ledger_(ledger), client_(ledger.network, gateway) {}
  ~ScriptHttp2Client() { check(); }

  SimPeer& peer() { return client_.peer; }
  bool can_send() const { return client_.peer.is_open() && !client_.peer.ended() && client_.goaways == 0; }

  // `whole`: otherwise half of the body waits for go_on().
  void ask(uint8_t bits, bool whole) {
    static constexpr const char* kMethods[] = {"POST", "POST", "POST", "GET", "HEAD", "PUT", "POST", "POST"};
    static constexpr const char* kPaths[] = {"/v1/completions", "/v1/completions", "/v1/chat/completions",
                                             "/v1/models",      "/v1/models",      "/other?a=b",
                                             "/v1/completions", "/v1/completions"};
    const size_t number = ledger_.asked.size();
    const bool rewrites = (bits & RequestKind::rewrites) != 0;
    ledger_.asked.push_back({.body = request_body(bits, number), .rewritten = rewrites});
    const std::string& body = ledger_.asked.back().body;
    Http2Fields fields = {{":method", kMethods[bits & RequestKind::kind]},
                          {":scheme", "http"},
                          {":authority", "sim"},
                          {":path", kPaths[bits & RequestKind::kind]},
                          {"x-number", std::to_string(number)}};
    if (rewrites) fields.emplace_back("x-llm-d-model-name-rewrite", served_name);
    if ((bits & RequestKind::batch) != 0) fields.emplace_back("x-gateway-inference-objective", "batch");
    const int32_t id = client_.ask(fields, body.empty());
    streams_.push_back({id, number});
    if (body.empty()) return;
    const size_t now = whole ? body.size() : body.size() / 2;
    client_.send_body(id, std::string_view(body).substr(0, now), whole);
    if (!whole) later_.emplace_back(id, body.substr(now));
  }
  void go_on() {
    for (const auto& [id, rest] : later_) client_.send_body(id, rest, /*ends=*/true);
    later_.clear();
  }
  void reset(uint8_t choice) {
    if (!streams_.empty()) client_.reset(streams_[choice % streams_.size()].id);
  }
  void ping() { client_.ping(); }

  // What came of each answer is what an endpoint sent in answer to this very request, or the beginning of that.
  void check() const {
    for (const Stream& stream : streams_) {
      const auto found = client_.answers.find(stream.id);
      if (found == client_.answers.end() || found->second.field(told_field).empty()) continue;
      const Http2Client::Answer& answer = found->second;
      const Asked& asked = ledger_.asked[stream.number];
      const bool whole = answer.ended && answer.error == 0 && !asked.ends_anywhere;
      if (ledger_.endpoints_are_honest && !was_sent(asked, std::to_string(answer.status) + ' ' + answer.body, whole)) {
        ledger_.network.fail("an HTTP/2 client got what no endpoint sent in answer to it");
      }
    }
  }

 private:
  struct Stream {
    int32_t id;
    size_t number;  // in Ledger::asked
  };
  Ledger& ledger_;
  Http2Client client_;
  std::vector<Stream> streams_;
  std::vector<std::pair<int32_t, std::string>> later_;
};

}  // namespace penstock::test
