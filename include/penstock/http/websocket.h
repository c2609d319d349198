// WebSocket (RFC 6455) as an intermediary sees it: whether a request asks for it, whether an answer accepts that, and
// where the frames of one direction begin and end. Pure; one thread.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "penstock/http/head.h"

namespace penstock::http {

// A complete opening handshake: GET, HTTP/1.1, no body, `upgrade` in Connection, `websocket` among the protocols of
// Upgrade, and one Sec-WebSocket-Key. Whatever asks for less, or for another protocol, asks for no upgrade.
bool asks_for_websocket(const Head& request);
// A 101 that switches to WebSocket and nothing else, with the Sec-WebSocket-Accept that belongs to this key. A server
// that answers 101 for another reason (because a client could choose its status, for example) does not know it.
bool accepts_websocket(const Head& answer, std::string_view key);
// Sec-WebSocket-Accept (RFC 6455, section 4.2.2): base64 of the SHA-1 of the key and a fixed text.
std::string websocket_accept(std::string_view key);

// Follows the frames of one direction, to know where a frame of our own may stand and whether the sender has said that
// it closes. Checks nothing: what is no frame is the peers' affair.
class WebSocketFrames {
 public:
  void feed(std::string_view bytes);
  bool between_frames() const { return taken_ == 0 && payload_left_ == 0; }
  bool closed() const { return closed_; }  // a Close frame has begun

 private:
  void head_byte(uint8_t byte);
  static constexpr size_t head_max = 14;  // two bytes, eight of length, four of mask
  std::array<uint8_t, head_max> head_{};
  uint8_t taken_ = 0;  // bytes of a head that is not complete
  uint8_t wanted_ = 2;
  bool closed_ = false;
  uint64_t payload_left_ = 0;
};

// RFC 6455, section 7.4.1.
enum class WebSocketClose : uint16_t { going_away = 1001, try_again_later = 1013 };
// A whole Close frame as a server sends it.
std::array<char, 4> websocket_close(WebSocketClose why);

}  // namespace penstock::http
