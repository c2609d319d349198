#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "http2_connection.h"
#include "penstock/base/log.h"
#include "penstock/downstream/connection.h"

namespace penstock::downstream {

Server::Server(net::EventLoop& loop, net::BlockPool& pool, Service& service, const ServerOptions& options)
    : loop_(loop), pool_(pool), service_(service), options_(for_timers(options)) {}

Server::~Server() {
  stop_listening();
  cut_all();
}

Result<net::Address> Server::listen(const net::Address& at, bool reuse_port) {
  net::Address bound;
  auto listener = std::make_unique<Listener>(*this, listeners_.size());
  auto socket = loop_.ring().listen(at, reuse_port, *listener, &bound);
  if (!socket.ok()) return socket.error();
  listener->socket = *socket;
  listeners_.push_back(std::move(listener));
  return bound;
}

void Server::set_tls(size_t listener, const net::TlsAccept& tls) {
  listeners_.at(listener)->tls = tls;
}

void Server::Listener::on_accept(int fd) {
  if (server.placement_ && server.placement_(fd, number)) return;
  server.adopt(fd, nullptr, number);
}

void Server::accept_failed(int error) {
  if (loop_.now() - warned_at_ < seconds(1)) return;
  warned_at_ = loop_.now();
  log::warn("cannot accept a connection", {{"error", std::strerror(error)}, {"connections", count_}});
}

void Server::adopt(int fd, ClientTable* counted_in, size_t listener) {
  // A server that does not listen itself adopts plain connections.
  const bool tls = listener < listeners_.size() && secure(listener);
  auto* connection = new Connection(*this, fd, counted_in, listener, tls ? &listeners_[listener]->tls : nullptr);
  connections_.push_back(*connection);
  ++count_;
  service_.on_connections_changed(+1);
  if (draining_) connection->close_when_idle();
}

void Server::speak_http2(Connection& from, std::string_view line, std::string_view rest) {
  auto* connection = new Http2Connection(from);
  replace(from, *connection);
  connection->begin(line, rest);
  if (draining_) connection->close_when_idle();
}

// The count stays: it is the same connection of the client.
void Server::replace(ClientConnection& from, ClientConnection& by) {
  from.ListNode<ConnectionTag>::unlink();
  loop_.dispose(std::unique_ptr<net::Disposable>(&from));
  connections_.push_back(by);
}

void Server::remove(ClientConnection& connection) {
  connection.ListNode<ConnectionTag>::unlink();
  --count_;
  service_.on_connections_changed(-1);
  if (departure_) departure_();
  loop_.dispose(std::unique_ptr<net::Disposable>(&connection));
}

// Looking at all connections costs less than keeping them in order would, since it happens at a limit only, and then
// makes room for several.
bool Server::evict_idle() {
  constexpr size_t share = 64;
  const Instant now = loop_.now();
  if (now < nothing_idle_until_) return false;
  idle_.clear();
  connections_.for_each([this](ClientConnection& connection) {
    if (connection.idle()) idle_.push_back(&connection);
  });
  if (idle_.empty()) {
    nothing_idle_until_ = now + std::max<Duration>(milliseconds(1), microseconds(static_cast<int64_t>(count_)));
    return false;
  }
  const size_t victims = std::min(idle_.size(), std::max<size_t>(1, count_ / share));
  std::ranges::partial_sort(idle_, idle_.begin() + static_cast<ptrdiff_t>(victims), {}, &ClientConnection::idle_since);
  for (size_t i = 0; i < victims; ++i) {
    service_.on_idle_evicted();
    idle_[i]->evict();
  }
  return true;
}

// Oldest first: an honest head is complete soon, so that those which have been there longest are the likeliest never to
// be. False: `wanting` itself is the oldest, and gone.
bool Server::make_room_for_head(ClientConnection& wanting, size_t bytes) {
  while (unfinished_bytes_ + bytes > options_.unfinished_heads) {
    ClientConnection& oldest = unfinished_.front();
    oldest.crowded_out();
    if (&oldest == &wanting) return false;
  }
  return true;
}

void Server::stop_listening() {
  for (const auto& listener : listeners_) {
    if (listener->socket) loop_.ring().close_listener(std::exchange(listener->socket, {}));
  }
}

void Server::announce_drain() {
  parting_ = true;
}

void Server::drain() {
  parting_ = draining_ = true;
  connections_.for_each([](ClientConnection& connection) { connection.close_when_idle(); });
}

Duration Server::linger_time() const {
  return draining_ ? std::min(options_.linger_timeout, options_.parting_silence) : options_.linger_timeout;
}

bool Server::waits_for_more() const {
  return !draining_ || options_.parting_silence > Duration::zero();
}

bool Server::cut_longest_silent() {
  ClientConnection* longest = nullptr;
  connections_.for_each([&](ClientConnection& connection) {
    if (!connection.asks_nothing()) return;
    if (longest == nullptr || connection.idle_since() < longest->idle_since()) longest = &connection;
  });
  if (longest == nullptr) return false;
  longest->cut();
  return true;
}

void Server::announce_end() {
  connections_.for_each([](ClientConnection& connection) { connection.announce_end(); });
}

void Server::cut_all() {
  connections_.for_each([](ClientConnection& connection) { connection.cut(); });
}

}  // namespace penstock::downstream
