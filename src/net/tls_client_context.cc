#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>

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
  bool allows(X509* certificate) const;

 private:
  tls::Context context_;
  TlsClientOptions options_;
};

bool Made::allows(X509* certificate) const {
  const std::vector<std::string> uris = tls::names_of(certificate).uris;
  return std::ranges::any_of(options_.names, [&](const std::string& name) {
    return std::ranges::find(uris, name) != uris.end() ||
           X509_check_host(certificate, name.data(), name.size(), X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, nullptr) == 1;
  });
}

int on_certificate(int good, X509_STORE_CTX* chain) {
  if (good != 1 || X509_STORE_CTX_get_error_depth(chain) != 0) return good;
  auto* ssl = static_cast<SSL*>(X509_STORE_CTX_get_ex_data(chain, SSL_get_ex_data_X509_STORE_CTX_idx()));
  const Made& made = *static_cast<const Made*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
  if (made.allows(X509_STORE_CTX_get_current_cert(chain))) return 1;
  X509_STORE_CTX_set_error(chain, X509_V_ERR_HOSTNAME_MISMATCH);
  return 0;
}

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
  const auto made = std::make_shared<const Made>(std::move(context), options);
  if (!options.names.empty()) {
    SSL_CTX_set_app_data(raw, const_cast<Made*>(made.get()));  // read only; the context is its own
    SSL_CTX_set_verify(raw, SSL_VERIFY_PEER, on_certificate);
  }
  return std::shared_ptr<const TlsClientContext>(made);
}

}  // namespace penstock::net
