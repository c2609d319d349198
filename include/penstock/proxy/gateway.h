// The gateway of one shard: answers the requests of its downstream server by forwarding each of them to an endpoint.
// Everything that an exchange needs from its surroundings is in Context; nothing is global.
// Thread: its shard's. Lifetime: outlives the server whose service it is. Owns the exchanges.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "penstock/admission/retry_budget.h"
#include "penstock/base/intrusive_list.h"
#include "penstock/base/memory_budget.h"
#include "penstock/base/random.h"
#include "penstock/downstream/connection.h"
#include "penstock/endpoints/snapshot_reader.h"
#include "penstock/openai/request.h"
#include "penstock/proxy/hold_queue.h"
#include "penstock/proxy/observer.h"
#include "penstock/proxy/options.h"
#include "penstock/proxy/response_owners.h"
#include "penstock/routing/router.h"
#include "penstock/upstream/client.h"

namespace penstock::proxy {

// What the exchanges of a shard use. References outlive the gateway.
struct Context {
  net::EventLoop& loop;
  upstream::Client& client;
  routing::Router& router;
  bool hash_prompts;                  // the policy uses prefix matches
  routing::ChainHash chain_hash;      // how, then
  bool hash_media = true;             // the policy uses images, audio and video
  bool gives_session_tokens = false;  // answers carry a token that leads back to their endpoint
  routing::PrefixIndex& index;
  routing::TokenEstimator& tokens;
  MemoryBudget& budget;
  Random& random;
  ExchangeObserver& observer;
  admission::RetryBudget& retries;
  endpoints::SnapshotReader& snapshots;
  Options options;
  // Called when a connection to an endpoint could not be made, so that the control thread checks whether it is gone. On
  // the shard's thread, at most once a second for each endpoint. The state is valid during the call. May be empty.
  std::function<void(const endpoints::EndpointState&)> endpoint_unreachable{};
  // Model servers report their caches (RouterOptions::told): prompts of token ids are also hashed to match the reports.
  bool hash_told = false;
  downstream::ClientTable* clients = nullptr;  // the process's; null: nobody is counted
  HoldQueue* hold = nullptr;                   // the process's; null: no request ever waits or is shed
  ResponseOwners* responses = nullptr;         // the process's; null: nothing is remembered of responses
  openai::RequestScanner scanner{&budget, hash_media};
  routing::LeastWork least_work{index};
  // Scratch memory, kept to avoid allocations; its contents mean nothing between calls.
  std::vector<uint64_t> chain{};           // block hashes of the prompt being routed
  std::vector<uint64_t> told_chain{};      // Features::told_blocks of that prompt
  std::vector<uint32_t> token_ids{};       // its token ids, if it consists of them
  std::vector<std::string_view> prompt{};  // its pieces
  std::string piece{};                     // a piece of an answer that is not relayed as it came
  std::string_view good_piece{};           // of an answer that has failed: what may be relayed of its last piece
  // Pieces of an answer that were read together, and how much of each ends with a whole event; and whose they are.
  struct Piece {
    std::string_view bytes;
    size_t whole;
  };
  std::vector<Piece> pieces{};
  const void* pieces_of = nullptr;
};

class Exchange;
class Placement;
class ResumeQueue;
class SlowEndpoints;
struct AttemptTag {};

class Gateway final : public downstream::Service, private HoldShard {
 public:
  explicit Gateway(Context& context);
  ~Gateway();

  size_t in_flight() const { return in_flight_; }
  // The endpoint does not answer health probes: requests that wait for its first byte move to another one, if possible.
  // `unanswered_since`: nor did its host refuse any, since then; answers that were silent all that time, and for
  // Options::unresponsive_timeout, are broken off.
  void leave_silent(uint32_t slot, uint32_t incarnation, std::optional<Instant> unanswered_since = {});

 private:
  friend class Exchange;
  friend class Placement;
  downstream::RequestHandler* on_request(downstream::Responder& client, http::Head& head) override;
  void on_bad_head(downstream::Responder& client, const downstream::RequestFailure& failure) override;
  void on_connections_changed(int delta) override;
  void on_pipeline_dropped() override;
  void on_limit(std::string_view limit) override;
  void on_idle_evicted() override;
  void release(Exchange& exchange);
  // HoldShard
  void wake() override;
  void take_from_queue();
  // Load has shrunk, so a waiting request of any shard may go. Costs one atomic load while no request waits, and
  // nothing with flow control off (turning it off has granted all that waited).
  void room_made();
  // The pool with this id in this turn's snapshot; null if it is gone. Valid for this turn.
  const endpoints::Pool* pool(uint32_t id);
  void relays(Exchange& exchange);  // from the first byte of its answer on
  // Looks for slow endpoints every second while answers are relayed: they are ejected, and what can leave them does.
  void look_at_streams();
  void eject_slow(endpoints::EndpointState& endpoint, Ejection why, Duration pause);
  // Calls Context::endpoint_unreachable, unless it was called for this endpoint within the last second.
  void report_unreachable(const endpoints::EndpointState& endpoint);
  // Where to connect for this endpoint. Its address is parsed once. Valid until the next call.
  const upstream::Target& target_of(endpoints::EndpointState& endpoint);

  static constexpr size_t spare_max = 256;  // finished exchanges kept for reuse
  Context& context_;
  std::unique_ptr<ResumeQueue> resumes_;
  std::unique_ptr<SlowEndpoints> slow_;
  net::Timer look_;
  std::vector<std::unique_ptr<Exchange>> spare_;
  // Exchanges between their first attempt and the first byte of their answer.
  IntrusiveList<Exchange, AttemptTag> unanswered_;
  IntrusiveList<Exchange, AttemptTag> relaying_;  // from then on
  struct Place {
    upstream::Target target;
    Instant unreachable_at{};  // when it was last reported
  };
  std::vector<Place> places_;  // by endpoint slot
  size_t in_flight_ = 0;
  size_t tunnels_ = 0;  // requests that ask for a WebSocket, and sessions
};

}  // namespace penstock::proxy
