// Inbound HTTP/1.x: one connection of a client, one request at a time. It parses heads and bodies, keeps the order of
// pipelined requests, enforces the client-side timeouts, and lets the handler of the current request write its answer
// with back-pressure. It knows nothing about endpoints: the proxy, the admin pages and penstock-sim all use it. Thread:
// its loop's. Lifetime: owned by its Server, which destroys it at the end of the turn in which it closed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/base/intrusive_list.h"
#include "penstock/downstream/client_connection.h"
#include "penstock/downstream/client_table.h"
#include "penstock/downstream/pace.h"
#include "penstock/downstream/responder.h"
#include "penstock/downstream/server_options.h"
#include "penstock/http/parser.h"

namespace penstock::downstream {

class Connection;

// Why a request cannot be read. `timed_out`: the client was too slow (408). `no_memory`: the memory budget has no room
// for its head (503). `crowded_out`: unfinished heads hold as much as they may, and this one was the oldest (503).
// Otherwise `error` says what is wrong with it.
struct RequestFailure {
  http::ParseError error = http::ParseError::none;
  bool timed_out = false;
  bool no_memory = false;
  bool crowded_out = false;
  bool head_request = false;  // of a bad head: the answer has no body
};

// Why the client is gone.
enum class Gone : uint8_t {
  closed,         // FIN in the middle of its request, or FIN followed by RST
  reset,          // RST or another socket error
  write_timeout,  // accepted no byte for timeouts.client_write
  too_slow,       // read more slowly than limits.client_min_rate
  cut,            // the gateway ended it: drain limit or shutdown
};

// Answers one request. Calls come in this order: on_body*, then on_request_end or on_request_failed, then on_drained*.
// on_gone may come at any point and is then the last call. No call comes after the handler's last use of the responder.
class RequestHandler {
 public:
  virtual void on_body(std::string_view bytes) = 0;                   // valid during the call
  virtual void on_request_end() = 0;                                  // the request is complete
  virtual void on_request_failed(const RequestFailure& failure) = 0;  // answer it
  virtual void on_drained() = 0;                                      // Sent::congested is over
  virtual void on_gone(Gone why) = 0;                                 // the connection is closed
  // The process ends: the connection will be cut in the next turn, so a last answer must be sent now. Default: nothing.
  virtual void on_ending() {}

 protected:
  ~RequestHandler() = default;
};

// Makes handlers. One per Server.
class Service {
 public:
  // A head is complete; it stays valid until the request has been read. Returns the handler that answers it, or nullptr
  // if it was answered already. The client of a Server that speaks HTTP/1 alone is a Connection.
  virtual RequestHandler* on_request(Responder& client, http::Head& head) = 0;
  // The head itself could not be read. Begins an answer (or none); the connection then closes.
  virtual void on_bad_head(Responder& client, const RequestFailure& failure) = 0;
  virtual void on_connections_changed(int delta) { (void)delta; }
  // The memory budget has no room for pipelined bytes: they are dropped, and the connection ends after the current
  // answer.
  virtual void on_pipeline_dropped() {}
  // This limit (its metric label) has ended a request or a connection: "client_min_rate", "incomplete_heads", "memory",
  // "http2_streams", "http2_resets", "http2_idle_frames".
  virtual void on_limit(std::string_view limit) { (void)limit; }
  // An idle connection was closed to make room for a new one.
  virtual void on_idle_evicted() {}

 protected:
  ~Service() = default;
};

// reset: RST instead of FIN, for an answer that is not complete but whose end would be taken for a proper one.
enum class After : uint8_t { keep_alive, close, reset };

// An HTTP/1.x connection, and the Responder of its current request. Whoever speaks HTTP/1 alone (the admin port,
// penstock-sim) may also write its answer as it goes on the wire, with send_raw() and finish_response().
// The first base: a pointer to it is a pointer to all of it.
class Connection final : public Responder, public ClientConnection {
 public:
  // `tls`: null for a plain one.
  Connection(Server& server, int fd, ClientTable* counted_in, size_t listener, const net::TlsAccept* tls);
  ~Connection() override;

  // ---- Responder ----
  const std::string& client_ip() const override { return peer_ip(); }
  const std::optional<net::IpAddress>& peer() const override { return peer_address(); }
  Protocol protocol() const override { return minor_version_ == 0 ? Protocol::http_1_0 : Protocol::http_1_1; }
  size_t listener() const override { return accepted_by(); }
  net::TlsInfo tls() const override { return stream().tls_info(); }
  ClientTicket& client_ticket() override { return forwarded_client_; }
  bool takes_chunks() const override { return minor_version_ > 0; }
  [[nodiscard]] Sent begin(const AnswerHead& head, std::string_view piece) override;
  [[nodiscard]] Sent send(std::string_view piece) override;
  [[nodiscard]] Sent insert(std::string_view bytes) override;
  [[nodiscard]] Sent end(std::string_view trailers) override;
  bool starved() const override { return net::Connection::starved(); }
  uint64_t unsent() const override { return phase_ == Phase::closed ? lost_ : queued(); }
  [[nodiscard]] ClientTunnel* switch_protocols(const AnswerHead& head) override;
  void finish() override;
  void abort() override;
  void abandon() override;  // resets the connection at once

  // ---- for a handler that writes HTTP/1 itself ----
  // Sends or queues bytes. False: as Sent::lost. congested(), from net::Connection, tells when to pause the source.
  [[nodiscard]] bool send_raw(std::span<const iovec> pieces);
  [[nodiscard]] bool send_raw(std::string_view bytes);
  // Whether this connection can serve another request after this one. The answer's Connection field must say so:
  // `close` if not, and `keep-alive` explicitly for HTTP/1.0 clients.
  bool can_keep_alive() const;
  uint8_t client_minor_version() const { return minor_version_; }
  // The answer is complete. With `close`, or when the request was not read to its end, the connection ends once
  // everything has been sent. Must be the handler's last use of the connection.
  void finish_response(After after);
  uint64_t requests() const { return requests_; }  // begun on this connection
  bool busy() const { return phase_ == Phase::exchange; }

  // ---- for the Server ----
  Instant idle_since() const override { return idle_since_; }
  bool asks_nothing() const override { return phase_ == Phase::exchange ? !request_complete_ : queued() == 0; }
  void close_when_idle() override;
  void announce_end() override;
  void cut() override;
  bool idle() const override { return phase_ == Phase::idle && queued() == 0 && stash_.empty(); }
  void evict() override;
  void crowded_out() override;

 private:
  // idle: between requests. head: a head is incomplete. exchange: the head is complete, the answer is not.
  // lingering: the last answer and FIN are sent; input is discarded until the client has read the answer and closes.
  enum class Phase : uint8_t { idle, head, exchange, lingering, closed };

  struct Codec final : http::ParserEvents {
    explicit Codec(Connection& owner, const http::ParserLimits& limits);
    void on_head(http::Head& head) override;
    void on_body(std::string_view bytes) override;
    void on_message_end(bool keep_alive) override;
    Connection& owner;
    http::Parser parser;
  };

  using net::Connection::write;
  void on_bytes(std::span<char> bytes) override;
  void on_eof() override;
  void on_hang_up() override;
  void on_error(int error) override;
  void on_drained() override;
  void on_blocked() override;
  void on_flushed() override;
  void on_deadline();

  bool reads_on() const;  // bytes of a request are accepted now
  size_t consume(std::string_view bytes);
  void stash(std::string_view bytes);
  void consume_stash();
  bool hold_head();
  bool hold_input();
  bool hold(size_t wanted);
  void forget_input();
  void let_go();
  void request_failed(const RequestFailure& failure);
  void next_request();
  void await_request();
  void nothing_more_comes();
  void linger();
  void reset_when_sent();
  void was_silent();              // no request came for as long as a drain allows
  bool can_take_another() const;  // another request is possible, as far as this connection is concerned
  void gone(Gone why);
  void reset();
  void leave();  // closes the socket; the Server then destroys this
  Sent sent(bool taken) const { return !taken ? Sent::lost : congested() ? Sent::congested : Sent::ok; }
  void watch_body(size_t arrived);
  void watch_writing();
  void arm_reading();
  void check_reading();
  bool begins_http2() const;
  void speak_http2(std::string_view rest);
  void probe();  // finds out whether a client that has sent FIN still listens
  // Bytes that have reached the client's host, as far as the kernel tells.
  uint64_t delivered();

  Codec codec_;
  RequestHandler* handler_ = nullptr;
  // One timer for all timeouts; its meaning depends on the phase: see on_deadline().
  net::Timer deadline_;
  net::OutQueue stash_;  // pipelined bytes that wait for the current answer
  size_t held_ = 0;      // taken from the budget for the head of the current request
  ClientTicket forwarded_client_;
  uint64_t requests_ = 0;
  uint64_t sent_or_queued_ = 0, lost_ = 0;
  Pace pace_;             // while a body arrives, and while an answer waits for the client
  size_t discarded_ = 0;  // bytes discarded while lingering
  Instant idle_since_;
  Phase phase_ = Phase::idle;
  uint8_t minor_version_ = 1;
  bool request_complete_ = false;  // of the current exchange
  bool request_keep_alive_ = false;
  bool may_switch_ = false;  // the request asks for a WebSocket: what follows it is never taken for a request
  bool response_begun_ = false;
  BodyForm form_ = BodyForm::sized;  // of the answer that was begun
  bool keeps_alive_ = false;         // it said so
  bool half_closed_ = false;         // the client sent FIN
  bool resets_ = false;              // After::reset: when everything has been sent
  bool hung_up_ = false;             // the client sent FIN or is gone, but bytes before that are still unread
  bool consuming_ = false;           // true exactly while consume() is on the stack
};

// Accepts connections on one loop and owns them. It may listen at several addresses: its listeners, which are counted
// in the order of listen().
class Server final {
 public:
  // Decides where a new connection of a listener goes. Returns true if it took the descriptor (handed to another shard,
  // or refused).
  using Placement = std::function<bool(int fd, size_t listener)>;

  Server(net::EventLoop& loop, net::BlockPool& pool, Service& service, const ServerOptions& options);
  ~Server();

  // One more listener, plain until set_tls().
  Result<net::Address> listen(const net::Address& at, bool reuse_port);
  // From now on new connections of this listener speak TLS with this context. The runtime outlives the server.
  void set_tls(size_t listener, const net::TlsAccept& tls);
  bool secure(size_t listener) const { return listeners_.at(listener)->tls.context != nullptr; }
  void set_placement(Placement placement) { placement_ = std::move(placement); }
  // Called for every adopted connection when it has closed.
  void set_departure(std::function<void()> departure) { departure_ = std::move(departure); }
  // A connection that was accepted here or elsewhere, by the listener with this number.
  void adopt(int fd, ClientTable* counted_in = nullptr, size_t listener = 0);
  // Closes the connections that have waited longest for a request: one in 64 of all, at least one. False: none waits.
  // Looks at every connection, so it refuses to look again for a moment after it has found nothing.
  bool evict_idle();
  void stop_listening();
  void announce_drain();  // answers begun from now on say `Connection: close`; nothing else changes
  void drain();           // connections end after their next answer, or after parting_silence without a request
  // The process ends: announce_end() lets handlers send a last answer; a turn later cut_all() cuts all connections.
  void announce_end();
  void cut_all();
  size_t connections() const { return count_; }
  // Cuts the connection that has gone longest without a complete request, also in the middle of its head or body.
  // False: each is being answered. Looks at every connection: for few of them, such as those of the admin port.
  bool cut_longest_silent();

  net::EventLoop& loop() { return loop_; }
  net::BlockPool& pool() { return pool_; }
  Service& service() { return service_; }
  const ServerOptions& options() const { return options_; }
  void set_options(const ServerOptions& options) { options_ = for_timers(options); }

 private:
  friend class ClientConnection;
  friend class ClientTunnel;
  friend class Connection;
  friend class Http2Connection;
  struct Listener final : net::AcceptEvents {
    Listener(Server& owner, size_t own_number) : server(owner), number(own_number) {}
    void on_accept(int fd) override;
    void on_accept_error(int error) override { server.accept_failed(error); }
    Server& server;
    size_t number;
    net::SocketId socket;
    net::TlsAccept tls;  // no context: plain
  };
  void accept_failed(int error);
  void remove(ClientConnection& connection);
  void speak_http2(Connection& from, std::string_view line, std::string_view rest);
  void replace(ClientConnection& from, ClientConnection& by);
  bool make_room_for_head(ClientConnection& wanting, size_t bytes);
  bool waits_for_more() const;  // whether connections may still bring requests
  Duration linger_time() const;

  net::EventLoop& loop_;
  net::BlockPool& pool_;
  Service& service_;
  ServerOptions options_;
  Placement placement_;
  std::function<void()> departure_;
  std::vector<std::unique_ptr<Listener>> listeners_;
  IntrusiveList<ClientConnection, ConnectionTag> connections_;
  IntrusiveList<ClientConnection, UnfinishedTag> unfinished_;  // heads that did not arrive at once, oldest first
  size_t unfinished_bytes_ = 0;
  std::string scratch_;                  // for a connection that composes a head
  std::vector<ClientConnection*> idle_;  // scratch memory of evict_idle()
  Instant nothing_idle_until_{};
  size_t count_ = 0;
  bool parting_ = false, draining_ = false;  // after announce_drain(), drain()
  Instant warned_at_{};                      // of accept errors: once a second is enough
};

}  // namespace penstock::downstream
