// The answer to one request as the proxy gives it: a head of fields, a body in pieces, an end. What that is on the wire
// (the framing of the body, the fields that concern the connection, what shows that an answer is incomplete) is the
// protocol's: an HTTP/1 connection is a Responder, and so is an HTTP/2 stream.
//
// The calls come in this order: begin(), then send() and insert(), then end(), then finish(). abort() may follow
// begin() at any point, abandon() anything. finish(), abort() and abandon() are each the handler's last use of the
// Responder. Thread: its loop's. Lifetime: from Service::on_request() to that last use, or to
// RequestHandler::on_gone().
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "penstock/base/intrusive_list.h"
#include "penstock/downstream/client_table.h"
#include "penstock/http/fields.h"
#include "penstock/net/ip.h"
#include "penstock/net/tls.h"

namespace penstock::downstream {

class ClientTunnel;  // client_tunnel.h

// How the pieces of a body are given.
enum class BodyForm : uint8_t {
  none,     // there is none (HEAD, 204, 304); Content-Length may be among the fields all the same
  sized,    // as many bytes as the field Content-Length says
  chunked,  // in chunked coding, with the last chunk: only where takes_chunks()
  open,     // bytes, until end()
};

struct AnswerHead {
  uint16_t status = 200;
  std::string_view reason = {};  // "": the usual one
  const http::Fields& fields;    // without those that the protocol writes: Connection, Transfer-Encoding
  BodyForm form = BodyForm::sized;
};

enum class Sent : uint8_t {
  ok,
  congested,  // taken, but more is queued than should be: pause the source until on_drained()
  lost,       // the client is gone, or the memory budget is full (starved()): call abandon()
};

enum class Protocol : uint8_t { http_1_0, http_1_1, http_2 };
constexpr std::string_view to_string(Protocol protocol) {
  return protocol == Protocol::http_2 ? "HTTP/2" : protocol == Protocol::http_1_1 ? "HTTP/1.1" : "HTTP/1.0";
}

class Responder {
 public:
  // ---- who asked ----
  virtual const std::string& client_ip() const = 0;  // of the peer, numeric; "" if unknown
  virtual const std::optional<net::IpAddress>& peer() const = 0;
  virtual Protocol protocol() const = 0;
  virtual net::TlsInfo tls() const = 0;  // of its connection; empty: a plain one
  virtual size_t listener() const = 0;   // by which the connection came: its number in the Server
  // Counts the client of this request, whom its peer names, until the request has been answered.
  virtual ClientTicket& client_ticket() = 0;

  // ---- the answer ----
  virtual bool takes_chunks() const = 0;
  // `piece`: of the body, if there is one already.
  [[nodiscard]] virtual Sent begin(const AnswerHead& head, std::string_view piece) = 0;
  [[nodiscard]] virtual Sent send(std::string_view piece) = 0;
  // Bytes of our own between two pieces, in a body that is chunked (between two whole chunks) or open.
  [[nodiscard]] virtual Sent insert(std::string_view bytes) = 0;
  // The body is complete. `trailers`: lines as of http::Fields and an empty one, for a body that is open; in a chunked
  // one they are among the pieces. "": there are none.
  [[nodiscard]] virtual Sent end(std::string_view trailers) = 0;
  virtual bool starved() const = 0;  // Sent::lost: the memory budget had no room
  // Bytes given that the client's socket has not accepted. After on_gone() and abandon(): those that were lost.
  virtual uint64_t unsent() const = 0;

  // For a request that asks for a WebSocket (http::asks_for_websocket()), instead of begin(): answers with this head of
  // a 101 and leaves HTTP. Null: that is not possible (the client has gone, or the memory budget has no room), and
  // abandon() must follow. Otherwise it is the handler's last use of the Responder.
  [[nodiscard]] virtual ClientTunnel* switch_protocols(const AnswerHead&) { return nullptr; }

  virtual void finish() = 0;   // the answer is complete
  virtual void abort() = 0;    // it is not, and the client must be able to tell
  virtual void abandon() = 0;  // nothing more can be sent

 protected:
  ~Responder() = default;
};

}  // namespace penstock::downstream
