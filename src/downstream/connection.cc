#include "penstock/downstream/connection.h"

#include <algorithm>
#include <charconv>

#include "penstock/base/assert.h"
#include "penstock/base/text.h"
#include "penstock/downstream/client_tunnel.h"
#include "penstock/http/websocket.h"
#include "penstock/http/writer.h"

namespace penstock::downstream {

using http::ParseError;

namespace {
// A client that sent FIN may be gone, or may only have finished sending. Only sending bytes can tell: a host whose
// socket is closed answers them with RST. A client that still listens ignores an interim response (RFC 9110,
// section 15.2).
constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";

// How heads count in the memory budget. A complete head of up to kHeadFree bytes does not count, because the number of
// requests is limited. A larger one counts kHeadCopies times: as received, as forwarded, and as sent. An incomplete
// head counts head_growth times. A request whose body is incomplete also counts its exchange.
constexpr size_t kHeadFree = 2 * 1024, kHeadCopies = 3, kExchange = 4 * 1024;
}  // namespace

Connection::Codec::Codec(Connection& connection, const http::ParserLimits& limits)
    : owner(connection), parser(http::Parser::Kind::request, *this, limits) {}

Connection::Connection(Server& server, int fd, ClientTable* counted_in, size_t listener, const net::TlsAccept* tls)
    : ClientConnection(server, net::IpAddress::of(net::Address::peer_of(fd)), counted_in, listener),
      codec_(*this, server.options().parser),
      deadline_(net::Timer::of<&Connection::on_deadline>(this)),
      stash_(server.pool()),
      idle_since_(server.loop().now()) {
  net::Connection::adopt(fd, tls);
  loop().arm(deadline_, server_.options().idle_timeout);
}

Connection::~Connection() {
  PENSTOCK_ASSERT(handler_ == nullptr);
  let_go();
}

bool Connection::can_keep_alive() const {
  return can_take_another() && !server_.parting_;
}

bool Connection::can_take_another() const {
  // After FIN, complete requests may still be waiting in the stash.
  return request_keep_alive_ && request_complete_ && !may_switch_ && (!half_closed_ || !stash_.empty());
}

// ---- bytes in ----

bool Connection::reads_on() const {
  return phase_ == Phase::idle || phase_ == Phase::head || (phase_ == Phase::exchange && !request_complete_);
}

void Connection::on_bytes(std::span<char> bytes) {
  const std::string_view view(bytes.data(), bytes.size());
  if (reads_on()) {
    const size_t used = stash_.empty() ? consume(view) : 0;
    if (used < view.size() && phase_ == Phase::exchange) stash(view.substr(used));
  } else if (phase_ == Phase::exchange) {
    stash(view);
  } else if (phase_ == Phase::lingering) {
    discarded_ += view.size();
    if (discarded_ > server_.options().linger_bytes_max) leave();
  }
}

// Feeds the parser until a request is complete whose answer is not. If the answer is finished from inside an event, the
// loop continues with the next request. Returns the number of bytes used.
size_t Connection::consume(std::string_view bytes) {
  PENSTOCK_ASSERT(!consuming_);
  consuming_ = true;
  ParseError error = ParseError::none;
  size_t used = 0;
  while (used < bytes.size() && error == ParseError::none && reads_on()) {
    const bool begins = phase_ == Phase::idle;
    if (begins) phase_ = Phase::head;
    const auto fed = codec_.parser.feed(bytes.substr(used));
    used += fed.consumed;
    error = fed.error;
    // Most heads arrive in one read, so the timer is changed only for those that do not.
    if (begins && phase_ == Phase::head) loop().arm(deadline_, server_.options().header_timeout);
  }
  consuming_ = false;
  if (phase_ == Phase::closed || phase_ == Phase::lingering) {
    forget_input();
  } else if (error != ParseError::none) {
    if (begins_http2()) speak_http2(bytes.substr(used));
    else request_failed({.error = error});
  } else if (reads_on() && !hold_input()) {
    if (phase_ != Phase::closed && phase_ != Phase::lingering) request_failed({.no_memory = true});
  } else if (phase_ == Phase::exchange && !request_complete_) {
    watch_body(used);
  }
  return used;
}

// Neither a pause nor a low rate is tolerated for ever while a body arrives.
void Connection::watch_body(size_t arrived) {
  const ServerOptions& options = server_.options();
  const Instant now = loop().now();
  const Instant pause = options.body_timeout < Instant::max() - now ? now + options.body_timeout : Instant::max();
  loop().arm_at(deadline_, std::min(pause, pace_.credit(arrived, now, options)));
}

// Keeps bytes that follow a complete request until its answer is finished. Reading pauses meanwhile.
void Connection::stash(std::string_view bytes) {
  pause_recv();
  if ((!request_keep_alive_ && !may_switch_) || stash_.append(bytes)) return;
  // Part of them would be useless. The client sees the connection end after the answer, and may send them again.
  request_keep_alive_ = may_switch_ = false;
  stash_.clear();
  server_.service().on_pipeline_dropped();
}

// The parser reads directly from the stash. If the connection ends meanwhile, forget_input() leaves the stash alone,
// and consume() clears it afterwards.
void Connection::consume_stash() {
  while (!stash_.empty() && reads_on()) {
    iovec front;
    stash_.pieces(&front, 1);
    const size_t used = consume({static_cast<const char*>(front.iov_base), front.iov_len});
    if (stash_.empty() || used == 0) break;
    stash_.consume(used);
  }
  if (!stash_.empty()) return;
  resume_recv();
  if (half_closed_ && reads_on()) nothing_more_comes();
}

bool Connection::hold_head() {
  const size_t bytes = codec_.parser.held_bytes();
  return bytes <= kHeadFree || hold(bytes * kHeadCopies);
}

// An incomplete request counts from its first byte, because beginning one costs a peer nothing.
bool Connection::hold_input() {
  const size_t bytes = codec_.parser.held_bytes();
  if (phase_ == Phase::exchange) return hold(bytes * kHeadCopies + kExchange);
  return (phase_ == Phase::idle || hold_unfinished(bytes * head_growth)) && hold(bytes * head_growth);
}

// Also the one that asks for room may be the oldest.
void Connection::crowded_out() {
  PENSTOCK_ASSERT(phase_ == Phase::head);
  server_.service().on_limit("incomplete_heads");
  request_failed({.crowded_out = true});
}

bool Connection::hold(size_t wanted) {
  if (wanted <= held_) return true;
  if (!server_.pool().budget().try_take_first(wanted - held_)) return false;
  held_ = wanted;
  return true;
}

// Drops all input of a connection that accepts no more requests. While consume() is running it does so itself.
void Connection::forget_input() {
  if (consuming_) return;
  codec_.parser.reset();
  stash_.clear();
  let_go();
}

void Connection::let_go() {
  finish_head();
  if (held_ > 0) server_.pool().budget().give_back(held_);
  held_ = 0;
}

void Connection::Codec::on_head(http::Head& head) {
  owner.phase_ = Phase::exchange;
  owner.request_complete_ = false;
  owner.response_begun_ = false;
  owner.minor_version_ = head.minor_version;
  owner.request_keep_alive_ = head.keep_alive;
  owner.may_switch_ = head.upgrade && http::asks_for_websocket(head);
  owner.deadline_.cancel();
  owner.pace_.rest();
  owner.finish_head();
  ++owner.requests_;
  if (!owner.hold_head()) return owner.request_failed({.no_memory = true});
  const bool wants_continue = head.expects_continue && head.minor_version >= 1;
  RequestHandler* handler = owner.server_.service().on_request(owner, head);
  if (owner.phase_ != Phase::exchange || handler == nullptr) return;  // answered already
  owner.handler_ = handler;
  if (wants_continue && !owner.write(kContinue)) owner.gone(Gone::reset);
}

void Connection::Codec::on_body(std::string_view bytes) {
  if (owner.handler_ != nullptr) owner.handler_->on_body(bytes);
}

void Connection::Codec::on_message_end(bool keep_alive) {
  if (owner.phase_ != Phase::exchange || owner.handler_ == nullptr) return;
  owner.request_complete_ = true;
  owner.request_keep_alive_ = owner.request_keep_alive_ && keep_alive;
  owner.deadline_.cancel();
  owner.pace_.rest();
  owner.handler_->on_request_end();
}

// Its preface is, to HTTP/1, a request of an unknown version. A client that has agreed on HTTP/2 by ALPN and sends
// something else is told so in HTTP/2.
bool Connection::begins_http2() const {
  if (requests_ > 0 || !server_.options().http2.enabled) return false;
  return codec_.parser.refused_http2() || stream().tls_info().alpn == "h2";
}

void Connection::speak_http2(std::string_view rest) {
  const std::string_view read = codec_.parser.refused_http2() ? http::Parser::http2_line : "?";
  phase_ = Phase::closed;
  forget_input();
  deadline_.cancel();
  server_.speak_http2(*this, read, rest);
}

void Connection::request_failed(const RequestFailure& failure) {
  request_keep_alive_ = false;
  deadline_.cancel();
  if (handler_ != nullptr) return handler_->on_request_failed(failure);
  phase_ = Phase::exchange;
  response_begun_ = false;
  RequestFailure bad_head = failure;
  bad_head.head_request = codec_.parser.asks_for_head();
  server_.service().on_bad_head(*this, bad_head);
  if (phase_ == Phase::exchange) linger();
}

// ---- the answer ----

namespace {

iovec piece_of(std::string_view bytes) {
  return {const_cast<char*>(bytes.data()), bytes.size()};
}

// "1f40\r\n"
class ChunkSize {
 public:
  explicit ChunkSize(size_t bytes) : end_(std::to_chars(text_, text_ + 16, bytes, 16).ptr) {
    *end_++ = '\r';
    *end_++ = '\n';
  }
  std::string_view text() const { return {text_, static_cast<size_t>(end_ - text_)}; }

 private:
  char text_[18];
  char* end_;
};

}  // namespace

// An answer whose length nobody knows ends with the connection if the client cannot read chunks.
Sent Connection::begin(const AnswerHead& head, std::string_view piece) {
  form_ = head.form;
  const bool until_close = form_ == BodyForm::open && !takes_chunks();
  keeps_alive_ = can_keep_alive() && !until_close;
  const bool chunked = form_ == BodyForm::chunked || (form_ == BodyForm::open && takes_chunks());
  const bool wraps = form_ == BodyForm::open && chunked && !piece.empty();
  std::string& text = server_.scratch_;
  text.clear();
  http::HeadWriter(text).status_line(head.status, head.reason);
  append_all(text, head.fields.lines(), chunked ? std::string_view("transfer-encoding: chunked\r\n") : "",
             !keeps_alive_         ? std::string_view("connection: close\r\n")
             : minor_version_ == 0 ? std::string_view("connection: keep-alive\r\n")
                                   : "",
             "\r\n", wraps ? ChunkSize(piece.size()).text() : std::string_view());
  const iovec pieces[] = {piece_of(text), piece_of(piece), piece_of("\r\n")};
  const size_t count = piece.empty() ? 1 : wraps ? 3 : 2;
  return sent(send_raw({pieces, count}));
}

Sent Connection::send(std::string_view piece) {
  if (form_ == BodyForm::open && takes_chunks()) return insert(piece);
  return sent(send_raw(piece));
}

Sent Connection::insert(std::string_view bytes) {
  if (!takes_chunks()) return sent(send_raw(bytes));
  if (bytes.empty()) return sent(true);  // an empty chunk would end the answer
  const ChunkSize size(bytes.size());
  const iovec pieces[] = {piece_of(size.text()), piece_of(bytes), piece_of("\r\n")};
  return sent(send_raw(pieces));
}

Sent Connection::end(std::string_view trailers) {
  if (form_ != BodyForm::open || !takes_chunks()) return sent(true);
  if (trailers.empty()) return sent(send_raw("0\r\n\r\n"));
  const iovec last[] = {piece_of("0\r\n"), piece_of(trailers)};
  return sent(send_raw(last));
}

// What was queued for the client before, and what it has sent early, goes along.
ClientTunnel* Connection::switch_protocols(const AnswerHead& head) {
  if (!may_switch_ || !request_complete_ || half_closed_ || phase_ != Phase::exchange) return nullptr;
  std::string& text = server_.scratch_;
  text.clear();
  http::HeadWriter(text).status_line(head.status, head.reason);
  append_all(text, head.fields.lines(), "connection: upgrade\r\nupgrade: websocket\r\n\r\n");
  if (!send_raw(text)) return nullptr;
  handler_ = nullptr;
  phase_ = Phase::closed;
  deadline_.cancel();
  auto* const tunnel = new ClientTunnel(*this, stash_, forwarded_client_);
  forget_input();
  server_.replace(*this, *tunnel);
  return tunnel;
}

void Connection::finish() {
  finish_response(keeps_alive_ ? After::keep_alive : After::close);
}

// Where the end of the connection marks the end of the answer, only a reset shows that the answer is incomplete.
void Connection::abort() {
  finish_response(form_ == BodyForm::open && !takes_chunks() ? After::reset : After::close);
}

bool Connection::send_raw(std::span<const iovec> pieces) {
  const uint64_t before = sent_or_queued_, waiting = queued();
  for (const iovec& piece : pieces) sent_or_queued_ += piece.iov_len;
  response_begun_ = true;
  if (!write(pieces)) {
    lost_ = waiting + (sent_or_queued_ - before);
    return false;
  }
  if (blocked()) watch_writing();
  return true;
}

bool Connection::send_raw(std::string_view bytes) {
  const iovec piece = piece_of(bytes);
  return send_raw({&piece, 1});
}

uint64_t Connection::delivered() {
  return sent_or_queued_ - queued() - std::min<uint64_t>(sent_or_queued_ - queued(), stream().unsent());
}

void Connection::watch_writing() {
  if (deadline_.armed()) return;
  pace_.begin_reading(delivered(), loop().now(), server_.options());
  arm_reading();
}

// Bytes wait for a client: looks now and then whether it takes them, and fast enough.
void Connection::arm_reading() {
  loop().arm_at(deadline_, pace_.next_check(loop().now(), server_.options()));
}

void Connection::check_reading() {
  switch (pace_.check_reading(delivered(), loop().now(), server_.options())) {
    case Pace::Reading::fine:
      return arm_reading();
    case Pace::Reading::stalled:
      return gone(Gone::write_timeout);
    case Pace::Reading::too_slow:
      server_.service().on_limit("client_min_rate");
      return gone(Gone::too_slow);
  }
}

void Connection::finish_response(After after) {
  PENSTOCK_ASSERT(phase_ == Phase::exchange);
  handler_ = nullptr;
  forwarded_client_.release();
  if (after == After::reset) return reset_when_sent();
  // An answer sent before a drain may have promised keep-alive: that promise is kept.
  if (after == After::close || !can_take_another() || !server_.waits_for_more()) return linger();
  next_request();
}

void Connection::next_request() {
  phase_ = Phase::idle;
  request_complete_ = false;
  idle_since_ = loop().now();
  if (queued() == 0 || server_.draining_) await_request();
  else if (!blocked()) deadline_.cancel();  // the rest is sent at the turn's end: on_flushed() or on_blocked() follows
  let_go();
  if (!consuming_) consume_stash();  // otherwise consume() is on the stack and continues by itself
}

// Only once the last answer has been sent completely: until then watch_writing() uses the timer.
void Connection::await_request() {
  const ServerOptions& options = server_.options();
  loop().arm(deadline_, server_.draining_ ? options.parting_silence : options.idle_timeout);
}

// The last answer of this connection is written. FIN follows it. Then input is discarded for a while, because closing a
// socket with unread bytes sends RST, which can destroy the answer before the client has read it (RFC 9112,
// section 9.6).
void Connection::linger() {
  phase_ = Phase::lingering;
  forget_input();
  deadline_.cancel();
  if (half_closed_ && queued() == 0) return leave();
  finish_sending();
  if (recv_paused()) resume_recv();
  if (queued() > 0) return watch_writing();
  loop().arm(deadline_, server_.linger_time());
}

void Connection::abandon() {
  handler_ = nullptr;
  reset();
  leave();
}

void Connection::reset_when_sent() {
  if (queued() == 0) return abandon();
  phase_ = Phase::lingering;
  resets_ = true;
  forget_input();
  deadline_.cancel();
  watch_writing();
}

void Connection::reset() {
  lost_ = std::max<uint64_t>(lost_, queued());
  close(/*reset=*/true);
}

void Connection::on_blocked() {
  watch_writing();
}

void Connection::on_flushed() {
  if (phase_ == Phase::idle) return await_request();
  if (phase_ != Phase::lingering) return;
  if (resets_) return abandon();
  if (half_closed_) return leave();
  loop().arm(deadline_, server_.linger_time());
}

void Connection::on_drained() {
  if (handler_ != nullptr) handler_->on_drained();
}

// ---- the ends ----

void Connection::on_deadline() {
  if (phase_ == Phase::idle && server_.draining_) return was_silent();
  if (queued() > 0 && (phase_ != Phase::exchange || request_complete_)) return check_reading();
  switch (phase_) {
    case Phase::idle:
    case Phase::lingering:
      return leave();
    case Phase::head:
      return request_failed({.timed_out = true});
    case Phase::exchange:
      break;
    case Phase::closed:
      return;
  }
  if (!request_complete_) {
    if (loop().now() >= pace_.deadline()) server_.service().on_limit("client_min_rate");
    return request_failed({.timed_out = true});
  }
  if ((half_closed_ || hung_up_) && !response_begun_ && minor_version_ >= 1 && !write(kContinue)) gone(Gone::closed);
}

void Connection::on_eof() {
  half_closed_ = true;
  if (phase_ == Phase::lingering && queued() > 0) return;  // the rest of the answer still has to be sent
  if (phase_ != Phase::exchange) return nothing_more_comes();
  if (!request_complete_) return gone(Gone::closed);
  if (!response_begun_) probe();
}

// The client may have pipelined requests and finished sending, or it may be gone. This is probed as after on_eof().
void Connection::on_hang_up() {
  hung_up_ = true;
  if (phase_ == Phase::exchange && request_complete_ && !response_begun_) probe();
}

// A client that has not yet read an earlier answer gets the time for that first.
void Connection::probe() {
  queued() > 0 ? watch_writing() : loop().arm(deadline_, server_.options().half_close_probe);
}

// After the client's FIN: a request that is not complete never will be.
void Connection::nothing_more_comes() {
  if (phase_ == Phase::exchange && !request_complete_) return gone(Gone::closed);
  if (phase_ != Phase::exchange && phase_ != Phase::closed) linger();  // an answer may still have to be sent
}

void Connection::on_error(int) {
  gone(half_closed_ ? Gone::closed : Gone::reset);
}

void Connection::announce_end() {
  if (handler_ != nullptr) handler_->on_ending();
}

void Connection::cut() {
  gone(Gone::cut);
}

// If an answer has begun, the connection is reset: a client for which the end of the connection marks the end of the
// answer must not take it for complete.
void Connection::gone(Gone why) {
  RequestHandler* handler = handler_;
  handler_ = nullptr;
  if (handler != nullptr && response_begun_) reset();
  leave();
  if (handler != nullptr) handler->on_gone(why);
}

// The client may just be sending its next request. If the connection closed at once, the client would see an error that
// it cannot always retry automatically (RFC 9112, section 9.3.1).
void Connection::close_when_idle() {
  const Duration silence = server_.options().parting_silence;
  if (phase_ == Phase::head) return loop().arm(deadline_, silence);
  if (phase_ == Phase::lingering && queued() == 0) return loop().arm(deadline_, server_.linger_time());
  if (phase_ != Phase::idle) return;
  const Duration left = idle_since_ + silence - loop().now();
  left > Duration::zero() ? loop().arm(deadline_, left) : was_silent();
}

void Connection::evict() {
  PENSTOCK_ASSERT(idle());
  leave();
}

void Connection::was_silent() {
  queued() > 0 ? linger() : leave();
}

void Connection::leave() {
  if (phase_ == Phase::closed) return;
  lost_ = std::max<uint64_t>(lost_, queued());
  phase_ = Phase::closed;
  forget_input();
  finish_head();
  deadline_.cancel();
  close(/*reset=*/queued() > 0);
  leave_count();
  forwarded_client_.release();
  server_.remove(*this);
}

}  // namespace penstock::downstream
