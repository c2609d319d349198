// One shard: a thread with its ring, loop, buffers, upstream pools, router and client listener. It shares with other
// shards only what Shared lists. The thread itself builds everything that it owns, because an io_uring belongs to the
// thread that created it.
#pragma once

#include <atomic>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <string_view>
#include <thread>
#include <vector>

#include "penstock/config/options.h"
#include "penstock/endpoints/snapshot_reader.h"
#include "penstock/observability/shard_stats.h"
#include "penstock/proxy/error.h"
#include "penstock/proxy/gateway.h"

namespace penstock::app {

class Shard;

// What all shards share. Outlives them; made by the control thread before the first shard starts.
struct Shared {
  const config::Options& options;
  const net::RingProbe& probe;
  MemoryBudget& budget;
  endpoints::SnapshotPublisher& snapshots;
  routing::PrefixIndex& index;
  routing::TokenEstimator& tokens;
  const routing::Profile& profile;
  const routing::Profile* shadow;  // null: none
  const routing::ToldIndex* told;  // null: KV events are off
  proxy::HoldQueue& hold;
  proxy::ResponseOwners& responses;
  std::vector<std::unique_ptr<Shard>>& shards;
  std::atomic<size_t> connections_max;  // limits.connections; changes with a reload
  downstream::ClientTable& clients_by_address;
  const int descriptors_max;  // connections of clients and endpoints use only descriptors below this number
  // Called by any shard when no connection can be made to this address. Rare.
  std::function<void(const std::string&)> endpoint_unreachable;
  // Client connections of all shards, including those being handed from one shard to another.
  alignas(64) std::atomic<size_t> clients{0};
};

// A connection that was just accepted.
struct Newcomer {
  int fd = -1;
  size_t listener = 0;                         // its number: 0 is `listen`, those of `listeners` follow
  downstream::ClientTable* counted = nullptr;  // the table in which its client was counted; null: none
};

class Shard {
 public:
  Shard(Shared& shared, size_t index, int cpu, observability::ShardStats& stats);
  ~Shard();

  // Starts the thread. Returns the addresses once it listens at all of them, or the reason why it cannot.
  Result<std::vector<net::Address>> start(const std::vector<net::Address>& listen);

  // Any thread: these are carried out in the shard's next turn.
  void reload(const config::Options& options, std::function<void()> applied);  // `applied` runs on the shard's thread
  // From now on new connections of this listener use this context. Also before start(): no connection comes without.
  void set_tls(size_t listener, std::shared_ptr<const net::TlsServerContext> context);
  // Likewise, for new connections to endpoints.
  void set_endpoint_tls(std::shared_ptr<const net::TlsClientContext> context);
  // Likewise, for those of this tls_trust; null: none can be made.
  void set_trust(const std::string& trust, std::shared_ptr<const net::TlsClientContext> context);
  void announce_drain();          // a drain is near: answers say `Connection: close`
  void stop_accepting();          // the drain begins: no new connections, idle ones end
  void drop_idle(uint32_t slot);  // closes idle connections to the endpoint with this slot
  // The endpoint does not answer health probes: requests that wait for its first byte move to another one.
  void leave_silent(uint32_t slot, uint32_t incarnation, std::optional<Instant> unanswered_since);
  void forget_unused_series(uint32_t sweeps_max);  // see ShardStats
  void stop();                                     // cuts remaining connections and ends the thread
  void join();
  void take_connection(const Newcomer& newcomer);  // handed over by another shard

  // Any thread; as of the shard's last turn.
  int64_t load() const { return load_.load(std::memory_order_relaxed); }
  int64_t in_flight() const { return in_flight_.load(std::memory_order_relaxed); }
  bool accepting() const { return accepting_.load(std::memory_order_relaxed); }
  const net::RingStats* ring_stats() const { return ring_stats_; }
  const upstream::ClientStats* upstream_stats() const { return upstream_stats_; }
  const net::TlsRuntime* tls() const { return tls_; }
  const char* ring_name() const { return ring_name_; }
  const std::string& ring_reason() const { return ring_reason_; }

 private:
  struct Parts;  // everything that lives on the thread

  using Started = std::promise<Result<std::vector<net::Address>>>;
  void run(std::vector<net::Address> listen, Started started);
  bool place(Newcomer newcomer);
  bool admit(Newcomer& newcomer);
  bool count_client(Newcomer& newcomer);
  void make_room(const Newcomer& newcomer, size_t shards_left);
  void adopt(const Newcomer& newcomer);
  Shard* less_loaded();
  void refuse_connection(const Newcomer& newcomer, std::string_view limit, proxy::ErrorCode why);

  Shared& shared_;
  size_t index_;
  int cpu_;  // to pin to; -1: none
  observability::ShardStats& stats_;
  Random random_;
  Parts* parts_ = nullptr;  // on the thread's stack while it runs
  std::atomic<net::EventLoop*> loop_{nullptr};
  const net::RingStats* ring_stats_ = nullptr;
  const upstream::ClientStats* upstream_stats_ = nullptr;
  const net::TlsRuntime* tls_ = nullptr;
  const char* ring_name_ = "";
  std::string ring_reason_;
  std::vector<std::pair<size_t, std::shared_ptr<const net::TlsServerContext>>> first_tls_;  // given before start()
  std::shared_ptr<const net::TlsClientContext> first_endpoint_tls_;
  std::map<std::string, std::shared_ptr<const net::TlsClientContext>> first_trusts_;
  std::thread thread_;
  alignas(64) std::atomic<int64_t> load_{0};  // connections + requests in flight, published each turn
  std::atomic<int64_t> in_flight_{0};
  std::atomic<bool> accepting_{false};
};

// Refuses a connection that was just accepted: sends what the socket takes at once, and closes it.
void answer_and_close(int fd, std::string_view answer);

// The options of each layer, taken from the whole configuration.
proxy::Options proxy_options(const config::Options& options);
// Age from which an endpoint's metrics count as unknown: a few missed polls, even at the idle interval.
Duration metrics_stale_after(const config::Options& options);
routing::RouterOptions router_options(const config::Options& options, const routing::Profile* shadow,
                                      const routing::ToldIndex* told);
admission::FlowOptions flow_options(const config::Options& options);
downstream::ServerOptions server_options(const config::Options& options);

}  // namespace penstock::app
