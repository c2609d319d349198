#include <algorithm>
#include <cerrno>
#include <utility>

#include "penstock/base/assert.h"
#include "penstock/net/connection.h"
#include "penstock/upstream/client.h"
#include "penstock/upstream/endpoint_tunnel.h"

namespace penstock::upstream {

namespace {
// How long to wait for an answer after sending the request has failed.
constexpr Duration kReadAfterBrokenSend = milliseconds(5);
// How long to wait for the descriptors of closed idle connections: the ring needs a turn to cancel their operations.
constexpr Duration kDescriptorWait = milliseconds(2);
constexpr size_t kSinkLines = 6;  // cache lines that an exchange needs for a piece of its answer
}  // namespace

Connection::Codec::Codec(Connection& connection)
    : owner(connection), parser(http::Parser::Kind::response, *this, connection.client_.options().parser) {}

Connection::Connection(Client& client, const Target& target)
    : client_(client),
      stream_(client.loop()),
      codec_(*this),
      deadline_(net::Timer::of<&Connection::on_deadline>(this)),
      target_(target) {
  client_.stats_.opened.add();
  client_.stats_.connections.add(1);
  if (target_.open_connections != nullptr) target_.open_connections->fetch_add(1, std::memory_order_relaxed);
}

Connection::~Connection() {
  PENSTOCK_ASSERT(phase_ == Phase::closed);
}

void Connection::begin(const Request& request, ResponseSink& sink, bool reused) {
  request_ = request;
  sink_ = &sink;
  reused_ = reused;
  received_ = head_ended_ = message_ended_ = keep_alive_ = send_blocked_ = send_broken_ = false;
  sent_piece_ = sent_in_piece_ = 0;
  trailers_.clear();
  head_deadline_ = {};
  codec_.parser.expect_response_to(request.method);
  // The sink is not called before the next turn, so that the caller of start() has its handle by then.
  if (reused) {
    due_ = {};  // no longer idle
    phase_ = Phase::exchange;
    return send_soon();
  }
  if (connect()) return;
  // No descriptor is left. Close the idle connections and try again when the ring has released their descriptors.
  client_.drop_all_idle();
  awaits_descriptor_ = true;
  wait_for(kDescriptorWait);
}

// False: there is no descriptor left.
bool Connection::connect() {
  if (target_.tls_name == nullptr) {
    if (stream_.connect(target_.address, *this) != 0) return false;
  } else {
    const std::optional<net::TlsConnect> tls = client_.tls_for(target_);
    if (!tls) {  // nobody has said whom to trust: on_deadline() tells the sink
      wait_for(Duration{1});
      return true;
    }
    if (stream_.connect(target_.address, *this, &*tls) != 0) return false;
  }
  if (request_.connect_timeout > Duration{0}) wait_for(request_.connect_timeout);
  return true;
}

void Connection::on_connected() {
  phase_ = Phase::exchange;
  cancel_deadline();
  sink_->on_connected();
  if (phase_ == Phase::exchange) send_soon();
}

// ---- the request out ----

// A large request is sent at once: it has just been read, and would have left the CPU's cache by the end of the turn.
void Connection::send_soon() {
  size_t size = 0;
  for (const std::string_view piece : request_.pieces) size += piece.size();
  if (size > net::Connection::gather_max) return send_request();
  client_.loop().flush_later(*this);
}

void Connection::flush() {
  if (phase_ == Phase::exchange && !send_blocked_ && !send_broken_) send_request();
}

void Connection::send_request() {
  while (sent_piece_ < request_.pieces.size()) {
    iovec pieces[4];
    size_t count = 0;
    for (size_t i = sent_piece_; i < request_.pieces.size(); ++i) {
      std::string_view piece = request_.pieces[i];
      if (i == sent_piece_) piece.remove_prefix(sent_in_piece_);
      if (!piece.empty()) pieces[count++] = {const_cast<char*>(piece.data()), piece.size()};
    }
    if (count == 0) break;
    const ssize_t sent = stream_.send({pieces, count});
    if (sent < 0) {
      // The endpoint may have answered (413, for example) before it closed, so wait for its answer.
      send_broken_ = true;
      return wait_for(kReadAfterBrokenSend);
    }
    size_t left = static_cast<size_t>(sent);
    while (sent_piece_ < request_.pieces.size() && left >= request_.pieces[sent_piece_].size() - sent_in_piece_) {
      left -= request_.pieces[sent_piece_].size() - sent_in_piece_;
      sent_in_piece_ = 0;
      ++sent_piece_;
    }
    sent_in_piece_ += left;
    if (sent_piece_ < request_.pieces.size()) {
      send_blocked_ = true;  // on_writable goes on
      if (!received_ && request_.first_byte_timeout > Duration{0}) {
        wait_for(request_.first_byte_timeout);  // begins anew with each piece that the endpoint accepts
      }
      return;
    }
  }
  send_blocked_ = false;
  if (request_.first_byte_timeout > Duration{0} && !head_ended_) arm_head();
}

void Connection::on_writable() {
  if (phase_ == Phase::exchange && send_blocked_ && !send_broken_) send_request();
}

// ---- the answer in ----

void Connection::on_bytes(std::span<char> bytes) {
  if (phase_ != Phase::exchange) return end(/*reset=*/true);  // bytes without a request
  received_ = true;
  heard_at_ = client_.loop().now();
  // Prefetch the sink, as the ring has prefetched this connection.
  for (size_t line = 0; line < kSinkLines; ++line) __builtin_prefetch(reinterpret_cast<const char*>(sink_) + line * 64);
  receive({bytes.data(), bytes.size()});
}

void Connection::receive(std::string_view bytes) {
  while (!bytes.empty() && phase_ == Phase::exchange) {
    const auto fed = codec_.parser.feed(bytes);
    const std::string_view raw = bytes.substr(fed.head_bytes, fed.consumed - fed.head_bytes - fed.trailer_bytes);
    bytes.remove_prefix(fed.consumed);
    if (tunnel_ != nullptr) return tunnel_->take(bytes);
    if (!raw.empty() && phase_ == Phase::exchange) sink_->on_response_raw(raw);
    if (!trailers_.empty() && phase_ == Phase::exchange) sink_->on_response_raw(trailers_);
    if (phase_ != Phase::exchange) return;
    if (fed.error != http::ParseError::none) return fail(Failure::bad_response);
    if (message_ended_) {
      keep_alive_ = keep_alive_ && bytes.empty();  // a peer that sends bytes after its answer gets no other request
      return complete();
    }
  }
  if (phase_ == Phase::exchange && !paused_) arm_chunk_idle();
}

void Connection::Codec::on_head(http::Head& head) {
  const bool unasked = !owner.request_.upgrade || !owner.request_sent();
  if (head.status == 101 && unasked) return owner.fail(Failure::bad_response);
  owner.head_ended_ = true;
  owner.head_deadline_ = {};
  owner.sink_->on_response_head(head);
  if (owner.phase_ != Phase::exchange) return;
  // A chunked answer is usually a long stream, so free the memory of its head. If Connection names fields, the head is
  // still needed to find them in the trailers.
  if (head.chunked && !head.connection_names_fields()) owner.codec_.parser.drop_head();
}

void Connection::Codec::on_body(std::string_view bytes) {
  if (owner.phase_ == Phase::exchange) owner.sink_->on_response_data(bytes);
}

void Connection::Codec::on_trailers(std::string_view section) {
  owner.trailers_ = section;
}

void Connection::Codec::on_message_end(bool keep_alive) {
  owner.message_ended_ = true;
  owner.keep_alive_ = keep_alive;
}

void Connection::complete() {
  ResponseSink& sink = *sink_;
  sink_ = nullptr;
  const std::string trailers = std::move(trailers_);  // of the next answer there may be others
  if (!keep_alive_ || !request_sent()) {
    end(/*reset=*/false);
  } else {
    codec_.parser.reset();
    if (paused_) resume();
    if (std::exchange(acks_delayed_, false)) stream_.delay_acks(false);
    phase_ = Phase::idle;
    client_.keep(*this);
    wait_for(client_.options().idle_timeout);
  }
  sink.on_response_end(trailers);
}

void Connection::on_eof() {
  if (phase_ != Phase::exchange) return end(/*reset=*/false);
  cut_between_chunks_ = codec_.parser.between_chunks();  // afterwards the parser knows only that it failed
  const http::ParseError error = codec_.parser.finish();
  if (phase_ != Phase::exchange) return;
  if (error != http::ParseError::none || !message_ended_) return fail(Failure::closed);
  keep_alive_ = false;
  complete();
}

void Connection::on_error(int error) {
  if (phase_ == Phase::idle) return end(/*reset=*/false);
  if (phase_ == Phase::exchange && error == ECONNABORTED) {  // TLS: it ended, perhaps before its end (net::Stream)
    cut_between_chunks_ = codec_.parser.between_chunks();
    return fail(Failure::closed);
  }
  if (phase_ == Phase::exchange) return fail(Failure::reset);
  if (!stream_.failure().empty()) {
    client_.tls_failed(target_, stream_.failure());
    return fail(error == ETIMEDOUT ? Failure::connect_timeout : Failure::tls_failed);
  }
  fail(error == ECONNREFUSED ? Failure::connect_refused : Failure::connect_failed);
}

void Connection::on_deadline() {
  if (due_ == Instant{}) return;
  if (due_ > client_.loop().now()) return client_.loop().arm_at(deadline_, due_);
  if (phase_ == Phase::idle) return end(/*reset=*/false);
  if (phase_ == Phase::connecting && !stream_.open()) {
    if (std::exchange(awaits_descriptor_, false) && connect()) return;
    const bool trusts_nobody = target_.tls_name != nullptr && !client_.tls_for(target_);
    if (!trusts_nobody) return fail(Failure::no_socket);
    client_.tls_failed(target_, "nothing says which authorities to trust for this endpoint");
    return fail(Failure::tls_failed);
  }
  if (phase_ == Phase::connecting) return fail(Failure::connect_timeout);
  if (send_broken_) return fail(Failure::reset);
  const bool head_late = !received_ || (head_deadline_ != Instant{} && head_deadline_ <= client_.loop().now());
  fail(head_late ? Failure::first_byte_timeout : Failure::idle_timeout);
}

// The request is sent: starts the limit for the complete head. If part of the head has arrived, pauses are limited too.
void Connection::arm_head() {
  head_deadline_ = client_.loop().now() + request_.first_byte_timeout;
  if (received_) arm_chunk_idle();
  else wait_until(head_deadline_);
}

void Connection::arm_chunk_idle() {
  const bool idle = request_.chunk_idle_timeout > Duration{0}, head = head_deadline_ != Instant{};
  if (!idle && !head) return cancel_deadline();
  const Instant due = idle ? client_.loop().now() + request_.chunk_idle_timeout : head_deadline_;
  wait_until(head ? std::min(due, head_deadline_) : due);
}

void Connection::wait_for(Duration time) {
  const Instant now = client_.loop().now();
  wait_until(time < Instant::max() - now ? now + time : Instant::max());
}

// The deadline moves with each request and each chunk, but an armed timer that fires earlier is left alone: moving it
// would touch its neighbours in the timer wheel, which belong to other connections. If it fires too early, it is armed
// again.
void Connection::wait_until(Instant due) {
  due_ = due;
  if (!deadline_.armed() || deadline_.deadline() > due) client_.loop().arm_at(deadline_, due);
}

void Connection::cancel_deadline() {
  due_ = {};
  deadline_.cancel();
}

void Connection::pause() {
  if (paused_ || phase_ != Phase::exchange) return;
  paused_ = true;
  cancel_deadline();  // a slow client must not time out the endpoint
  stream_.pause_recv();
}

void Connection::resume() {
  if (!paused_ || phase_ == Phase::closed) return;
  paused_ = false;
  heard_at_ = client_.loop().now();
  stream_.resume_recv();
  arm_chunk_idle();
}

void Connection::limit_pauses(Duration most) {
  Duration& limit = request_.chunk_idle_timeout;
  if (most > Duration{0} && (limit == Duration{0} || most < limit)) limit = most;
}

void Connection::delay_acks() {
  if (acks_delayed_ || message_ended_ || phase_ != Phase::exchange) return;
  acks_delayed_ = true;
  stream_.delay_acks(true);
}

// The endpoint's answer is over, and so is HTTP: there is no way back.
EndpointTunnel& Connection::switch_protocols(net::BlockPool& pool) {
  PENSTOCK_ASSERT(phase_ == Phase::exchange && head_ended_ && request_sent());
  sink_ = nullptr;
  cancel_deadline();
  tunnel_ = new EndpointTunnel(client_, target_, stream_, pool);
  client_.forget(*this);
  phase_ = Phase::closed;
  return *tunnel_;
}

// ---- the ends ----

void Connection::cancel() {
  sink_ = nullptr;
  end(/*reset=*/true);
}

void Connection::fail(Failure failure) {
  ResponseSink* sink = sink_;
  sink_ = nullptr;
  if (failure == Failure::connect_refused) client_.stats_.refused.add();
  if (failure != Failure::closed) cut_between_chunks_ = codec_.parser.between_chunks();
  end(/*reset=*/true);
  if (sink != nullptr) sink->on_response_failed(failure, received_, reused_);
}

void Connection::end(bool reset) {
  if (phase_ == Phase::closed) return;
  cancel_deadline();
  stream_.close(reset);
  client_.stats_.connections.add(-1);
  if (target_.open_connections != nullptr) target_.open_connections->fetch_sub(1, std::memory_order_release);
  client_.forget(*this);  // while the phase still says in which list this is
  phase_ = Phase::closed;
}

}  // namespace penstock::upstream
