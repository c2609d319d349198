#include "head_builder.h"

#include <llhttp.h>

#include <memory>
#include <new>
#include <type_traits>
#include <vector>

#include "bytes.h"
#include "penstock/base/assert.h"
#include "penstock/base/containers.h"

namespace penstock::http {

namespace {
constexpr size_t kStorageReserve = 512, kHeadersReserve = 16;
constexpr size_t kStorageKept = 8 * 1024, kHeadersKept = 64;  // larger ones are not worth keeping in the pool
constexpr size_t kPooledMax = 256;                            // messages per thread

Method method_of(uint8_t method) {
  switch (method) {
    case HTTP_GET:
      return Method::get;
    case HTTP_HEAD:
      return Method::head;
    case HTTP_POST:
      return Method::post;
    case HTTP_PUT:
      return Method::put;
    case HTTP_DELETE:
      return Method::delete_;
    case HTTP_OPTIONS:
      return Method::options;
    case HTTP_PATCH:
      return Method::patch;
    case HTTP_CONNECT:
      return Method::connect;
    case HTTP_TRACE:
      return Method::trace;
    default:
      return Method::other;
  }
}
}  // namespace

struct HeadBuilder::Engine {
  explicit Engine(Head& target) : head(target) {}
  void start(const Known& k);

  static const llhttp_settings_t& settings();
  static Engine& self(llhttp_t* parser) { return *static_cast<Engine*>(parser->data); }
  static int on_url(llhttp_t* parser, const char* at, size_t size);
  static int on_status(llhttp_t* parser, const char* at, size_t size);
  static int on_header_field(llhttp_t* parser, const char* at, size_t size);
  static int on_header_value(llhttp_t* parser, const char* at, size_t size);
  static int on_header_value_complete(llhttp_t* parser);
  static int on_headers_complete(llhttp_t* parser);
  static int on_body(llhttp_t* parser, const char* at, size_t size);
  static int on_message_complete(llhttp_t* parser);

  llhttp_t parser;
  Head& head;
  Known known;
  std::string_view name, value;  // of the field being read
  size_t body_bytes = 0;         // that llhttp reported for the current piece
  bool head_done = false, message_done = false;
};

HeadBuilder::HeadBuilder() {
  static_assert(sizeof(Engine) <= engine_size && alignof(Engine) <= 8 && std::is_trivially_destructible_v<Engine>);
  new (engine_.data()) Engine(head_);
  reserve();
}
HeadBuilder::~HeadBuilder() = default;

HeadBuilder::Engine& HeadBuilder::engine() {
  return *std::launder(reinterpret_cast<Engine*>(engine_.data()));
}

ParseError HeadBuilder::build(const Known& known) {
  Engine& e = engine();
  e.start(known);
  const llhttp_errno_t error = llhttp_execute(&e.parser, head_.storage_.data(), head_.storage_.size());
  // An upgrade stops llhttp behind the head; whether one happens is not for the codec to say.
  if (error == HPE_INVALID_METHOD) return ParseError::unknown_method;  // that it is a token was checked
  if ((error != HPE_OK && error != HPE_PAUSED_UPGRADE) || !e.head_done) return ParseError::malformed;
  interpret(known);
  return ParseError::none;
}

bool HeadBuilder::body(std::string_view bytes, Expected expected) {
  Engine& e = engine();
  PENSTOCK_ASSERT(e.head_done);
  e.body_bytes = 0;
  const llhttp_errno_t error = llhttp_execute(&e.parser, bytes.data(), bytes.size());
  if (error != HPE_OK && !(expected.last && error == HPE_PAUSED_UPGRADE)) return false;
  return e.message_done == expected.last && e.body_bytes == expected.data;
}

void HeadBuilder::clear() {
  head_.clear();
}

void HeadBuilder::drop_head() {
  clear();
  free_memory(head_.storage_);
  free_memory(head_.headers_);
}

void HeadBuilder::recycle() {
  clear();
  if (head_.storage_.capacity() > kStorageKept) free_memory(head_.storage_);
  if (head_.headers_.capacity() > kHeadersKept) free_memory(head_.headers_);
  reserve();
}

void HeadBuilder::reserve() {
  head_.storage_.reserve(kStorageReserve);
  head_.headers_.reserve(kHeadersReserve);
}

void HeadBuilder::interpret(const Known& known) {
  head_.minor_version = known.framing.minor_version;
  head_.chunked = known.framing.chunked;
  head_.has_content_length = known.framing.has_content_length;
  head_.content_length = known.framing.content_length;
  if (known.request) {
    head_.method = method_of(engine().parser.method);
    head_.method_text = std::string_view(head_.storage_).substr(0, head_.storage_.find(' '));
  } else {
    head_.status = engine().parser.status_code;
  }
  bool close = false, keep_alive = false, upgrade_listed = false, upgrade = false;
  for (const Header& header : head_.headers_) {
    if (header.field == Field::upgrade) upgrade = true;
    if (header.field == Field::expect) head_.expects_continue = equals_lower(header.value, "100-continue");
    if (header.field != Field::connection) continue;
    for_each_in_list(header.value, [&](std::string_view token) {
      if (equals_lower(token, "close")) {
        close = true;
      } else if (equals_lower(token, "keep-alive")) {
        keep_alive = true;
      } else {
        if (equals_lower(token, "upgrade")) upgrade_listed = true;
        head_.connection_names_fields_ = true;
      }
    });
  }
  head_.expects_continue = head_.expects_continue && known.request && head_.minor_version == 1;
  head_.upgrade = known.request ? upgrade && upgrade_listed : head_.status == 101;
  head_.keep_alive = !close && (head_.minor_version == 1 || keep_alive);
}

// ---- llhttp ----

void HeadBuilder::Engine::start(const Known& k) {
  llhttp_init(&parser, k.request ? HTTP_REQUEST : HTTP_RESPONSE, &settings());
  parser.data = this;
  known = k;
  name = value = {};
  head_done = message_done = false;
}

const llhttp_settings_t& HeadBuilder::Engine::settings() {
  static const llhttp_settings_t shared = [] {
    llhttp_settings_t s;
    llhttp_settings_init(&s);
    s.on_url = on_url;
    s.on_status = on_status;
    s.on_header_field = on_header_field;
    s.on_header_value = on_header_value;
    s.on_header_value_complete = on_header_value_complete;
    s.on_headers_complete = on_headers_complete;
    s.on_body = on_body;
    s.on_message_complete = on_message_complete;
    return s;
  }();
  return shared;
}

int HeadBuilder::Engine::on_url(llhttp_t* parser, const char* at, size_t size) {
  self(parser).head.target = {at, size};
  return 0;
}

int HeadBuilder::Engine::on_status(llhttp_t* parser, const char* at, size_t size) {
  self(parser).head.reason = {at, size};
  return 0;
}

int HeadBuilder::Engine::on_header_field(llhttp_t* parser, const char* at, size_t size) {
  self(parser).name = {at, size};
  self(parser).value = {};
  return 0;
}

int HeadBuilder::Engine::on_header_value(llhttp_t* parser, const char* at, size_t size) {
  self(parser).value = trim({at, size});
  return 0;
}

int HeadBuilder::Engine::on_header_value_complete(llhttp_t* parser) {
  Engine& e = self(parser);
  if (e.head_done) return 0;  // trailers are checked, not kept
  e.head.headers_.push_back({e.name, e.value, field_of(e.name)});
  return 0;
}

int HeadBuilder::Engine::on_headers_complete(llhttp_t* parser) {
  Engine& e = self(parser);
  const HeadGuard::Framing& framing = e.known.framing;
  e.head_done = true;
  const bool chunked = (parser->flags & F_CHUNKED) != 0, length = (parser->flags & F_CONTENT_LENGTH) != 0;
  if (chunked != framing.chunked || length != framing.has_content_length) return -1;
  if (length && parser->content_length != framing.content_length) return -1;
  return e.known.without_body ? 1 : 0;
}

int HeadBuilder::Engine::on_body(llhttp_t* parser, const char*, size_t size) {
  self(parser).body_bytes += size;
  return 0;
}

int HeadBuilder::Engine::on_message_complete(llhttp_t* parser) {
  self(parser).message_done = true;
  return 0;
}

// ---- the pool ----

namespace {
thread_local bool pool_closed = false;  // parsers may outlive the thread-local objects

struct Pool {
  std::vector<std::unique_ptr<Message>> free;
  ~Pool() { pool_closed = true; }
};
thread_local Pool pool;
}  // namespace

Message* borrow_message() {
  if (pool_closed || pool.free.empty()) return std::make_unique<Message>().release();
  Message* const message = pool.free.back().release();
  pool.free.pop_back();
  return message;
}

void give_back_message(Message* message) {
  std::unique_ptr<Message> owned(message);
  if (pool_closed || pool.free.size() >= kPooledMax) return;
  owned->builder.recycle();
  if (!owned->trailers.empty()) free_memory(owned->trailers);
  pool.free.push_back(std::move(owned));
}

}  // namespace penstock::http
