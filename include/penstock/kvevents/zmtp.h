// ZMTP 3.0, the wire protocol of ZeroMQ, with the NULL mechanism: as much as it takes to subscribe to a PUB socket and
// to ask a ROUTER, or to be one. Bytes in, frames out; no I/O. One thread.
//
// A connection: each side sends a greeting of 64 bytes, then a READY command with its socket's type, then messages of
// one frame or several. We say that we speak 3.0, so subscriptions travel as messages (0x01 and the prefix), which
// servers of every later version understand.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

#include "penstock/net/buffer.h"

namespace penstock::kvevents {

enum class ZmtpError : uint8_t {
  none,
  stopped,          // the sink said so
  not_zmtp,         // the peer does not speak ZMTP 3
  mechanism,        // it wants a security mechanism other than NULL
  bad_frame,        // flags or order that ZMTP does not know
  too_large,        // ZmtpReader::message_bytes_max, command_bytes_max
  too_many_frames,  // ZmtpReader::frames_max
  memory,           // the budget refused
};
const char* to_string(ZmtpError error);

// Each: false stops the reader, which then is good for nothing but reset().
class ZmtpSink {
 public:
  virtual bool on_greeting() = 0;
  // Name and data of a command ("READY", "PING", "SUBSCRIBE"); valid during the call.
  virtual bool on_command(std::string_view name, std::string_view data) = 0;
  // A whole message; valid during the call.
  virtual bool on_message(std::span<const std::string_view> frames) = 0;

 protected:
  ~ZmtpSink() = default;
};

class ZmtpReader {
 public:
  static constexpr size_t message_bytes_max = 8 * 1024 * 1024;
  static constexpr size_t command_bytes_max = 4096;
  static constexpr size_t frames_max = 8;

  ZmtpReader(MemoryBudget& budget, ZmtpSink& sink) : sink_(sink), body_(budget) {}
  ZmtpError feed(std::string_view bytes);
  void reset();  // for a new connection

 private:
  static constexpr size_t greeting_bytes = 64;
  enum class State : uint8_t { greeting, head, body };

  ZmtpError take_greeting(std::string_view& bytes);
  ZmtpError take_head(std::string_view& bytes);
  ZmtpError take_body(std::string_view& bytes);
  ZmtpError end_frame();
  bool gather(std::string_view& bytes, size_t wanted);

  ZmtpSink& sink_;
  State state_ = State::greeting;
  std::array<char, greeting_bytes> head_{};  // of the connection, or of a frame
  size_t gathered_ = 0;
  uint8_t flags_ = 0;
  uint64_t left_ = 0;  // bytes of this frame that are still to come
  net::BodyBuffer body_;
  std::array<size_t, frames_max> ends_{};  // of this message's frames in body_
  size_t frames_ = 0;
};

// What we send. Each appends.
void append_greeting(std::string& out);
void append_ready(std::string& out, std::string_view socket_type);
void append_command(std::string& out, std::string_view name, std::string_view data);
void append_message(std::string& out, std::span<const std::string_view> frames);
inline void append_message(std::string& out, std::initializer_list<std::string_view> frames) {
  append_message(out, std::span(frames.begin(), frames.size()));
}
// The value of a property in the data of a READY command; "" when it is not there, or the data is broken.
std::string_view ready_property(std::string_view data, std::string_view name);

}  // namespace penstock::kvevents
