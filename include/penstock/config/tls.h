// The files that TLS settings name: read together, as of one moment. What they hold is never a part of the options, so
// that nothing that shows options can show a key.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "penstock/base/result.h"
#include "penstock/config/options.h"
#include "penstock/net/tls.h"
#include "penstock/objects/types.h"

namespace penstock::config {

// What the admin port is called beside the listeners, where certificates are told apart.
constexpr std::string_view admin_port_name = "admin";

// The options of a listener's contexts, or of the admin port's. A certificate and a key that lie in one folder are of
// one state of it, also while it is being replaced as a kubelet replaces mounted Secrets: by turning the link ..data to
// another folder. Errors name the file, and never cite what it holds.
Result<net::TlsServerOptions> read_listener_tls(const ListenerTls& tls);
// As objects::CheckCertificate: whether a listener could show what the Secret of a Gateway holds.
std::string check_secret(const objects::Secret& secret);
// As objects::CheckAuthorities.
std::string check_authorities(const std::string& pem);
// Whether some endpoint is asked in TLS.
bool needs_endpoint_tls(const Options& options);
// The options of the context for endpoints.
Result<net::TlsClientOptions> read_endpoint_tls(const EndpointTls& tls);
// The folders whose changes may change these.
std::vector<std::string> tls_folders(const ListenerTls& tls);
std::vector<std::string> tls_folders(const EndpointTls& tls);

}  // namespace penstock::config
