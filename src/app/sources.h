// Where the endpoints come from: the configuration, a folder of manifests, or a Kubernetes cluster. Tells the directory
// what there is. Thread: control.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "api_keys.h"
#include "penstock/config/options.h"
#include "penstock/discovery/cluster.h"
#include "penstock/discovery/desired_pools.h"
#include "penstock/discovery/directory.h"
#include "penstock/discovery/manifests.h"
#include "penstock/discovery/names.h"

namespace penstock::app {

// Where the entry's URL leads: a name or an address, and the port.
discovery::EndpointSpec host_of(const config::EndpointEntry& entry);

class Sources final : public discovery::ClusterEvents {
 public:
  // Called with all that is desired before the directory is told of it.
  using Before = std::function<void(const objects::Desired& desired)>;
  Sources(net::EventLoop& loop, discovery::Directory& directory, ApiKeys& keys, Before before);

  // `manifests`: what options.manifests names. False: it cannot be done; why is in the log.
  bool start(const config::Options& options, objects::Manifests manifests);
  // Takes over what a reload may change: the list of endpoints, what the manifests say.
  void reload(const config::Options& options, objects::Manifests manifests);
  void stop();
  // The end is near: what others are told in statuses is the business of those that stay.
  void stop_writing();

  // "" when what there is is known: the first lists have come, and a pool was among them; once so it stays so. Host
  // names have been looked up, with success or without.
  std::string not_ready() const;
  bool names_settled() const { return names_.settled(); }
  std::vector<discovery::NameStatus> names() const { return names_.status(); }
  std::optional<discovery::ClusterStatus> cluster() const;
  // What stands against the objects of the manifests; those of a cluster are in its status.
  std::vector<objects::Notice> problems() const;
  // No connection can be made to this address: if it is a pod's, its object is looked at again.
  void unreachable(const std::string& address);
  // An endpoint at this address does not answer our probe: if it was found by a name, that is looked up again.
  void not_alive(const std::string& address);

 private:
  bool start_cluster(const config::Options& options);
  void set_engines(const config::Options& options);
  void take_manifests(objects::Manifests manifests);
  void on_desired(const objects::Desired& desired) override;
  void set_endpoints(const config::Options& options);
  void on_names();
  std::vector<discovery::NamedEndpoint> named_endpoints(const config::Options& options);

  net::EventLoop& loop_;
  discovery::Directory& directory_;
  net::DnsResolver resolver_;
  discovery::NamedEndpoints names_;  // of endpoints of the configuration
  ApiKeys& keys_;
  std::string pool_name_;
  discovery::DesiredPools pools_;
  std::string default_engine_;
  std::unique_ptr<discovery::ManifestFolder> manifests_;
  std::unique_ptr<discovery::Cluster> cluster_;
  bool had_pool_ = false;
  Before before_;
};

}  // namespace penstock::app
