// HTTP/1.x codec on llhttp, strict: bytes in, events out; no I/O, no allocation per body chunk.
// llhttp accepts, and this parser refuses: bare CR or LF, obs-fold, whitespace before the colon, duplicate,
// signed or comma-joined Content-Length, Content-Length together with Transfer-Encoding, transfer codings other
// than a single final "chunked", NUL or control characters in values, chunk sizes that overflow,
// HTTP versions other than 1.0 and 1.1, several Host fields or none in an HTTP/1.1 request.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "penstock/http/head.h"

namespace penstock::http {

enum class ParseError : uint8_t {
  none,
  malformed,            // start line, header or chunk framing is not HTTP
  smuggling,            // ambiguous framing (the cases listed above)
  head_too_large,       // header block over the limit: 431
  uri_too_long,         // target over the limit: 414
  unsupported_version,  // 505
  unsupported_coding,   // an unknown Transfer-Encoding: 501
  unknown_method,       // a token that is not a known method: 501
};
const char* to_string(ParseError error);  // one short sentence for logs and error bodies

struct ParserLimits {
  size_t head_bytes_max = 64 * 1024;  // limits.header_bytes
  size_t headers_max = 256;
  size_t uri_bytes_max = 32 * 1024;
  // Limit for all Connection fields of a head together, because each header field is searched for in their list.
  size_t connection_bytes_max = 512;
};

// Receives the events. The callee must not destroy the parser from inside an event. It may call Parser::pause(); feed()
// then returns at the end of the current event.
class ParserEvents {
 public:
  // The head is complete. It stays valid until on_message_end, Parser::drop_head() or Parser::reset().
  virtual void on_head(Head& head) = 0;
  // A piece of decoded body (chunk framing removed), a view into the bytes being fed.
  virtual void on_body(std::string_view bytes) = 0;
  // The trailer section of a response, up to the empty line, without the fields that end at this hop. Called once,
  // before on_message_end, and only if the section has fields. Valid during the call.
  virtual void on_trailers(std::string_view /*section*/) {}
  // The message is complete (trailers included). `keep_alive`: the framing allows another message.
  virtual void on_message_end(bool keep_alive) = 0;

 protected:
  ~ParserEvents() = default;
};

class Parser {
 public:
  enum class Kind : uint8_t { request, response };
  struct FeedResult {
    // Bytes used. The rest belongs to the next message, or was not read because of pause(). Refused bytes of a body are
    // not included, so a caller that relays the raw bytes never relays those.
    size_t consumed;
    ParseError error;
    size_t head_bytes = 0;     // the first bytes of `consumed`: heads, interim ones included. The raw body follows them
    size_t trailer_bytes = 0;  // the last bytes of `consumed`: a trailer section that on_trailers() delivers
  };
  // Chunked bodies: the bytes so far end exactly after the head or a complete chunk.
  bool between_chunks() const;
  // For a caller that relays raw bytes and must withhold some; in on_body(), and after feed() until the next one. Where
  // the chunk being read, or the last one that was read, begins with its size line. Null if it began in an earlier
  // feed(), or the body is not chunked.
  const char* chunk_begin() const;
  // The raw bytes of the body that were fed last, up to `end`, which must lie among them.
  std::string_view raw_until(const char* end) const;

  Parser(Kind kind, ParserEvents& events, const ParserLimits& limits = {});
  ~Parser();
  Parser(const Parser&) = delete;

  // Feeds bytes. Stops at the end of a message (the caller feeds the rest when it is ready for the next one), at an
  // error (which is final until reset()), or when paused.
  FeedResult feed(std::string_view bytes);
  // The peer has closed. Ends a response body that runs until close; an error if a message was incomplete.
  ParseError finish();
  // Responses only: tells the method of the request before the response arrives (HEAD: the response has no body).
  void expect_response_to(Method method);
  void pause();
  // Frees the memory of the head once the caller has read it, because the body may take long. No effect without a
  // complete head.
  void drop_head();
  // Forgets the message in progress and any error; memory is given back.
  void reset();

  // The first request was refused, as an unsupported version, for this line: HTTP/2's preface begins with it (RFC 9113,
  // section 3.4). Nothing stood before it.
  static constexpr std::string_view http2_line = "PRI * HTTP/2.0\r\n";
  bool refused_http2() const;

  // True between messages: no byte of the next head seen.
  bool idle() const;
  bool in_head() const;
  // The body runs until the connection closes (response without length).
  bool body_until_close() const;
  const Head* head() const;   // of the message in progress, once complete and unless it was dropped
  size_t held_bytes() const;  // of the head and trailers of the message in progress
  // Requests: the head in progress, refused or not complete as it may be, begins with HEAD. Its answer has no body.
  bool asks_for_head() const;

 private:
  struct State;
  std::unique_ptr<State> state_;  // small: the memory for a message in progress is borrowed from a thread-local pool
};

}  // namespace penstock::http
