// An endpoint: one address of a model server. Two halves: EndpointState is what lives as long as the endpoint does
// (identity, load reserved by every shard, health), shared by all snapshots that list it; EndpointView is its state in
// one snapshot (readiness, last scraped metrics).
//
// Threads: EndpointState's atomics are written by shards and the control thread. Its plain members never change.
// Lifetime: the EndpointRegistry (control thread) frees a state only when no snapshot lists it, every shard has moved
// on, and its counters say that no exchange and no connection refers to it.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "penstock/base/time.h"
#include "penstock/objects/types.h"

namespace penstock::endpoints {

// The load that all shards have reserved on this endpoint: added at the pick, released at the first token or at the
// end. Every shard sees every pick at once. This prevents herding: many requests sent to the endpoint that looked best
// a moment ago.
struct alignas(64) LoadCounters {
  std::atomic<int64_t> requests{0};        // exchanges in flight
  std::atomic<int64_t> prefill_tokens{0};  // uncached prompt tokens waiting for their first token (estimate)
  std::atomic<int64_t> kv_tokens{0};       // prompt + expected output tokens held by exchanges in flight (estimate)
  std::atomic<int64_t> decoding{0};        // exchanges past their first token
  // Exchanges that do not stream: their first token cannot be observed, so their prefill_tokens stay until they end.
  std::atomic<int64_t> unseen{0}, unseen_tokens{0};
  std::atomic<uint64_t> picks{0};        // ever
  std::atomic<int64_t> last_pick_ns{0};  // Instant of the last pick, as nanoseconds
};

// Passive outlier ejection, written by the shard that sees the failure, read by every pick.
struct alignas(64) HealthState {
  std::atomic<int64_t> ejected_until_ns{0};  // Instant as ns; 0: not ejected
  std::atomic<uint32_t> ejections{0};        // in a row: the penalty grows with it
  std::atomic<uint32_t> consecutive_failures{0};
  std::atomic<int64_t> recovered_at_ns{0};  // beginning of the slow start; 0: none
  std::atomic<bool> probe_failed{false};    // the control thread's health probe failed
  // Since when snapshots do not list it as ready any more, or from the beginning (Instant as ns); 0: they do.
  std::atomic<int64_t> not_ready_since_ns{0};
  // What refusals (4xx) have said; see routing/refusals.h. They are here because every pick reads them.
  std::atomic<uint32_t> refusals_in_row{0};  // since the last good answer
  std::atomic<uint32_t> refused_pairs{0};    // of them, those that another endpoint answered well, and that count
                                             // against the whole endpoint
  std::atomic<uint32_t> kinds{0};            // entries of Refusals::kinds in use
  std::atomic<int64_t> busy_until_ns{0};     // it said 429, or 503 with Retry-After; 0: it did not
};

// The rest of what refusals have said. Written by the shards that see refusals, nearly never read.
struct alignas(64) Refusals {
  // A kind of request that the endpoint refuses and others answer.
  struct Kind {
    std::atomic<uint64_t> kind{0};                 // 0: free
    std::atomic<int64_t> until_ns{0}, seen_ns{0};  // ejected for this kind until then; the last pair
    std::atomic<uint32_t> pairs{0}, ejections{0};  // in a row
  };
  std::atomic<int64_t> opinions_back_ns{0};  // when all second opinions are there again
  std::atomic<int64_t> busy_since_ns{0};
  std::atomic<uint32_t> busy_in_row{0};
  std::array<Kind, 8> kinds;
};

// What was learnt about an endpoint's speed from its answers: sums in which older observations fade. Written by the
// shard that sees the answer, one shard at a time (if `busy` is set, a shard drops its observation), and read by every
// pick.
struct alignas(64) Pace {
  std::atomic<bool> busy{false};
  // Times between first tokens (y), and the uncached prompt tokens computed in them (x): sums for a line.
  std::atomic<double> prefill_seconds{0}, prefill_tokens{0}, prefills{0}, prefill_xx{0}, prefill_xy{0};
  // Time per output token (y, seconds) against the tokens held by all exchanges in flight (x): sums for a line.
  std::atomic<double> decodes{0}, decode_x{0}, decode_y{0}, decode_xx{0}, decode_xy{0};
  // Prompt tokens that the prefix index believed to be cached, and how many of them were cached according to the
  // answers.
  std::atomic<double> believed_tokens{0}, cached_tokens{0};
  std::atomic<double> answers{0}, output_tokens{0};
  std::atomic<int64_t> last_first_token_ns{0};
  // When the prefills of exchanges that do not stream are expected to be over.
  std::atomic<int64_t> unseen_until_ns{0};
};

struct EndpointState {
  uint32_t slot = 0;         // small number, unique among living endpoints: index into per-endpoint tables
  uint32_t incarnation = 0;  // rises when a slot is used again
  std::string name;          // pod or rank name; for static endpoints host:port
  std::string uid;           // of the pod; "" for static endpoints
  std::string url;           // http://host:port, or https
  // It speaks TLS: the name that its certificate must have, unless endpoint_tls.server_name says it; "": its address.
  std::optional<std::string> tls_name;
  std::string
      tls_trust;        // whom to trust with that: "" as endpoint_tls says, else "namespace/name" of a BackendTLSPolicy
  std::string address;  // numeric ip:port ("[::1]:80"), what connects and what x-penstock-endpoint shows
  std::string host_header;  // authority for the Host field
  std::string place;        // namespace/port, as metrics tell ports apart; without the namespace for static endpoints
  LoadCounters load;
  HealthState health;
  Refusals refusals;
  Pace pace;
  std::atomic<int64_t> connections{0};  // open upstream connections of all shards
};

// The result of one scrape of an endpoint's /metrics. Missing values stay unknown: an endpoint that was never scraped
// must not look idle.
struct EngineMetrics {
  bool known = false;  // at least one scrape succeeded
  Instant scraped_at{};
  double waiting = 0, running = 0;  // requests
  double kv_usage = 0;              // 0..1
  uint32_t block_size = 0;          // tokens in a KV block; 0: unknown
  uint64_t kv_blocks = 0;           // capacity; 0: unknown
  std::vector<std::string> running_loras, waiting_loras;
  uint32_t max_loras = 0;
  std::vector<double> custom;  // the metrics that the configuration names, in its order; NaN or missing: unknown
  // EndpointState::load.requests at the time of the scrape. Changes since then are added to the scraped queue, which
  // prevents herding between scrapes.
  int64_t requests_at_scrape = 0;
  // Of these, the requests without a first token that the engine did not count yet, neither as waiting nor as running.
  int64_t not_counted_at_scrape = 0;
};

// How many of our `requests` there, of which `decoding` have their first token, are missing in what the engine counts.
// Engines count once per step, and a step of prefill takes long: they do not know yet what came during it. A request
// with a first token is not missing: it was counted, and may be over while its answer is still on its way. (Servers
// other than vLLM may leave out what they prefill. A server that only decodes what another one prefills does not know
// of it, which is no queue: see discovery::EndpointPoller::view().)
inline int64_t not_counted(const EngineMetrics& metrics, int64_t requests, int64_t decoding) {
  const double missing = static_cast<double>(requests) - metrics.waiting - metrics.running;
  const double in_prefill = static_cast<double>(requests > decoding ? requests - decoding : 0);
  return static_cast<int64_t>(std::clamp(missing, 0.0, in_prefill));
}

// True if the metrics are known and were scraped within `stale_after`.
inline bool fresh(const EngineMetrics& metrics, Instant now, Duration stale_after) {
  return metrics.known && now - metrics.scraped_at <= stale_after;
}

using objects::Readiness;  // ready, not_ready, draining

// What an endpoint reports about a model in its /v1/models. Zero and "": not reported.
struct ServedModel {
  int64_t created = 0;         // seconds since 1970
  uint32_t max_model_len = 0;  // tokens
  std::string owned_by, root, parent;
  bool operator==(const ServedModel&) const = default;
};

// One endpoint in one snapshot. Immutable once published.
struct EndpointView {
  EndpointState* state = nullptr;
  Readiness readiness = Readiness::ready;
  bool last_resort = false;  // draining but still serving, or not probed yet: may be used while none is ready
  std::shared_ptr<const objects::Labels> labels;  // of the pod; null: static
  EngineMetrics metrics;
  std::vector<std::string> models;    // served model names, from /v1/models; empty: unknown, serves all
  std::vector<std::string> adapters;  // those of them that are adapters of another one
  std::shared_ptr<const std::vector<ServedModel>> served;  // more of each of `models`, in their order; null: unknown

  // Estimate of the requests waiting in the engine now: the scraped gauge, corrected by the requests that the shards
  // have sent or finished since, and by those that the engine had not counted yet. Never negative.
  double waiting_now() const {
    const auto since = state->load.requests.load(std::memory_order_relaxed) - metrics.requests_at_scrape;
    const double estimate = metrics.waiting + static_cast<double>(since + metrics.not_counted_at_scrape);
    return estimate > 0 ? estimate : 0;
  }
};

}  // namespace penstock::endpoints
