// The state behind Cluster. Events of the watches change the store at once; what follows from them is done once, at the
// end of the loop's turn: new watches, resolving, telling, writing back.
//
// Waiting: nothing is told while a list that matters was not read yet, or it would look as if its objects did not
// exist. Essential lists (pools, pods, slices) are waited for without limit at first, and as soon as a Gateway is ours
// so are those of what decides about its requests; later (a pool begins to name a Service, a selector changes), and for
// all other lists, `patience` is the limit. A Gateway does not count before HTTPRoutes were listed.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "penstock/base/random.h"
#include "penstock/discovery/cluster.h"
#include "penstock/net/timer.h"
#include "watch.h"
#include "write_back.h"

namespace penstock::discovery {

class ClusterImpl final : public WatchEvents {
 public:
  ClusterImpl(net::EventLoop& loop, ClusterOptions options, ClusterEvents& events,
              std::unique_ptr<kube::Transport> transport);
  ~ClusterImpl();

  std::optional<Message> start();
  void stop();
  void stop_writing();
  bool synced() const { return synced_; }
  const objects::Desired& desired() const { return resolver_.desired(); }
  ClusterStatus status() const;
  bool endpoint_unreachable(std::string_view ns, std::string_view name);

 private:
  void on_change(objects::Kind kind) override;
  void on_listed(objects::Kind kind) override;
  void on_reached(const Watch& watch) override;

  void schedule();
  void work();
  void look();
  void follow_plan();
  void add_watch(const PlannedWatch& plan);
  void retire(const std::vector<PlannedWatch>& plan);
  void note_served();
  bool all_known(objects::Kind kind) const;
  bool first_list_missing(const Watch& watch, bool routed) const;
  const Watch* awaited();
  void resolve();

  net::EventLoop& loop_;
  ClusterOptions options_;
  ClusterEvents& events_;
  Random random_;
  std::unique_ptr<kube::Transport> transport_;
  objects::Store store_;
  objects::Resolver resolver_;
  std::unique_ptr<WriteBack> write_back_;
  std::vector<std::unique_ptr<Watch>> watches_;
  net::Timer look_;
  const std::shared_ptr<char> life_ = std::make_shared<char>();  // deferred work asks whether we are still there
  bool running_ = false, scheduled_ = false, synced_ = false;
  bool plan_due_ = false;   // an object changed that may need other watches
  bool services_ = false;   // Services are watched: once begun, it stays so
  uint64_t known_ = 0;      // a bit for each kind of the Gateway API that the server has had at least once
  Instant hurried_at_{};    // when one watch that got through last called the others
  Instant essential_at_{};  // when all essential lists had come for the first time
  struct Told {
    uint64_t pools = 0, routes = 0, certificates = 0;
    bool operator==(const Told&) const = default;
  };
  Told told_;
};

}  // namespace penstock::discovery
