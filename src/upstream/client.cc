#include "penstock/upstream/client.h"

#include "penstock/base/assert.h"
#include "penstock/base/log.h"

namespace penstock::upstream {

Client::Client(net::EventLoop& loop, const ClientOptions& options) : loop_(loop), options_(options) {}

Client::~Client() {
  drop_all_idle();
  busy_.for_each([](Connection& connection) { connection.end(/*reset=*/true); });
}

Connection& Client::start(const Target& target, const Request& request, ResponseSink& sink) {
  if (!request.fresh) {
    if (Connection* idle = take_idle(target)) {
      stats_.reused.add();
      busy_.push_back(*idle);
      idle->begin(request, sink, /*reused=*/true);
      return *idle;
    }
  }
  auto* connection = new Connection(*this, target);
  busy_.push_back(*connection);
  connection->begin(request, sink, /*reused=*/false);
  return *connection;
}

Connection* Client::take_idle(const Target& target) {
  const auto found = idle_.find(target.key);
  if (found == idle_.end()) return nullptr;
  IdleList& list = found->second;
  while (!list.connections.empty()) {
    Connection& youngest = list.connections.front();
    if (youngest.target_.incarnation != target.incarnation) {
      youngest.end(/*reset=*/false);
      continue;
    }
    youngest.ListNode<ConnectionTag>::unlink();
    --list.count;
    stats_.idle.add(-1);
    return &youngest;
  }
  return nullptr;
}

void Client::keep(Connection& connection) {
  IdleList& list = idle_[connection.target_.key];
  if (list.count >= options_.idle_max) list.connections.back().end(/*reset=*/false);
  connection.ListNode<ConnectionTag>::unlink();
  list.connections.push_front(connection);
  ++list.count;
  stats_.idle.add(1);
}

void Client::forget(Connection& connection) {
  if (connection.phase_ == Connection::Phase::idle) {
    --idle_[connection.target_.key].count;
    stats_.idle.add(-1);
    stats_.idle_closed.add();
  }
  connection.ListNode<ConnectionTag>::unlink();
  loop_.dispose(std::unique_ptr<net::Disposable>(&connection));
}

// ---- TLS ----

void Client::set_tls(net::TlsRuntime& runtime, std::shared_ptr<const net::TlsClientContext> context) {
  tls_runtime_ = &runtime;
  if (context == tls_context_) return;
  tls_context_ = std::move(context);
  drop_all_idle();
}

void Client::set_trust(net::TlsRuntime& runtime, const std::string& trust,
                       std::shared_ptr<const net::TlsClientContext> context) {
  tls_runtime_ = &runtime;
  if (context == nullptr) trusts_.erase(trust);
  else trusts_[trust] = std::move(context);
  drop_all_idle();
}

std::optional<net::TlsConnect> Client::tls_for(const Target& target) {
  std::shared_ptr<const net::TlsClientContext> context = tls_context_;
  if (target.tls_trust != nullptr && !target.tls_trust->empty()) {
    const auto found = trusts_.find(*target.tls_trust);
    context = found == trusts_.end() ? nullptr : found->second;
  }
  if (context == nullptr) return std::nullopt;
  Session& known = sessions_[target.key];
  if (known.session == nullptr || known.incarnation != target.incarnation) {
    known = {target.incarnation, std::make_shared<net::TlsSession>()};
  }
  return net::TlsConnect{.runtime = tls_runtime_,
                         .context = std::move(context),
                         .server_name = *target.tls_name,
                         .session = known.session};
}

void Client::tls_failed(const Target& target, std::string_view why) {
  tls_failure_ = why;
  if (loop_.now() - tls_warned_at_ < seconds(1)) return;
  tls_warned_at_ = loop_.now();
  log::warn("TLS with an endpoint has failed", {{"address", target.address.to_string()}, {"error", why}});
}

void Client::drop_idle(uint32_t key) {
  const auto found = idle_.find(key);
  if (found == idle_.end()) return;
  found->second.connections.for_each([](Connection& connection) { connection.end(/*reset=*/false); });
}

void Client::drop_all_idle() {
  for (auto& [key, list] : idle_) drop_idle(key);
}

}  // namespace penstock::upstream
