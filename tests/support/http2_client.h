// A client of HTTP/2 on the simulated network, made of nghttp2, which keeps the rules. To break them, send frames as
// bytes: http2_frame().
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/sim_peer.h"

struct nghttp2_session;

namespace penstock::test {

// The preface and an empty SETTINGS frame: what a client of raw frames begins with.
extern const std::string http2_preface;
// A frame of this type, flags and stream.
std::string http2_frame(uint8_t type, uint8_t flags, uint32_t stream, std::string_view payload);
// A block of fields for HEADERS, each as a literal that is not indexed.
using Http2Fields = std::vector<std::pair<std::string, std::string>>;
std::string http2_block(const Http2Fields& fields);

class Http2Client {
 public:
  struct Answer {
    int status = 0;      // of the last head
    size_t heads = 0;    // interim ones included
    Http2Fields fields;  // of the last head
    std::string body;
    bool ended = false;  // END_STREAM
    bool closed = false;
    uint32_t error = 0;  // of RST_STREAM
    std::string field(std::string_view name) const;
  };
  struct Settings {
    uint32_t window = 65535;  // of each stream
    bool updates = true;      // the windows are opened again as bytes arrive
  };

  Http2Client(SimNetwork& network, const net::Address& at) : Http2Client(network, at, Settings{}) {}
  Http2Client(SimNetwork& network, const net::Address& at, const Settings& settings);
  ~Http2Client();
  Http2Client(const Http2Client&) = delete;

  // Returns the stream's number. Without `ends` send_body() follows.
  int32_t ask(const Http2Fields& fields, bool ends = true);
  int32_t get(std::string_view path) {
    return ask({{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}, {":path", std::string(path)}});
  }
  int32_t post(std::string_view path, std::string_view body, bool ends = true);
  void send_body(int32_t id, std::string_view body, bool ends);
  void reset(int32_t id, uint32_t code = 8);
  void open_windows(size_t bytes);  // of the connection and of every stream
  void ping();
  void flush();

  SimPeer peer;
  std::map<int32_t, Answer> answers;
  int goaways = 0;
  uint32_t goaway_error = 0;
  int32_t last_stream = -1;               // of the last GOAWAY
  std::map<uint16_t, uint32_t> settings;  // of the server
  size_t pings = 0;                       // answered

 private:
  friend struct Http2ClientCallbacks;
  void on_event();
  nghttp2_session* session_ = nullptr;
  struct Body {
    std::string bytes;
    bool ends = false;
  };
  std::map<int32_t, Body> bodies_;
};

}  // namespace penstock::test
