#include "tests/support/certificates.h"

#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include <atomic>
#include <memory>

namespace penstock::test {

namespace {

struct Free {
  void operator()(X509* p) const { X509_free(p); }
  void operator()(EVP_PKEY* p) const { EVP_PKEY_free(p); }
  void operator()(BIO* p) const { BIO_free(p); }
};
using Cert = std::unique_ptr<X509, Free>;
using Key = std::unique_ptr<EVP_PKEY, Free>;
using Memory = std::unique_ptr<BIO, Free>;

std::string text_of(BIO* memory) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(memory, &data);
  return {data, static_cast<size_t>(size)};
}

void add_extension(X509* cert, int kind, const char* value) {
  X509_EXTENSION* const extension = X509V3_EXT_conf_nid(nullptr, nullptr, kind, value);
  X509_add_ext(cert, extension, -1);
  X509_EXTENSION_free(extension);
}

Certificate make(const std::string& name, const Certificate* authority, const std::string& names,
                 const CertificateOptions& options) {
  static std::atomic<long> serial{1};
  const Key key(options.rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256"));
  const Cert cert(X509_new());
  X509_set_version(cert.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(cert.get()), serial++);
  X509_gmtime_adj(X509_getm_notBefore(cert.get()), options.begins_s);
  X509_gmtime_adj(X509_getm_notAfter(cert.get()), options.ends_s);
  X509_set_pubkey(cert.get(), key.get());
  X509_NAME_add_entry_by_txt(X509_get_subject_name(cert.get()), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  Cert issuer;
  Key issuer_key;
  if (authority != nullptr) {
    const Memory pem(BIO_new_mem_buf(authority->pem.data(), -1)),
        key_pem(BIO_new_mem_buf(authority->key_pem.data(), -1));
    issuer.reset(PEM_read_bio_X509(pem.get(), nullptr, nullptr, nullptr));
    issuer_key.reset(PEM_read_bio_PrivateKey(key_pem.get(), nullptr, nullptr, nullptr));
  }
  X509_set_issuer_name(cert.get(), X509_get_subject_name(issuer ? issuer.get() : cert.get()));
  if (authority == nullptr) add_extension(cert.get(), NID_basic_constraints, "critical,CA:TRUE");
  if (!names.empty()) add_extension(cert.get(), NID_subject_alt_name, names.c_str());
  X509_sign(cert.get(), issuer_key ? issuer_key.get() : key.get(), EVP_sha256());
  const Memory pem(BIO_new(BIO_s_mem())), key_pem(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509(pem.get(), cert.get());
  PEM_write_bio_PrivateKey(key_pem.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  return {text_of(pem.get()), text_of(key_pem.get())};
}

}  // namespace

Certificate make_authority(const std::string& name) {
  return make(name, nullptr, {}, {});
}

Certificate issue(const Certificate& authority, const std::string& subject, const std::string& names,
                  const CertificateOptions& options) {
  return make(subject, &authority, names, options);
}

}  // namespace penstock::test
