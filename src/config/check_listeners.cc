// Listeners and TLS: what can be wrong with them together, and with their files.
#include <map>

#include "check.h"
#include "penstock/base/text.h"
#include "penstock/config/tls.h"

namespace penstock::config {

namespace {

// Made and thrown away: a file that cannot be used is a problem now, not at the first handshake.
std::string problem_with_files(const ListenerTls& tls) {
  auto options = read_listener_tls(tls);
  if (!options.ok()) return options.error().text;
  auto context = net::TlsServerContext::make(*options, std::make_shared<net::TlsTicketKeys>());
  return context.ok() ? "" : context.error().text;
}

// Says what is wrong with certificates that are there, and with what is asked of those of clients.
template <typename Complain>
void check_tls(const ListenerTls& tls, const Complain& complain) {
  const bool asks = tls.client_certificates != net::ClientCertificates::none;
  if (!asks && (!tls.client_ca.empty() || !tls.client_names.empty())) {
    complain("client_ca and client_names have no effect with client_certificates: none");
  }
  if (std::string problem = problem_with_files(tls); !problem.empty()) complain(std::move(problem));
}

void check_admin_tls(LoadResult& result, const Places& places, const std::string& file) {
  if (!result.options.admin_tls) return;
  const auto complain = [&](std::string message) {
    result.problems.push_back(problem_of(places, file, "admin.tls", std::move(message)));
  };
  if (result.options.admin_tls->certificates.empty()) {
    return complain("has no certificates; expected at least one pair of cert and key");
  }
  check_tls(*result.options.admin_tls, complain);
}

// A listener of a Gateway may bring the certificates then.
bool obeys_gateways(const Options& options) {
  return !options.manifests.empty() || (options.kubernetes.enabled && options.kubernetes.gateway_api);
}

// Whether TLS with endpoints is possible as it is configured.
void check_endpoint_tls(LoadResult& result, const Places& places, const std::string& file) {
  const EndpointTls& tls = result.options.endpoint_tls;
  const auto complain = [&](const std::string& key, std::string message) {
    result.problems.push_back(problem_of(places, file, key, std::move(message)));
  };
  if (tls.certificate.cert.empty() != tls.certificate.key.empty()) {
    const bool key = tls.certificate.cert.empty();
    return complain(key ? "endpoint_tls.key" : "endpoint_tls.cert",
                    std::string("needs endpoint_tls.") + (key ? "cert" : "key") + " beside it");
  }
  if (tls.insecure_skip_verify) {
    if (!tls.ca.empty()) complain("endpoint_tls.ca", "has no effect beside endpoint_tls.insecure_skip_verify");
    result.notes.push_back(problem_of(places, file, "endpoint_tls.insecure_skip_verify",
                                      "accepts any certificate of an endpoint: whoever is between can read and change "
                                      "everything"));
  }
  // Without its own bundle a context reads the system's, which is large.
  if (tls.ca.empty() && tls.certificate.cert.empty() && !needs_endpoint_tls(result.options)) return;
  auto options = read_endpoint_tls(tls);
  if (!options.ok()) return complain(tls.ca.empty() ? "endpoint_tls.cert" : "endpoint_tls.ca", options.error().text);
  auto context = net::TlsClientContext::make(*options);
  if (context.ok()) return;
  complain(tls.ca.empty() ? "endpoint_tls.cert" : "endpoint_tls.ca", context.error().text);
}

}  // namespace

void check_listeners(LoadResult& result, const Places& places, const std::string& file) {
  check_endpoint_tls(result, places, file);
  check_admin_tls(result, places, file);
  const Options& o = result.options;
  std::map<std::string, size_t> names;
  for (size_t i = 0; i < o.listeners.size(); ++i) {
    const ListenerEntry& entry = o.listeners[i];
    const EndpointPlace& place = places.listeners[i];
    const auto complain = [&](const std::string& key, std::string message) {
      const bool flag = place.line == 0;
      result.problems.push_back(
          {flag ? "command line" : file, place.line, flag ? place.key : place.key + key, message});
    };
    if (!names.emplace(entry.name, i).second) complain(".name", "the name " + in_quotes(entry.name) + " is used twice");
    if (o.admin_tls && entry.name == admin_port_name) {
      complain(".name", "is what the admin port is called in metrics and logs where it has TLS; choose another");
    }
    if (overlap(entry.address, o.listen)) complain(".address", "takes the same port as listen (" + o.listen + ")");
    if (overlap(entry.address, o.admin)) complain(".address", "takes the same port as admin (" + o.admin + ")");
    for (size_t other = 0; other < i; ++other) {
      if (overlap(entry.address, o.listeners[other].address)) {
        complain(".address", "takes the same port as " + places.listeners[other].key);
      }
    }
    if (!entry.tls) continue;
    if (entry.tls->certificates.empty() && !obeys_gateways(o)) {
      complain(".tls.certificates",
               "is missing; protocol: https needs at least one pair of cert and key, or Gateways that bring them");
      continue;
    }
    check_tls(*entry.tls, [&](std::string message) { complain(".tls", std::move(message)); });
  }
  if (o.listen == "none" && o.listeners.empty()) {
    result.problems.push_back(
        problem_of(places, file, "listen", "is none, and there are no listeners: clients could not connect"));
  }
}

}  // namespace penstock::config
