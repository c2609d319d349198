// Certificates for tests, made on the spot.
#pragma once

#include <string>

namespace penstock::test {

struct Certificate {
  std::string pem, key_pem;
};

struct CertificateOptions {
  long begins_s = -3600, ends_s = 3600;  // from now
  bool rsa = false;                      // else P-256
};

// A self-signed authority, and a certificate from one. `names` as in OpenSSL's configuration:
// "DNS:a,IP:127.0.0.1,URI:b";
// "": no alternative name.
Certificate make_authority(const std::string& name);
Certificate issue(const Certificate& authority, const std::string& subject, const std::string& names,
                  const CertificateOptions& options = {});

}  // namespace penstock::test
