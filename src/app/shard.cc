#include "shard.h"

#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <random>

#include "memory_return.h"
#include "penstock/base/log.h"
#include "penstock/epp/config.h"
#include "short_slices.h"

namespace penstock::app {

namespace {

void apply_prefix(const routing::PrefixSpec& prefix, proxy::Options& out) {
  out.tune_blocks = prefix.auto_tune;
  out.prefix.block_tokens = prefix.block_tokens;
  if (prefix.blocks_max > 0) out.prefix.blocks_max = prefix.blocks_max;
  out.prefix_tokens_max = prefix.tokens_max;
}

// The policy or its shadow does.
bool either(const Shared& shared, bool routing::Profile::*does) {
  return shared.profile.*does || (shared.shadow != nullptr && shared.shadow->*does);
}

}  // namespace

proxy::Options proxy_options(const config::Options& options) {
  proxy::Options out = options.proxy;
  out.clients.proxies = net::IpRanges(options.trusted_proxies);
  out.clients.trusted = net::IpRanges(options.identity.trusted);
  out.tune_blocks = options.kv_events.enabled;  // engines report blocks of their own size
  if (options.endpoint_picker != nullptr) {
    apply_prefix(options.endpoint_picker->scheduling.prefix, out);
    out.identity_headers = options.endpoint_picker->identity_headers;
  }
  out.certificate_names_flow = options.flow_names == config::FlowNames::certificate;
  out.flow = flow_options(options);
  return out;
}

admission::FlowOptions flow_options(const config::Options& options) {
  using config::FlowControl;
  const epp::Config* picker = options.endpoint_picker.get();
  if (picker != nullptr && (picker->flow.enabled || options.flow_control != FlowControl::on)) {
    admission::FlowOptions out = picker->flow;
    out.enabled = out.enabled && options.flow_control != FlowControl::off;
    return out;
  }
  admission::FlowOptions out = options.proxy.flow;
  const bool on_by_default = options.policy == "expected-cost";
  out.enabled = options.flow_control == FlowControl::on || (options.flow_control != FlowControl::off && on_by_default);
  out.detector.metrics_stale_after = metrics_stale_after(options);
  return out;
}

Duration metrics_stale_after(const config::Options& options) {
  return std::max<Duration>(seconds(2), 3 * options.poll.idle_interval);
}

routing::RouterOptions router_options(const config::Options& options, const routing::Profile* shadow,
                                      const routing::ToldIndex* told) {
  routing::RouterOptions out;
  out.slow_start = options.proxy.ejection.slow_start;
  out.metrics_stale_after = metrics_stale_after(options);
  out.shadow = shadow;
  out.told = told;
  out.clock = [] { return net::system_clock().now(); };
  return out;
}

downstream::ServerOptions server_options(const config::Options& options) {
  downstream::ServerOptions out = options.server;
  // At least one head of the greatest size, in the buffer that has grown for it.
  const double share = static_cast<double>(options.limits.memory_bytes) * options.limits.incomplete_heads_percent / 100;
  out.unfinished_heads =
      std::max(static_cast<size_t>(share / options.shards), out.parser.head_bytes_max * downstream::head_growth);
  return out;
}

// Each part depends only on those above it, so they are destroyed in reverse order.
struct Shard::Parts {
  Parts(Shard& shard, net::Ring& ring)
      : budget(&shard.shared_.budget),
        pool(budget),
        loop(ring, net::system_clock()),
        tls(loop, pool),
        client(loop, shard.shared_.options.client),
        snapshots(shard.shared_.snapshots, shard.index_),
        router(shard.shared_.profile, shard.shared_.index, shard.random_.next(),
               router_options(shard.shared_.options, shard.shared_.shadow, shard.shared_.told)),
        retries(shard.shared_.options.retry_budget),
        context{.loop = loop,
                .client = client,
                .router = router,
                .hash_prompts = either(shard.shared_, &routing::Profile::uses_prefix),
                .chain_hash = shard.shared_.profile.chain_hash,
                .hash_media = either(shard.shared_, &routing::Profile::uses_media),
                .gives_session_tokens = shard.shared_.profile.gives_session_tokens,
                .index = shard.shared_.index,
                .tokens = shard.shared_.tokens,
                .budget = budget,
                .random = shard.random_,
                .observer = shard.stats_,
                .retries = retries,
                .snapshots = snapshots,
                .options = proxy_options(shard.shared_.options),
                .endpoint_unreachable =
                    [&shard](const auto& endpoint) { shard.shared_.endpoint_unreachable(endpoint.address); },
                .hash_told = shard.shared_.told != nullptr,
                .clients = &shard.shared_.clients_by_address,
                .hold = &shard.shared_.hold,
                .responses = &shard.shared_.responses},
        gateway(context),
        server(loop, pool, gateway, server_options(shard.shared_.options)),
        memory_return(loop) {}

  MemoryBudget budget;
  net::BlockPool pool;
  net::EventLoop loop;
  net::TlsRuntime tls;
  upstream::Client client;
  endpoints::SnapshotReader snapshots;
  routing::Router router;
  admission::RetryBudget retries;
  proxy::Context context;
  proxy::Gateway gateway;
  downstream::Server server;
  MemoryReturn memory_return;

  // What peers keep in use: their bytes in the budget, and about what a connection needs beside them.
  size_t in_use() const {
    constexpr size_t connection_bytes = 4096;
    return budget.taken() + server.connections() * connection_bytes;
  }
};

Shard::Shard(Shared& shared, size_t index, int cpu, observability::ShardStats& stats)
    : shared_(shared), index_(index), cpu_(cpu), stats_(stats), random_(std::random_device{}()) {}

Shard::~Shard() {
  PENSTOCK_ASSERT(!thread_.joinable());
}

Result<std::vector<net::Address>> Shard::start(const std::vector<net::Address>& listen) {
  Started promise;
  std::future<Result<std::vector<net::Address>>> started = promise.get_future();
  thread_ = std::thread(&Shard::run, this, listen, std::move(promise));
  return started.get();
}

void Shard::run(std::vector<net::Address> listen, Started started) {
  pthread_setname_np(pthread_self(), ("shard-" + std::to_string(index_)).c_str());
  if (cpu_ >= 0) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(static_cast<size_t>(cpu_), &cpus);
    if (sched_setaffinity(0, sizeof cpus, &cpus) != 0) log::warn("cannot pin a shard to its CPU", {{"cpu", cpu_}});
  }
  ask_for_short_slices();
  auto ring = net::make_ring(shared_.options.ring, shared_.probe);
  if (!ring.ok()) return started.set_value(ring.error());
  Parts parts(*this, **ring);
  (*ring)->leave_descriptors_from(shared_.descriptors_max);
  parts.server.set_placement([this](int fd, size_t listener) { return place({fd, listener, nullptr}); });
  parts.server.set_departure([this] { shared_.clients.fetch_sub(1, std::memory_order_relaxed); });
  for (net::Address& address : listen) {
    const auto bound = parts.server.listen(address, /*reuse_port=*/true);
    if (!bound.ok()) return started.set_value(bound.error());
    address = *bound;
  }
  for (const auto& [listener, context] : first_tls_) parts.server.set_tls(listener, {&parts.tls, context});
  first_tls_.clear();
  if (first_endpoint_tls_ != nullptr) parts.client.set_tls(parts.tls, std::move(first_endpoint_tls_));
  for (const auto& [trust, context] : first_trusts_) parts.client.set_trust(parts.tls, trust, context);
  first_trusts_.clear();
  parts_ = &parts;
  ring_stats_ = &(*ring)->stats();
  upstream_stats_ = &parts.client.stats();
  tls_ = &parts.tls;
  ring_name_ = (*ring)->name();
  ring_reason_ = (*ring)->reason();
  loop_.store(&parts.loop, std::memory_order_release);
  accepting_.store(true, std::memory_order_relaxed);
  parts.loop.set_turn_hook([this, &parts] {
    parts.snapshots.end_turn();
    parts.memory_return.end_turn(parts.in_use());
    const auto in_flight = static_cast<int64_t>(parts.gateway.in_flight());
    in_flight_.store(in_flight, std::memory_order_relaxed);
    load_.store(in_flight + static_cast<int64_t>(parts.server.connections()), std::memory_order_relaxed);
  });
  started.set_value(std::move(listen));
  parts.loop.run();
  accepting_.store(false, std::memory_order_relaxed);
}

// ---- new connections ----

// Keeps a new connection, hands it to another shard or refuses it. The kernel assigns connections to shards by a hash
// of their addresses, which is uneven if few clients send many requests. So two random shards are compared, and the
// connection moves if one of them has clearly less to do.
bool Shard::place(Newcomer newcomer) {
  if (!admit(newcomer)) return true;
  Shard* other = less_loaded();
  if (other == nullptr) adopt(newcomer);
  else other->take_connection(newcomer);
  return true;
}

void Shard::adopt(const Newcomer& newcomer) {
  parts_->server.adopt(newcomer.fd, newcomer.counted, newcomer.listener);
}

// Counts the connection, or refuses it. Descriptors may run out before limits.connections is reached, because other
// parts of the process use them too.
bool Shard::admit(Newcomer& newcomer) {
  if (newcomer.fd >= shared_.descriptors_max && !parts_->server.evict_idle()) {
    refuse_connection(newcomer, "descriptors", proxy::ErrorCode::no_descriptor);
    return false;
  }
  if (!count_client(newcomer)) return false;
  const size_t before = shared_.clients.fetch_add(1, std::memory_order_relaxed);
  if (before < shared_.connections_max.load(std::memory_order_relaxed) || parts_->server.evict_idle()) return true;
  make_room(newcomer, shared_.shards.size() - 1);
  return false;
}

// limits.connections_per_client. The clients of trusted proxies are counted by their requests.
bool Shard::count_client(Newcomer& newcomer) {
  const proxy::Options& options = parts_->context.options;
  if (options.connections_per_client == 0) return true;
  const auto peer = net::IpAddress::of(net::Address::peer_of(newcomer.fd));
  if (!peer || options.clients.proxies.contains(*peer)) return true;
  if (shared_.clients_by_address.try_enter(peer->client(), options.connections_per_client)) {
    newcomer.counted = &shared_.clients_by_address;
    return true;
  }
  refuse_connection(newcomer, "connections_per_client", proxy::ErrorCode::too_many_client_connections);
  return false;
}

// limits.connections is reached, and no connection of this shard is idle. The new one goes from shard to shard until an
// idle one is found, whose place it takes, or no shard is left.
void Shard::make_room(const Newcomer& newcomer, size_t shards_left) {
  Shard* const next = shared_.shards[(index_ + 1) % shared_.shards.size()].get();
  net::EventLoop* const loop = next->loop_.load(std::memory_order_acquire);  // null: it has not started yet
  if (shards_left > 0 && loop != nullptr) {
    return loop->post([next, newcomer, shards_left] {
      if (next->parts_->server.evict_idle()) return next->adopt(newcomer);
      next->make_room(newcomer, shards_left - 1);
    });
  }
  shared_.clients.fetch_sub(1, std::memory_order_relaxed);
  if (newcomer.counted != nullptr) {
    newcomer.counted->leave(net::IpAddress::of(net::Address::peer_of(newcomer.fd))->client());
  }
  refuse_connection(newcomer, "connections", proxy::ErrorCode::too_many_connections);
}

Shard* Shard::less_loaded() {
  const auto& shards = shared_.shards;
  if (shards.size() < 2) return nullptr;
  const auto own = static_cast<int64_t>(parts_->server.connections() + parts_->gateway.in_flight());
  Shard* best = nullptr;
  int64_t best_load = own - own / 8 - 2;  // a hand-over pays only if the other has 12 % and two connections less
  for (int i = 0; i < 2; ++i) {
    Shard* candidate = shards[random_.below(shards.size())].get();
    if (candidate == this || !candidate->accepting() || candidate->load() >= best_load) continue;
    best = candidate;
    best_load = candidate->load();
  }
  return best;
}

void Shard::take_connection(const Newcomer& newcomer) {
  load_.fetch_add(1, std::memory_order_relaxed);  // visible to other shards before the next turn publishes load_
  loop_.load(std::memory_order_acquire)->post([this, newcomer] { adopt(newcomer); });
}

// A client that speaks TLS could not read an answer without a handshake, which is just what there is no room for.
void Shard::refuse_connection(const Newcomer& newcomer, std::string_view limit, proxy::ErrorCode why) {
  stats_.limit_hit(limit);
  if (parts_->server.secure(newcomer.listener)) ::close(newcomer.fd);
  else answer_and_close(newcomer.fd, proxy::error_answer(why));
}

void answer_and_close(int fd, std::string_view answer) {
  static_cast<void>(::send(fd, answer.data(), answer.size(), MSG_NOSIGNAL | MSG_DONTWAIT));
  ::shutdown(fd, SHUT_WR);
  ::close(fd);
}

// ---- from the control thread ----

void Shard::reload(const config::Options& options, std::function<void()> applied) {
  loop_.load(std::memory_order_acquire)->post([this, options, applied = std::move(applied)] {
    parts_->context.options = proxy_options(options);
    parts_->router.set_times(metrics_stale_after(options), options.proxy.ejection.slow_start);
    parts_->retries.set_options(options.retry_budget);
    parts_->server.set_options(server_options(options));
    parts_->client.set_options(options.client);
    applied();
  });
}

void Shard::set_tls(size_t listener, std::shared_ptr<const net::TlsServerContext> context) {
  net::EventLoop* const loop = loop_.load(std::memory_order_acquire);
  if (loop == nullptr) {
    first_tls_.emplace_back(listener, std::move(context));
    return;
  }
  loop->post([this, listener, context = std::move(context)] {
    parts_->server.set_tls(listener, {&parts_->tls, context});
  });
}

void Shard::set_endpoint_tls(std::shared_ptr<const net::TlsClientContext> context) {
  net::EventLoop* const loop = loop_.load(std::memory_order_acquire);
  if (loop == nullptr) {
    first_endpoint_tls_ = std::move(context);
    return;
  }
  loop->post([this, context = std::move(context)] { parts_->client.set_tls(parts_->tls, context); });
}

void Shard::set_trust(const std::string& trust, std::shared_ptr<const net::TlsClientContext> context) {
  net::EventLoop* const loop = loop_.load(std::memory_order_acquire);
  if (loop == nullptr) {
    first_trusts_[trust] = std::move(context);
    return;
  }
  loop->post([this, trust, context = std::move(context)] { parts_->client.set_trust(parts_->tls, trust, context); });
}

void Shard::announce_drain() {
  loop_.load(std::memory_order_acquire)->post([this] { parts_->server.announce_drain(); });
}

void Shard::stop_accepting() {
  accepting_.store(false, std::memory_order_relaxed);
  loop_.load(std::memory_order_acquire)->post([this] {
    parts_->server.stop_listening();
    parts_->server.drain();
  });
}

void Shard::drop_idle(uint32_t slot) {
  net::EventLoop* loop = loop_.load(std::memory_order_acquire);
  if (loop == nullptr) return;  // not started yet: it has no connection
  loop->post([this, slot] { parts_->client.drop_idle(slot); });
}

void Shard::forget_unused_series(uint32_t sweeps_max) {
  net::EventLoop* loop = loop_.load(std::memory_order_acquire);
  if (loop == nullptr) return;  // not started yet: it has counted nothing
  loop->post([this, sweeps_max] { stats_.forget_unused_tenants(sweeps_max); });
}

void Shard::leave_silent(uint32_t slot, uint32_t incarnation, std::optional<Instant> unanswered_since) {
  net::EventLoop* loop = loop_.load(std::memory_order_acquire);
  if (loop == nullptr) return;  // not started yet: it has no request
  loop->post([this, slot, incarnation, unanswered_since] {
    parts_->gateway.leave_silent(slot, incarnation, unanswered_since);
  });
}

void Shard::stop() {
  net::EventLoop* loop = loop_.load(std::memory_order_acquire);
  if (loop == nullptr) return;
  // Requests in flight get a last answer in one turn, and connections are cut in the next, because written bytes are
  // sent at the end of a turn.
  loop->post([this, loop] {
    parts_->server.stop_listening();
    parts_->server.drain();  // no new request begins on a kept connection
    parts_->server.announce_end();
    loop->post([this] {
      parts_->server.cut_all();
      parts_->loop.stop();
    });
  });
}

void Shard::join() {
  if (thread_.joinable()) thread_.join();
}

}  // namespace penstock::app
