// An HTTP/2 connection of a client: the session of nghttp2, its streams, and what keeps a client from asking too much.
// It begins where an HTTP/1 connection has read the first line of the preface, and goes on with that one's socket.
//
// Input is handled as it comes; frames are made once, at the end of the turn (send_later()), in the order in which
// nghttp2 gives streams their turns, and only as long as the socket takes them: what waits stays in the streams' own
// queues. Streams are destroyed outside of the session's events (notice(), reap()).
// Thread: its loop's. Lifetime: owned by its Server, as a Connection.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "allowance.h"
#include "http2_memory.h"
#include "http2_session.h"
#include "http2_stream.h"
#include "penstock/downstream/client_connection.h"
#include "penstock/downstream/connection.h"
#include "penstock/downstream/pace.h"

namespace penstock::downstream {

class Http2Connection final : public ClientConnection, private Http2Events {
 public:
  explicit Http2Connection(ClientConnection& from);
  ~Http2Connection() override;
  // The first bytes of the client.
  void begin(std::string_view line, std::string_view rest);

  // ---- for the Server ----
  bool idle() const override { return phase_ == Phase::open && streams_.empty() && queued() == 0; }
  Instant idle_since() const override { return idle_since_; }
  bool asks_nothing() const override;
  void close_when_idle() override;
  void announce_end() override;
  void cut() override;
  void evict() override;
  void crowded_out() override;

  // ---- for its streams ----
  Http2Session& session() { return session_; }
  Service& service() { return server_.service(); }
  const ServerOptions& options() const { return server_.options(); }
  net::BlockPool& pool() { return server_.pool(); }
  net::TlsInfo tls() const { return stream().tls_info(); }
  void send_later();
  bool may_send_now() const { return !inside_ && !blocked() && phase_ == Phase::open; }
  void send_now();
  void notice(Http2Stream& stream);  // reap() has something to do for it
  void answer_begins();
  size_t waiting() const { return waiting_; }  // bytes, in the queues of all streams
  void took_in(size_t bytes) { waiting_ += bytes; }
  void gave_up(size_t bytes) { waiting_ -= bytes; }

 private:
  // lingering: GOAWAY and FIN are sent; input is discarded until the client closes.
  enum class Phase : uint8_t { open, lingering, closed };

  // SocketEvents, net::Connection
  void on_bytes(std::span<char> bytes) override;
  void on_eof() override;
  void on_error(int error) override;
  void on_drained() override {}
  void on_blocked() override { watch_writing(); }
  void on_flushed() override;
  // Http2Events
  bool on_frame(Http2Frame kind) override;
  Http2Stream& on_head_begin(int32_t id) override;
  void on_field(std::string_view name, std::string_view value) override;
  void on_head_end(Http2Stream& stream, bool ends_request) override;
  void on_trailers_begin(Http2Stream&) override { trailer_bytes_ = 0; }
  void on_trailers_end(Http2Stream& stream) override;
  void on_data(Http2Stream& stream, std::string_view bytes) override { stream.take_body(bytes); }
  void on_data_end(Http2Stream& stream) override { stream.request_ends(); }
  bool on_refused() override;
  void on_bad_fields(Http2Stream& stream) override;
  bool on_reset(Http2Stream& stream) override;
  void on_answer_sent(Http2Stream& stream) override { stream.answer_sent(); }
  void on_closed(Http2Stream& stream) override;
  bool takes_more() const override { return !blocked(); }
  bool write_frame(std::span<const iovec> pieces) override;
  Available available(Http2Stream& stream) override { return stream.available(); }
  bool write_data(Http2Stream& stream, std::string_view frame_header, size_t bytes) override;

  void receive(std::string_view bytes);
  bool spend(Allowance& allowance, const char* limit);
  void watch_head();
  void forget_head();
  void refuse_head(const RequestFailure& failure);
  void pump();
  void reap();
  void settle();
  void remove(Http2Stream& stream);
  void drop_all(Gone why);
  void fail(Http2Error code);
  void goodbye();
  void linger();
  void die(Gone why);
  void leave();
  uint64_t delivered();
  void watch_writing();
  void check_reading();
  void on_deadline();
  void on_head_deadline();

  Http2Memory memory_;
  Http2Session session_;
  IntrusiveList<Http2Stream, StreamTag> streams_;
  IntrusiveList<Http2Stream, NoticeTag> notices_;
  http::RequestFields fields_;   // of the head that is arriving
  Http2Stream* head_ = nullptr;  // whose that is
  size_t trailer_bytes_ = 0;
  size_t waiting_ = 0;
  uint64_t sent_or_queued_ = 0;
  size_t discarded_ = 0;  // bytes discarded while lingering
  Allowance resets_, frames_;
  const char* limit_ = nullptr;  // the one that the client has passed
  Pace pace_;
  // deadline_: of silence between requests, of a drain, of lingering.
  net::Timer deadline_, head_deadline_, write_deadline_;
  Instant idle_since_;
  Phase phase_ = Phase::open;
  bool inside_ = false;   // an event of the session is on the stack
  bool pending_ = false;  // pump() will come
  bool broken_ = false;   // something could not be written
  bool noticed_ = false;  // the client was asked to send no new requests
  bool draining_ = false;
  bool going_ = false;  // the last GOAWAY is submitted: it ends with its last stream
};

}  // namespace penstock::downstream
