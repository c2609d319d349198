// Where clients connect: the addresses, the shards that listen there, the certificates.
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "control.h"
#include "penstock/base/log.h"

namespace penstock::app {

namespace {

// Our listeners share their port (SO_REUSEPORT), so a second gateway of the same user would quietly take half of the
// connections. A socket without that option tells whether the port is free.
Result<net::Address> free_address(const std::string& text) {
  auto address = net::Address::parse(text);
  if (!address.ok() || address->port() == 0) return address;
  const int fd = ::socket(address->family(), SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  const bool free = fd >= 0 && ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
                    ::bind(fd, address->data(), address->size()) == 0 && ::listen(fd, 1) == 0;
  const int error = errno;
  if (fd >= 0) ::close(fd);
  if (!free) return Message{"cannot listen on " + text + ": " + std::strerror(error)};
  return address;
}

// The number that the first of `listeners` has among all of a shard's.
size_t first_listener(const config::Options& options) {
  return options.listen == "none" ? 0 : 1;
}

}  // namespace

bool Control::find_addresses() {
  std::vector<std::string> texts;
  if (first_listener(options_) == 1) texts.push_back(options_.listen);
  for (const config::ListenerEntry& entry : options_.listeners) texts.push_back(entry.address);
  for (const std::string& text : texts) {
    const auto address = free_address(text);
    if (!address.ok()) {
      const bool main = listening_.empty() && text == options_.listen;
      log::error(address.error().text, {{"hint", main ? "choose another address with --listen"
                                                      : "choose another address in listeners, or with --listen-tls"}});
      return false;
    }
    listening_.push_back(*address);
  }
  return true;
}

bool Control::load_certificates() {
  tls_files_ = std::make_unique<TlsFiles>(
      *loop_, shards_.size(),
      TlsFiles::Publish{
          .listener = [this](size_t listener, auto contexts) { publish_tls(listener, std::move(contexts)); },
          .admin = [this](TlsFiles::Context context) { publish_admin_tls(std::move(context)); },
          .endpoints =
              [this](const TlsFiles::ClientContext& context) {
                client_->set_tls(*client_tls_, context);
                for (const auto& shard : shards_) shard->set_endpoint_tls(context);
              }});
  if (const std::string problem = tls_files_->set(options_); !problem.empty()) {
    log::error("cannot serve TLS", {{"error", problem}});
    return false;
  }
  return true;
}

bool Control::start_shards() {
  for (const auto& shard : shards_) {
    const auto bound = shard->start(listening_);
    if (bound.ok()) {
      listening_ = *bound;  // with port 0, the other shards take the first one's port
      continue;
    }
    log::error("cannot start a shard", {{"error", bound.error().text}});
    return false;
  }
  for (size_t i = 0; i < options_.listeners.size(); ++i) {
    const config::ListenerEntry& entry = options_.listeners[i];
    log::info("listener", {{"name", entry.name},
                           {"listen", listening_[first_listener(options_) + i].to_string()},
                           {"protocol", entry.tls.has_value() ? "https" : "http"}});
  }
  return true;
}

void Control::take_tls(const objects::Desired& desired) {
  trusts_.set(desired);
  if (desired.certificates_revision == std::exchange(certificates_taken_, desired.certificates_revision)) return;
  take_certificates(desired.certificates);
}

void Control::publish_trust(const std::string& trust, const TlsFiles::ClientContext& context) {
  client_->set_trust(*client_tls_, trust, context);
  for (const auto& shard : shards_) shard->set_trust(trust, context);
}

void Control::take_certificates(const objects::Certificates& of_gateways) {
  std::vector<std::vector<net::TlsCertificate>> out(options_.listeners.size());
  for (size_t i = 0; i < out.size() && first_listener(options_) + i < of_gateways.size(); ++i) {
    for (const objects::GatewayCertificate& one : of_gateways[first_listener(options_) + i]) {
      net::TlsCertificate& certificate = out[i].emplace_back();
      if (one.secret != nullptr) certificate = {one.secret->certificate, one.secret->key, "", ""};
      certificate.origin = one.origin;
      certificate.host = one.host;
    }
  }
  tls_files_->set_gateway_certificates(std::move(out));
}

void Control::publish_tls(size_t listener, std::vector<TlsFiles::Context> contexts) {
  for (size_t i = 0; i < shards_.size(); ++i) {
    shards_[i]->set_tls(first_listener(options_) + listener, std::move(contexts[i]));
  }
}

}  // namespace penstock::app
