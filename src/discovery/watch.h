// One watch: from the API server's JSON to the store. Control thread.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "penstock/kube/reflector.h"
#include "penstock/objects/decode.h"
#include "penstock/objects/store.h"
#include "watch_plan.h"

namespace penstock::discovery {

class Watch;

// Told at once; what it leads to should wait for the end of the loop's turn.
class WatchEvents {
 public:
  virtual void on_change(objects::Kind kind) = 0;
  virtual void on_listed(objects::Kind kind) = 0;
  // After a failure to reach the server, this watch has reached it.
  virtual void on_reached(const Watch& watch) = 0;

 protected:
  ~WatchEvents() = default;
};

class Watch final : private kube::ObjectSink {
 public:
  // All references must outlive it. `scope` is this watch's own among those of the same kind.
  Watch(net::EventLoop& loop, kube::Transport& transport, Random& random, const PlannedWatch& plan,
        objects::Store& store, objects::Store::Scope scope, WatchEvents& events, const kube::ReflectorLimits& limits);

  const PlannedWatch& plan() const { return plan_; }
  objects::Store::Scope scope() const { return scope_; }
  Instant since() const { return since_; }
  bool listed() const { return listed_; }
  // Listed at least once from a server that has this resource.
  bool known() const { return known_; }
  // Listed, or it is known that it will not be for now.
  bool settled() const {
    const kube::ReflectorStatus now = reflector_.status();
    return (listed_ && !(again_ && now.asking)) || now.state == kube::ReflectorState::forbidden;
  }
  bool served() const { return listed_ && reflector_.status().state != kube::ReflectorState::absent; }
  bool get_now(std::string_view ns, std::string_view name);
  // The store forgets what only this watch had.
  void withdraw();
  // The server answers others again: what waits after a failure to reach it tries again at once, or nearly so.
  void hurry() { reflector_.hurry(); }
  // What was not installed may be now. The result is waited for like that of a new watch.
  void look_again();
  WatchStatus status() const;
  // One for each object that cannot be read, as far as they are remembered.
  void add_problems(std::vector<objects::Notice>& out) const;

 private:
  void on_object(kube::ObjectRef object, std::string_view json) override;
  void on_deleted(kube::ObjectRef object) override;
  void on_synced() override;
  void on_reached() override { events_.on_reached(*this); }
  void note_unreadable(kube::ObjectRef object, const std::string& problem);

  net::EventLoop& loop_;
  const PlannedWatch plan_;
  const std::string name_;
  objects::Store& store_;
  const objects::Store::Scope scope_;
  WatchEvents& events_;
  const kube::ReflectorLimits limits_;
  Instant since_;
  objects::Decoder decoder_;
  bool listed_ = false, known_ = false;
  bool again_ = false;                                                     // look_again() has brought nothing yet
  std::map<std::pair<std::string, std::string>, std::string> unreadable_;  // namespace, name -> what is wrong
  uint64_t undecodable_ = 0;
  Instant undecodable_logged_{};
  kube::Reflector reflector_;
};

}  // namespace penstock::discovery
