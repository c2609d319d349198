// routing::Router: (features, pool, load) -> explained Decision. No I/O; clock and random source are passed in, so
// that `penstock replay`, tests and the product run the same code. One Router per shard; what they share (prefix
// index, load counters, learnt models) is passed to them and thread-safe.
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
#include "penstock/routing/prefix_index.h"
#include "penstock/routing/told_index.h"

namespace penstock::routing {

// What the model behind the expected cost says of a request at an endpoint. Seconds.
struct Prediction {
  bool known = false;      // false: too little is learnt, and the times are those of an assumed pace
  double first_token = 0;  // until the first token
  double per_token = 0;    // between output tokens; 0: not learnt
  double whole = 0;        // until the end of the answer
};

// One endpoint that may answer, with everything scorers need, gathered once per decision.
struct Candidate {
  const endpoints::EndpointView* endpoint;
  uint32_t matched_blocks = 0;
  bool told = false;          // by the endpoint itself (ToldIndex), where all that it holds is known
  uint32_t order = 0;         // where a filter wants it among equals: lower first
  double score = 0;           // weighted sum, higher is better
  Prediction predicted = {};  // where Profile::predicts
};

struct Inputs {
  const Features& features;
  Instant now;
  Random& random;
  Duration metrics_stale_after = seconds(2);      // older metrics count as unknown
  double prefix_uses = 0;                         // lately, of the longest prefix that any candidate holds
  const endpoints::EndpointView* peer = nullptr;  // in a stage: the endpoint that the request itself goes to
};

struct Decision;
// One way of judging candidates. Writes a score in [0,1] for each; stateless or thread-safe.
class Scorer {
 public:
  virtual ~Scorer() = default;
  virtual std::string_view type() const = 0;  // "queue-scorer"
  virtual void score(const Inputs& in, std::span<const Candidate> candidates, std::span<double> scores) const = 0;
  // For explanations: what the score is made of, where that is more than one thing. Names with their unit
  // ("backlog_s"), and for each candidate one value for each name.
  virtual std::span<const std::string_view> term_names() const { return {}; }
  virtual void terms(const Inputs& in, std::span<const Candidate> candidates, std::span<double> values) const {}
  // For scorers that remember, and only called for those that Profile::listeners lists. Any thread.
  // The decision is followed: its endpoint is not null.
  virtual void picked(const Features& features, const Decision& decision, Instant now) const {}
  // The endpoint has restarted: its caches are empty.
  virtual void caches_lost(const endpoints::EndpointState& endpoint) const {}
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
enum class NoEndpoint : uint8_t {
  none,
  pool_empty,
  none_ready,
  all_ejected_or_tried,
  filtered,
  too_slow,    // refused: nobody is expected to be as fast as the request asks
  shed,        // refused: the pool is busy
  no_profile,  // a header names a profile that there is not
};
// May refuse a request before anybody is chosen.
class Admitter {
 public:
  virtual ~Admitter() = default;
  virtual std::string_view type() const = 0;
  // `none`: it does not.
  virtual NoEndpoint refusal(const Inputs& in, std::span<const Candidate> candidates) const = 0;
};
// Moves its choices to the front, best first; the order of the others does not matter.
class Picker {
 public:
  virtual ~Picker() = default;
  virtual std::string_view type() const = 0;
  virtual void pick(const Inputs& in, std::vector<Candidate>& candidates) const = 0;
  virtual size_t choices() const { return 1; }  // how many it makes, where there are as many candidates
};
struct WeightedScorer {
  std::unique_ptr<Scorer> scorer;
  double weight = 1;
  std::string name = {};  // shown in explanations; "": the scorer's type
};

// When another stage (prefill, encode) runs elsewhere than the decode.
struct StageRule {
  enum class When : uint8_t { never, always, uncached, multimodal };
  When when = When::never;
  uint32_t uncached_tokens = 0;  // `uncached`: at least this many prompt tokens are not cached where it will decode
};
struct Profile {
  // Each is decided after the endpoint itself, over the same pool, by its own filters, scorers and picker.
  struct Stage {
    std::unique_ptr<Profile> profile;  // null: none
    StageRule rule;
  };
  struct Prefix {
    bool from_metrics = true;    // capacity of an endpoint's cache: what the engine says, where it does
    uint64_t capacity_blocks{};  // else this many blocks; 0: unlimited
  };

  // Where a request's header names the profile that decides: this one does when there is no such header. Each by its
  // filters, scorers and picker; all else is as here.
  struct ByHeader {
    std::string header;  // "": it does not
    std::vector<std::unique_ptr<Profile>> others;
  };

  std::string name = "default";
  std::vector<std::unique_ptr<Filter>> filters;
  std::vector<std::string> filter_names;  // for explanations, beside `filters`; missing: the filter's type
  std::vector<WeightedScorer> scorers;
  std::unique_ptr<Picker> picker;
  bool uses_prefix = false;  // a part of it reads matched_blocks
  bool uses_media = false;   // a part of it reads Features::media
  bool predicts = false;     // a part of it reads Candidate::predicted
  std::vector<const Scorer*> listeners = {};
  std::vector<std::unique_ptr<Admitter>> admitters = {};
  bool gives_session_tokens = false;  // answers carry one (session_token.h)
  Prefix prefix = {};
  Stage prefill = {}, encode = {};
  // So many more prompt tokens must another endpoint hold for Decision::kv_source; 0: nobody asks.
  uint32_t kv_source_tokens = 0;
  ByHeader by_header = {};

  // Who decides: this one or one of the others; null: the request asks for one that there is not.
  const Profile* chosen(const Features& features) const;
};

enum class Policy : uint8_t { epp_default, random, round_robin, least_load, expected_cost };
std::span<const std::string_view> policy_names();  // "epp-default", "random", "round-robin", ...
bool parse_policy(std::string_view name, Policy* out);
// "max-score-picker", "random-picker", "weighted-random-picker", "round-robin-picker"; null: no such type. `choices`:
// endpoints in order (not of round-robin-picker, which makes one choice).
std::unique_ptr<Picker> make_picker(std::string_view type, size_t choices = 1);
std::unique_ptr<Profile> make_profile(Policy policy);

// Why: filled only when asked for.
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
    std::vector<double> terms;  // of the scorers that have any
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
  double shadow_gain_seconds = 0;                             // as Decision::Shadow has it
  std::vector<PluginTime> times;                              // in the order in which they ran, in all stages
  DecisionInputs inputs;
  static constexpr size_t shown_max = 16;
  void clear();                                             // keeps memory
  void keep_best();                                         // the first `shown_max` rows and exclusions
  std::vector<std::pair<std::string, std::string>> stages;  // disaggregation: "prefill", and who does it
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
    // Seconds by which the expected cost of its choice is below that of ours: what obeying it was predicted to gain;
    // negative: to lose. 0 while costs are not learnt.
    double gain_seconds = 0;
  };
  std::optional<Shadow> shadow;
  Prediction predicted;  // of `endpoint`, where the profile predicts
  // ToldIndex was asked: the longest run of the prompt's blocks that any candidate told of.
  std::optional<uint32_t> told_blocks;
  bool cold = false;    // no candidate is believed to hold any of the prompt
  uint64_t prefix = 0;  // the longest prefix that any candidate holds: the hash of its last block; 0: none
  // A picker of several choices: where to go next if `endpoint` fails. Valid until the router decides again.
  std::span<endpoints::EndpointState* const> next = {};
  // Disaggregation: who computes the prompt, and with how much of it cached; who encodes its media.
  endpoints::EndpointState* prefill = nullptr;
  uint32_t prefill_matched_blocks = 0;
  std::span<endpoints::EndpointState* const> encode = {};  // valid as `next`
  std::optional<Split> split;                              // where the profile has such stages
  // Where whoever computes the prompt may fetch what it lacks of it; null: nowhere (Profile::kv_source_tokens).
  endpoints::EndpointState* kv_source = nullptr;
};

struct RouterOptions {
  Duration metrics_stale_after = seconds(2);  // older metrics count as unknown
  Duration slow_start = seconds(10);          // the same as EjectionOptions::slow_start
  // Decides too, among the same candidates and with the same luck, and is not obeyed. Outlives the router; null: none.
  const Profile* shadow = nullptr;
  // What model servers say of their caches. Outlives the router; null: nobody listens to them.
  const ToldIndex* told = nullptr;
  // Times the plugins of decisions that are explained; null: they are not timed.
  Instant (*clock)() = nullptr;
};

// `profile` and `index` outlive the router.
class Router {
 public:
  Router(const Profile& profile, PrefixIndex& index, uint64_t seed, const RouterOptions& options = {});
  ~Router();

  // `tried`: endpoints this exchange has already failed on (never chosen again). When every ready endpoint is ejected,
  // those whose ejection ends first are considered again (panic) rather than failing all traffic; when no ready one is
  // left, those that drain but still serve (EndpointView::last_resort). An endpoint that
  // comes back from an ejection is offered a share of the decisions that grows linearly over `slow_start`.
  // Reserves nothing: make a Reservation, and record the prompt's blocks, in the same loop turn. No allocation once
  // warm, unless `why` is given (it is cleared first).
  Decision decide(const Features& features, const endpoints::Pool& pool, Instant now,
                  std::span<endpoints::EndpointState* const> tried, Explanation* why = nullptr);
  // The random source goes on from here.
  void set_random(const Random::State& state);
  // The decision is followed: counts a use of its prefix, and tells scorers that remember what they did.
  void picked(const Features& features, const Decision& decision, Instant now) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The same decision again, by the same code, from what it was made from. `again` is explained as it was then, but for
// its inputs. Nothing that a profile remembers between decisions is recorded: round-robin begins anew.
struct DecidedAgain {
  std::string endpoint;  // "": none was found
  Explanation again;
};
DecidedAgain decide_again(const Profile& profile, const DecisionInputs& inputs);
// Tokens in a KV block of the first of the pool's endpoints that says, at least 16 (an engine whose blocks are single
// tokens would fill the index) and at most 1024; `otherwise` when nobody does.
uint32_t tuned_block_tokens(const endpoints::Pool& pool, uint32_t otherwise);

// The load an exchange has reserved on its endpoint. Move-only; gives back what is still reserved when destroyed.
// It also keeps the EndpointState alive: report failures and successes before releasing it. What it is told also
// teaches the endpoint's pace, which the expected cost reads.
class Reservation {
 public:
  Reservation() = default;
  // `streaming` false: the first token will not be seen, so the prefill is taken to be over when it should be.
  Reservation(endpoints::EndpointState& endpoint, uint32_t uncached_tokens, uint32_t prompt_tokens,
              uint32_t output_tokens, Instant now, bool streaming = true);
  Reservation(Reservation&& other) noexcept;
  Reservation& operator=(Reservation&& other) noexcept;
  ~Reservation() { release(); }
  void prefilled_elsewhere() { elsewhere_ = true; }  // its first token teaches nothing about prefill here
  void first_token(Instant now);                     // prefill is over: releases prefill tokens, counts as decoding
  // The answer says that so many of the prompt's tokens were cached.
  void cached(uint32_t tokens);
  // The answer came whole and had this many tokens (0: unknown). Then release().
  void finished(Instant now, uint32_t output_tokens);
  void release();
  endpoints::EndpointState* endpoint() const { return endpoint_; }
  int64_t kv_tokens() const { return kv_tokens_; }
  // Until a first token that will be seen; 0 when it was, or will not be.
  int64_t seen_prefill_tokens() const { return unseen_ ? 0 : prefill_tokens_; }

 private:
  endpoints::EndpointState* endpoint_ = nullptr;
  int64_t prefill_tokens_ = 0, kv_tokens_ = 0;
  int64_t believed_tokens_ = 0;  // to be cached
  Instant began_, first_token_;  // the latter expected, when it is not seen
  bool decoding_ = false;
  bool unseen_ = false;
  bool elsewhere_ = false;
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
