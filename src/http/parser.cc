// Each byte passes a guard (head_guard.h, chunk_guard.h) and then llhttp; parsing continues only while both agree.
// Complete chunks with the plainest framing, as nearly all chunks are, pass the guard alone. Events are delivered
// between calls of llhttp, never from inside one, so that an event may pause or reset the parser. llhttp reads a head
// only when it is complete, so all views point into one stable copy. A head that is repeated on the same connection
// needs neither guard nor llhttp (head_memory.h).
#include "penstock/http/parser.h"

#include <algorithm>
#include <utility>

#include "chunk_guard.h"
#include "head_builder.h"
#include "head_memory.h"
#include "penstock/base/assert.h"

namespace penstock::http {

namespace {
constexpr uint8_t kEmptyLinesMax = 4;  // before a request line: RFC 9112, section 2.2
constexpr uint8_t kInterimMax = 16;    // 1xx heads before the final one

// The section without the fields that end at this hop (RFC 9110, section 7.6.1).
std::string trailers_to_relay(const Head& head, std::string_view section) {
  std::string out;
  while (!section.empty()) {
    const std::string_view line = section.substr(0, section.find('\n') + 1), name = line.substr(0, line.find(':'));
    if (!is_hop_by_hop(head, {.name = name, .value = {}, .field = field_of(name)})) out += line;
    section.remove_prefix(line.size());
  }
  return out;
}
}  // namespace

const char* to_string(ParseError error) {
  switch (error) {
    case ParseError::none:
      return "no error";
    case ParseError::malformed:
      return "the message is not valid HTTP/1.1";
    case ParseError::smuggling:
      return "the framing of the message is ambiguous";
    case ParseError::head_too_large:
      return "the header block is too large";
    case ParseError::uri_too_long:
      return "the request target is too long";
    case ParseError::unsupported_version:
      return "the HTTP version is not supported";
    case ParseError::unsupported_coding:
      return "the transfer coding is not supported";
    case ParseError::unknown_method:
      return "the method is not known";
  }
  return "unknown error";
}

struct Parser::State {
  enum class Phase : uint8_t { idle, head, body_length, body_until_close, chunks, trailers, ending, failed };

  State(Kind k, ParserEvents& e, const ParserLimits& l) : events(e), limits(l), kind(k) {}
  ~State() { release(); }

  size_t skip_empty_lines(std::string_view bytes);
  size_t take_head(std::string_view bytes);
  void head_complete();
  void keep_head(const Head& head);
  void head_read();
  bool choose_body(const Head& head);
  size_t take_length(std::string_view bytes);
  size_t take_chunks(std::string_view bytes);
  // Whether the trailer section that these bytes begin or continue has any fields.
  bool has_fields(std::string_view bytes) const {
    return (message->trailers.empty() ? bytes : std::string_view(message->trailers)).front() != '\r';
  }
  size_t take_trailers(std::string_view bytes);
  void end_message();
  void fail(ParseError reason);
  void release();
  HeadGuard::Block block() const {
    return kind == Kind::request ? HeadGuard::Block::request : HeadGuard::Block::response;
  }

  ParserEvents& events;
  const ParserLimits limits;
  std::unique_ptr<HeadMemory> memory;  // from the second head on, because many connections carry only one message
  Message* message = nullptr;          // borrowed from the first byte of a head until its message ends
  uint64_t body_left = 0;              // body_length
  const char* body_begin = nullptr;    // of the bytes being fed, behind any head
  const char* chunk_begin = nullptr;   // see Parser::chunk_begin()
  ChunkGuard chunks;                   // not in the message, so that most chunks need not touch the message at all
  const Kind kind;
  Phase phase = Phase::idle;
  ParseError error = ParseError::none;
  Method asked = Method::other;  // the response answers this
  uint8_t empty_lines = 0, interim = 0;
  bool after_cr = false;    // of an empty line
  bool first = false;       // nothing stood before this message
  bool again = false;       // a message has ended here
  bool head_known = false;  // on_head was called, and the head is still there
  bool keep_alive = false;
  bool stop = false;  // feed() returns before the next event
};

Parser::Parser(Kind kind, ParserEvents& events, const ParserLimits& limits)
    : state_(std::make_unique<State>(kind, events, limits)) {
  static_assert(sizeof(State) <= 128, "what an idle connection pays");
}
Parser::~Parser() = default;

Parser::FeedResult Parser::feed(std::string_view bytes) {
  using Phase = State::Phase;
  State& s = *state_;
  s.stop = false;
  s.body_begin = bytes.data();
  s.chunk_begin = nullptr;
  size_t used = 0, head = 0, trailers = 0;
  bool with_fields = false;
  while (!s.stop) {
    const std::string_view rest = bytes.substr(used);
    if (s.phase == Phase::ending) {
      s.end_message();
      break;
    }
    if (s.phase == Phase::failed || rest.empty()) break;
    switch (s.phase) {
      case Phase::idle:
        used += s.skip_empty_lines(rest);
        head = used;
        break;
      case Phase::head:
        used += s.take_head(rest);
        head = used;
        s.body_begin = bytes.data() + head;
        break;
      case Phase::body_length:
        used += s.take_length(rest);
        break;
      case Phase::body_until_close:
        used += rest.size();
        s.events.on_body(rest);
        break;
      case Phase::chunks:
        used += s.take_chunks(rest);
        break;
      case Phase::trailers:
        with_fields = s.has_fields(rest);
        trailers = s.take_trailers(rest);
        used += trailers;
        break;
      case Phase::ending:
      case Phase::failed:
        break;
    }
  }
  return {used, s.error, head, with_fields ? trailers : 0};
}

// Between messages. The next phase begins with the first byte of a head.
size_t Parser::State::skip_empty_lines(std::string_view bytes) {
  size_t i = 0;
  while (kind == Kind::request && i < bytes.size() && (after_cr || bytes[i] == '\r')) {
    if (after_cr && (bytes[i] != '\n' || ++empty_lines > kEmptyLinesMax)) {
      fail(ParseError::malformed);
      return i + 1;
    }
    after_cr = !after_cr;
    ++i;
  }
  if (i == bytes.size()) return i;
  PENSTOCK_ASSERT(message == nullptr);
  message = borrow_message();
  message->guard.begin(block());
  phase = Phase::head;
  first = !again && empty_lines == 0;
  empty_lines = interim = 0;
  return i;
}

size_t Parser::State::take_head(std::string_view bytes) {
  HeadBuilder& builder = message->builder;
  if (memory != nullptr && builder.storage().empty()) {
    if (const size_t size = memory->recall(bytes, builder.head()); size > 0) {
      head_read();
      return size;
    }
  }
  const HeadGuard::Taken taken = message->guard.take(builder.storage(), bytes, limits);
  if (taken.progress == HeadGuard::Progress::refused) fail(message->guard.error());
  if (taken.progress == HeadGuard::Progress::complete) head_complete();
  return taken.consumed;
}

void Parser::State::head_complete() {
  HeadBuilder& builder = message->builder;
  const HeadBuilder::Known known{
      .request = kind == Kind::request, .without_body = asked == Method::head, .framing = message->guard.framing()};
  if (const ParseError reason = builder.build(known); reason != ParseError::none) return fail(reason);
  Head& head = builder.head();
  if (kind == Kind::response && head.status < 200 && head.status != 101) {
    if (head.chunked || head.has_content_length) return fail(ParseError::smuggling);
    if (++interim > kInterimMax) return fail(ParseError::malformed);
    builder.clear();
    message->guard.begin(block());
    return;
  }
  if (again) keep_head(head);
  head_read();
}

void Parser::State::keep_head(const Head& head) {
  if (!HeadMemory::worth(head)) return;
  if (memory == nullptr) memory = std::make_unique<HeadMemory>();
  memory->keep(head);
}

// The final head is complete and checked.
void Parser::State::head_read() {
  Head& head = message->builder.head();
  if (!choose_body(head)) return fail(ParseError::smuggling);
  head_known = true;
  events.on_head(head);
}

// RFC 9112, section 6.3. False if the message must not have the body that it announces.
bool Parser::State::choose_body(const Head& head) {
  keep_alive = head.keep_alive;
  phase = Phase::ending;
  const bool announced = head.chunked || (head.has_content_length && head.content_length > 0);
  if (kind == Kind::request && head.method == Method::connect) {
    keep_alive = false;  // what follows is not HTTP
    return !announced;
  }
  if (kind == Kind::response) {
    if (asked == Method::head || head.status == 304) return true;
    if (head.status == 101 || head.status == 204) {
      // A server that announces a body here may also send it, so the following bytes cannot be trusted as a response.
      if (head.status == 101 || announced) keep_alive = false;
      return true;
    }
  }
  if (head.chunked) {
    chunks = {};
    phase = Phase::chunks;
  } else if (head.has_content_length) {
    body_left = head.content_length;
    if (body_left > 0) phase = Phase::body_length;
  } else if (kind == Kind::response) {
    keep_alive = false;
    phase = Phase::body_until_close;
  }
  return true;
}

size_t Parser::State::take_length(std::string_view bytes) {
  const size_t size = static_cast<size_t>(std::min<uint64_t>(body_left, bytes.size()));
  body_left -= size;
  if (body_left == 0) phase = Phase::ending;
  events.on_body(bytes.substr(0, size));
  return size;
}

size_t Parser::State::take_chunks(std::string_view bytes) {
  if (chunks.between_chunks()) chunk_begin = bytes.data();
  // After a complete chunk llhttp would be in the same state as now, before a size line, so it need not see the chunk.
  if (const ChunkGuard::Whole whole = chunks.whole(bytes); whole.data > 0) {
    events.on_body(bytes.substr(whole.size_line, whole.data));
    return whole.size();
  }
  const ChunkGuard::Piece piece = chunks.next(bytes);
  const bool data = piece.kind == ChunkGuard::Kind::data;
  bytes = bytes.substr(0, piece.size);
  if (piece.kind == ChunkGuard::Kind::refused || !message->builder.body(bytes, {.data = data ? piece.size : 0})) {
    fail(ParseError::malformed);
    return 0;
  }
  if (piece.kind == ChunkGuard::Kind::last) {
    phase = Phase::trailers;
    message->guard.begin(HeadGuard::Block::trailers);
  }
  if (data) events.on_body(bytes);
  return piece.size;
}

size_t Parser::State::take_trailers(std::string_view bytes) {
  const HeadGuard::Taken taken = message->guard.take(message->trailers, bytes, limits);
  if (taken.progress == HeadGuard::Progress::more) return taken.consumed;
  phase = Phase::ending;
  if (taken.progress == HeadGuard::Progress::refused) {
    fail(message->guard.error());
  } else if (!message->builder.body(message->trailers, {.last = true})) {
    fail(ParseError::malformed);
  } else if (kind == Kind::response && has_fields(bytes)) {
    events.on_trailers(trailers_to_relay(message->builder.head(), message->trailers));
  }
  return phase == Phase::failed ? 0 : taken.consumed;
}

// The head stays valid during the event, even if that resets the parser or begins the next message.
void Parser::State::end_message() {
  Message* const ended = message;
  message = nullptr;
  again = true;
  head_known = false;
  phase = Phase::idle;
  asked = Method::other;
  events.on_message_end(keep_alive);
  give_back_message(ended);
}

void Parser::State::fail(ParseError reason) {
  PENSTOCK_ASSERT(reason != ParseError::none);
  phase = Phase::failed;
  error = reason;
}

void Parser::State::release() {
  if (message != nullptr) give_back_message(message);
  message = nullptr;
}

ParseError Parser::finish() {
  State& s = *state_;
  switch (s.phase) {
    case State::Phase::idle:
      return ParseError::none;
    case State::Phase::failed:
      return s.error;
    case State::Phase::body_until_close:
    case State::Phase::ending:
      s.end_message();
      return ParseError::none;
    default:
      s.fail(ParseError::malformed);
      return s.error;
  }
}

void Parser::expect_response_to(Method method) {
  PENSTOCK_ASSERT(state_->kind == Kind::response && !state_->head_known);
  state_->asked = method;
}

void Parser::pause() {
  state_->stop = true;
}

void Parser::drop_head() {
  if (!std::exchange(state_->head_known, false)) return;
  state_->message->builder.drop_head();
}

void Parser::reset() {
  State& s = *state_;
  s.release();
  s.phase = State::Phase::idle;
  s.error = ParseError::none;
  s.asked = Method::other;
  s.empty_lines = s.interim = 0;
  s.after_cr = s.head_known = false;
  s.stop = true;
}

bool Parser::idle() const {
  return state_->phase == State::Phase::idle;
}
bool Parser::in_head() const {
  return state_->phase == State::Phase::head;
}
bool Parser::body_until_close() const {
  return state_->phase == State::Phase::body_until_close;
}
bool Parser::between_chunks() const {
  return state_->phase == State::Phase::chunks && state_->chunks.between_chunks();
}
std::string_view Parser::raw_until(const char* end) const {
  return {state_->body_begin, static_cast<size_t>(end - state_->body_begin)};
}
const char* Parser::chunk_begin() const {
  return state_->chunk_begin;
}
size_t Parser::held_bytes() const {
  if (state_->message == nullptr) return 0;
  return state_->message->builder.storage().size() + state_->message->trailers.size();
}
bool Parser::asks_for_head() const {
  return state_->message != nullptr && state_->message->builder.storage().starts_with("HEAD ");
}
bool Parser::refused_http2() const {
  const State& s = *state_;
  if (s.error != ParseError::unsupported_version || s.kind != Kind::request || !s.first) return false;
  return s.message->builder.storage() == http2_line;
}
const Head* Parser::head() const {
  return state_->head_known ? &state_->message->builder.head() : nullptr;
}

}  // namespace penstock::http
