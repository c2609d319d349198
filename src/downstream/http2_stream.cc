#include "http2_stream.h"

#include <algorithm>
#include <utility>

#include "http2_connection.h"
#include "penstock/base/assert.h"

namespace penstock::downstream {

namespace {
// How a request counts in the memory budget: the library's part and ours, and, as in HTTP/1.1, a head of more than
// kHeadFree bytes three times (as received, as forwarded, as sent), and the exchange while the body is incomplete.
constexpr size_t kStream = 1024, kHeadFree = 2 * 1024, kHeadCopies = 3, kExchange = 4 * 1024;
// Pieces of more than this are not gathered: what the client takes at once need not be copied.
constexpr size_t kGather = net::Connection::gather_max;
constexpr std::string_view line_end = "\r\n";
}  // namespace

Http2Stream::Http2Stream(Http2Connection& connection, int32_t id)
    : connection_(connection),
      queue_(connection.pool()),
      deadline_(net::Timer::of<&Http2Stream::on_deadline>(this)),
      id_(id) {}

Http2Stream::~Http2Stream() {
  PENSTOCK_ASSERT(handler_ == nullptr);
  connection_.gave_up(waiting());
  if (held_ > 0) connection_.pool().budget().give_back(held_);
}

const std::string& Http2Stream::client_ip() const {
  return connection_.peer_ip();
}

size_t Http2Stream::listener() const {
  return connection_.accepted_by();
}

net::TlsInfo Http2Stream::tls() const {
  return connection_.tls();
}

const std::optional<net::IpAddress>& Http2Stream::peer() const {
  return connection_.peer_address();
}

bool Http2Stream::hold(size_t bytes) {
  if (bytes <= held_) return true;
  if (!connection_.pool().budget().try_take_first(bytes - held_)) return false;
  held_ = bytes;
  return true;
}

// ---- the request ----

void Http2Stream::ask(bool complete) {
  const size_t bytes = head.bytes();
  const size_t counted = (bytes > kHeadFree ? bytes * kHeadCopies : 0) + (complete ? 0 : kExchange);
  if (!hold(kStream + counted)) return refuse_head({.no_memory = true});
  const bool wants_continue = head.get()->expects_continue && !complete;
  RequestHandler* const handler = connection_.service().on_request(*this, *head.get());
  if (handler == nullptr || done_) return;  // answered already
  handler_ = handler;
  if (wants_continue) connection_.session().submit_continue(id_);
  if (complete) return request_ends();
  watch_body(0);
}

// The head of a request that nobody handles.
void Http2Stream::refuse_head(const RequestFailure& failure) {
  deadline_.cancel();
  connection_.service().on_bad_head(*this, failure);
  if (!begun_) reset(Http2Error::protocol_error);
  else if (!done_) finish();
}

void Http2Stream::break_rules(const RequestFailure& failure) {
  reset_ = faulty_ = true;
  connection_.service().on_bad_head(*this, failure);
  if (!done_) leave();
}

// What nobody reads any more makes room for other streams alone.
void Http2Stream::take_body(std::string_view bytes) {
  if (handler_ == nullptr || request_complete_) return connection_.session().dropped(bytes.size());
  connection_.session().took(id_, bytes.size());
  handler_->on_body(bytes);
  if (handler_ != nullptr && !request_complete_) watch_body(bytes.size());
}

void Http2Stream::request_ends() {
  request_complete_ = true;
  deadline_.cancel();
  pace_.rest();
  if (handler_ != nullptr) handler_->on_request_end();
}

void Http2Stream::fail_request(const RequestFailure& failure) {
  deadline_.cancel();
  if (handler_ != nullptr) handler_->on_request_failed(failure);
}

void Http2Stream::watch_body(size_t arrived) {
  const ServerOptions& options = connection_.options();
  const Instant now = connection_.loop().now();
  const Instant pause = options.body_timeout < Instant::max() - now ? now + options.body_timeout : Instant::max();
  connection_.loop().arm_at(deadline_, std::min(pause, pace_.credit(arrived, now, options)));
}

// ---- the answer ----

Sent Http2Stream::begin(const AnswerHead& answer, std::string_view piece) {
  begun_ = true;
  if (closed_ || reset_) return Sent::lost;
  connection_.answer_begins();
  const bool with_body = answer.form != BodyForm::none;
  if (!with_body) ended_ = true;
  if (!connection_.session().submit_head(id_, answer.status, answer.fields, with_body)) return Sent::lost;
  connection_.send_later();
  return with_body && !piece.empty() ? give(piece) : Sent::ok;
}

Sent Http2Stream::give(std::string_view bytes) {
  if (closed_ || reset_ || !connection_.open()) {
    lost_ += bytes.size();
    return Sent::lost;
  }
  if (bytes.empty()) return congested_ ? Sent::congested : Sent::ok;
  if (waiting() == 0) watch_reading();
  if (std::exchange(asked_, false)) connection_.session().resume(id_);
  connection_.send_later();
  if (!keep(bytes)) {
    lost_ += bytes.size();
    starved_ = connection_.open();
    return Sent::lost;
  }
  congested_ = congested_ || queue_.size() > mark();
  return congested_ ? Sent::congested : Sent::ok;
}

// Much, and what the budget has no room for, may go at once.
bool Http2Stream::keep(std::string_view bytes) {
  const size_t before = waiting();
  if (before + bytes.size() <= kGather && queue_.append(bytes)) {
    connection_.took_in(bytes.size());
    return true;
  }
  connection_.took_in(bytes.size());
  direct_ = bytes;
  if (connection_.may_send_now()) connection_.send_now();
  const std::string_view rest = std::exchange(direct_, {});
  if (rest.empty() || queue_.append(rest)) return true;
  connection_.gave_up(rest.size());
  return false;
}

// As of a connection, and less where many streams of one connection wait together.
size_t Http2Stream::mark() const {
  constexpr size_t connection_mark = 4 * net::Connection::high_mark, least = 16 * 1024;
  const size_t most = net::Connection::mark(connection_.pool().budget());
  return connection_.waiting() > connection_mark ? std::min(most, least) : most;
}

Sent Http2Stream::end(std::string_view trailers) {
  if (closed_ || reset_ || !connection_.open()) return Sent::lost;
  if (!ended_ && !trailers.empty()) {
    starved_ = !hold(held_ + trailers.size());
    if (starved_) return Sent::lost;
    trailers_ = std::make_unique<http::Fields>();
    trailers_->add_lines(trailers.substr(0, trailers.size() - line_end.size()));
  }
  if (!std::exchange(ended_, true) && std::exchange(asked_, false)) connection_.session().resume(id_);
  connection_.send_later();
  return Sent::ok;
}

void Http2Stream::leave() {
  done_ = true;
  handler_ = nullptr;
  forwarded_client_.release();
  head.drop();
  deadline_.cancel();
  if (waiting() > 0) watch_reading();
}

void Http2Stream::finish() {
  static_cast<void>(end({}));
  leave();
}

// Never END_STREAM: a reset, once the client has got what was given.
void Http2Stream::abort() {
  aborted_ = true;
  leave();
  if (waiting() == 0) reset(Http2Error::internal_error);
}

void Http2Stream::abandon() {
  leave();
  reset(Http2Error::internal_error);
}

void Http2Stream::reset(Http2Error code) {
  lost_ += waiting();
  connection_.gave_up(waiting());
  queue_.clear();
  deadline_.cancel();
  if (closed_ || std::exchange(reset_, true) || !connection_.open()) return;
  connection_.session().reset(id_, code);
  connection_.send_later();
}

Http2Events::Available Http2Stream::available() {
  const bool ends = ended_ && !aborted_;
  asked_ = waiting() == 0 && !ends;
  return {.bytes = waiting(), .ends = ends, .trailers = trailers_.get()};
}

size_t Http2Stream::pieces(iovec* out, size_t most, size_t bytes) const {
  size_t count = queue_.pieces(out, most - 1);
  if (!direct_.empty()) out[count++] = {const_cast<char*>(direct_.data()), direct_.size()};
  size_t used = 0;
  while (bytes > 0) {
    PENSTOCK_ASSERT(used < count);
    out[used].iov_len = std::min(out[used].iov_len, bytes);
    bytes -= out[used++].iov_len;
  }
  return used;
}

void Http2Stream::wrote(size_t bytes) {
  wrote_ += bytes;
  connection_.gave_up(bytes);
  const size_t queued = std::min(bytes, queue_.size());
  queue_.consume(queued);
  direct_.remove_prefix(bytes - queued);
  if (waiting() == 0) {
    pace_.rest();
    if (aborted_) reset(Http2Error::internal_error);
  }
  if (!congested_ || queue_.size() > std::min(net::Connection::low_mark - 1, mark() / 2)) return;
  congested_ = false;
  connection_.notice(*this);
}

// RFC 9113, section 8.1: the client may stop sending a body that nobody reads.
void Http2Stream::answer_sent() {
  if (!request_complete_) reset(Http2Error::no_error);
}

// ---- the client reads ----

// The timer runs on while the client gets all that it is given, so that a piece costs no more than a few stores.
void Http2Stream::watch_reading() {
  if (!request_complete_ && handler_ != nullptr) return;  // the body has the timer
  const Instant now = connection_.loop().now();
  pace_.begin_reading(wrote_, now, connection_.options());
  if (!deadline_.armed()) connection_.loop().arm_at(deadline_, pace_.next_check(now, connection_.options()));
}

// While the whole connection does not take what is sent, its own watch counts.
void Http2Stream::check_reading() {
  const Instant now = connection_.loop().now();
  if (connection_.blocked()) pace_.begin_reading(wrote_, now, connection_.options());
  switch (pace_.check_reading(wrote_, now, connection_.options())) {
    case Pace::Reading::fine:
      return connection_.loop().arm_at(deadline_, pace_.next_check(now, connection_.options()));
    case Pace::Reading::stalled:
      return gone(Gone::write_timeout);
    case Pace::Reading::too_slow:
      connection_.service().on_limit("client_min_rate");
      return gone(Gone::too_slow);
  }
}

void Http2Stream::on_deadline() {
  if (handler_ == nullptr || request_complete_) {
    if (waiting() > 0) check_reading();
    return;
  }
  if (connection_.loop().now() >= pace_.deadline()) connection_.service().on_limit("client_min_rate");
  fail_request({.timed_out = true});
}

void Http2Stream::tell_drained() {
  if (handler_ != nullptr && !congested_) handler_->on_drained();
}

void Http2Stream::announce_end() {
  if (handler_ != nullptr) handler_->on_ending();
}

void Http2Stream::gone(Gone why) {
  reset(Http2Error::cancel);
  RequestHandler* const handler = handler_;
  leave();
  if (handler != nullptr) handler->on_gone(why);
}

}  // namespace penstock::downstream
