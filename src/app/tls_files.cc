#include "tls_files.h"

#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <utility>

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
  }
  add(options.client_ca);
  for (const std::string& name : options.client_names) add(name);
  add(std::to_string(options.strict_sni) + std::to_string(static_cast<int>(options.min_version)) +
      std::to_string(static_cast<int>(options.client_certificates)) +
      std::to_string(options.handshake_timeout.count()));
  return state;
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

std::string TlsFiles::set(const std::vector<config::ListenerEntry>& listeners) {
  std::vector<Read> all(listeners.size());
  for (size_t i = 0; i < listeners.size(); ++i) {
    if (!listeners[i].tls.has_value()) continue;
    auto made = read(listeners[i], i < served_.size() ? served_[i].state : 0);
    if (!made.ok()) return made.error().text;
    all[i] = std::move(*made);
  }
  served_.resize(listeners.size());
  for (size_t i = 0; i < listeners.size(); ++i) {
    served_[i].entry = listeners[i];
    if (all[i].contexts.empty()) continue;
    served_[i].state = all[i].state;
    served_[i].certificates = std::move(all[i].certificates);
    publish_(i, std::move(all[i].contexts));
  }
  watch_folders();
  return "";
}

// No contexts: the files hold what is known.
Result<TlsFiles::Read> TlsFiles::read(const config::ListenerEntry& entry, size_t known) const {
  auto options = config::read_listener_tls(*entry.tls);
  if (!options.ok()) return options.error();
  Read out{.state = state_of(*options)};
  if (out.state == known) return out;
  for (size_t shard = 0; shard < shards_; ++shard) {
    auto context = net::TlsServerContext::make(*options, tickets_);
    if (!context.ok()) return context.error();
    out.contexts.push_back(std::move(*context));
  }
  out.certificates = out.contexts.front()->certificates();
  return out;
}

// ---- changes ----

// Watches are added anew each time: a folder may have been replaced.
void TlsFiles::watch_folders() {
  if (!any()) return look_.cancel();
  loop_.arm(look_, kPoll);
  if (watch_) loop_.ring().unwatch(std::exchange(watch_, {}));
  if (inotify_ >= 0) ::close(inotify_);
  inotify_ = ::inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  if (inotify_ < 0) return;  // the poll remains
  for (const Served& served : served_) {
    if (!served.entry.tls.has_value()) continue;
    for (const std::string& folder : config::tls_folders(*served.entry.tls)) {
      ::inotify_add_watch(inotify_, folder.c_str(),
                          IN_CREATE | IN_MOVED_TO | IN_CLOSE_WRITE | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF);
    }
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
  for (size_t i = 0; i < served_.size(); ++i) {
    if (served_[i].entry.tls.has_value()) look_at(i);
  }
}

void TlsFiles::look_at(size_t listener) {
  Served& served = served_[listener];
  auto made = read(served.entry, served.state);
  if (!made.ok()) {
    const size_t reason = std::hash<std::string>()(made.error().text);
    if (std::exchange(served.refused, reason) == reason) return;
    ++reloads_failed_;
    return log::error("TLS: what is in the files cannot be used, the certificates served stay as they are",
                      {{"listener", served.entry.name}, {"error", made.error().text}});
  }
  served.refused = 0;
  if (made->contexts.empty()) return;
  served.state = made->state;
  served.certificates = std::move(made->certificates);
  ++reloads_;
  log::info("TLS: new certificates are served",
            {{"listener", served.entry.name}, {"certificates", served.certificates.size()}});
  publish_(listener, std::move(made->contexts));
}

bool TlsFiles::any() const {
  return std::ranges::any_of(served_, [](const Served& served) { return served.entry.tls.has_value(); });
}

void TlsFiles::rotate() {
  tickets_->rotate();
  loop_.arm(rotation_, net::TlsTicketKeys::rotation);
}

observability::TlsFilesStatus TlsFiles::status() const {
  observability::TlsFilesStatus status{.reloads = reloads_, .reloads_failed = reloads_failed_};
  for (const Served& served : served_) {
    for (const net::TlsCertificateInfo& certificate : served.certificates) {
      status.certificates.push_back({served.entry.name, certificate.origin, certificate.not_after_s});
    }
  }
  return status;
}

}  // namespace penstock::app
