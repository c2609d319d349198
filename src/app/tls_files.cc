#include "tls_files.h"

#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <set>
#include <utility>

#include "penstock/base/assert.h"
#include "penstock/base/log.h"
#include "penstock/config/tls.h"

namespace penstock::app {

namespace {

constexpr Duration kPoll = seconds(60);
// After a change: files that are written one after the other become one change.
constexpr Duration kSettle = milliseconds(100);

size_t state_of(const net::TlsServerOptions& options) {
  size_t state = 0;
  const auto add = [&](const std::string& text) { state = state * 31 + std::hash<std::string>()(text) + 1; };
  for (const net::TlsCertificate& certificate : options.certificates) {
    add(certificate.chain);
    add(certificate.key);
    add(certificate.host);
  }
  add(options.client_ca);
  for (const std::string& protocol : options.alpn) add(protocol);
  for (const std::string& name : options.client_names) add(name);
  add(std::to_string(options.strict_sni) + std::to_string(static_cast<int>(options.min_version)) +
      std::to_string(static_cast<int>(options.client_certificates)) +
      std::to_string(options.handshake_timeout.count()));
  return state;
}

size_t state_of(const net::TlsClientOptions& options) {
  const std::hash<std::string> hash;
  size_t state = hash(options.ca) + 1;
  if (options.certificate)
    state = (state * 31 + hash(options.certificate->chain)) * 31 + hash(options.certificate->key);
  return state * 31 + hash(options.server_name) * 2 + (options.insecure_skip_verify ? 1 : 0);
}

}  // namespace

TlsFiles::TlsFiles(net::EventLoop& loop, size_t shards, Publish publish)
    : loop_(loop),
      shards_(shards),
      publish_(std::move(publish)),
      look_(net::Timer::of<&TlsFiles::look>(this)),
      rotation_(net::Timer::of<&TlsFiles::rotate>(this)) {
  loop_.arm(rotation_, net::TlsTicketKeys::rotation);
}

TlsFiles::~TlsFiles() {
  if (watch_) loop_.ring().unwatch(watch_);
  if (inotify_ >= 0) ::close(inotify_);
}

std::vector<TlsFiles::Port> TlsFiles::ports_of(const config::Options& options) const {
  std::vector<Port> ports;
  for (const config::ListenerEntry& entry : options.listeners) {
    ports.push_back({entry.name, entry.tls, shards_, options.server.http2.enabled});
  }
  ports.push_back({std::string(config::admin_port_name), options.admin_tls, 1, false});
  return ports;
}

std::string TlsFiles::set(const config::Options& options) {
  const bool asks = config::needs_endpoint_tls(options);
  const auto for_endpoints = asks ? read(options.endpoint_tls, endpoint_state_) : ReadForEndpoints{endpoint_state_, {}};
  if (!for_endpoints.ok()) return for_endpoints.error().text;
  std::vector<Port> ports = ports_of(options);
  served_.resize(ports.size());
  std::vector<Read> all(ports.size());
  for (size_t i = 0; i < ports.size(); ++i) {
    if (!ports[i].tls.has_value()) continue;
    auto made = read(ports[i], served_[i].of_gateways, served_[i].state);
    if (!made.ok()) return made.error().text;
    all[i] = std::move(*made);
  }
  for (size_t i = 0; i < ports.size(); ++i) {
    served_[i].port = std::move(ports[i]);
    if (all[i].contexts.empty()) continue;
    served_[i].state = all[i].state;
    served_[i].certificates = std::move(all[i].certificates);
    publish(i, std::move(all[i].contexts));
  }
  endpoint_tls_ = asks ? std::make_unique<config::EndpointTls>(options.endpoint_tls) : nullptr;
  endpoint_state_ = for_endpoints->state;
  if (for_endpoints->context != nullptr) publish_.endpoints(for_endpoints->context);
  watch_folders();
  return "";
}

void TlsFiles::publish(size_t number, std::vector<Context> contexts) {
  if (number + 1 == served_.size()) publish_.admin(std::move(contexts.front()));
  else publish_.listener(number, std::move(contexts));
}

// No contexts: the files hold what is known.
Result<TlsFiles::Read> TlsFiles::read(const Port& port, const std::vector<net::TlsCertificate>& of_gateways,
                                      size_t known) const {
  auto options = config::read_listener_tls(*port.tls);
  if (!options.ok()) return options.error();
  options->certificates.insert(options->certificates.begin(), of_gateways.begin(), of_gateways.end());
  if (port.http2) options->alpn.insert(options->alpn.begin(), "h2");
  Read out{.state = state_of(*options)};
  if (out.state == known) return out;
  for (size_t i = 0; i < port.contexts; ++i) {
    auto context = net::TlsServerContext::make(*options, tickets_);
    if (!context.ok()) return context.error();
    out.contexts.push_back(std::move(*context));
  }
  out.certificates = out.contexts.front()->certificates();
  return out;
}

Result<TlsFiles::ReadForEndpoints> TlsFiles::read(const config::EndpointTls& tls, size_t known) const {
  auto options = config::read_endpoint_tls(tls);
  if (!options.ok()) return options.error();
  ReadForEndpoints out{.state = state_of(*options)};
  if (out.state == known) return out;
  auto context = net::TlsClientContext::make(*options);
  if (!context.ok()) return context.error();
  out.context = std::move(*context);
  return out;
}

// ---- changes ----

// Watches are added anew each time: a folder may have been replaced.
void TlsFiles::watch_folders() {
  std::vector<std::string> of_endpoints;
  if (endpoint_tls_) of_endpoints = config::tls_folders(*endpoint_tls_);
  if (!any() && of_endpoints.empty()) return look_.cancel();
  loop_.arm(look_, kPoll);
  if (watch_) loop_.ring().unwatch(std::exchange(watch_, {}));
  if (inotify_ >= 0) ::close(inotify_);
  inotify_ = ::inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  if (inotify_ < 0) return;  // the poll remains
  const auto watch_all = [this](const std::vector<std::string>& folders) {
    constexpr uint32_t changes = IN_CREATE | IN_MOVED_TO | IN_CLOSE_WRITE | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF;
    for (const std::string& folder : folders) ::inotify_add_watch(inotify_, folder.c_str(), changes);
  };
  watch_all(of_endpoints);
  for (const Served& served : served_) {
    if (served.port.tls.has_value()) watch_all(config::tls_folders(*served.port.tls));
  }
  const auto watch = loop_.ring().watch(inotify_, *this);
  if (watch.ok()) watch_ = *watch;
}

void TlsFiles::on_ready() {
  alignas(inotify_event) char events[4096];
  while (::read(inotify_, events, sizeof events) > 0) {
  }
  if (!look_.armed() || look_.deadline() > loop_.now() + kSettle) loop_.arm(look_, kSettle);
}

void TlsFiles::look() {
  watch_folders();
  look_at_endpoints();
  for (size_t i = 0; i < served_.size(); ++i) {
    if (served_[i].port.tls.has_value()) look_at(i);
  }
}

void TlsFiles::look_at(size_t number) {
  Served& served = served_[number];
  auto made = read(served.port, served.of_gateways, served.state);
  if (!made.ok()) return refused(served.refused, served.port.name, made.error().text);
  served.refused = 0;
  if (made->contexts.empty()) return;
  served.state = made->state;
  served.certificates = std::move(made->certificates);
  ++reloads_;
  log::info("TLS: new certificates are served",
            {{"listener", served.port.name}, {"certificates", served.certificates.size()}});
  publish(number, std::move(made->contexts));
}

void TlsFiles::set_gateway_certificates(std::vector<std::vector<net::TlsCertificate>> certificates) {
  PENSTOCK_ASSERT(certificates.size() + 1 == served_.size());  // Gateways bring none for the admin port
  for (size_t i = 0; i < certificates.size(); ++i) {
    Served& served = served_[i];
    if (!served.port.tls.has_value()) continue;
    std::vector<net::TlsCertificate> now = std::move(certificates[i]);
    for (net::TlsCertificate& one : now) {
      const auto before = std::ranges::find_if(served.of_gateways, [&](const net::TlsCertificate& known) {
        return known.origin == one.origin && known.host == one.host;
      });
      if (one.chain.empty() && before != served.of_gateways.end()) one = *before;
    }
    std::erase_if(now, [](const net::TlsCertificate& one) { return one.chain.empty(); });
    served.of_gateways = std::move(now);
    look_at(i);
  }
}

bool TlsFiles::any() const {
  return std::ranges::any_of(served_, [](const Served& served) { return served.port.tls.has_value(); });
}

void TlsFiles::look_at_endpoints() {
  if (!endpoint_tls_) return;
  const auto made = read(*endpoint_tls_, endpoint_state_);
  if (!made.ok()) return refused(endpoint_refused_, "endpoint_tls", made.error().text);
  endpoint_refused_ = 0;
  if (made->context == nullptr) return;
  endpoint_state_ = made->state;
  ++reloads_;
  log::info("TLS: new files are used with endpoints", {{"ca", endpoint_tls_->ca}});
  publish_.endpoints(made->context);
}

// Once for each reason.
void TlsFiles::refused(size_t& last, const std::string& whose, const std::string& why) {
  const size_t reason = std::hash<std::string>()(why);
  if (std::exchange(last, reason) == reason) return;
  ++reloads_failed_;
  log::error("TLS: what is in the files cannot be used, what was used before stays", {{"of", whose}, {"error", why}});
}

void TlsFiles::rotate() {
  tickets_->rotate();
  loop_.arm(rotation_, net::TlsTicketKeys::rotation);
}

observability::TlsFilesStatus TlsFiles::status() const {
  observability::TlsFilesStatus status{.reloads = reloads_, .reloads_failed = reloads_failed_};
  for (const Served& served : served_) {
    std::set<std::string> told;  // listeners of Gateways may show the same Secret for several hosts
    for (const net::TlsCertificateInfo& certificate : served.certificates) {
      if (!told.insert(certificate.origin).second) continue;
      status.certificates.push_back({served.port.name, certificate.origin, certificate.not_after_s});
    }
  }
  return status;
}

}  // namespace penstock::app
