// One request of an HTTP/2 connection, and the Responder of its answer. What is given to it waits in a queue of its own
// until the end of the turn, when the connection makes frames of it as far as the client's windows allow.
// Thread: its connection's. Lifetime: owned by its connection, which destroys it when both sides have ended it.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "http2_session.h"
#include "penstock/base/intrusive_list.h"
#include "penstock/downstream/connection.h"
#include "penstock/downstream/pace.h"
#include "penstock/http/request_fields.h"
#include "penstock/net/buffer.h"

namespace penstock::downstream {

class Http2Connection;

struct StreamTag {};
struct NoticeTag {};

class Http2Stream final : public Responder, public ListNode<StreamTag>, public ListNode<NoticeTag> {
 public:
  Http2Stream(Http2Connection& connection, int32_t id);
  ~Http2Stream();

  // ---- Responder ----
  const std::string& client_ip() const override;
  const std::optional<net::IpAddress>& peer() const override;
  Protocol protocol() const override { return Protocol::http_2; }
  size_t listener() const override;
  net::TlsInfo tls() const override;
  ClientTicket& client_ticket() override { return forwarded_client_; }
  bool takes_chunks() const override { return false; }
  [[nodiscard]] Sent begin(const AnswerHead& head, std::string_view piece) override;
  [[nodiscard]] Sent send(std::string_view piece) override { return give(piece); }
  [[nodiscard]] Sent insert(std::string_view bytes) override { return give(bytes); }
  [[nodiscard]] Sent end(std::string_view trailers) override;
  bool starved() const override { return starved_; }
  uint64_t unsent() const override { return lost_ + waiting(); }
  void finish() override;
  void abort() override;
  void abandon() override;

  // ---- for the connection ----
  int32_t id() const { return id_; }
  void ask(bool complete);  // the head is there; `complete`: there is no body
  void refuse_head(const RequestFailure& failure);
  void break_rules(const RequestFailure& failure);  // the session resets it because of its head
  void take_body(std::string_view bytes);
  void request_ends();
  void fail_request(const RequestFailure& failure);
  // Takes so much of the memory budget as the request needs. False: there is no room.
  bool hold(size_t bytes);

  Http2Events::Available available();  // if that is nothing, the session is told when there is more
  // Up to `most` pieces that hold the next `bytes` of what waits; returns how many.
  size_t pieces(iovec* out, size_t most, size_t bytes) const;
  void wrote(size_t bytes);
  void answer_sent();  // with END_STREAM

  void closed() { closed_ = true; }
  bool is_closed() const { return closed_; }
  bool reset_by_us() const { return reset_ && !faulty_; }
  bool working() const { return handler_ != nullptr; }
  bool request_complete() const { return request_complete_; }
  void tell_drained();
  void announce_end();
  void gone(Gone why);  // the client, or its interest in this

  http::RequestHead head;

 private:
  size_t waiting() const { return queue_.size() + direct_.size(); }
  Sent give(std::string_view bytes);
  bool keep(std::string_view bytes);
  size_t mark() const;
  void on_deadline();
  void watch_body(size_t arrived);
  void watch_reading();
  void check_reading();
  void reset(Http2Error code);
  void leave();  // the handler's last use

  Http2Connection& connection_;
  RequestHandler* handler_ = nullptr;
  net::OutQueue queue_;
  std::string_view direct_;  // behind the queue, inside give() alone: bytes that need not be copied if they go at once
  uint64_t wrote_ = 0, lost_ = 0;
  Pace pace_;
  net::Timer deadline_;
  ClientTicket forwarded_client_;
  size_t held_ = 0;
  std::unique_ptr<http::Fields> trailers_;  // only for some answers
  const int32_t id_;
  bool request_complete_ = false;
  bool begun_ = false;    // the answer
  bool ended_ = false;    // nothing more is given
  bool aborted_ = false;  // a reset follows what waits
  bool asked_ = false;    // for more than there was: the session must be told of it
  bool congested_ = false, starved_ = false;
  bool done_ = false;   // the handler has had its last use of this
  bool reset_ = false;  // by us, or, if it is faulty, by the session
  bool faulty_ = false;
  bool closed_ = false;  // nothing more comes or goes
};

}  // namespace penstock::downstream
