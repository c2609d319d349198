// Where the endpoints come from: the configuration, a folder of manifests, or a Kubernetes cluster. Tells the directory
// what there is. Thread: control.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "penstock/config/options.h"
#include "penstock/discovery/cluster.h"
#include "penstock/discovery/desired_pools.h"
#include "penstock/discovery/directory.h"
#include "penstock/discovery/manifests.h"

namespace penstock::app {

class Sources final : public discovery::ClusterEvents {
 public:
  Sources(net::EventLoop& loop, discovery::Directory& directory) : loop_(loop), directory_(directory) {}

  // `manifests`: what options.manifests names. False: it cannot be done; why is in the log.
  bool start(const config::Options& options, objects::Manifests manifests);
  // Takes over what a reload may change: the list of endpoints, what the manifests say.
  void reload(const config::Options& options, objects::Manifests manifests);
  void stop();
  // The end is near: what others are told in statuses is the business of those that stay.
  void stop_writing();

  // "" when what there is is known: the first lists have come, and a pool was among them. Once so it stays so.
  std::string not_ready() const;
  std::optional<discovery::ClusterStatus> cluster() const;
  // What stands against the objects of the manifests; those of a cluster are in its status.
  std::vector<objects::Notice> problems() const;
  // Nobody answers at this address: if it is a pod's, its object is looked at again.
  void unreachable(const std::string& address);

 private:
  bool start_cluster(const config::Options& options);
  void set_engines(const config::Options& options);
  void take_manifests(objects::Manifests manifests);
  void on_desired(const objects::Desired& desired) override;
  void set_endpoints(const config::Options& options);

  net::EventLoop& loop_;
  discovery::Directory& directory_;
  discovery::DesiredPools pools_;
  std::string default_engine_;
  std::unique_ptr<discovery::ManifestFolder> manifests_;
  std::unique_ptr<discovery::Cluster> cluster_;
  bool had_pool_ = false;
};

}  // namespace penstock::app
