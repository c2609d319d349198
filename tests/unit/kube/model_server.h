// A model of an API server for the property test: objects with a history, watches over it, and every way of
// misbehaving, on virtual time behind the Transport seam. All randomness comes from one seed.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "penstock/base/random.h"
#include "penstock/kube/transport.h"
#include "tests/support/sim_network.h"

namespace penstock::kube::test {

// Probabilities per occasion; 0: never.
struct ServerFaults {
  double refuse = 0;         // a call finds no server
  double error_status = 0;   // 500, 503, 429, 401, 403, 404 or 504
  double cut = 0;            // per piece sent
  double stall = 0;          // per piece sent: silence from then on
  double early_end = 0;      // per piece sent: the watch ends properly
  double expired_event = 0;  // per piece sent
  double garbage = 0;        // a line replaced by noise
  double nonsense = 0;       // a well-formed event that says nothing, added
  double duplicate = 0;      // an event sent twice
  double lost_delete = 0;    // a DELETED that a watch skips
  double stale_list = 0;     // resourceVersion=0 answered from the past
  double page_expires = 0;   // 410 for a continue token
  double forget = 0;         // per change: the history is thrown away
  double restore = 0;        // per change: the past comes back, with its versions
  int watch_list = 0;        // 0: streams lists, 1: refuses with 422, 2: takes it for a plain watch

  static ServerFaults swarm(Random& random);
};

class ModelServer final : public Transport {
 public:
  struct Object {
    std::string ns, name, uid;
    uint64_t version = 0, payload = 0;
  };
  using Objects = std::map<std::string, Object>;  // by "ns/name"

  ModelServer(penstock::test::SimNetwork& network, uint64_t seed, const ServerFaults& faults);
  ~ModelServer() override;

  CallId start(Call call, CallEvents& events) override;
  void cancel(CallId id) override;
  void refresh_credentials() override {}

  void change_something();
  void calm();  // no more faults; who is stalled stays so
  const Objects& truth() const { return objects_; }
  static std::string json_of(const Object& object);
  uint64_t lists = 0, watches = 0, streams = 0, lost = 0, restores = 0;

 private:
  struct Event {
    uint64_t version;
    std::string type;
    Object object;
  };
  struct Conversation {
    CallId id;
    Call call;
    CallEvents* events;
    bool watching = false, stalled = false, told = false;
    uint64_t version = 0;  // up to which a watch has been served
    std::string pending;   // bytes not yet sent
    bool ends = false;     // after them
  };

  Conversation* find(CallId id);
  void later(CallId id);
  void serve(CallId id);
  bool serve_error(Conversation& conversation);
  void serve_list(Conversation& conversation);
  void serve_watch(Conversation& conversation);
  void gather(Conversation& conversation);
  void append_event(Conversation& conversation, const std::string& type, const std::string& object);
  void send(CallId id);
  bool misbehave(Conversation& conversation);
  void answer(Conversation& conversation, int status, std::string body, std::optional<Duration> retry_after = {});
  void finish(CallId id, Failure failure);
  void record(std::string type, const Object& object);

  penstock::test::SimNetwork& network_;
  Random random_;
  ServerFaults faults_;
  Objects objects_, past_;
  uint64_t version_ = 10, past_version_ = 10, oldest_ = 10, next_uid_ = 1, next_payload_ = 1;
  std::vector<Event> history_;
  std::map<CallId, Conversation> conversations_;
  CallId last_id_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace penstock::kube::test
