// routing::Router: (features, pool, load) -> explained Decision. No I/O; clock and random source are passed in, so
// that `penstock replay`, tests and the product run the same code. One Router per shard; what they share (prefix
// index, load counters, learnt models) is passed to them and thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/base/random.h"
#include "penstock/base/time.h"
#include "penstock/endpoints/snapshot.h"
#include "penstock/routing/features.h"
#include "penstock/routing/prefix_index.h"

namespace penstock::routing {

// One endpoint that may answer, with everything scorers need, gathered once per decision.
struct Candidate {
  const endpoints::EndpointView* endpoint;
  uint32_t matched_blocks = 0;
  double score = 0;  // weighted sum, higher is better
};

struct Inputs {
  const Features& features;
  Instant now;
  Random& random;
  Duration metrics_stale_after = seconds(2);  // older metrics count as unknown
};

// One way of judging candidates. Writes a score in [0,1] for each; stateless or thread-safe.
class Scorer {
 public:
  virtual ~Scorer() = default;
  virtual std::string_view type() const = 0;  // "queue-scorer"
  virtual void score(const Inputs& in, std::span<const Candidate> candidates, std::span<double> scores) const = 0;
};
// A scorer by its type name ("queue-scorer"); null when there is none of that name.
std::unique_ptr<Scorer> make_scorer(std::string_view type);
std::span<const std::string_view> scorer_types();
// Removes candidates that must not or should not answer (keeps order).
class Filter {
 public:
  virtual ~Filter() = default;
  virtual std::string_view type() const = 0;
  virtual void filter(const Inputs& in, std::vector<Candidate>& candidates) const = 0;
};
// Moves its choice to the front; the order of the others does not matter.
class Picker {
 public:
  virtual ~Picker() = default;
  virtual std::string_view type() const = 0;
  virtual void pick(const Inputs& in, std::vector<Candidate>& candidates) const = 0;
};
struct WeightedScorer {
  std::unique_ptr<Scorer> scorer;
  double weight = 1;
};
struct Profile {
  std::string name = "default";
  std::vector<std::unique_ptr<Filter>> filters;
  std::vector<WeightedScorer> scorers;
  std::unique_ptr<Picker> picker;
  bool uses_prefix = false;  // a part of it reads matched_blocks
};

enum class Policy : uint8_t { epp_default, random, round_robin, least_load };
std::span<const std::string_view> policy_names();  // "epp-default", "random", "round-robin", "least-load"
bool parse_policy(std::string_view name, Policy* out);
std::unique_ptr<Picker> make_picker(
    std::string_view type);  // "max-score-picker", "random-picker", "round-robin-picker"
std::unique_ptr<Profile> make_profile(Policy policy);

// Why: filled only when asked for.
struct Explanation {
  struct Row {
    std::string endpoint;
    double total = 0;
    std::vector<double> scores;  // one per scorer, unweighted
    uint32_t matched_blocks = 0;
    double waiting = 0;
    double kv_usage = 0;  // NaN: unknown
    int64_t in_flight = 0;
  };
  std::vector<std::string> scorers;                           // "queue-scorer*2"
  std::vector<Row> rows;                                      // best first
  std::vector<std::pair<std::string, std::string>> excluded;  // endpoint, reason
  std::string to_header() const;  // one line, ASCII, for x-penstock-explain; bounded to 2 KiB
  void append_json(std::string& out) const;
};

enum class NoEndpoint : uint8_t { none, pool_empty, none_ready, all_ejected_or_tried };
struct Decision {
  endpoints::EndpointState* endpoint = nullptr;  // null: see why_none
  NoEndpoint why_none = NoEndpoint::none;
  uint32_t matched_blocks = 0;  // believed cached on the chosen endpoint
  uint32_t candidates = 0;
  double score = 0;
};

struct RouterOptions {
  Duration metrics_stale_after = seconds(2);  // older metrics count as unknown
  Duration slow_start = seconds(10);          // the same as EjectionOptions::slow_start
};

// `profile` and `index` outlive the router.
class Router {
 public:
  Router(const Profile& profile, PrefixIndex& index, uint64_t seed, const RouterOptions& options = {});
  ~Router();

  // `tried`: endpoints this exchange has already failed on (never chosen again). When every ready endpoint is ejected,
  // those whose ejection ends first are considered again (panic) rather than failing all traffic. An endpoint that
  // comes back from an ejection is offered a share of the decisions that grows linearly over `slow_start`.
  // Reserves nothing: make a Reservation, and record the prompt's blocks, in the same loop turn. No allocation once
  // warm, unless `why` is given (it is cleared first).
  Decision decide(const Features& features, const endpoints::Pool& pool, Instant now,
                  std::span<endpoints::EndpointState* const> tried, Explanation* why = nullptr);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The load an exchange has reserved on its endpoint. Move-only; gives back what is still reserved when destroyed.
// It also keeps the EndpointState alive: report failures and successes before releasing it.
class Reservation {
 public:
  Reservation() = default;
  Reservation(endpoints::EndpointState& endpoint, uint32_t uncached_tokens, uint32_t prompt_tokens,
              uint32_t output_tokens, Instant now);
  Reservation(Reservation&& other) noexcept;
  Reservation& operator=(Reservation&& other) noexcept;
  ~Reservation() { release(); }
  void first_token();  // prefill is over: releases prefill tokens, counts as decoding
  void release();
  endpoints::EndpointState* endpoint() const { return endpoint_; }

 private:
  endpoints::EndpointState* endpoint_ = nullptr;
  int64_t prefill_tokens_ = 0, kv_tokens_ = 0;
  bool decoding_ = false;
};

// Passive ejection. Called by shards on what they see; by value of `now` only.
struct EjectionOptions {
  uint32_t consecutive_failures =
      3;  // ejection.consecutive_failures (a refused connection or reset counts `hard_weight`)
  uint32_t hard_weight = 3;
  Duration base_penalty = seconds(1);  // doubles with each ejection in a row
  Duration max_penalty = seconds(60);
  Duration slow_start = seconds(10);  // after the penalty: share of traffic grows linearly
};
enum class FailureKind : uint8_t { hard, soft };  // hard: refused, reset, EOF before an answer; soft: 5xx, timeout
// True when this failure ejected the endpoint. Failures of an ejected endpoint do not lengthen its penalty: many
// exchanges may see the same death.
bool report_failure(endpoints::EndpointState& endpoint, FailureKind kind, Instant now, const EjectionOptions& options);
void report_success(endpoints::EndpointState& endpoint, Instant now, const EjectionOptions& options);
// Serving its penalty, or the health probe fails.
bool ejected(const endpoints::EndpointState& endpoint, Instant now);
// Share of the decisions that an endpoint on its way back is offered: 0 right after its penalty to 1.
double slow_start_share(const endpoints::EndpointState& endpoint, Instant now, Duration slow_start);

// Learnt ratio of prompt bytes to tokens per model, for estimates. Any thread. At most `slots` models are learnt;
// others keep the initial ratio.
class TokenEstimator {
 public:
  static constexpr double initial_bytes_per_token = 4.0;

  uint32_t estimate(std::string_view model, size_t prompt_bytes) const;
  void learn(std::string_view model, size_t prompt_bytes, uint32_t prompt_tokens);
  double bytes_per_token(std::string_view model) const;

 private:
  static constexpr size_t slots = 256;
  struct Slot {
    std::atomic<uint64_t> model_hash{0};  // 0: free
    std::atomic<double> bytes_per_token{initial_bytes_per_token};
  };
  const Slot* find(uint64_t model_hash) const;
  Slot* find_or_claim(uint64_t model_hash);
  Slot table_[slots];
};

}  // namespace penstock::routing
