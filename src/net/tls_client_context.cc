#include <openssl/err.h>
#include <openssl/ssl.h>

#include "tls_context.h"
#include "tls_layer.h"

namespace penstock::net {

namespace {

int on_new_session(SSL* ssl, SSL_SESSION* session) {
  return static_cast<TlsLayer*>(SSL_get_app_data(ssl))->keep_session(session) ? 1 : 0;
}

class Made final : public tls::ClientContext {
 public:
  Made(tls::Context context, const TlsClientOptions& options) : context_(std::move(context)), options_(options) {
    options_.ca.clear();  // in the context
    options_.certificate.reset();
  }
  ssl_ctx_st* handle() const override { return context_.get(); }
  const TlsClientOptions& options() const override { return options_; }

 private:
  tls::Context context_;
  TlsClientOptions options_;
};

}  // namespace

Result<std::shared_ptr<const TlsClientContext>> TlsClientContext::make(const TlsClientOptions& options) {
  tls::Context context = tls::new_context(/*server=*/false, options.min_version);
  SSL_CTX* const raw = context.get();
  SSL_CTX_set_verify(raw, options.insecure_skip_verify ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, nullptr);
  if (!options.ca.empty()) {
    const auto added = tls::add_authorities(SSL_CTX_get_cert_store(raw), options.ca, "the CA bundle");
    if (!added.ok()) return added.error();
    // A bundle may be a single intermediate or the server's own certificate: whoever names it means it.
    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(raw), X509_V_FLAG_PARTIAL_CHAIN);
  } else if (!options.insecure_skip_verify && SSL_CTX_set_default_verify_paths(raw) != 1) {
    return Message{"the system's CA bundle cannot be read: " + tls::last_error()};
  }
  if (options.certificate.has_value()) {
    const auto used = tls::use_certificate(raw, *options.certificate);
    if (!used.ok()) return used.error();
  }
  const std::string alpn = tls::alpn_wire(options.alpn);
  SSL_CTX_set_alpn_protos(raw, reinterpret_cast<const unsigned char*>(alpn.data()), static_cast<unsigned>(alpn.size()));
  SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(raw, on_new_session);
  ERR_clear_error();
  return std::shared_ptr<const TlsClientContext>(std::make_shared<Made>(std::move(context), options));
}

}  // namespace penstock::net
