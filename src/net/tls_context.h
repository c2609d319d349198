// What the TLS layer needs of contexts, and what those share: private to net.
#pragma once

#include <string>
#include <vector>

#include "penstock/net/tls.h"

struct ssl_ctx_st;
struct x509_st;
struct x509_store_st;

namespace penstock::net::tls {

struct FreeContext {
  void operator()(ssl_ctx_st* context) const;
};
using Context = std::unique_ptr<ssl_ctx_st, FreeContext>;

// The newest error of OpenSSL on this thread, in words.
std::string last_error();
// With the defaults that both sides share.
Context new_context(bool server, TlsVersion min_version);
// Checks the pair and gives it to the context. The first certificate's names and end go to `info`.
Result<TlsCertificateInfo> use_certificate(ssl_ctx_st* context, const TlsCertificate& certificate);
Result<TlsCertificateInfo> describe(const TlsCertificate& certificate);
// Adds all certificates of the bundle; the text of an error begins with `what`.
Result<size_t> add_authorities(x509_store_st* store, const std::string& pem, const std::string& what);
// In the form of the protocol extension: each with its length before it.
std::string alpn_wire(const std::vector<std::string>& protocols);
// subjectAltName of these kinds, URIs first; with `common_name`, that of the subject if there is none.
struct Names {
  std::vector<std::string> uris, dns;
  std::string common_name;
};
Names names_of(const x509_st* certificate);
void lower(std::string& text);

// The two contexts as the layer sees them.
class ServerContext : public TlsServerContext {
 public:
  virtual ssl_ctx_st* handle() const = 0;
  virtual const TlsServerOptions& options() const = 0;
  // Whether a client with this certificate may come in: its dates, and the allow list.
  virtual bool allows(const x509_st* certificate) const = 0;
};
class ClientContext : public TlsClientContext {
 public:
  virtual ssl_ctx_st* handle() const = 0;
  virtual const TlsClientOptions& options() const = 0;
};

}  // namespace penstock::net::tls
