// Outbound HTTP/1.1: connections to endpoints, kept alive in one pool per shard and endpoint, with one request at a
// time on each. A request's bytes are borrowed, never copied: they are sent directly from the caller's memory. Answers
// are delivered twice: decoded (to be observed) and raw (to be relayed byte for byte). Thread: its loop's. The control
// thread has a client of its own for scrapes and probes.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "penstock/base/intrusive_list.h"
#include "penstock/http/parser.h"
#include "penstock/net/event_loop.h"
#include "penstock/net/stream.h"

namespace penstock::upstream {

class Client;
class EndpointTunnel;  // endpoint_tunnel.h

// Why an attempt did not bring a complete answer.
enum class Failure : uint8_t {
  connect_refused,
  connect_timeout,
  connect_failed,
  tls_failed,  // the handshake: by its name, by its certificate, or it speaks no TLS
  no_socket,   // not the endpoint's fault: the process has no descriptor left
  reset,       // connection reset or another socket error
  closed,      // EOF before the answer was complete
  first_byte_timeout,
  idle_timeout,
  bad_response,  // not HTTP, or framing that the parser refuses
};

// Where to connect. `key` names the pool (an endpoint's slot); `incarnation` tells endpoints that used the same slot
// apart: idle connections of an older one are dropped.
struct Target {
  uint32_t key = 0;
  uint32_t incarnation = 0;
  net::Address address;
  // Counts the open connections; may be null. A connection's last access is its decrement, with release order: a thread
  // that reads zero with acquire order may free the counter.
  std::atomic<int64_t>* open_connections = nullptr;
  // TLS: the name that the endpoint's certificate must have if the context names none; "": its IP address. It lives as
  // long as open_connections. Null: a plain connection.
  const std::string* tls_name = nullptr;
  // Which context that is: see set_trust(). Likewise. Null, "": that of set_tls().
  const std::string* tls_trust = nullptr;
};

struct Request {
  http::Method method = http::Method::get;
  std::array<std::string_view, 4> pieces;  // head and body, in order; valid until the attempt has ended
  Duration connect_timeout = seconds(1), first_byte_timeout{0}, chunk_idle_timeout{0};  // 0: none
  bool fresh = false;    // do not use a pooled connection
  bool upgrade = false;  // it asks for another protocol: only then may the answer be a 101
};

// Receives one answer. on_response_end or on_response_failed is the last call. cancel() may be called from inside any
// of these; a sink may start its next request from on_response_end and on_response_failed.
class ResponseSink {
 public:
  virtual void on_connected() {}  // connected: the request is being sent
  // Valid during the call. If the status is 101, the sink calls switch_protocols() or cancel() before it returns.
  virtual void on_response_head(http::Head& head) = 0;
  virtual void on_response_data(std::string_view decoded) = 0;  // body without chunk framing
  // The same bytes as on the wire, including framing, and including trailers except those that end at this hop.
  virtual void on_response_raw(std::string_view raw) = 0;
  // `trailers`: lines as of http::Fields, and an empty one behind them; "": there are none. Raw pieces had them, too.
  virtual void on_response_end(std::string_view trailers) = 0;
  // `received`: bytes of this answer had arrived. `reused`: the connection came from the pool; if nothing was received,
  // the endpoint has probably closed it while it was idle.
  virtual void on_response_failed(Failure failure, bool received, bool reused) = 0;

 protected:
  ~ResponseSink() = default;
};

struct ConnectionTag {};

// One connection. Callers hold it as the handle of their attempt.
class Connection final : public net::SocketEvents,
                         public net::Disposable,
                         private net::Flushable,
                         public ListNode<ConnectionTag> {
 public:
  Connection(Client& client, const Target& target);
  ~Connection() override;

  // ---- for the sink of the current attempt ----
  void cancel();  // the answer is not wanted any more: resets the connection at once
  void pause();   // back-pressure: stop reading the answer
  void resume();
  // In on_response_head(), of a 101: the connection leaves HTTP and goes on as the tunnel that is returned. What the
  // endpoint has sent behind the head goes to it when on_response_head() has returned. The last use of this.
  EndpointTunnel& switch_protocols(net::BlockPool& pool);
  // From the next piece on the answer may pause for so long at most, or as before if that is shorter. 0: as before.
  void limit_pauses(Duration most);
  void delay_acks();  // until the end of the answer, which comes in many small pieces (Ring::delay_acks())
  bool reused() const { return reused_; }
  bool request_sent() const { return sent_piece_ == request_.pieces.size(); }
  // The answer, or the part of it that arrived before it broke, ends after a complete chunk.
  bool between_chunks() const { return phase_ == Phase::closed ? cut_between_chunks_ : codec_.parser.between_chunks(); }
  // In on_response_raw(): the answer is complete, and these are its last bytes.
  bool ends_here() const { return message_ended_; }
  // In on_response_data() and on_response_raw(), for a sink that must withhold some of the raw bytes: see http::Parser.
  const char* chunk_begin() const { return codec_.parser.chunk_begin(); }
  std::string_view raw_until(const char* end) const { return codec_.parser.raw_until(end); }
  // When the last bytes of the answer arrived, or reading was resumed; later than any time while it is paused.
  Instant heard_at() const { return paused_ ? Instant::max() : heard_at_; }

 private:
  friend class Client;
  enum class Phase : uint8_t { connecting, idle, exchange, closed };

  struct Codec final : http::ParserEvents {
    explicit Codec(Connection& owner);
    void on_head(http::Head& head) override;
    void on_body(std::string_view bytes) override;
    void on_trailers(std::string_view section) override;
    void on_message_end(bool keep_alive) override;
    Connection& owner;
    http::Parser parser;
  };

  void begin(const Request& request, ResponseSink& sink, bool reused);
  void on_connected() override;
  void on_bytes(std::span<char> bytes) override;
  void on_eof() override;
  void on_writable() override;
  void on_error(int error) override;
  void on_deadline();

  bool connect();
  void flush() override;
  void send_soon();
  void send_request();
  void receive(std::string_view bytes);
  void complete();
  void fail(Failure failure);
  void end(bool reset);
  void arm_head();
  void arm_chunk_idle();
  void wait_for(Duration time);
  void wait_until(Instant due);
  void cancel_deadline();

  Client& client_;
  net::Stream stream_;
  Codec codec_;
  ResponseSink* sink_ = nullptr;
  net::Timer deadline_;
  Instant due_{};            // when the wait is over; zero: no wait. The timer fires at this time or earlier
  Instant heard_at_{};       // see heard_at()
  Instant head_deadline_{};  // when the head of the answer must be complete; zero: no limit
  Target target_;
  Request request_;
  size_t sent_piece_ = 0, sent_in_piece_ = 0;  // how far request_.pieces has gone out
  Phase phase_ = Phase::connecting;
  bool reused_ = false, received_ = false, paused_ = false;
  bool send_blocked_ = false, send_broken_ = false;
  bool awaits_descriptor_ = false;  // connect() failed for lack of a descriptor, and will be tried once more
  bool head_ended_ = false, message_ended_ = false, keep_alive_ = false, cut_between_chunks_ = false;
  bool acks_delayed_ = false;
  EndpointTunnel* tunnel_ = nullptr;  // what this has become
  std::string trailers_;              // trailers of the answer that may be relayed; usually ""
};

struct ClientOptions {
  Duration idle_timeout = seconds(4);  // below uvicorn's keep-alive of 5 s
  size_t idle_max = 1024;              // idle connections kept per endpoint
  http::ParserLimits parser;
};

struct ClientStats {
  Counter opened, reused, refused, idle_closed;
  Gauge connections, idle;
};

class Client {
 public:
  Client(net::EventLoop& loop, const ClientOptions& options);
  ~Client();

  // Starts an attempt. Never calls the sink before it returns.
  Connection& start(const Target& target, const Request& request, ResponseSink& sink);
  // Closes idle connections to this endpoint (it is gone or draining).
  void drop_idle(uint32_t key);
  void drop_all_idle();
  void set_options(const ClientOptions& options) { options_ = options; }
  // How to speak TLS with the targets that want it; needed before the first of them. Idle connections of another
  // context close: it may have trusted others.
  void set_tls(net::TlsRuntime& runtime, std::shared_ptr<const net::TlsClientContext> context);
  // The same for targets of this tls_trust; a null context: none, so that nobody can connect to them.
  void set_trust(net::TlsRuntime& runtime, const std::string& trust,
                 std::shared_ptr<const net::TlsClientContext> context);

  net::EventLoop& loop() { return loop_; }
  const ClientOptions& options() const { return options_; }
  const ClientStats& stats() const { return stats_; }
  void tunnel_closed() { stats_.connections.add(-1); }  // for EndpointTunnel
  // Why the last handshake failed; to be asked in the call that reports Failure::tls_failed.
  const std::string& tls_failure() const { return tls_failure_; }

 private:
  friend class Connection;
  struct IdleList {
    IntrusiveList<Connection, ConnectionTag> connections;
    size_t count = 0;
  };
  Connection* take_idle(const Target& target);
  // Nothing: there is no context for the target.
  std::optional<net::TlsConnect> tls_for(const Target& target);
  void tls_failed(const Target& target, std::string_view why);
  void keep(Connection& connection);
  void forget(Connection& connection);

  net::EventLoop& loop_;
  ClientOptions options_;
  ClientStats stats_;
  std::unordered_map<uint32_t, IdleList> idle_;
  net::TlsRuntime* tls_runtime_ = nullptr;
  std::shared_ptr<const net::TlsClientContext> tls_context_;
  std::unordered_map<std::string, std::shared_ptr<const net::TlsClientContext>> trusts_;
  struct Session {
    uint32_t incarnation;
    std::shared_ptr<net::TlsSession> session;
  };
  std::unordered_map<uint32_t, Session> sessions_;  // by Target::key
  std::string tls_failure_;
  Instant tls_warned_at_{};  // of handshakes that fail: once a second is enough
  IntrusiveList<Connection, ConnectionTag> busy_;
};

}  // namespace penstock::upstream
