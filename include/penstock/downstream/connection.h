// Inbound HTTP/1.x: one connection of a client, one request at a time. It parses heads and bodies, keeps the order of
// pipelined requests, enforces the client-side timeouts, and gives the handler of the current request a way to write
// its answer with back-pressure. It knows nothing of endpoints: the proxy, the admin pages and penstock-sim all sit
// on it. Thread: its loop's. Lifetime: owned by its Server, which destroys it at the end of the turn in which it
// closed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "penstock/base/intrusive_list.h"
#include "penstock/http/parser.h"
#include "penstock/net/connection.h"

namespace penstock::downstream {

class Connection;
class Server;

// Why a request cannot be read. `timed_out`: the client was too slow (408); `no_memory`: the budget does not let its
// head be held (503); else `error` says what is wrong with it.
struct RequestFailure {
  http::ParseError error = http::ParseError::none;
  bool timed_out = false;
  bool no_memory = false;
};

// Why the client is gone.
enum class Gone : uint8_t {
  closed,         // FIN in the middle of its request, or FIN followed by RST
  reset,          // RST or another socket error
  write_timeout,  // took no byte for timeouts.client_write
  cut,            // we end it: drain limit or shutdown
};

// Answers one request. Calls come in this order: on_body*, then on_request_end or on_request_failed, then on_drained*.
// on_gone may come at any point and is then the last. After finish_response() or abandon() nothing comes any more.
class RequestHandler {
 public:
  virtual void on_body(std::string_view bytes) = 0;                   // valid during the call
  virtual void on_request_end() = 0;                                  // the request is complete
  virtual void on_request_failed(const RequestFailure& failure) = 0;  // answer it and finish_response(close)
  virtual void on_drained() = 0;                                      // congested() is over
  virtual void on_gone(Gone why) = 0;                                 // the connection is closed
  // The process ends: cut() follows in the next turn, and now is the time for a last word. Default: nothing.
  virtual void on_ending() {}

 protected:
  ~RequestHandler() = default;
};

// Makes handlers. One per Server.
class Service {
 public:
  // A head is complete; it stays valid until the request ends. Returns who answers; nullptr when the answer was already
  // written and finish_response() called.
  virtual RequestHandler* on_request(Connection& connection, http::Head& head) = 0;
  // The head itself could not be read. Writes an answer (or nothing); the connection then closes.
  virtual void on_bad_head(Connection& connection, const RequestFailure& failure) = 0;
  virtual void on_connections_changed(int delta) { (void)delta; }
  // The budget does not let pipelined bytes be held: they are dropped, and the connection ends after its answer.
  virtual void on_pipeline_dropped() {}

 protected:
  ~Service() = default;
};

enum class After : uint8_t { keep_alive, close };

struct ConnectionTag {};

class Connection final : public net::Connection, public net::Disposable, public ListNode<ConnectionTag> {
 public:
  Connection(Server& server, int fd);
  ~Connection() override;

  // ---- for the handler of the current request ----
  // Sends or queues a piece of the answer. False: the client cannot be written to any more (dead, or the memory budget
  // refused): the handler must call abandon(). congested(), from net::Connection, says when to pause the source.
  [[nodiscard]] bool send(std::span<const iovec> pieces);
  [[nodiscard]] bool send(std::string_view bytes);
  // Whether this connection can serve another request after this one: what the answer's Connection field must say
  // (keep-alive needs to be written out for HTTP/1.0 clients).
  bool can_keep_alive() const;
  uint8_t client_minor_version() const { return minor_version_; }
  // The request has been read completely.
  bool request_complete() const { return request_complete_; }
  // The answer is complete. With `close`, or when the request was not read to its end, the connection ends once
  // everything has been sent. Must be the handler's last use of the connection.
  void finish_response(After after);
  // Ends the connection at once (RST): the answer cannot be completed and the client must notice.
  void abandon();
  const std::string& client_ip() const { return client_ip_; }  // numeric; "" when the kernel did not say
  uint64_t requests() const { return requests_; }              // begun on this connection
  bool busy() const { return phase_ == Phase::exchange; }

  // ---- for the Server ----
  void close_when_idle();  // drain: ends once silent for ServerOptions::parting_silence, or after its next answer
  void announce_end();     // end of drain: on_ending()
  void cut();              // a turn later: on_gone(cut) and close

 private:
  // idle: between requests. head: some bytes of a head. exchange: head complete, answer not finished.
  // lingering: answer sent, FIN sent, discarding what the client still sends so that it can read our answer.
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

  bool reads_on() const;  // bytes of a request can be used now
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
  void was_silent();              // for as long as a drain allows
  bool can_take_another() const;  // request, the state of the Server aside
  void gone(Gone why);
  void end();  // closes the socket; the Server disposes of this
  void watch_writing();
  void probe();  // whether a client that sends no more still listens
  uint64_t flushed() const { return sent_or_queued_ - queued(); }

  Server& server_;
  Codec codec_;
  RequestHandler* handler_ = nullptr;
  // One timer; what it means follows from the phase: see on_deadline().
  net::Timer deadline_;
  net::OutQueue stash_;  // pipelined bytes that wait for the current answer
  size_t held_ = 0;      // taken from the budget for the head of the current request
  std::string client_ip_;
  uint64_t requests_ = 0;
  uint64_t sent_or_queued_ = 0, flushed_at_check_ = 0;  // for the write timeout: progress since the last look
  size_t discarded_ = 0;                                // bytes thrown away while lingering
  Instant idle_since_;                                  // when it was accepted or its last answer was written
  Phase phase_ = Phase::idle;
  uint8_t minor_version_ = 1;
  bool request_complete_ = false;  // of the current exchange
  bool request_keep_alive_ = false;
  bool response_begun_ = false;
  bool half_closed_ = false;  // the client sent FIN
  bool hung_up_ = false;      // and so it did here, but there are bytes to be read before
  bool consuming_ = false;    // true exactly while consume() is on the stack
};

struct ServerOptions {
  http::ParserLimits parser;
  Duration header_timeout = seconds(30), body_timeout = seconds(60), idle_timeout = seconds(600),
           write_timeout = seconds(60);
  Duration linger_timeout = seconds(5);  // how long input is discarded after a refused request
  // Drain: a connection that was promised to be kept is given this long to send the request that may be on its way.
  Duration parting_silence = seconds(1);
  size_t linger_bytes_max = 128 * 1024 * 1024;
  Duration half_close_probe = milliseconds(50);  // how long after a FIN an unanswered client is probed
};

// Accepts connections on one loop and owns them.
class Server final : public net::AcceptEvents {
 public:
  // Decides who gets a new connection. Returns true when it took the descriptor (handed to another shard or refused).
  using Placement = std::function<bool(int fd)>;

  Server(net::EventLoop& loop, net::BlockPool& pool, Service& service, const ServerOptions& options);
  ~Server();

  Result<net::Address> listen(const net::Address& at, bool reuse_port);
  void set_placement(Placement placement) { placement_ = std::move(placement); }
  // Called for every adopted connection when it has closed.
  void set_departure(std::function<void()> departure) { departure_ = std::move(departure); }
  void adopt(int fd);  // a connection that was accepted here or elsewhere
  void stop_listening();
  void announce_drain();  // answers begun from now on say `Connection: close`; nothing else changes
  void drain();           // connections end after their next answer, or after parting_silence without a request
  // The process ends: first what is left is told, and a turn later cut.
  void announce_end();
  void cut_all();
  size_t connections() const { return count_; }

  net::EventLoop& loop() { return loop_; }
  net::BlockPool& pool() { return pool_; }
  Service& service() { return service_; }
  const ServerOptions& options() const { return options_; }
  void set_options(const ServerOptions& options) { options_ = options; }

 private:
  friend class Connection;
  void on_accept(int fd) override;
  void on_accept_error(int error) override;
  void remove(Connection& connection);
  bool waits_for_more() const;  // requests on connections that were promised to be kept
  Duration linger_time() const;

  net::EventLoop& loop_;
  net::BlockPool& pool_;
  Service& service_;
  ServerOptions options_;
  Placement placement_;
  std::function<void()> departure_;
  net::SocketId listener_;
  IntrusiveList<Connection, ConnectionTag> connections_;
  size_t count_ = 0;
  bool parting_ = false, draining_ = false;  // after announce_drain(), drain()
  Instant warned_at_{};                      // of accept errors: once a second is enough
};

}  // namespace penstock::downstream
