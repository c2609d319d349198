// The control thread's knowledge of the pool: which endpoints there are, whether they live, what they serve and how
// loaded they say they are. Polls each endpoint over one keep-alive connection (metrics, health, models), and publishes
// what it learns as snapshots. A change of readiness is published in the event that brings it; metrics are batched.
// Thread: control. Lifetime: outlives its client's connections; stop() ends all polling.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "penstock/endpoints/snapshot.h"
#include "penstock/net/event_loop.h"
#include "penstock/upstream/client.h"

namespace penstock::discovery {

struct PollOptions {
  Duration interval = milliseconds(50);    // metrics.interval: while traffic flows
  Duration idle_interval = seconds(1);     // metrics.idle_interval: while none does
  Duration timeout = seconds(1);           // metrics.timeout: of one scrape or probe
  Duration health_interval = seconds(1);   // metrics.health_interval; unready endpoints are probed four times as often
  Duration models_interval = seconds(10);  // how often /v1/models is read again
  Duration publish_interval = milliseconds(10);  // metrics of this long are published together
  uint32_t probe_failures = 3;  // timeouts in a row that make an endpoint unready (a refused connection: one)
  std::string metrics_path = "/metrics";
  std::string health_path = "/health";
};

// One endpoint as configuration names it.
struct EndpointSpec {
  std::string name;  // unique in the pool
  std::string url;   // http://host:port
  std::string host;  // name or numeric
  uint16_t port = 0;
  std::string engine;  // metrics preset: vllm, sglang, trtllm-serve, triton-tensorrt-llm
  bool operator==(const EndpointSpec&) const = default;
};

// How polling of one endpoint goes; for the exporter, on the control thread.
struct PollStatus {
  std::string endpoint;
  Instant last_success{};
  bool ever = false;
  uint64_t scrapes = 0, scrape_errors = 0, probe_errors = 0;
};

// What others must hear of at once. Called on the control thread.
class DirectoryEvents {
 public:
  // What was believed of its caches is void: it left, or it came back and is likely another process.
  virtual void on_caches_lost(const endpoints::EndpointState& endpoint) = 0;

 protected:
  ~DirectoryEvents() = default;
};

class EndpointPoller;

class Directory {
 public:
  Directory(net::EventLoop& loop, upstream::Client& client, endpoints::SnapshotPublisher& publisher,
            endpoints::EndpointRegistry& registry, DirectoryEvents& events, std::string pool_name,
            const PollOptions& options);
  ~Directory();

  // Replaces the set of endpoints: those that stay keep their state. Names are resolved here (start-up and reload
  // only); an endpoint whose name does not resolve is reported and left out until the next call.
  std::vector<std::string> set_endpoints(const std::vector<EndpointSpec>& specs);
  void set_options(const PollOptions& options) { options_ = options; }
  void stop();

  // Of every endpoint it is known whether it lives, and of the living ones their models and metrics were asked for:
  // what /readyz waits for.
  bool synced() const;
  std::vector<PollStatus> status() const;
  Instant published_at() const { return published_at_; }  // of the current snapshot

 private:
  friend class EndpointPoller;
  void on_tick();
  bool traffic_flows();
  void changed(bool at_once);
  void publish();

  net::EventLoop& loop_;
  upstream::Client& client_;
  endpoints::SnapshotPublisher& publisher_;
  endpoints::EndpointRegistry& registry_;
  DirectoryEvents& events_;
  std::string pool_name_;
  PollOptions options_;
  std::vector<std::unique_ptr<EndpointPoller>> pollers_;
  net::Timer tick_, publish_timer_;
  uint64_t picks_seen_ = 0;
  Instant traffic_until_{}, published_at_{};
};

}  // namespace penstock::discovery
