// The server's side of HTTP/2's framing, by nghttp2: frames in, events out; frames for what is submitted. It knows
// nothing of sockets, timers or limits. One thread. No event may destroy the session; send() and receive() must not be
// called from inside an event, everything else may.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>
#include <string_view>

#include "http2_frames.h"
#include "http2_memory.h"
#include "penstock/downstream/responder.h"
#include "penstock/downstream/server_options.h"

namespace penstock::downstream {

// RFC 9113, section 7.
enum class Http2Error : uint32_t {
  no_error = 0,
  protocol_error = 1,
  internal_error = 2,
  stream_closed = 5,
  refused_stream = 7,
  cancel = 8,
  enhance_your_calm = 11,
};

class Http2Stream;

// Whether a frame is part of a request or an answer.
enum class Http2Frame : uint8_t { works, idle };

class Http2Events {
 public:
  // A frame is beginning. False ends the session: receive() fails.
  virtual bool on_frame(Http2Frame kind) = 0;
  // The head of a request is beginning. The stream lives until on_closed().
  virtual Http2Stream& on_head_begin(int32_t id) = 0;
  virtual void on_field(std::string_view name,
                        std::string_view value) = 0;  // of the head or trailers that are beginning
  virtual void on_head_end(Http2Stream& stream, bool ends_request) = 0;
  virtual void on_trailers_begin(Http2Stream& stream) = 0;
  virtual void on_trailers_end(Http2Stream& stream) = 0;  // the request ends, too
  virtual void on_data(Http2Stream& stream, std::string_view bytes) = 0;
  virtual void on_data_end(Http2Stream& stream) = 0;  // the request ends
  // A request was refused because there are too many. False as for on_frame().
  virtual bool on_refused() = 0;
  // The fields of this head break the rules of HTTP/2. It is being reset.
  virtual void on_bad_fields(Http2Stream& stream) = 0;
  // The client has reset it, or we do for something that the client did. False as for on_frame().
  virtual bool on_reset(Http2Stream& stream) = 0;
  virtual void on_answer_sent(Http2Stream& stream) = 0;  // END_STREAM has been sent
  virtual void on_closed(Http2Stream& stream) = 0;       // the last event of it

  // Of send().
  virtual bool takes_more() const = 0;  // false: send() returns
  virtual bool write_frame(std::span<const iovec> pieces) = 0;
  struct Available {
    size_t bytes;
    bool ends;                     // no more come
    const http::Fields* trailers;  // which then follow; null: there are none
  };
  virtual Available available(Http2Stream& stream) = 0;
  // The frame's header and so many bytes of what is available. False as for write_frame(): it could not be written.
  virtual bool write_data(Http2Stream& stream, std::string_view frame_header, size_t bytes) = 0;

 protected:
  ~Http2Events() = default;
};

class Http2Session {
 public:
  // `memory` outlives it.
  Http2Session(Http2Events& events, const Http2Options& options, size_t head_bytes_max, Http2Memory& memory);
  ~Http2Session();
  Http2Session(const Http2Session&) = delete;

  // broken: the client breaks the rules of the connection, and the session cannot go on; calm: it floods us.
  enum class Received : uint8_t { all, broken, calm };
  Received receive(std::string_view bytes);
  // Writes what is submitted while takes_more(). False: it could not be written, or the session is broken.
  bool send();
  bool wants_to_send() const;
  bool alive() const;                  // neither side has ended it
  bool calm() const { return calm_; }  // an event has returned false

  bool submit_head(int32_t id, uint16_t status, const http::Fields& fields, bool with_body);
  void submit_continue(int32_t id);  // 100
  void resume(int32_t id);           // more is available than when it was asked for last
  void reset(int32_t id, Http2Error code);
  void took(int32_t id, size_t bytes);  // of a body: so many more may come
  void dropped(size_t bytes);           // of a body that is of no use: others may come instead
  void forget(int32_t id);              // no more events of this stream
  void announce_end();                  // GOAWAY: no new requests, please; those that are on their way are taken
  void end_requests();                  // GOAWAY: later requests are not taken
  void terminate(Http2Error code);      // GOAWAY, and nothing after it

 private:
  friend struct Http2Callbacks;
  bool feed(std::string_view bytes);
  bool judge(const Http2FrameHead& frame);
  void judge_late(const Http2FrameHead& frame);
  bool submit_trailers(int32_t id, const http::Fields& fields);
  Http2Events& events_;
  nghttp2_session* session_ = nullptr;
  Http2FrameReader frames_;
  Http2ClosedStreams closed_;
  int32_t newest_ = 0;           // the highest stream that the client has opened
  int32_t reset_by_client_ = 0;  // the stream that its last RST_STREAM was about
  bool calm_ = false;
};

}  // namespace penstock::downstream
