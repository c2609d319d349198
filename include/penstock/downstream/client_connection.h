// What a Server knows of a client's connection, whatever protocol that speaks: who the client is, where the connection
// stands, and how to end it. Thread: its loop's. Lifetime: owned by its Server, which destroys it at the end of the
// turn in which it closed.
#pragma once

#include <optional>
#include <string>

#include "penstock/base/intrusive_list.h"
#include "penstock/downstream/client_table.h"
#include "penstock/net/connection.h"
#include "penstock/net/ip.h"

namespace penstock::downstream {

class Server;

struct ConnectionTag {};
struct UnfinishedTag {};

class ClientConnection : public net::Connection,
                         public net::Disposable,
                         public ListNode<ConnectionTag>,
                         public ListNode<UnfinishedTag> {
 public:
  // `counted_in`: the table that counts it as a connection of its peer; null: none does. `listener`: the number of the
  // one that accepted it.
  ClientConnection(Server& server, const std::optional<net::IpAddress>& peer, ClientTable* counted_in, size_t listener);
  // Goes on with the connection of `from`: its socket, its listener, and its place in the count of its peer.
  explicit ClientConnection(ClientConnection& from);

  const std::string& peer_ip() const { return peer_ip_; }  // numeric; "" if unknown
  const std::optional<net::IpAddress>& peer_address() const { return peer_; }
  size_t accepted_by() const { return listener_; }

  // No request is unanswered, none has begun, and all answers have been sent.
  virtual bool idle() const = 0;
  virtual Instant idle_since() const = 0;  // when it was accepted, or its last answer was written
  // No complete request has come since then: it is idle, or its head or body is unfinished.
  virtual bool asks_nothing() const = 0;
  virtual void close_when_idle() = 0;  // drain: ends after its next answer, or after parting_silence without a request
  virtual void announce_end() = 0;     // end of the drain: calls RequestHandler::on_ending()
  virtual void cut() = 0;              // a turn later: calls on_gone(cut) and closes
  virtual void evict() = 0;            // only while idle()
  virtual void crowded_out() = 0;      // its unfinished head must make room for others

 protected:
  ~ClientConnection() = default;
  // A head that did not arrive at once holds so many bytes of ServerOptions::unfinished_heads. False: there is no room,
  // and this is the oldest of them, so that it has been crowded out.
  bool hold_unfinished(size_t wanted);
  void finish_head();
  void leave_count();  // the connection has closed, or goes on elsewhere

  Server& server_;

 private:
  size_t unfinished_ = 0;
  std::string peer_ip_;
  std::optional<net::IpAddress> peer_;
  ClientTable* counted_in_;
  size_t listener_;
};

}  // namespace penstock::downstream
