// What a Kubernetes cluster asks the gateway to do: watches the objects, resolves them, and tells in the same turn of
// the loop what changed; writes statuses and Events back. When the API server goes away, what was last known stays.
// Control thread. Nothing is told from inside start() or stop().
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/base/result.h"
#include "penstock/kube/config.h"
#include "penstock/kube/reflector.h"
#include "penstock/kube/transport.h"
#include "penstock/kube/writer.h"
#include "penstock/net/event_loop.h"
#include "penstock/objects/resolve.h"

namespace penstock::discovery {

struct ClusterOptions {
  kube::ClientConfig client;        // where the API server is and who we are
  objects::ResolveOptions resolve;  // which namespaces, pools and Services; who writes statuses
  bool gateway_api = true;          // GatewayClasses, Gateways, HTTPRoutes, ReferenceGrants and Namespaces count
  bool write = true;                // statuses and Events
  std::string pod_name;             // our own, as Events name their reporter
  Duration patience = seconds(10);  // for lists that are not essential: how long a result waits for them
  kube::ReflectorLimits watches;
  kube::CurlLimits calls;
};

class ClusterEvents {
 public:
  // Pools, routes or certificates changed: in the turn of the loop in which the event came, after all events of that
  // turn. First when pools and pods were listed once, so that no half list can remove an endpoint. `desired` is valid
  // during the call; what it points at lives on.
  virtual void on_desired(const objects::Desired& desired) = 0;

 protected:
  ~ClusterEvents() = default;
};

struct WatchStatus {
  std::string name;  // "pods", or "pods in ns": unique
  objects::Kind kind;
  std::string ns;          // "": all
  bool essential = false;  // nothing is told before it was listed once
  kube::ReflectorStatus watch;
  uint64_t undecodable = 0;  // objects that do not say what they should; the last good version of each is kept
};

struct ClusterStatus {
  std::string server;  // URL of the API server
  bool synced = false;
  std::string waiting_for;  // name of a watch; "" when synced
  std::vector<WatchStatus> watches;
  bool writes = false;
  kube::WriterStatus writer;
  // What stands against objects: the notices of what they ask for, and those that cannot be read.
  std::vector<objects::Notice> problems;
};

class ClusterImpl;

class Cluster {
 public:
  // `events` must outlive it. With a `transport` no other is made: for tests.
  Cluster(net::EventLoop& loop, ClusterOptions options, ClusterEvents& events,
          std::unique_ptr<kube::Transport> transport = nullptr);
  ~Cluster();
  Cluster(const Cluster&) = delete;

  // What is wrong with the options, or nothing: then the watches run.
  std::optional<Message> start();
  // No further event. What is known stays readable.
  void stop();
  // From now on statuses are left to whoever takes our place; everything else goes on.
  void stop_writing();

  // Everything essential was listed once and told. Stays true while the API server is away.
  bool synced() const;
  const objects::Desired& desired() const;
  ClusterStatus status() const;
  // Nobody answers at the address of this pod: its object is read now, past the watch. False: not done, because it was
  // just done or too much is under way.
  bool endpoint_unreachable(std::string_view ns, std::string_view name);

 private:
  std::unique_ptr<ClusterImpl> impl_;
};

}  // namespace penstock::discovery
