#include "tls_context.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <ctime>
#include <new>

#include "tls_layer.h"

namespace penstock::net::tls {

namespace {

struct Free {
  void operator()(X509* p) const { X509_free(p); }
  void operator()(EVP_PKEY* p) const { EVP_PKEY_free(p); }
  void operator()(BIO* p) const { BIO_free(p); }
  void operator()(GENERAL_NAMES* p) const { GENERAL_NAMES_free(p); }
};
template <typename T>
using Owned = std::unique_ptr<T, Free>;

// Mozilla's "intermediate" choice of 2023 without its finite-field groups: forward secrecy and AEAD.
constexpr char kCiphers12[] =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
constexpr char kGroups[] = "X25519:P-256:P-384";

Owned<BIO> memory(const std::string& text) {
  return Owned<BIO>(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

// An encrypted key would make OpenSSL ask on the terminal.
int no_password(char*, int, int, void*) {
  return -1;
}

std::vector<Owned<X509>> read_chain(const std::string& pem) {
  std::vector<Owned<X509>> chain;
  const Owned<BIO> from = memory(pem);
  while (X509* next = PEM_read_bio_X509(from.get(), nullptr, no_password, nullptr)) chain.emplace_back(next);
  ERR_clear_error();  // of the end
  return chain;
}

int64_t seconds_of(const ASN1_TIME* time) {
  tm fields{};
  return ASN1_TIME_to_tm(time, &fields) == 1 ? static_cast<int64_t>(timegm(&fields)) : 0;
}

std::string in_words(const ASN1_TIME* time) {
  char text[32] = "?";
  tm fields{};
  if (ASN1_TIME_to_tm(time, &fields) == 1) std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &fields);
  return text;
}

std::optional<std::string> chain_problem(const std::vector<Owned<X509>>& chain) {
  for (const auto& certificate : chain) {
    const ASN1_TIME* const end = X509_get0_notAfter(certificate.get());
    const ASN1_TIME* const begin = X509_get0_notBefore(certificate.get());
    const char* const which = certificate == chain.front() ? "the certificate" : "an intermediate certificate";
    if (X509_cmp_current_time(end) <= 0) return std::string(which) + " has expired (" + in_words(end) + ")";
    if (X509_cmp_current_time(begin) > 0) return std::string(which) + " is not valid yet (" + in_words(begin) + ")";
  }
  for (size_t i = 1; i < chain.size(); ++i) {
    if (X509_check_issued(chain[i].get(), chain[i - 1].get()) == X509_V_OK) continue;
    return "certificate " + std::to_string(i + 1) + " of the file has not issued the one before it";
  }
  return std::nullopt;
}

TlsCertificateInfo describe(const X509* leaf, const std::string& origin) {
  Names names = names_of(leaf);
  TlsCertificateInfo info{.origin = origin, .names = std::move(names.dns)};
  if (info.names.empty() && !names.common_name.empty()) info.names.push_back(names.common_name);
  for (std::string& name : info.names) lower(name);
  info.not_after_s = seconds_of(X509_get0_notAfter(leaf));
  return info;
}

std::string text_of(const ASN1_STRING* text) {
  return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)), static_cast<size_t>(ASN1_STRING_length(text))};
}

}  // namespace

void FreeContext::operator()(ssl_ctx_st* context) const {
  SSL_CTX_free(context);
}

void lower(std::string& text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
}

std::string last_error() {
  const unsigned long error = ERR_peek_error();
  if (error == 0) return "";
  const char* const reason = ERR_reason_error_string(error);
  char text[64];
  if (reason != nullptr) return reason;
  ERR_error_string_n(error, text, sizeof text);
  return text;
}

Context new_context(bool server, TlsVersion min_version) {
  Context context(SSL_CTX_new(server ? TLS_server_method() : TLS_client_method()));
  if (context == nullptr) throw std::bad_alloc();
  SSL_CTX* const raw = context.get();
  SSL_CTX_set_min_proto_version(raw, min_version == TlsVersion::tls1_3 ? TLS1_3_VERSION : TLS1_2_VERSION);
  SSL_CTX_set_options(raw, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  // Without its buffers an idle connection takes 15 KB instead of 48 KB.
  SSL_CTX_set_mode(raw, SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_cipher_list(raw, kCiphers12);
  SSL_CTX_set1_groups_list(raw, kGroups);
  return context;
}

Result<TlsCertificateInfo> use_certificate(ssl_ctx_st* context, const TlsCertificate& certificate) {
  ERR_clear_error();
  const auto failed = [&](const std::string& why) { return Message{certificate.origin + ": " + why}; };
  const std::vector<Owned<X509>> chain = read_chain(certificate.chain);
  if (chain.empty()) return failed("no certificate in PEM form is in the file");
  const Owned<BIO> from = memory(certificate.key);
  const Owned<EVP_PKEY> key(PEM_read_bio_PrivateKey(from.get(), nullptr, no_password, nullptr));
  if (key == nullptr) return failed("its private key cannot be read: want PEM without a password");
  if (X509_check_private_key(chain.front().get(), key.get()) != 1) {
    return failed("certificate and private key do not belong together");
  }
  if (const auto problem = chain_problem(chain)) return failed(*problem);
  if (SSL_CTX_use_certificate(context, chain.front().get()) != 1) return failed(last_error());
  if (SSL_CTX_use_PrivateKey(context, key.get()) != 1) return failed(last_error());
  SSL_CTX_clear_chain_certs(context);
  for (size_t i = 1; i < chain.size(); ++i) SSL_CTX_add1_chain_cert(context, chain[i].get());
  return describe(chain.front().get(), certificate.origin);
}

Result<TlsCertificateInfo> describe(const TlsCertificate& certificate) {
  const std::vector<Owned<X509>> chain = read_chain(certificate.chain);
  if (chain.empty()) return Message{certificate.origin + ": no certificate in PEM form is in the file"};
  return describe(chain.front().get(), certificate.origin);
}

Result<size_t> add_authorities(x509_store_st* store, const std::string& pem, const std::string& what) {
  const std::vector<Owned<X509>> all = read_chain(pem);
  if (all.empty()) return Message{what + ": no certificate in PEM form is in the file"};
  for (const auto& authority : all) X509_STORE_add_cert(store, authority.get());
  return all.size();
}

std::string alpn_wire(const std::vector<std::string>& protocols) {
  std::string wire;
  for (const std::string& protocol : protocols) wire += static_cast<char>(protocol.size()) + protocol;
  return wire;
}

Names names_of(const x509_st* certificate) {
  Names names;
  const Owned<GENERAL_NAMES> all(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; i < sk_GENERAL_NAME_num(all.get()); ++i) {
    const GENERAL_NAME* const name = sk_GENERAL_NAME_value(all.get(), i);
    if (name->type == GEN_URI) names.uris.push_back(text_of(name->d.uniformResourceIdentifier));
    if (name->type == GEN_DNS) names.dns.push_back(text_of(name->d.dNSName));
  }
  char common_name[256];
  const int size =
      X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, common_name, sizeof common_name);
  if (size > 0) names.common_name.assign(common_name, static_cast<size_t>(size));
  return names;
}

}  // namespace penstock::net::tls
