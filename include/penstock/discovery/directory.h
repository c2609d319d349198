// The control thread's knowledge of the pools: which endpoints there are, whether they live, what they serve and how
// loaded they say they are. Polls each endpoint over one keep-alive connection (metrics, health, models), and publishes
// what it learns as snapshots. A change of readiness is published in the event that brings it; metrics are batched.
//
// Who says that an endpoint is ready: of a static endpoint, our health probe alone, once it was answered. Of one that
// the API server (or a manifest) knows, the API server, from its first word on; our probe can only take it out.
// Thread: control. Lifetime: outlives its client's connections; stop() ends all polling.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "penstock/discovery/metrics_scanner.h"
#include "penstock/endpoints/snapshot.h"
#include "penstock/net/event_loop.h"
#include "penstock/upstream/client.h"

namespace penstock::discovery {

// What our own requests say of us to endpoints that want a key. Changes in place when its file does.
struct ApiKey {
  std::string file;
  std::string authorization;  // "Bearer KEY": never to be logged or shown
};

struct PollOptions {
  Duration interval = milliseconds(50);    // metrics.interval: while traffic flows
  Duration idle_interval = seconds(1);     // metrics.idle_interval: while none does
  Duration timeout = seconds(1);           // metrics.timeout: of one scrape or probe
  Duration health_interval = seconds(1);   // metrics.health_interval; unready endpoints are probed four times as often
  Duration models_interval = seconds(10);  // how often /v1/models is read again
  Duration publish_interval = milliseconds(10);  // metrics of this long are published together
  uint32_t probe_failures = 3;  // timeouts in a row that make an endpoint unready (a refused connection: one)
  std::string metrics_path = "/metrics";
  std::string health_path = {};  // empty: that of the endpoint's engine
  CustomGauges custom = {};      // that are looked for at every endpoint
  Engines engines = built_in_engines();
  std::shared_ptr<const ApiKey> api_key = {};  // of endpoints without one of their own; null: none
};

// One endpoint as configuration names it.
struct EndpointSpec {
  std::string name;  // unique in the pool
  std::string url;   // http://host:port, or https
  std::string host;  // IP address, IPv6 without brackets; names become addresses in NamedEndpoints
  uint16_t port = 0;
  std::string authority;                // for the Host field; "": host and port
  std::optional<std::string> tls_name;  // https: as in EndpointState
  std::string tls_trust;                // likewise
  // Where it publishes KV events and replays them, if not where all do (kv_events.*); 0: there.
  uint16_t kv_events_port = 0, kv_replay_port = 0;
  std::string engine;                     // one of PollOptions::engines; else it is found out
  std::shared_ptr<const ApiKey> api_key;  // null: that of PollOptions
  // Of endpoints that Kubernetes knows:
  std::string ns;                                 // of the pod
  std::string uid;                                // of the pod: another one at the same address is another endpoint
  std::optional<endpoints::Readiness> readiness;  // what the API server says; nothing: it knows nothing of it
  bool last_resort = false;                       // as in EndpointView
  uint32_t rank = 0;                              // among the ports of its pod
  std::shared_ptr<const objects::Labels> labels;  // of the pod; null: none
  bool operator==(const EndpointSpec&) const = default;
};

// One pool and everything that is said of it. An endpoint that did not change should keep its pointer from one call to
// the next: it then costs next to nothing.
struct PoolSpec {
  objects::PoolId id;  // who it is: the same id is the same pool
  std::string name;    // what metrics call it
  std::vector<std::shared_ptr<const EndpointSpec>> endpoints;
  std::shared_ptr<const objects::Rewrites> rewrites;      // null: none
  std::shared_ptr<const objects::Objectives> objectives;  // null: none
};

struct PoolsSpec {
  std::vector<PoolSpec> pools;
  std::shared_ptr<const objects::RouteTable> routes;  // null: pools[0] answers everything
  std::vector<uint32_t> route_pools;                  // as in Snapshot
};

// What stands against one kind of our own requests to an endpoint.
struct Trouble {
  std::string text;  // "GET /health: connection refused"; "": nothing, or not asked yet
  Instant since{};   // of the first that failed in a row
};

// How polling of one endpoint goes; for the exporter, on the control thread.
struct PollStatus {
  std::string endpoint;
  std::string engine;  // that it is taken for; "auto" while that is a guess
  Instant since{};     // of whether it is ready, as probes or the API server say
  Trouble health, metrics, models;
  Instant last_success{};
  bool ever = false;
  uint64_t scrapes = 0, scrape_errors = 0, probe_errors = 0;
  uint64_t implausible = 0;  // scrapes with a KV cache that no engine has
};

// What others must hear of at once. Called on the control thread.
class DirectoryEvents {
 public:
  // What was believed of its caches is void: it left, or it came back and is likely another process.
  virtual void on_caches_lost(const endpoints::EndpointState& endpoint) = 0;
  // It gets no new request from now on (it is draining, or gone): idle connections to it should be closed, on every
  // shard. Requests that are under way go on. Once for each endpoint, before its state can be freed.
  virtual void on_draining(const endpoints::EndpointState& endpoint) = 0;
  // It answers neither our probes nor, then, requests that wait there for their answer: they should go elsewhere. Said
  // with each probe that fails while it is not alive and has requests; never for what Kubernetes says of it, nor for a
  // probe that was answered with an error: such an endpoint speaks for itself. `unanswered_since`: when the probe
  // before this one was sent, which got no answer either; nothing if there is none, or if its host refuses probes, as
  // it does while a server shuts down and still serves what it has.
  virtual void on_silent(const endpoints::EndpointState& endpoint, std::optional<Instant> unanswered_since) {}
  // Which endpoints there are was said anew; one that several pools list comes several times. Valid during the call.
  struct Listed {
    const endpoints::EndpointState& state;
    const EndpointSpec& spec;
  };
  virtual void on_listed(const std::vector<Listed>& endpoints) {}
  // It does not answer our probe. Said with each probe that fails while it is not alive.
  virtual void on_unreachable(const endpoints::EndpointState& endpoint) {}
  // A new snapshot is there; valid during the call.
  virtual void on_published(const endpoints::Snapshot& snapshot) {}

 protected:
  ~DirectoryEvents() = default;
};

class EndpointPoller;

class Directory {
 public:
  Directory(net::EventLoop& loop, upstream::Client& client, endpoints::SnapshotPublisher& publisher,
            endpoints::EndpointRegistry& registry, DirectoryEvents& events, const PollOptions& options);
  ~Directory();

  // Replaces the pools and their endpoints: those that stay keep their state, and the difference is published before
  // this returns. An endpoint whose host is no IP address is reported and left out.
  std::vector<std::string> set_pools(PoolsSpec spec);
  // One pool without routes, from configuration.
  std::vector<std::string> set_endpoints(const std::string& pool_name, const std::vector<EndpointSpec>& specs);
  void set_options(const PollOptions& options) { options_ = options; }
  void stop();

  // There were pools, of each of their endpoints it was known whether it lives, and of the living ones models and
  // metrics were asked for: what /readyz waits for. Once true it stays so, whatever endpoints come later.
  bool synced() const;
  std::vector<PollStatus> status() const;
  Instant published_at() const { return published_at_; }  // of the current snapshot

 private:
  friend class EndpointPoller;
  // An endpoint's place in a pool: pools may see the same endpoint differently.
  struct Member {
    std::shared_ptr<const EndpointSpec> spec;
    EndpointPoller* poller;
  };
  struct PoolState {
    objects::PoolId id;
    uint32_t number = 0;  // its id in snapshots
    std::string name;
    std::vector<Member> members;
    std::shared_ptr<const objects::Rewrites> rewrites;
    std::shared_ptr<const objects::Objectives> objectives;
  };
  using KnownSpecs = std::unordered_map<const EndpointSpec*, EndpointPoller*>;

  KnownSpecs known_specs() const;
  Result<EndpointPoller*> poller_of(const EndpointSpec& spec);
  uint32_t number_of(const objects::PoolId& id);
  void settle_pollers();
  void tell_listed();
  Duration scrape_interval(bool traffic) const;
  void on_tick();
  bool traffic_flows();
  void changed(bool at_once);
  void publish();

  net::EventLoop& loop_;
  upstream::Client& client_;
  endpoints::SnapshotPublisher& publisher_;
  endpoints::EndpointRegistry& registry_;
  DirectoryEvents& events_;
  PollOptions options_;
  std::vector<PoolState> pools_;
  uint32_t next_pool_ = 0;
  std::unordered_map<std::string, std::unique_ptr<EndpointPoller>> pollers_;  // by who the endpoint is
  std::shared_ptr<const objects::RouteTable> routes_;
  std::vector<uint32_t> route_pools_;
  uint64_t round_ = 0;  // of set_pools()
  mutable bool synced_ = false;
  net::Timer tick_, publish_timer_;
  int scraping_ = 0;  // pollers that wait for metrics
  uint64_t picks_seen_ = 0;
  Instant traffic_until_{}, published_at_{};
};

}  // namespace penstock::discovery
