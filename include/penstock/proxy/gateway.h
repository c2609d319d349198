// The gateway of one shard: answers what its downstream server receives by carrying each request to an endpoint.
// Everything an exchange needs from its surroundings is in Context; nothing is global.
// Thread: its shard's. Lifetime: outlives the server whose service it is; exchanges are owned here.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "penstock/admission/options.h"
#include "penstock/admission/retry_budget.h"
#include "penstock/base/intrusive_list.h"
#include "penstock/base/memory_budget.h"
#include "penstock/base/random.h"
#include "penstock/downstream/connection.h"
#include "penstock/endpoints/snapshot_reader.h"
#include "penstock/openai/request.h"
#include "penstock/proxy/hold_queue.h"
#include "penstock/proxy/observer.h"
#include "penstock/routing/prefix_hash.h"
#include "penstock/routing/router.h"
#include "penstock/upstream/client.h"

namespace penstock::proxy {

struct Options {
  Duration connect_timeout = seconds(1);
  Duration first_byte_timeout = seconds(600);
  Duration chunk_idle_timeout = seconds(300);
  Duration total_timeout{0};  // 0: none
  size_t body_bytes_max = 64 * 1024 * 1024;
  size_t requests_max = 20000;  // in flight on this shard
  uint32_t attempts_max = 3;
  routing::EjectionOptions ejection;
  routing::PrefixHashOptions prefix;
  bool tune_blocks = false;            // blocks as long as the engines' own, where they say how long
  uint32_t prefix_tokens_max = 0;      // the reach of prefix matching, if given in tokens; 0: prefix.blocks_max
  uint32_t output_tokens_guess = 256;  // reserved for a request that names no limit
  admission::FlowOptions flow;
  std::vector<std::string> identity_headers;  // whose value is the fairness id of requests that say none
};
constexpr uint32_t attempts_limit = 8;  // the most that retry.attempts may say

struct Context {
  net::EventLoop& loop;
  upstream::Client& client;
  routing::Router& router;
  bool hash_prompts;                  // the policy looks at prefixes
  bool hash_media = true;             // the policy looks at images, audio and video
  bool gives_session_tokens = false;  // answers say how to come back to their endpoint
  routing::PrefixIndex& index;
  routing::TokenEstimator& tokens;
  MemoryBudget& budget;
  Random& random;
  ExchangeObserver& observer;
  admission::RetryBudget& retries;
  endpoints::SnapshotReader& snapshots;
  Options options;
  // An endpoint could not be connected to: it may be gone, and the control thread should look. Called on the shard's
  // thread, at most once a second for each endpoint; the state is valid during the call. May be empty.
  std::function<void(const endpoints::EndpointState&)> endpoint_unreachable{};
  // Model servers tell what they hold (RouterOptions::told): prompts of token ids are hashed for that, too.
  bool hash_told = false;
  HoldQueue* hold = nullptr;  // of the process; null: no request ever waits, or is shed
  openai::RequestScanner scanner{&budget, hash_media};
  routing::LeastWork least_work{index};
  std::vector<uint64_t> chain{};           // scratch: hashes of the prompt being routed
  std::vector<uint64_t> told_chain{};      // scratch: Features::told_blocks of it
  std::vector<uint32_t> token_ids{};       // scratch: its ids, where it consists of them
  std::vector<std::string_view> prompt{};  // scratch: the pieces of that prompt
  std::string piece{};                     // scratch: a piece of an answer in which a name was restored
};

class Exchange;
struct HeldExchange;
struct AttemptTag {};

class Gateway final : public downstream::Service, private HoldHome {
 public:
  explicit Gateway(Context& context);
  ~Gateway();

  size_t in_flight() const { return in_flight_; }
  // This endpoint answers no probe: requests that wait for its first byte go to another one, where there is one.
  void leave_silent(uint32_t slot, uint32_t incarnation);

 private:
  friend class Exchange;
  downstream::RequestHandler* on_request(downstream::Connection& connection, http::Head& head) override;
  void on_bad_head(downstream::Connection& connection, const downstream::RequestFailure& failure) override;
  void on_connections_changed(int delta) override;
  void on_pipeline_dropped() override;
  void release(Exchange& exchange);
  // HoldHome
  void wake() override;
  void take_told();
  // Load has shrunk: somebody who waits may go, on whatever shard. One atomic load while nobody does, and nothing at
  // all with flow control off: who waited when that was said has been let go.
  void room_made();
  // The pool of this id, as this turn's snapshot has it; null when it is gone. Valid for this turn.
  const endpoints::Pool* pool(uint32_t id);
  // Tells Context::endpoint_unreachable, unless it was told of this endpoint a moment ago.
  void report_unreachable(const endpoints::EndpointState& endpoint);
  // Where an endpoint is reached; its address is parsed once.
  upstream::Target target_of(endpoints::EndpointState& endpoint);

  static constexpr size_t spare_max = 256;  // finished exchanges kept for reuse
  Context& context_;
  std::vector<std::unique_ptr<Exchange>> spare_;
  IntrusiveList<Exchange, AttemptTag> unanswered_;  // from their first attempt to the first byte of their answer
  struct Place {
    upstream::Target target;
    Instant unreachable_at{};  // when that was reported
  };
  std::vector<Place> places_;  // by endpoint slot
  size_t in_flight_ = 0;
};

}  // namespace penstock::proxy
