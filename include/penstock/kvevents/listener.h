// Listens to what model servers publish of their KV caches (vLLM's ZMQ event publisher), one connection for each rank
// of each endpoint, and keeps a routing::ToldIndex up to date. Connects again after a while, backing off with jitter,
// for as long as the endpoint is listed. Messages are handled one by one as
// they are complete; whoever publishes faster than we read loses batches at its own high-water mark, which shows as a
// gap. Thread: control.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "penstock/base/random.h"
#include "penstock/kvevents/event_stream.h"
#include "penstock/net/connection.h"

namespace penstock::kvevents {

struct ListenerOptions {
  std::string topic;                      // subscribed to by this prefix; "": everything
  Duration connect_timeout = seconds(5);  // until both sides are ready
  Duration replay_timeout = seconds(10);  // between two pieces of a replay
  Duration backoff_min = milliseconds(100), backoff_max = seconds(5);
};

// One endpoint's publisher: rank r is at `port` + r.
struct Source {
  uint32_t slot = 0, incarnation = 0;  // of the endpoint
  std::string name;
  std::string ip;            // numeric
  uint16_t port = 0;         // 0: it publishes nothing
  uint16_t replay_port = 0;  // 0: none
  bool operator==(const Source&) const = default;
};

// Of one rank; for the exporter.
struct RankStatus {
  std::string endpoint;
  uint32_t rank = 0;
  bool connected = false, complete = false;
  size_t blocks = 0;
  uint64_t connects = 0, replays = 0, replay_failures = 0;
  EventStream::Counts stream;
  BlockMap::Counts events;
  std::string last_error;
};

class Listener {
 public:
  // `emptied`: the endpoint with this slot has emptied its cache, or was restarted.
  Listener(net::EventLoop& loop, net::BlockPool& pool, routing::ToldIndex& index, const ListenerOptions& options,
           uint64_t seed, std::function<void(uint32_t slot)> emptied);
  ~Listener();

  // Those that stay keep their connections and what they have told.
  void set_sources(const std::vector<Source>& sources);
  // The endpoint may have been away without its connection telling: it is connected to anew, and its numbers show what
  // was missed.
  void check(uint32_t slot);
  std::vector<RankStatus> status() const;
  Duration time_spent() const { return time_spent_; }  // reading what came

 private:
  friend class Subscriber;
  using Key = std::pair<uint32_t, uint32_t>;  // slot, rank

  net::EventLoop& loop_;
  net::BlockPool& pool_;
  routing::ToldIndex& index_;
  ListenerOptions options_;
  Random random_;
  std::function<void(uint32_t)> emptied_;
  StoredBlocks scratch_;
  Duration time_spent_{0};
  std::map<Key, std::unique_ptr<class Subscriber>> subscribers_;
};

}  // namespace penstock::kvevents
