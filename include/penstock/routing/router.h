// routing::Router: (features, pool, load) -> explained Decision. No I/O; time and random source are passed in, so that
// `penstock replay`, tests and the gateway run the same code. One Router per shard, for that shard's thread. What
// routers share (prefix index, load counters, learnt models) is passed to them and thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/base/random.h"
#include "penstock/base/time.h"
#include "penstock/endpoints/snapshot.h"
#include "penstock/routing/decision_inputs.h"
#include "penstock/routing/features.h"
#include "penstock/routing/prefix_hash.h"
#include "penstock/routing/prefix_index.h"
#include "penstock/routing/told_index.h"

namespace penstock::routing {

// What the model of the expected cost predicts for a request at an endpoint. Seconds.
struct Prediction {
  bool known = false;      // false: too little is learnt, and the times are based on an assumed pace
  double first_token = 0;  // until the first token
  double per_token = 0;    // between output tokens; 0: not learnt
  double whole = 0;        // until the end of the answer
};

// One endpoint that may be chosen, with everything that scorers need. Gathered once per decision.
struct Candidate {
  const endpoints::EndpointView* endpoint = nullptr;
  uint32_t matched_blocks = 0;
  bool told = false;          // matched_blocks was reported by the endpoint itself (ToldIndex)
  uint32_t order = 0;         // a filter's preference among equal scores: lower first
  double score = 0;           // weighted sum, higher is better
  Prediction predicted = {};  // if Profile::predicts
};

struct Inputs {
  const Features& features;
  Instant now;
  Random& random;
  Duration metrics_stale_after = seconds(2);      // older metrics count as unknown
  double prefix_uses = 0;                         // recent uses of the longest prefix that any candidate holds
  const endpoints::EndpointView* peer = nullptr;  // when a stage is decided: the endpoint that decodes
};

struct Decision;
// One criterion for candidates. Writes a score in [0,1] for each. Stateless or thread-safe.
class Scorer {
 public:
  virtual ~Scorer() = default;
  virtual std::string_view type() const = 0;  // "queue-scorer"
  virtual void score(const Inputs& in, std::span<const Candidate> candidates, std::span<double> scores) const = 0;
  // For explanations: the parts of the score, if it has several. Their names with unit ("backlog_s"), and for each
  // candidate one value per name.
  virtual std::span<const std::string_view> term_names() const { return {}; }
  virtual void terms(const Inputs& in, std::span<const Candidate> candidates, std::span<double> values) const {}
  // For scorers with a memory. Only called for those in Profile::listeners. Any thread.
  // The request goes to the decision's endpoint, which is not null.
  virtual void picked(const Features& features, const Decision& decision, Instant now) const {}
  // The endpoint has restarted: its caches are empty.
  virtual void caches_lost(const endpoints::EndpointState& endpoint) const {}
};
// Removes candidates that must not or should not answer (keeps order).
class Filter {
 public:
  virtual ~Filter() = default;
  virtual std::string_view type() const = 0;
  virtual void filter(const Inputs& in, std::vector<Candidate>& candidates) const = 0;
};
enum class NoEndpoint : uint8_t {
  none,
  pool_empty,
  none_ready,
  all_ejected_or_tried,
  filtered,
  too_slow,    // refused: no endpoint is expected to be as fast as the request asks
  shed,        // refused: the pool is busy
  no_profile,  // a header names a profile that does not exist
};
// May refuse a request before an endpoint is chosen.
class Admitter {
 public:
  virtual ~Admitter() = default;
  virtual std::string_view type() const = 0;
  // `none`: the request is not refused.
  virtual NoEndpoint refusal(const Inputs& in, std::span<const Candidate> candidates) const = 0;
};
// Moves its choices to the front, best first; the order of the others does not matter.
class Picker {
 public:
  virtual ~Picker() = default;
  virtual std::string_view type() const = 0;
  virtual void pick(const Inputs& in, std::vector<Candidate>& candidates) const = 0;
  virtual size_t choices() const { return 1; }  // how many choices it makes, if there are as many candidates
};
struct WeightedScorer {
  std::unique_ptr<Scorer> scorer;
  double weight = 1;
  std::string name = {};  // for explanations; "": the scorer's type
};

// When another stage (prefill, encode) runs elsewhere than the decode.
struct StageRule {
  enum class When : uint8_t { never, always, uncached, multimodal };
  When when = When::never;
  // `uncached`: if at least this many prompt tokens are not cached at the decoding endpoint.
  uint32_t uncached_tokens = 0;
};
struct Profile {
  // A stage is decided after the decoding endpoint, over the same pool, by its own filters, scorers and picker.
  struct Stage {
    std::unique_ptr<Profile> profile;  // null: none
    StageRule rule;
  };
  struct Prefix {
    bool from_metrics = true;    // the capacity of an endpoint's cache is that in its metrics, if they have it
    uint64_t capacity_blocks{};  // otherwise this many blocks; 0: unlimited
  };

  // If a header of the request names the profile that decides. Without such a header, this profile does. The others
  // contribute their filters, scorers and picker; everything else is taken from this one.
  struct ByHeader {
    std::string header;  // "": no such choice
    std::vector<std::unique_ptr<Profile>> others;
  };

  std::string name = "default";
  std::vector<std::unique_ptr<Filter>> filters;
  std::vector<std::string> filter_names;  // for explanations, parallel to `filters`; missing: the filter's type
  std::vector<WeightedScorer> scorers;
  std::unique_ptr<Picker> picker;
  bool uses_prefix = false;                   // some plugin reads matched_blocks
  ChainHash chain_hash = ChainHash::xxh3;     // of prompts; xxh64: prefix-cache-scorer takes part
  bool uses_media = false;                    // some plugin reads Features::media
  bool predicts = false;                      // some plugin reads Candidate::predicted
  std::vector<const Scorer*> listeners = {};  // scorers with a memory
  std::vector<std::unique_ptr<Admitter>> admitters = {};
  bool gives_session_tokens = false;  // answers carry one (session_token.h)
  Prefix prefix = {};
  Stage prefill = {}, encode = {};
  // Another endpoint becomes Decision::kv_source only if it holds at least this many more prompt tokens; 0: never.
  uint32_t kv_source_tokens = 0;
  ByHeader by_header = {};

  // The profile that decides: this one or one of by_header.others. Null: the request names one that does not exist.
  const Profile* chosen(const Features& features) const;
};

enum class Policy : uint8_t { epp_default, random, round_robin, least_load, expected_cost };
std::span<const std::string_view> policy_names();  // "epp-default", "random", "round-robin", ...
bool parse_policy(std::string_view name, Policy* out);
enum class Pick : uint8_t { max_score, random, weighted_random, round_robin };
// `choices`: how many endpoints it puts in order (round-robin always makes one choice).
std::unique_ptr<Picker> make_picker(Pick pick, size_t choices = 1);
std::unique_ptr<Profile> make_profile(Policy policy);

// The reasons of a decision. Only filled on request.
struct Explanation {
  struct Row {
    std::string endpoint;
    double total = 0;
    std::vector<double> scores;  // one per scorer, unweighted
    uint32_t matched_blocks = 0;
    bool told = false;  // Candidate::told
    double waiting = 0;
    double kv_usage = 0;  // NaN: unknown
    int64_t in_flight = 0;
    std::vector<double> terms;  // of all scorers that have terms
  };
  // How long a plugin took. Views live as long as the profile.
  struct PluginTime {
    const char* point;  // "Filter", "Scorer", "Picker"
    std::string_view type, name;
    Duration took;
  };
  std::string profile;                                        // its name
  std::vector<std::string> scorers;                           // "queue-scorer*2"
  std::vector<std::string> terms;                             // "backlog_s"
  std::vector<Row> rows;                                      // best first
  std::vector<std::pair<std::string, std::string>> excluded;  // endpoint, reason
  std::string shadow;                                         // what the shadow policy would have chosen; "": none
  double shadow_gain_seconds = 0;                             // as in Decision::Shadow
  uint32_t attempt = 1;                                       // of the request
  bool resumes = false;                                       // a stream that broke is to go on
  std::vector<PluginTime> times;                              // in the order in which they ran, in all stages
  DecisionInputs inputs;
  static constexpr size_t shown_max = 16;
  void clear();                                             // keeps memory
  void keep_best();                                         // the first `shown_max` rows and exclusions
  std::vector<std::pair<std::string, std::string>> stages;  // disaggregation: "prefill" and the endpoint's name
  std::string to_header() const;                            // one line, ASCII, for x-penstock-explain; bounded to 2 KiB
  void append_json(std::string& out) const;
};

// Which stages of a request run elsewhere than the decode.
enum class Split : uint8_t { decode_only, prefill_decode, encode_decode, encode_prefill_decode };
constexpr size_t split_count = 4;
const char* to_string(Split split);  // "decode-only", ...: the Endpoint Picker's decision types

struct Decision {
  endpoints::EndpointState* endpoint = nullptr;  // null: see why_none
  NoEndpoint why_none = NoEndpoint::none;
  uint32_t matched_blocks = 0;  // believed cached on the chosen endpoint
  uint32_t candidates = 0;
  double score = 0;

  // What the shadow policy would have done.
  struct Shadow {
    endpoints::EndpointState* endpoint = nullptr;
    bool agrees = false;
    // Seconds by which the expected cost of its choice is below that of the actual one: the predicted gain of using the
    // shadow; negative: a loss. 0 while costs are not learnt.
    double gain_seconds = 0;
  };
  std::optional<Shadow> shadow;
  Prediction predicted;  // for `endpoint`, if the profile predicts
  // If ToldIndex was used: the longest run of the prompt's blocks that any candidate has reported.
  std::optional<uint32_t> told_blocks;
  bool cold = false;    // no candidate is believed to hold any of the prompt
  uint64_t prefix = 0;  // the longest prefix that any candidate holds: the hash of its last block; 0: none
  // With a picker of several choices: where to go next if `endpoint` fails. Valid until the router decides again.
  std::span<endpoints::EndpointState* const> next = {};
  // Disaggregation: the endpoint that computes the prompt, how much of the prompt it has cached, and the endpoints that
  // encode media.
  endpoints::EndpointState* prefill = nullptr;
  uint32_t prefill_matched_blocks = 0;
  std::span<endpoints::EndpointState* const> encode = {};  // valid as `next`
  std::optional<Split> split;                              // if the profile has such stages
  // Where the endpoint that computes the prompt may fetch cached blocks that it lacks; null: nowhere
  // (Profile::kv_source_tokens).
  endpoints::EndpointState* kv_source = nullptr;
};

struct RouterOptions {
  Duration metrics_stale_after = seconds(2);  // older metrics count as unknown
  Duration slow_start = seconds(10);          // the same as EjectionOptions::slow_start
  // The shadow policy: decides among the same candidates and with the same random numbers, without effect. Outlives the
  // router; null: none.
  const Profile* shadow = nullptr;
  // What model servers report about their caches. Outlives the router; null: KV events are off.
  const ToldIndex* told = nullptr;
  // For timing the plugins of explained decisions; null: they are not timed.
  Instant (*clock)() = nullptr;
};

// `profile` and `index` outlive the router.
class Router {
 public:
  Router(const Profile& profile, PrefixIndex& index, uint64_t seed, const RouterOptions& options = {});
  ~Router();

  // `tried`: endpoints on which this request has failed; they are never chosen again. If every ready endpoint is
  // ejected, those whose ejection ends first are candidates again (panic), so that not all traffic fails. If no ready
  // endpoint is left, those that EndpointView::last_resort allows are candidates. An endpoint that
  // returns from an ejection takes part in a share of the decisions that grows linearly during `slow_start`. Reserves
  // nothing: the caller makes a Reservation and records the prompt's blocks in the same loop turn. Does not allocate
  // after the first decisions, unless `why` is given (it is cleared first).
  Decision decide(const Features& features, const endpoints::Pool& pool, Instant now,
                  std::span<endpoints::EndpointState* const> tried, Explanation* why = nullptr);
  // After a reload: RouterOptions of these names.
  void set_times(Duration metrics_stale_after, Duration slow_start);
  // Continues the random source from this state.
  void set_random(const Random::State& state);
  // The request goes to the decision's endpoint: counts a use of its prefix, and tells scorers with a memory.
  void picked(const Features& features, const Decision& decision, Instant now) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Repeats a recorded decision with the same code and the same inputs. `again` has the same explanation as the original,
// except for its inputs. What a profile remembers between decisions is not recorded: round-robin starts from the
// beginning.
struct DecidedAgain {
  std::string endpoint;  // "": none was found
  Explanation again;
};
DecidedAgain decide_again(const Profile& profile, const DecisionInputs& inputs);
// Tokens in a KV block, as reported by the first endpoint of the pool that does, within 16 to 1024 (blocks of single
// tokens would fill the index). `otherwise` if no endpoint reports it.
uint32_t tuned_block_tokens(const endpoints::Pool& pool, uint32_t otherwise);

// The load that an exchange has reserved on its endpoint. Move-only; releases what is still reserved when destroyed. It
// also keeps the EndpointState alive: report failures and successes before releasing it. Its calls also update the
// learnt pace of the endpoint, which the expected cost uses. Its shard's thread; the counters are atomics that all
// shards read.
class Reservation {
 public:
  Reservation() = default;
  // `streaming` false: the first token cannot be observed, so the end of the prefill is estimated.
  Reservation(endpoints::EndpointState& endpoint, uint32_t uncached_tokens, uint32_t prompt_tokens,
              uint32_t output_tokens, Instant now, bool streaming = true);
  Reservation(Reservation&& other) noexcept;
  Reservation& operator=(Reservation&& other) noexcept;
  ~Reservation() { release(); }
  void prefilled_elsewhere() { elsewhere_ = true; }  // nothing can be learnt about prefill at this endpoint
  void first_token(Instant now);                     // the prefill is over: releases prefill tokens, counts as decoding
  // The answer reports that this many of the prompt's tokens were cached.
  void cached(uint32_t tokens);
  // The answer was complete and had this many tokens (0: unknown). Then call release().
  void finished(Instant now, uint32_t output_tokens);
  void release();
  endpoints::EndpointState* endpoint() const { return endpoint_; }
  int64_t kv_tokens() const { return kv_tokens_; }
  // Reserved prefill tokens until a first token that can be observed; 0 afterwards, and if it cannot.
  int64_t seen_prefill_tokens() const { return unseen_ ? 0 : prefill_tokens_; }

 private:
  endpoints::EndpointState* endpoint_ = nullptr;
  int64_t prefill_tokens_ = 0, kv_tokens_ = 0;
  int64_t believed_tokens_ = 0;  // prompt tokens believed to be cached
  Instant began_, first_token_;  // first_token_ is an estimate if unseen_
  bool decoding_ = false;
  bool unseen_ = false;
  bool elsewhere_ = false;
};

// Passive ejection: shards report the failures and successes that they see. Any thread; time is passed in.
struct EjectionOptions {
  // ejection.consecutive_failures (a refused connection or reset counts `hard_weight`)
  uint32_t consecutive_failures = 3;
  uint32_t hard_weight = 3;
  Duration base_penalty = seconds(1);  // doubles with each ejection in a row
  Duration max_penalty = seconds(60);
  Duration slow_start = seconds(10);  // after the penalty: share of traffic grows linearly
};
enum class FailureKind : uint8_t { hard, soft };  // hard: refused, reset, EOF before an answer; soft: 5xx, timeout
// True if this failure ejected the endpoint. Failures of an ejected endpoint do not lengthen its penalty, because many
// exchanges may report the same outage.
bool report_failure(endpoints::EndpointState& endpoint, FailureKind kind, Instant now, const EjectionOptions& options);
void report_success(endpoints::EndpointState& endpoint, Instant now, const EjectionOptions& options);
// Its streams prove that it does not do its work: ejects it. False: it is ejected already.
bool report_slow(endpoints::EndpointState& endpoint, Instant now, const EjectionOptions& options);
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
