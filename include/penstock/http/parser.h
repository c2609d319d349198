// HTTP/1.x codec on llhttp, strict: bytes in, events out; no I/O, no allocation per body chunk.
// What llhttp lets pass and we refuse: bare CR or LF, obs-fold, whitespace before the colon, duplicate,
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
  unsupported_coding,   // Transfer-Encoding we do not know: 501
  unknown_method,       // a token, but none of the methods there are: 501
};
const char* to_string(ParseError error);  // one short sentence for logs and error bodies

struct ParserLimits {
  size_t head_bytes_max = 64 * 1024;  // limits.header_bytes
  size_t headers_max = 256;
  size_t uri_bytes_max = 32 * 1024;
  // Of all Connection fields of a head together: each field is looked for in what they list.
  size_t connection_bytes_max = 512;
};

// Who receives the events. The callee must not destroy the parser from inside an event; it may
// call Parser::pause(), after which feed() returns at the end of the current event.
class ParserEvents {
 public:
  // The head is complete. It stays valid until on_message_end, Parser::drop_head() or Parser::reset().
  virtual void on_head(Head& head) = 0;
  // A piece of decoded body (chunk framing removed), a view into the bytes being fed.
  virtual void on_body(std::string_view bytes) = 0;
  // Of a response: its trailer section, up to the empty line, without the fields that end at this hop. Only of one that
  // has fields, whole, before on_message_end. Valid during the call.
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
    // Bytes of the span used; the rest belongs to the next message or was not looked at (pause). Of a body, what is
    // refused is not among them: whoever passes the raw bytes on never passes on those.
    size_t consumed;
    ParseError error;
    size_t head_bytes = 0;     // of `consumed`, those that were head (interim ones, too): behind them comes raw body
    size_t trailer_bytes = 0;  // and the last ones, which are of a trailer section for on_trailers()
  };
  // Chunked bodies: everything fed so far ends exactly behind the head or a whole chunk; nothing of the next is seen.
  bool between_chunks() const;

  Parser(Kind kind, ParserEvents& events, const ParserLimits& limits = {});
  ~Parser();
  Parser(const Parser&) = delete;

  // Feeds bytes; stops after one message end (the caller feeds the rest when it is ready for the
  // next message), at an error (sticky) or when paused.
  FeedResult feed(std::string_view bytes);
  // The peer closed. Ends a response body that runs until close; error when a message was cut.
  ParseError finish();
  // Responses only: says how the request was, before the response arrives (HEAD: no body).
  void expect_response_to(Method method);
  void pause();
  // Frees the memory of the head, which the caller has read: its body may take long. Nothing without a complete head.
  void drop_head();
  // Forgets the message in progress and any error; memory is given back.
  void reset();

  // True between messages: no byte of the next head seen.
  bool idle() const;
  bool in_head() const;
  // The body runs until the connection closes (response without length).
  bool body_until_close() const;
  const Head* head() const;   // of the message in progress, once complete and unless it was dropped
  size_t held_bytes() const;  // of the head and trailers of the message in progress

 private:
  struct State;
  std::unique_ptr<State> state_;  // small: what a message in progress needs is borrowed from a thread-local pool
};

}  // namespace penstock::http
