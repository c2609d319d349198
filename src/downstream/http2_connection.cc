#include "http2_connection.h"

#include <algorithm>

#include "penstock/base/assert.h"

namespace penstock::downstream {

namespace {
// A frame that is part of a request or an answer excuses so many that are not: an update of the stream's window, one of
// the connection's, a PING to measure the path.
constexpr double kExcused = 4;
// Most pieces of a frame's content: blocks of a stream's queue, of 4 KiB at least but the first and the last.
constexpr size_t kPieces = 8;
}  // namespace

Http2Connection::Http2Connection(ClientConnection& from)
    : ClientConnection(from),
      memory_(pool().budget()),
      session_(*this, options().http2, options().parser.head_bytes_max, memory_),
      fields_(options().parser),
      resets_(options().http2.resets, loop().now()),
      frames_(options().http2.idle_frames, loop().now()),
      deadline_(net::Timer::of<&Http2Connection::on_deadline>(this)),
      head_deadline_(net::Timer::of<&Http2Connection::on_head_deadline>(this)),
      write_deadline_(net::Timer::of<&Http2Connection::check_reading>(this)),
      idle_since_(loop().now()) {
  loop().arm(deadline_, options().idle_timeout);
}

Http2Connection::~Http2Connection() {
  PENSTOCK_ASSERT(streams_.empty());
}

void Http2Connection::begin(std::string_view line, std::string_view rest) {
  if (!memory_.charge()) {
    service().on_limit("memory");
    return fail(Http2Error::enhance_your_calm);
  }
  receive(line);
  if (phase_ == Phase::open && !rest.empty()) receive(rest);
}

// ---- bytes in ----

void Http2Connection::on_bytes(std::span<char> bytes) {
  if (phase_ == Phase::open) return receive({bytes.data(), bytes.size()});
  discarded_ += bytes.size();
  if (phase_ == Phase::lingering && discarded_ > options().linger_bytes_max) leave();
}

void Http2Connection::receive(std::string_view bytes) {
  if (broken_) return;  // settle() ends it
  inside_ = true;
  const Http2Session::Received received = session_.receive(bytes);
  inside_ = false;
  reap();
  if (received == Http2Session::Received::calm && limit_ == nullptr) limit_ = "http2_idle_frames";
  if (phase_ != Phase::open) return;
  if (limit_ != nullptr) {
    service().on_limit(limit_);
    return fail(Http2Error::enhance_your_calm);
  }
  if (received == Http2Session::Received::broken && !memory_.starved()) return fail(Http2Error::protocol_error);
  watch_head();
  send_later();
}

// False: the client has passed the limit of this name.
bool Http2Connection::spend(Allowance& allowance, const char* limit) {
  if (allowance.take(loop().now())) return true;
  if (limit_ == nullptr) limit_ = limit;
  return false;
}

bool Http2Connection::on_frame(Http2Frame kind) {
  if (kind == Http2Frame::idle) return spend(frames_, "http2_idle_frames");
  frames_.add(kExcused);
  return true;
}

bool Http2Connection::on_refused() {
  service().on_limit("http2_streams");
  return spend(resets_, "http2_resets");
}

// Whoever breaks off requests for which an endpoint may be at work, or makes us do it, has a limited number of them.
bool Http2Connection::on_reset(Http2Stream& stream) {
  return stream.reset_by_us() || spend(resets_, "http2_resets");
}

// ---- heads ----

Http2Stream& Http2Connection::on_head_begin(int32_t id) {
  auto* const stream = new Http2Stream(*this, id);
  streams_.push_back(*stream);
  if (!draining_) deadline_.cancel();
  forget_head();
  head_ = stream;
  return *stream;
}

void Http2Connection::on_field(std::string_view name, std::string_view value) {
  if (head_ != nullptr) return fields_.add(name, value);
  trailer_bytes_ += name.size() + value.size();
}

void Http2Connection::on_head_end(Http2Stream& stream, bool ends_request) {
  if (head_ != &stream) return;  // it was refused before its end
  const bool head_request = fields_.asks_for_head();
  const http::ParseError error = fields_.finish(!ends_request, stream.head);
  forget_head();
  if (error == http::ParseError::none) return stream.ask(ends_request);
  spend(resets_, "http2_resets");
  stream.refuse_head({.error = error, .head_request = head_request});
}

// They are read for the sake of the framing alone, as those of HTTP/1.1 are.
void Http2Connection::on_trailers_end(Http2Stream& stream) {
  if (trailer_bytes_ <= options().parser.head_bytes_max) return stream.request_ends();
  stream.fail_request({.error = http::ParseError::head_too_large});
}

void Http2Connection::on_bad_fields(Http2Stream& stream) {
  const bool head_request = head_ == &stream && fields_.asks_for_head();
  if (head_ == &stream) forget_head();
  stream.break_rules({.error = http::ParseError::malformed, .head_request = head_request});
}

// A head that has not arrived completely counts from its first byte. Nothing else can arrive before its end.
void Http2Connection::watch_head() {
  if (phase_ != Phase::open || head_ == nullptr) return;
  if (!head_deadline_.armed()) loop().arm(head_deadline_, options().header_timeout);
  const size_t bytes = fields_.held_bytes() * head_growth;
  if (!hold_unfinished(bytes)) return;  // crowded_out() has answered it
  if (!head_->hold(bytes)) refuse_head({.no_memory = true});
}

void Http2Connection::forget_head() {
  head_ = nullptr;
  fields_.clear();
  finish_head();
  head_deadline_.cancel();
}

void Http2Connection::on_head_deadline() {
  refuse_head({.timed_out = true});
}

void Http2Connection::crowded_out() {
  service().on_limit("incomplete_heads");
  refuse_head({.crowded_out = true});
}

// Answers a head whose end has not come. The connection ends with the streams that it has.
void Http2Connection::refuse_head(const RequestFailure& failure) {
  Http2Stream* const stream = head_;
  PENSTOCK_ASSERT(stream != nullptr);
  RequestFailure bad_head = failure;
  bad_head.head_request = fields_.asks_for_head();
  forget_head();
  stream->refuse_head(bad_head);
  goodbye();
}

// ---- bytes out ----

void Http2Connection::send_later() {
  if (phase_ != Phase::open || pending_) return;
  pending_ = true;
  loop().defer([this] { pump(); });
}

void Http2Connection::pump() {
  pending_ = false;
  if (phase_ != Phase::open) return;
  send_now();
  reap();
  settle();
}

void Http2Connection::send_now() {
  if (broken_ || blocked()) return;
  inside_ = true;
  broken_ = !session_.send();
  inside_ = false;
  if (blocked()) watch_writing();
}

bool Http2Connection::write_frame(std::span<const iovec> pieces) {
  for (const iovec& piece : pieces) sent_or_queued_ += piece.iov_len;
  return write(pieces);
}

bool Http2Connection::write_data(Http2Stream& stream, std::string_view frame_header, size_t bytes) {
  iovec pieces[kPieces + 1];
  pieces[0] = {const_cast<char*>(frame_header.data()), frame_header.size()};
  const size_t count = 1 + (bytes == 0 ? 0 : stream.pieces(pieces + 1, kPieces, bytes));
  if (!write_frame({pieces, count})) return false;
  frames_.add(kExcused);
  stream.wrote(bytes);
  return true;
}

void Http2Connection::on_flushed() {
  write_deadline_.cancel();
  if (phase_ == Phase::open) return send_later();
  if (phase_ == Phase::lingering) loop().arm(deadline_, server_.linger_time());
}

void Http2Connection::answer_begins() {
  if (!server_.parting_ || noticed_) return;
  noticed_ = true;
  session_.announce_end();
}

// ---- the client reads ----

uint64_t Http2Connection::delivered() {
  return sent_or_queued_ - std::min<uint64_t>(sent_or_queued_, queued() + stream().unsent());
}

void Http2Connection::watch_writing() {
  if (write_deadline_.armed()) return;
  pace_.begin_reading(delivered(), loop().now(), options());
  loop().arm_at(write_deadline_, pace_.next_check(loop().now(), options()));
}

void Http2Connection::check_reading() {
  if (queued() == 0) return;
  switch (pace_.check_reading(delivered(), loop().now(), options())) {
    case Pace::Reading::fine:
      return loop().arm_at(write_deadline_, pace_.next_check(loop().now(), options()));
    case Pace::Reading::stalled:
      return die(Gone::write_timeout);
    case Pace::Reading::too_slow:
      service().on_limit("client_min_rate");
      return die(Gone::too_slow);
  }
}

// ---- streams end ----

void Http2Connection::notice(Http2Stream& stream) {
  if (!stream.ListNode<NoticeTag>::linked()) notices_.push_back(stream);
}

void Http2Connection::on_closed(Http2Stream& stream) {
  if (head_ == &stream) forget_head();
  stream.closed();
  notice(stream);
}

// Also what a handler does meanwhile may leave something to do.
void Http2Connection::reap() {
  while (Http2Stream* const stream = notices_.pop_front()) {
    if (!stream->is_closed()) {
      stream->tell_drained();
      continue;
    }
    stream->gone(Gone::reset);
    remove(*stream);
  }
}

void Http2Connection::remove(Http2Stream& stream) {
  stream.ListNode<StreamTag>::unlink();
  delete &stream;
  if (!streams_.empty() || phase_ != Phase::open) return;
  idle_since_ = loop().now();
  if (!draining_) loop().arm(deadline_, noticed_ ? options().parting_silence : options().idle_timeout);
}

// Without a word to the client.
void Http2Connection::drop_all(Gone why) {
  forget_head();
  while (!streams_.empty()) {
    Http2Stream& stream = streams_.front();
    session_.forget(stream.id());
    stream.closed();
    stream.gone(why);
    remove(stream);
  }
}

// ---- the ends ----

// What a turn has left of the connection.
void Http2Connection::settle() {
  if (phase_ != Phase::open) return;
  if (memory_.starved()) {  // something that was to be sent may be missing
    service().on_limit("memory");
    return die(Gone::reset);
  }
  if (broken_) return die(Gone::reset);
  if (limit_ != nullptr && !going_) {
    service().on_limit(limit_);
    return fail(Http2Error::enhance_your_calm);
  }
  if (!session_.alive()) drop_all(Gone::reset);
  if ((going_ && streams_.empty() && !session_.wants_to_send()) || !session_.alive()) linger();
}

void Http2Connection::fail(Http2Error code) {
  if (phase_ != Phase::open) return;
  drop_all(Gone::reset);
  session_.terminate(code);
  going_ = true;
  send_later();
}

// No more requests; it ends with its last stream.
void Http2Connection::goodbye() {
  if (going_ || phase_ != Phase::open) return;
  going_ = true;
  session_.end_requests();
  send_later();
}

void Http2Connection::on_deadline() {
  if (phase_ == Phase::lingering) return leave();
  goodbye();
}

// A request may be on its way, which is taken or, behind the last GOAWAY, known not to be.
void Http2Connection::close_when_idle() {
  const Duration silence = options().parting_silence;
  if (phase_ == Phase::lingering && queued() == 0) return loop().arm(deadline_, server_.linger_time());
  if (phase_ != Phase::open) return;
  draining_ = true;
  if (!noticed_) session_.announce_end();
  noticed_ = true;
  send_later();
  const Duration left = streams_.empty() ? idle_since_ + silence - loop().now() : silence;
  left > Duration::zero() ? loop().arm(deadline_, left) : goodbye();
}

void Http2Connection::announce_end() {
  streams_.for_each([](Http2Stream& stream) { stream.announce_end(); });
}

bool Http2Connection::asks_nothing() const {
  bool nothing = queued() == 0;
  const_cast<Http2Connection*>(this)->streams_.for_each(
      [&](Http2Stream& stream) { nothing = nothing && !(stream.working() && stream.request_complete()); });
  return nothing;
}

void Http2Connection::linger() {
  phase_ = Phase::lingering;
  deadline_.cancel();
  finish_sending();
  if (queued() > 0) return watch_writing();
  loop().arm(deadline_, server_.linger_time());
}

void Http2Connection::on_eof() {
  if (phase_ == Phase::lingering && queued() > 0) return;  // the rest still has to be sent
  die(Gone::closed);
}

void Http2Connection::on_error(int) {
  die(Gone::reset);
}

void Http2Connection::cut() {
  die(Gone::cut);
}

void Http2Connection::evict() {
  PENSTOCK_ASSERT(idle());
  leave();
}

void Http2Connection::die(Gone why) {
  if (phase_ == Phase::closed) return;
  drop_all(why);
  leave();
}

void Http2Connection::leave() {
  if (phase_ == Phase::closed) return;
  PENSTOCK_ASSERT(streams_.empty());
  phase_ = Phase::closed;
  forget_head();
  deadline_.cancel();
  write_deadline_.cancel();
  close(/*reset=*/queued() > 0);
  leave_count();
  server_.remove(*this);
}

}  // namespace penstock::downstream
