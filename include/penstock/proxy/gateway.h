// The gateway of one shard: answers what its downstream server receives by carrying each request to an endpoint.
// Everything an exchange needs from its surroundings is in Context; nothing is global.
// Thread: its shard's. Lifetime: outlives the server whose service it is; exchanges are owned here.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "penstock/admission/retry_budget.h"
#include "penstock/base/memory_budget.h"
#include "penstock/base/random.h"
#include "penstock/downstream/connection.h"
#include "penstock/endpoints/snapshot_reader.h"
#include "penstock/openai/request.h"
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
  uint32_t output_tokens_guess = 256;  // reserved for a request that names no limit
};
constexpr uint32_t attempts_limit = 8;  // the most that retry.attempts may say

struct Context {
  net::EventLoop& loop;
  upstream::Client& client;
  routing::Router& router;
  bool hash_prompts;  // the policy looks at prefixes
  routing::PrefixIndex& index;
  routing::TokenEstimator& tokens;
  MemoryBudget& budget;
  Random& random;
  ExchangeObserver& observer;
  admission::RetryBudget& retries;
  endpoints::SnapshotReader& snapshots;
  Options options;
  openai::RequestScanner scanner{};
  std::vector<uint64_t> chain{};           // scratch: hashes of the prompt being routed
  std::vector<std::string_view> prompt{};  // scratch: the pieces of that prompt
};

class Exchange;

class Gateway final : public downstream::Service {
 public:
  explicit Gateway(Context& context);
  ~Gateway();

  size_t in_flight() const { return in_flight_; }

 private:
  friend class Exchange;
  downstream::RequestHandler* on_request(downstream::Connection& connection, http::Head& head) override;
  void on_bad_head(downstream::Connection& connection, const downstream::RequestFailure& failure) override;
  void on_connections_changed(int delta) override;
  void release(Exchange& exchange);
  // The pool that answers, as this turn's snapshot has it; null when there is none. Valid for this turn.
  const endpoints::Pool* pool();
  // An endpoint lists this model, or there is one of which nobody knows yet what it serves.
  bool lists(std::string_view model);
  // Where an endpoint is reached; its address is parsed once.
  upstream::Target target_of(endpoints::EndpointState& endpoint);

  static constexpr size_t spare_max = 256;  // finished exchanges kept for reuse
  Context& context_;
  std::vector<std::unique_ptr<Exchange>> spare_;
  std::vector<upstream::Target> targets_;  // by endpoint slot
  size_t in_flight_ = 0;
};

}  // namespace penstock::proxy
