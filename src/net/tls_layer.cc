#include "tls_layer.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

#include "penstock/base/assert.h"
#include "penstock/net/ip.h"
#include "tls_context.h"

namespace penstock::net {

namespace {

// What a client hears that speaks HTTP without TLS.
constexpr std::string_view kSpeaksTls =
    "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 58\r\nconnection: close\r\n\r\n"
    "This port speaks TLS: begin the address with https://...\r\n";

// Whether these first bytes of a client can be a method of HTTP: no record of TLS begins with a letter.
bool begins_a_request(std::string_view bytes) {
  return !bytes.empty() && bytes.front() >= 'A' &&
         std::ranges::all_of(bytes, [](char byte) { return (byte >= 'A' && byte <= 'Z') || byte == ' '; });
}

TlsLayer& layer_of(BIO* bio) {
  return *static_cast<TlsLayer*>(BIO_get_data(bio));
}

int bio_read(BIO* bio, char* into, size_t most, size_t* got) {
  BIO_clear_retry_flags(bio);
  *got = layer_of(bio).take_input(into, most);
  if (*got > 0) return 1;
  BIO_set_retry_read(bio);
  return 0;
}

int bio_write(BIO* bio, const char* bytes, size_t size, size_t* written) {
  BIO_clear_retry_flags(bio);
  layer_of(bio).put_output(bytes, size);
  *written = size;
  return 1;
}

long bio_control(BIO*, int command, long, void*) {
  return command == BIO_CTRL_FLUSH ? 1 : 0;
}

int bio_create(BIO* bio) {
  BIO_set_init(bio, 1);
  return 1;
}

const BIO_METHOD* bio_method() {
  static const BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "stream");
    if (made == nullptr) throw std::bad_alloc();
    BIO_meth_set_read_ex(made, bio_read);
    BIO_meth_set_write_ex(made, bio_write);
    BIO_meth_set_ctrl(made, bio_control);
    BIO_meth_set_create(made, bio_create);
    return made;
  }();
  return method;
}

ssl_st* new_ssl(ssl_ctx_st* context, TlsLayer& layer) {
  SSL* ssl = SSL_new(context);
  BIO* bio = BIO_new(bio_method());
  if (ssl == nullptr || bio == nullptr) throw std::bad_alloc();
  BIO_set_data(bio, &layer);
  SSL_set_bio(ssl, bio, bio);
  SSL_set_app_data(ssl, &layer);
  return ssl;
}

// Whether the certificate must name the address instead of a host name.
// With `other_names` the certificate must have one of those, which the context sees to.
bool set_peer_name(SSL* ssl, const std::string& name, const Address& to, bool other_names) {
  if (other_names) return name.empty() || IpAddress::parse(name) || SSL_set_tlsext_host_name(ssl, name.c_str()) == 1;
  const std::optional<IpAddress> ip = name.empty() ? IpAddress::of(to) : IpAddress::parse(name);
  if (ip.has_value()) return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), ip->to_string().c_str()) == 1;
  SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  return SSL_set_tlsext_host_name(ssl, name.c_str()) == 1 && SSL_set1_host(ssl, name.c_str()) == 1;
}

}  // namespace

// Around a call to the owner, which may close the stream and so destroy the layer.
class TlsLayer::Guard {
 public:
  // Not inlined, since gcc 12 would then say that the address outlives the guard.
  [[gnu::noinline]] explicit Guard(TlsLayer& layer) : layer_(layer), outer_(layer.gone_) { layer.gone_ = &gone_; }
  ~Guard() {
    if (!gone_) layer_.gone_ = outer_;
    else if (outer_ != nullptr) *outer_ = true;
  }
  bool gone() const { return gone_; }

 private:
  TlsLayer& layer_;
  bool* outer_;
  bool gone_ = false;
};

// A position in pieces.
class TlsLayer::Cursor {
 public:
  explicit Cursor(std::span<const iovec> pieces) : pieces_(pieces) { settle(); }
  bool done() const { return pieces_.empty(); }
  std::string_view here() const {
    return {static_cast<const char*>(pieces_.front().iov_base) + offset_, pieces_.front().iov_len - offset_};
  }
  bool last() const { return pieces_.size() == 1; }
  size_t skip(size_t bytes) {
    size_t skipped = 0;
    while (!done() && skipped < bytes) {
      const size_t step = std::min(bytes - skipped, here().size());
      offset_ += step;
      skipped += step;
      settle();
    }
    return skipped;
  }

 private:
  void settle() {
    while (!pieces_.empty() && offset_ == pieces_.front().iov_len) {
      pieces_ = pieces_.subspan(1);
      offset_ = 0;
    }
  }
  std::span<const iovec> pieces_;
  size_t offset_ = 0;
};

TlsLayer::TlsLayer(Stream& stream, SocketEvents& owner, const TlsAccept& tls)
    : stream_(&stream),
      owner_(&owner),
      runtime_(*tls.runtime),
      server_(tls.context),
      timeout_(Timer::of<&TlsLayer::on_timeout>(this)),
      waiting_input_(runtime_.pool_),
      held_(runtime_.pool_) {
  const auto& context = static_cast<const tls::ServerContext&>(*server_);
  ssl_ = new_ssl(context.handle(), *this);
  SSL_set_accept_state(ssl_);
  begin(context.options().handshake_timeout);
}

TlsLayer::TlsLayer(Stream& stream, SocketEvents& owner, const TlsConnect& tls, const Address& to)
    : stream_(&stream),
      owner_(&owner),
      runtime_(*tls.runtime),
      client_(tls.context),
      session_(tls.session),
      timeout_(Timer::of<&TlsLayer::on_timeout>(this)),
      waiting_input_(runtime_.pool_),
      held_(runtime_.pool_) {
  const auto& context = static_cast<const tls::ClientContext&>(*client_);
  const TlsClientOptions& options = context.options();
  server_name_ = options.server_name.empty() ? tls.server_name : options.server_name;
  ssl_ = new_ssl(context.handle(), *this);
  SSL_set_connect_state(ssl_);
  if (!set_peer_name(ssl_, server_name_, to, !options.names.empty())) broken_ = EPROTO;
  if (session_ != nullptr && session_->session_ != nullptr) {
    const bool same = session_->context_ == client_ && session_->server_name_ == server_name_;
    if (same) SSL_set_session(ssl_, session_->session_);
    else session_->forget();
  }
  begin(options.handshake_timeout);
}

TlsLayer::~TlsLayer() {
  if (gone_ != nullptr) *gone_ = true;
  stats().streams.add(-1);
  SSL_set_shutdown(ssl_, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);  // else its session counts as spoilt
  SSL_free(ssl_);
}

void TlsLayer::begin(Duration handshake_timeout) {
  stats().streams.add(1);
  stream_->loop().arm(timeout_, handshake_timeout);
}

// ---- what OpenSSL calls ----

size_t TlsLayer::take_input(char* into, size_t most) {
  size_t size;
  if (waiting_input_.empty()) {
    size = input_.copy(into, most);
    input_.remove_prefix(size);
  } else {
    iovec front;
    waiting_input_.pieces(&front, 1);
    size = std::min(most, front.iov_len);
    std::memcpy(into, front.iov_base, size);
    waiting_input_.consume(size);
  }
  if (first_size_ < first_.size()) {
    first_size_ +=
        static_cast<uint8_t>(std::string_view(into, size).copy(&first_[first_size_], first_.size() - first_size_));
  }
  return size;
}

bool TlsLayer::keep_session(ssl_session_st* session) {
  if (session_ == nullptr) return false;
  session_->forget();
  session_->session_ = session;
  session_->context_ = client_;
  session_->server_name_ = server_name_;
  return true;
}

// ---- the handshake ----

void TlsLayer::on_connected() {
  runtime_.queue(*this);
}

void TlsLayer::handshake_step() {
  ERR_clear_error();
  const int result = broken_ == 0 ? SSL_do_handshake(ssl_) : -1;
  const int why = broken_ == 0 ? SSL_get_error(ssl_, result) : SSL_ERROR_SSL;
  const bool waits = result != 1 && why == SSL_ERROR_WANT_READ;
  const TlsFailure failure = result == 1 || waits ? TlsFailure::closed : reason();
  if (result != 1 && !waits) {
    const bool http = failure == TlsFailure::not_tls && begins_a_request({first_.data(), first_size_});
    if (server_ != nullptr && http) runtime_.sealed_ = kSpeaksTls;
    failure_ = tls::last_error();
  }
  const bool sent = send_output() == 0;
  if (result == 1 && sent) return established();
  if (waits && sent && !fin_) return receive_again();
  handshake_failed(failure);
}

void TlsLayer::established() {
  established_ = true;
  timeout_.cancel();
  if (!accept_peer()) return handshake_failed(TlsFailure::peer_certificate);
  stats().handshakes.add();
  if (SSL_session_reused(ssl_) == 1) stats().resumed.add();
  if (server_ != nullptr) {
    const char* const name = SSL_get_servername(ssl_, TLSEXT_NAMETYPE_host_name);
    if (name != nullptr) server_name_ = name;
  }
  receive_again();
  Guard guard(*this);
  if (client_ != nullptr) owner_->on_connected();
  if (!guard.gone()) read();
  if (!guard.gone() && std::exchange(writable_wanted_, false) && held_.empty()) owner_->on_writable();
  if (!guard.gone() && fin_) end_of_input();
}

// With a resumed session nobody has looked at the client's certificate again. Notes who the peer is.
bool TlsLayer::accept_peer() {
  const X509* const certificate = SSL_get0_peer_certificate(ssl_);
  const bool verified = SSL_get_verify_mode(ssl_) != SSL_VERIFY_NONE && SSL_get_verify_result(ssl_) == X509_V_OK;
  if (certificate == nullptr || !verified) return true;
  if (server_ != nullptr && !static_cast<const tls::ServerContext&>(*server_).allows(certificate)) return false;
  const tls::Names names = tls::names_of(certificate);
  if (!names.uris.empty()) identity_ = names.uris.front();
  else identity_ = names.dns.empty() ? names.common_name : names.dns.front();
  return true;
}

TlsFailure TlsLayer::reason() const {
  if (name_refused_) return TlsFailure::unknown_name;
  const bool verifies = SSL_get_verify_mode(ssl_) != SSL_VERIFY_NONE;
  if (verifies && SSL_get_verify_result(ssl_) != X509_V_OK) return TlsFailure::peer_certificate;
  const unsigned long error = ERR_peek_error();
  if (ERR_GET_LIB(error) != ERR_LIB_SSL) return TlsFailure::protocol;
  const int what = ERR_GET_REASON(error);
  if (what >= SSL_AD_REASON_OFFSET) return TlsFailure::refused_by_peer;
  switch (what) {
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_PACKET_LENGTH_TOO_LONG:
      return TlsFailure::not_tls;
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_UNKNOWN_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW:
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_NO_PROTOCOLS_AVAILABLE:
    case SSL_R_NO_APPLICATION_PROTOCOL:
    case SSL_R_NO_SUITABLE_KEY_SHARE:
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
      return TlsFailure::no_agreement;
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
      return TlsFailure::peer_certificate;
    default:
      return TlsFailure::protocol;
  }
}

void TlsLayer::on_timeout() {
  failure_ = "the TLS handshake took too long";
  stats().failed[static_cast<size_t>(TlsFailure::timed_out)].add();
  fail(ETIMEDOUT);
}

void TlsLayer::handshake_failed(TlsFailure why) {
  if (failure_.empty()) {
    failure_ = why == TlsFailure::closed ? "the peer closed the connection during the TLS handshake"
                                         : std::string(to_string(why));
  }
  stats().failed[static_cast<size_t>(why)].add();
  fail(why == TlsFailure::closed ? ECONNRESET : EPROTO);
}

void TlsLayer::fail(int error) {
  if (failed_) return;
  failed_ = true;
  broken_ = broken_ == 0 ? error : broken_;
  timeout_.cancel();
  ListNode<TlsWaitingTag>::unlink();
  owner_->on_error(error);
}

// ---- bytes in ----

void TlsLayer::on_bytes(std::span<char> bytes) {
  if (failed_ || eof_told_) return;
  const std::string_view view(bytes.data(), bytes.size());
  if (!established_) {
    if (!waiting_input_.append(view)) return handshake_failed(TlsFailure::no_memory);
    if (waiting_input_.size() > kWaitingMax && !std::exchange(paused_by_us_, true)) {
      stream_->loop().ring().pause_recv(stream_->socket_);
    }
    return runtime_.queue(*this);
  }
  input_ = view;
  read();
}

// Hands over all that has come. Pauses are the ring's: what it has delivered, the owner gets.
void TlsLayer::read() {
  while (true) {
    size_t filled = 0;
    const int why = fill(filled);
    if (why != SSL_ERROR_NONE && why != SSL_ERROR_WANT_READ && why != SSL_ERROR_ZERO_RETURN) {
      failure_ = tls::last_error();
    }
    static_cast<void>(send_output());  // a failure comes out in the next send()
    Guard guard(*this);
    if (filled > 0) owner_->on_bytes({runtime_.plain_.data(), filled});
    if (guard.gone()) return;
    if (why == SSL_ERROR_NONE) continue;
    input_ = {};
    if (why == SSL_ERROR_ZERO_RETURN) {
      eof_told_ = true;
      return owner_->on_eof();
    }
    if (why != SSL_ERROR_WANT_READ || held_.size() > kUnreadMax) return fail(EPROTO);
    return;
  }
}

// As many records as fit: an event stream brings many small ones, and the owner's work is by call. SSL_ERROR_NONE:
// there may be more.
int TlsLayer::fill(size_t& filled) {
  std::vector<char>& plain = runtime_.plain_;
  if (plain.empty()) plain.resize(kChunk);
  while (plain.size() - filled >= kRecord) {
    ERR_clear_error();
    size_t got = 0;
    const int result = SSL_read_ex(ssl_, plain.data() + filled, plain.size() - filled, &got);
    if (result != 1) return SSL_get_error(ssl_, result);
    filled += got;
  }
  return SSL_ERROR_NONE;
}

void TlsLayer::pause_recv(bool on) {
  paused_by_owner_ = on;
  if (paused_by_us_) return;
  Ring& ring = stream_->loop().ring();
  on ? ring.pause_recv(stream_->socket_) : ring.resume_recv(stream_->socket_);
}

void TlsLayer::receive_again() {
  if (std::exchange(paused_by_us_, false) && !paused_by_owner_) stream_->loop().ring().resume_recv(stream_->socket_);
}

void TlsLayer::on_eof() {
  if (failed_) return;
  fin_ = true;
  if (established_) return end_of_input();
  // Its last bytes may finish the handshake, once that has its turn.
  if (!ListNode<TlsWaitingTag>::linked()) handshake_failed(TlsFailure::closed);
}

void TlsLayer::end_of_input() {
  if (eof_told_) return;
  failure_ = "the connection ended without a close_notify: what came may be cut off";
  fail(ECONNABORTED);
}

void TlsLayer::on_error(int error) {
  if (failed_) return;
  if (!established_) stats().failed[static_cast<size_t>(TlsFailure::closed)].add();
  fail(error);
}

// ---- bytes out ----

ssize_t TlsLayer::send(std::span<const iovec> pieces) {
  if (broken_ != 0) return -broken_;
  if (!established_) {
    writable_wanted_ = true;
    return 0;
  }
  if (!held_.empty()) return 0;
  Cursor from(pieces);
  size_t taken = from.skip(credit_);
  credit_ -= taken;
  while (!from.done()) {
    size_t sealed = 0;
    if (!encrypt(from, sealed)) {
      runtime_.sealed_.clear();
      broken_ = EPROTO;
    } else {
      static_cast<void>(send_output());
    }
    if (broken_ != 0) return -broken_;
    if (!held_.empty()) {
      credit_ = sealed;
      return static_cast<ssize_t>(taken);
    }
    taken += sealed;
  }
  return static_cast<ssize_t>(taken);
}

// A few records. Pieces that are smaller than a record are put together in one.
bool TlsLayer::encrypt(Cursor& from, size_t& taken) {
  std::vector<char>& gather = runtime_.gather_;
  while (!from.done() && taken < kChunk) {
    std::string_view record = from.here().substr(0, kRecord);
    if (record.size() < kRecord && !from.last()) {
      if (gather.empty()) gather.resize(kRecord);
      size_t size = 0;
      while (!from.done() && size < kRecord) {
        const size_t copied = from.here().copy(gather.data() + size, kRecord - size);
        from.skip(copied);
        size += copied;
      }
      record = {gather.data(), size};
    } else {
      from.skip(record.size());
    }
    ERR_clear_error();
    size_t written = 0;
    if (SSL_write_ex(ssl_, record.data(), record.size(), &written) != 1 || written != record.size()) return false;
    taken += record.size();
  }
  return true;
}

// What OpenSSL has written goes out, behind what is held. 0, or the errno of a stream that can send no more.
int TlsLayer::send_output() {
  std::string& sealed = runtime_.sealed_;
  size_t sent = 0;
  if (broken_ == 0 && held_.empty() && !sealed.empty()) {
    const iovec piece{sealed.data(), sealed.size()};
    const ssize_t result = stream_->loop().ring().send(stream_->socket_, {&piece, 1});
    if (result < 0) broken_ = static_cast<int>(-result);
    else sent = static_cast<size_t>(result);
  }
  if (broken_ == 0 && sent < sealed.size() && !held_.append(std::string_view(sealed).substr(sent))) broken_ = ENOBUFS;
  sealed.clear();
  return broken_;
}

int TlsLayer::send_held() {
  while (broken_ == 0 && !held_.empty()) {
    iovec pieces[16];
    const size_t count = held_.pieces(pieces, std::size(pieces));
    size_t offered = 0;
    for (size_t i = 0; i < count; ++i) offered += pieces[i].iov_len;
    const ssize_t sent = stream_->loop().ring().send(stream_->socket_, {pieces, count});
    if (sent < 0) broken_ = static_cast<int>(-sent);
    else held_.consume(static_cast<size_t>(sent));
    if (sent < static_cast<ssize_t>(offered)) break;
  }
  return broken_;
}

void TlsLayer::on_writable() {
  if (failed_) return;
  if (const int error = send_held(); error != 0) return fail(error);
  if (!held_.empty()) return;
  if (std::exchange(shutdown_wanted_, false)) return stream_->loop().ring().shutdown_send(stream_->socket_);
  if (established_) owner_->on_writable();
}

size_t TlsLayer::unsent(size_t in_socket) const {
  const size_t sealed = in_socket + held_.size();
  return sealed - std::min(sealed, credit_);
}

void TlsLayer::shutdown_send() {
  say_goodbye();
  if (held_.empty()) return stream_->loop().ring().shutdown_send(stream_->socket_);
  shutdown_wanted_ = true;
}

void TlsLayer::say_goodbye() {
  if (!established_ || broken_ != 0 || !held_.empty() || (SSL_get_shutdown(ssl_) & SSL_SENT_SHUTDOWN) != 0) return;
  ERR_clear_error();
  SSL_shutdown(ssl_);
  static_cast<void>(send_output());
}

TlsInfo TlsLayer::info() const {
  if (!established_) return {};
  TlsInfo info{.version = SSL_version(ssl_) == TLS1_3_VERSION ? TlsVersion::tls1_3 : TlsVersion::tls1_2,
               .server_name = server_name_,
               .peer_identity = identity_,
               .resumed = SSL_session_reused(ssl_) == 1};
  const unsigned char* protocol = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(ssl_, &protocol, &size);
  if (protocol != nullptr) info.alpn = {reinterpret_cast<const char*>(protocol), size};
  return info;
}

}  // namespace penstock::net
