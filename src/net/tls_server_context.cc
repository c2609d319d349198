#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "tls_context.h"
#include "tls_layer.h"

namespace penstock::net {

namespace {

class Made final : public tls::ServerContext {
 public:
  Made(const TlsServerOptions& options, std::shared_ptr<const TlsTicketKeys> tickets)
      : options_(options), alpn_(tls::alpn_wire(options.alpn)), tickets_(std::move(tickets)) {}

  std::optional<Message> load();

  ssl_ctx_st* handle() const override { return default_ != nullptr ? default_ : contexts_.front().get(); }
  const TlsServerOptions& options() const override { return options_; }
  const std::vector<TlsCertificateInfo>& certificates() const override { return certificates_; }
  bool allows(const x509_st* certificate) const override;

  // For OpenSSL's callbacks.
  // Null: no certificate is for this name.
  SSL_CTX* find(std::string name) const;
  const std::string& alpn() const { return alpn_; }
  const TlsTicketKeys& tickets() const { return *tickets_; }

 private:
  std::optional<Message> add(const TlsCertificate& certificate);
  std::optional<Message> verify_clients();
  void set_up(SSL_CTX* context);
  std::string session_scope() const;

  TlsServerOptions options_;
  std::string alpn_;
  std::shared_ptr<const TlsTicketKeys> tickets_;
  std::vector<tls::Context> contexts_;  // the first is the default
  std::vector<TlsCertificateInfo> certificates_;
  std::vector<SSL_CTX*> of_certificate_;
  std::vector<std::string> host_of_;  // likewise
  // The certificates for one host.
  struct Group {
    SSL_CTX* first = nullptr;
    std::unordered_map<std::string, SSL_CTX*> exact, wildcard;  // by name; by what follows "*."
    SSL_CTX* find(const std::string& name) const;
  };
  std::unordered_map<std::string, Group> groups_;  // by host
  SSL_CTX* default_ = nullptr;                     // the first for any host
};

const Made& of(SSL* ssl) {
  return *static_cast<const Made*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
}

int on_server_name(SSL* ssl, int* alert, void*) {
  const Made& made = of(ssl);
  const char* const name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  if (SSL_CTX* context = made.find(name == nullptr ? "" : name)) {
    SSL_set_SSL_CTX(ssl, context);
  } else {
    *alert = SSL_AD_UNRECOGNIZED_NAME;
    static_cast<TlsLayer*>(SSL_get_app_data(ssl))->refuse_name();
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }
  return SSL_TLSEXT_ERR_OK;
}

int on_alpn(SSL* ssl, const unsigned char** out, unsigned char* out_size, const unsigned char* offered,
            unsigned offered_size, void*) {
  const std::string& ours = of(ssl).alpn();
  unsigned char* chosen = nullptr;
  const int result = SSL_select_next_proto(&chosen, out_size, reinterpret_cast<const unsigned char*>(ours.data()),
                                           static_cast<unsigned>(ours.size()), offered, offered_size);
  *out = chosen;
  return result == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

// AES-256-CBC and HMAC-SHA256 around a ticket (RFC 5077, section 4). Negative: error; 0: unknown key, a full handshake
// follows; 2: good, but a new ticket should replace it: of an old key, and always in TLS 1.3, whose tickets clients use
// once.
int on_ticket(SSL* ssl, unsigned char name[16], unsigned char* iv, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac, int seal) {
  const TlsTicketKeys& keys = of(ssl).tickets();
  TlsTicketKeys::Key key = keys.current();
  bool old = false;
  if (seal == 1) {
    std::ranges::copy(key.name, name);
    if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) != 1) return -1;
  } else {
    unsigned char wanted[16];
    std::memcpy(wanted, name, sizeof wanted);
    const auto found = keys.find(wanted);
    if (!found) return 0;
    old = found->name != key.name;
    key = *found;
  }
  char digest[] = "sha256";
  OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key.mac.data(), key.mac.size()),
      OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
      OSSL_PARAM_construct_end(),
  };
  const bool good = EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), nullptr, key.cipher.data(), iv, seal) == 1 &&
                    EVP_MAC_CTX_set_params(mac, parameters) == 1;
  OPENSSL_cleanse(&key, sizeof key);
  if (!good) return -1;
  return old || SSL_version(ssl) == TLS1_3_VERSION ? 2 : 1;
}

int on_client_certificate(int good, X509_STORE_CTX* chain) {
  if (good != 1 || X509_STORE_CTX_get_error_depth(chain) != 0) return good;
  auto* ssl = static_cast<SSL*>(X509_STORE_CTX_get_ex_data(chain, SSL_get_ex_data_X509_STORE_CTX_idx()));
  if (of(ssl).allows(X509_STORE_CTX_get_current_cert(chain))) return 1;
  X509_STORE_CTX_set_error(chain, X509_V_ERR_APPLICATION_VERIFICATION);
  return 0;
}

std::optional<Message> Made::load() {
  if (options_.certificates.empty()) {
    if (!options_.may_be_none) return Message{"TLS needs at least one certificate"};
    contexts_.push_back(tls::new_context(/*server=*/true, options_.min_version));
  }
  for (const TlsCertificate& certificate : options_.certificates) {
    if (auto problem = add(certificate)) return problem;
  }
  options_.certificates.clear();  // in the contexts
  if (auto problem = verify_clients()) return problem;
  for (const tls::Context& context : contexts_) set_up(context.get());
  return std::nullopt;
}

// Certificates with the same names share a context: one of each kind of key.
std::optional<Message> Made::add(const TlsCertificate& certificate) {
  auto described = tls::describe(certificate);
  if (!described.ok()) return described.error();
  SSL_CTX* context = nullptr;
  for (size_t i = 0; i < certificates_.size() && !described->names.empty(); ++i) {
    if (host_of_[i] == certificate.host && certificates_[i].names == described->names) context = of_certificate_[i];
  }
  const bool fresh = context == nullptr;
  if (fresh) {
    contexts_.push_back(tls::new_context(/*server=*/true, options_.min_version));
    context = contexts_.back().get();
  }
  auto used = tls::use_certificate(context, certificate);
  if (!used.ok()) return used.error();
  Group& group = groups_[certificate.host];
  if (group.first == nullptr) group.first = context;
  if (fresh) {
    for (const std::string& name : used->names) {
      if (name.starts_with("*.")) group.wildcard.emplace(name.substr(2), context);
      else group.exact.emplace(name, context);
    }
  }
  if (certificate.host.empty()) default_ = group.first;
  of_certificate_.push_back(context);
  host_of_.push_back(certificate.host);
  certificates_.push_back(std::move(*used));
  return std::nullopt;
}

SSL_CTX* Made::find(std::string name) const {
  tls::lower(name);
  if (name.ends_with('.')) name.pop_back();
  const auto of_host = [&](const std::string& host) -> SSL_CTX* {
    const auto group = groups_.find(host);
    if (group == groups_.end()) return nullptr;
    SSL_CTX* const named = group->second.find(name);
    return named != nullptr ? named : group->second.first;
  };
  if (!name.empty()) {
    if (SSL_CTX* const exact = of_host(name)) return exact;
    for (size_t dot = name.find('.', 1); dot != std::string::npos; dot = name.find('.', dot + 1)) {
      if (SSL_CTX* const wildcard = of_host('*' + name.substr(dot))) return wildcard;
    }
  }
  if (default_ == nullptr) return nullptr;
  SSL_CTX* const named = groups_.at("").find(name);
  return named != nullptr || options_.strict_sni ? named : default_;
}

SSL_CTX* Made::Group::find(const std::string& name) const {
  const auto same = exact.find(name);
  if (same != exact.end()) return same->second;
  const size_t dot = name.find('.');
  if (dot == std::string::npos || dot == 0) return nullptr;
  const auto covering = wildcard.find(name.substr(dot + 1));
  return covering == wildcard.end() ? nullptr : covering->second;
}

std::optional<Message> Made::verify_clients() {
  if (options_.client_certificates == ClientCertificates::none) return std::nullopt;
  if (options_.client_ca.empty()) return Message{"client certificates need a CA bundle to verify them"};
  const int mode = SSL_VERIFY_PEER |
                   (options_.client_certificates == ClientCertificates::required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0);
  for (const tls::Context& context : contexts_) {
    SSL_CTX* const raw = context.get();
    X509_STORE* const store = SSL_CTX_get_cert_store(raw);
    const auto added = tls::add_authorities(store, options_.client_ca, "the CA bundle for client certificates");
    if (!added.ok()) return added.error();
    STACK_OF(X509_OBJECT)* const all = X509_STORE_get0_objects(store);
    for (int i = 0; i < sk_X509_OBJECT_num(all); ++i) {
      X509* const authority = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(all, i));
      if (authority != nullptr) SSL_CTX_add_client_CA(raw, authority);
    }
    SSL_CTX_set_verify(raw, mode, on_client_certificate);
  }
  return std::nullopt;
}

void Made::set_up(SSL_CTX* context) {
  SSL_CTX_set_app_data(context, this);
  SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
  SSL_CTX_set_tlsext_servername_callback(context, on_server_name);
  SSL_CTX_set_alpn_select_cb(context, on_alpn, nullptr);
  SSL_CTX_set_tlsext_ticket_key_evp_cb(context, on_ticket);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);  // tickets alone
  SSL_CTX_set_timeout(context, static_cast<long>(to_seconds(TlsTicketKeys::rotation)));
  const std::string scope = session_scope();
  SSL_CTX_set_session_id_context(context, reinterpret_cast<const unsigned char*>(scope.data()),
                                 static_cast<unsigned>(scope.size()));
}

// A session is good only where the rules about client certificates are those under which it began.
std::string Made::session_scope() const {
  std::string rules = std::to_string(static_cast<int>(options_.client_certificates)) + '\0' + options_.client_ca;
  for (const std::string& name : options_.client_names) rules += '\0' + name;
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  EVP_Digest(rules.data(), rules.size(), digest, &size, EVP_sha256(), nullptr);
  return {reinterpret_cast<const char*>(digest), std::min<size_t>(size, SSL_MAX_SID_CTX_LENGTH)};
}

bool Made::allows(const x509_st* certificate) const {
  if (X509_cmp_current_time(X509_get0_notAfter(certificate)) <= 0) return false;
  if (options_.client_names.empty()) return true;
  const tls::Names names = tls::names_of(certificate);
  const auto listed = [this](const std::string& name) {
    return std::ranges::find(options_.client_names, name) != options_.client_names.end();
  };
  return std::ranges::any_of(names.uris, listed) || std::ranges::any_of(names.dns, listed);
}

}  // namespace

Result<std::shared_ptr<const TlsServerContext>> TlsServerContext::make(const TlsServerOptions& options,
                                                                       std::shared_ptr<const TlsTicketKeys> tickets) {
  auto made = std::make_shared<Made>(options, std::move(tickets));
  auto problem = made->load();
  ERR_clear_error();
  if (problem) return *problem;
  return std::shared_ptr<const TlsServerContext>(std::move(made));
}

}  // namespace penstock::net
