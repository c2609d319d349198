#include "expected_cost.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "load_estimate.h"
#include "pace.h"
#include "penstock/routing/backlog.h"
#include "penstock/routing/prefix_uses.h"

namespace penstock::routing {
namespace {

using endpoints::EngineMetrics;
using endpoints::LoadCounters;
using endpoints::Pace;

constexpr auto relaxed = std::memory_order_relaxed;

// Tokens whose prefill times are known before they are trusted; answers that have ended before costs are called learnt
// where no first token is ever seen: the prior for prefill then has to do.
constexpr double learnt_tokens_min = 4096;
constexpr double learnt_answers_min = 20;
// How much slower an endpoint is than the pool: its prefills and its answers against what the pool's lines say of the
// same. The pool counts as this many seconds more of them, and the factor is bounded: estimates that are free to feed
// on themselves end with all traffic on one endpoint.
constexpr double own_weight_seconds = 2;
constexpr double own_factor_max = 2;
// Who is less than this much faster or slower than the pool counts as equal: so much may be noise. Without load the one
// that seems a little faster would get nearly all requests.
constexpr double own_factor_noise = 0.1;
// The same for the pace of its answers alone: the pool counts as this many more of them.
constexpr double own_weight_answers = 20;
// On average the stalled decodes count at most this many times as much as the prefill itself. In large batches they
// would else outweigh all: long prompts gather where few decode, and few can decode where long prompts gather.
constexpr double stall_max = 3;
// Tokens for which the prefix index is trusted before answers have said how many were cached.
constexpr double trust_weight_tokens = 20'000;
constexpr double output_tokens_prior = 300;
constexpr double decode_seconds_prior = 0.03;

// Equals are told apart by their requests in flight: what has no tokens that we know of (uploads, paths that are not
// parsed) would else go anywhere.
constexpr double request_seconds = 1e-6;

// Of the token rule: who lacks this share of the prompt at most holds most of it; the tokens in flight that this
// outweighs. Both are what llm-d's guides configure (prefix-cache-affinity-filter, H100).
constexpr double affinity_missing = 0.2, affinity_tokens = 286'720;

double count(const std::atomic<int64_t>& counter) {
  return static_cast<double>(std::max<int64_t>(counter.load(relaxed), 0));
}

double capacity_of(const EngineMetrics& metrics) {
  return static_cast<double>(static_cast<int64_t>(kv_capacity(metrics)));  // unsigned takes longer
}

// Prompt tokens that the candidate would have to compute. At least one always is.
inline double uncached_tokens(const Inputs& in, const Candidate& candidate) {
  const Pace& pace = candidate.endpoint->state->pace;
  const double trust = (pace.cached_tokens.load(relaxed) + trust_weight_tokens) /
                       (pace.believed_tokens.load(relaxed) + trust_weight_tokens);
  const double cached = trust * double(candidate.matched_blocks) * in.features.block_tokens;
  return std::max(1.0, in.features.prompt_tokens - cached);
}

// What is true of the pool as a whole; also stands in for what is not known of an endpoint.
struct Pool {
  bool learnt = false;
  bool scraped = false;  // the metrics of some of it are fresh
  // Seconds of prefill: of each request, whatever its length (its share of steps, the wait for KV blocks or a place in
  // the batch where those are short), and per uncached token.
  double each = 0, prefill = prefill_seconds_prior;
  double mean_uncached = 0;              // tokens of a request
  double output = output_tokens_prior;   // tokens of an answer
  double decode = decode_seconds_prior;  // seconds per output token
  double decode_slope = 0;               // seconds more for each token held
  double decode_none_held = 0;           // seconds per output token where none is held; 0: not learnt
  double answer_weight = 0;              // of times per output token: makes many of them as much as all prefills
  double foreign = 0;                    // of an endpoint
  double stall = 0;                      // seconds for each second of prefill and decoding sequence
  double capacity = 0;                   // tokens; 0: unknown
  double held = 0;                       // tokens of ours, of an endpoint
  double decoding_per_held = 0;          // our sequences past their first token, for each of these tokens
  double least_uncached = 0;             // tokens, at the candidate that holds most of the prompt
  double holders = 0, uses = 0;          // how many hold as much; requests lately that found no more anywhere
};

// Sums over the candidates of what each has taught.
struct Sums {
  double prefill_seconds = 0, prefill_tokens = 0, prefills = 0, prefill_xx = 0, prefill_xy = 0;
  double n = 0, x = 0, y = 0, xx = 0, xy = 0;
  double answers = 0, output = 0;
  double fresh = 0, foreign = 0;
  double candidates = 0, decoding = 0, held = 0;
  double sized = 0, capacity = 0;
  const Candidate* longest = nullptr;  // one of those with the longest match
  double holders = 0;                  // how many these are

  void add(const Inputs& in, const Candidate& candidate) {
    const Pace& pace = candidate.endpoint->state->pace;
    prefill_seconds += pace.prefill_seconds.load(relaxed);
    prefill_tokens += pace.prefill_tokens.load(relaxed);
    prefills += pace.prefills.load(relaxed);
    prefill_xx += pace.prefill_xx.load(relaxed);
    prefill_xy += pace.prefill_xy.load(relaxed);
    n += pace.decodes.load(relaxed);
    x += pace.decode_x.load(relaxed);
    y += pace.decode_y.load(relaxed);
    xx += pace.decode_xx.load(relaxed);
    xy += pace.decode_xy.load(relaxed);
    answers += pace.answers.load(relaxed);
    output += pace.output_tokens.load(relaxed);
    ++candidates;
    if (longest == nullptr || candidate.matched_blocks >= longest->matched_blocks) {
      const bool equal = longest != nullptr && candidate.matched_blocks == longest->matched_blocks;
      holders = equal ? holders + 1 : 1;
      longest = &candidate;
    }
    decoding += count(candidate.endpoint->state->load.decoding);
    held += count(candidate.endpoint->state->load.kv_tokens);
    const EngineMetrics& metrics = candidate.endpoint->metrics;
    if (known(in, candidate)) {
      ++fresh;
      foreign += foreign_of(metrics);
    }
    if (capacity_of(metrics) > 0) {
      ++sized;
      capacity += capacity_of(metrics);
    }
  }
};

// A line through (uncached tokens, seconds), of which both parts are at least 0.
void fit_prefill(const Sums& sums, Pool& pool) {
  pool.prefill = sums.prefill_seconds / sums.prefill_tokens;
  const double spread = sums.prefills * sums.prefill_xx - sums.prefill_tokens * sums.prefill_tokens;
  if (spread <= 1e-6 * sums.prefill_tokens * sums.prefill_tokens) return;
  const double slope = (sums.prefills * sums.prefill_xy - sums.prefill_tokens * sums.prefill_seconds) / spread;
  pool.prefill = std::clamp(slope, 0.0, pool.prefill);
  pool.each = std::max(0.0, (sums.prefill_seconds - pool.prefill * sums.prefill_tokens) / sums.prefills);
}

Pool describe(const Inputs& in, const Sums& sums, const ExpectedCostOptions& options) {
  Pool pool;
  const bool prefill_learnt = sums.prefill_tokens >= learnt_tokens_min;
  pool.learnt = prefill_learnt || sums.answers >= learnt_answers_min;
  if (prefill_learnt) fit_prefill(sums, pool);
  if (sums.prefills > 0) pool.mean_uncached = sums.prefill_tokens / sums.prefills;
  if (sums.answers >= 1) pool.output = sums.output / sums.answers;
  if (in.features.max_tokens > 0) pool.output = std::min(pool.output, double(in.features.max_tokens));
  if (sums.n >= 1) {
    pool.decode = sums.y / sums.n;
    const double spread = sums.n * sums.xx - sums.x * sums.x;
    if (spread > 1e-6 * sums.x * sums.x) {
      // At most what explains all of a step's time.
      const double most = sums.y / std::max(sums.x, 1.0);
      pool.decode_slope = std::clamp((sums.n * sums.xy - sums.x * sums.y) / spread, 0.0, most);
    }
    pool.decode_none_held = std::max(0.0, pool.decode - pool.decode_slope * sums.x / sums.n);
    // Of few answers the times say little: they count as own_weight_answers more would.
    const double trust = sums.n / (sums.n + own_weight_answers);
    if (prefill_learnt && sums.y > 0) pool.answer_weight = trust * sums.prefill_seconds / sums.y;
  }
  pool.held = sums.held / std::max(sums.candidates, 1.0);
  if (sums.held > 0) pool.decoding_per_held = sums.decoding / sums.held;
  pool.stall = std::min(options.stall_weight, stall_max * sums.candidates / std::max(sums.decoding, 1.0));
  pool.scraped = sums.fresh > 0;
  if (pool.scraped) pool.foreign = sums.foreign / sums.fresh;
  if (sums.longest != nullptr) pool.least_uncached = uncached_tokens(in, *sums.longest);
  pool.holders = sums.holders;
  pool.uses = in.prefix_uses;
  if (sums.sized > 0) pool.capacity = sums.capacity / sums.sized;
  return pool;
}

// Of the uncached tokens, those that this request is charged. To compute here what others hold makes a copy, which
// serves the later requests with the same prefix as well: each of them, by their number lately, bears its share. What
// takes long to copy finds fewer of them: the requests of a crowd about one long document are mostly there before it is
// computed even once.
double charged_tokens(const Pool& pool, double uncached) {
  const double copied = std::max(0.0, uncached - pool.least_uncached);
  if (copied <= 0 || pool.uses <= 0) return uncached;
  const double later = pool.uses * std::exp(-copied * pool.prefill / PrefixUses::memory_seconds);
  const double share = std::min(1.0, (pool.holders + 1) / (later + 1));
  return uncached - (1 - share) * copied;
}

// The sum of an endpoint's times per output token, as the pool's line has it.
inline double expected_answers(const Pool& pool, const Pace& pace) {
  return pool.decode_none_held * pace.decodes.load(relaxed) + pool.decode_slope * pace.decode_x.load(relaxed);
}

// By prefills and answers together: prefills alone make an endpoint look slow that was given longer prompts, answers
// alone one where they were stalled more often. What both say is its speed.
inline double slowness(const Pool& pool, const Pace& pace) {
  const double seen = pace.prefill_seconds.load(relaxed) + pool.answer_weight * pace.decode_y.load(relaxed);
  const double expected = pool.prefill * pace.prefill_tokens.load(relaxed) + pool.each * pace.prefills.load(relaxed) +
                          pool.answer_weight * expected_answers(pool, pace);
  const double factor = (seen + own_weight_seconds) / (expected + own_weight_seconds);
  if (std::abs(factor - 1) < own_factor_noise) return 1;
  return std::clamp(factor, 1 / own_factor_max, own_factor_max);
}

// What our shards have there, read once for a decision.
struct Load {
  explicit Load(const LoadCounters& load)
      : requests(count(load.requests)),
        decoding(count(load.decoding)),
        unseen(count(load.unseen)),
        kv_tokens(count(load.kv_tokens)) {
    const int64_t unseen_sum = load.unseen_tokens.load(relaxed),
                  tokens = load.prefill_tokens.load(relaxed) - unseen_sum;
    unseen_tokens = static_cast<double>(std::max<int64_t>(unseen_sum, 0));
    waiting_tokens = static_cast<double>(std::max<int64_t>(tokens, 0));
  }
  // Those whose first token is still to come and will be seen.
  double waiting_requests() const { return std::max(0.0, requests - decoding - unseen); }

  double requests, decoding, unseen, kv_tokens, unseen_tokens;
  double waiting_tokens;  // prompt tokens to compute before first tokens that will be seen
};

// Seconds that the next decode steps lack room for: the price of KV use above the reserve. `scraped`: the gauges are
// fresh.
double room_price(const EngineMetrics& metrics, bool scraped, const Load& load, const Pool& pool, double uncached,
                  double reserve) {
  const double own = capacity_of(metrics), capacity = own > 0 ? own : pool.capacity;
  if (capacity <= 0) return 0;
  // A gauge does not show yet what is still to be computed; without one, all that we hold there counts.
  const double used = scraped ? metrics.kv_usage * capacity + load.waiting_tokens : std::min(load.kv_tokens, capacity);
  const double over = used + uncached + pool.output - (1 - reserve) * capacity;
  return over > 0 ? over / capacity * pool.output * pool.decode : 0;
}

// Our decoding sequences there: half as they are counted, half as the tokens held there would make them. By count alone
// few long sequences would look like room: long prompts would gather where long prompts are, and short ones elsewhere.
double decoding_weight(const Load& load, const Pool& pool) {
  const double held = pool.held > 0 ? load.kv_tokens * pool.decoding_per_held : load.decoding;
  return (load.decoding + held) / 2;
}

// Seconds of prefill before those of our requests that do not stream are over: by the clock that was set when they were
// sent, corrected by the queue in the engine, as far as it is theirs. Of those that are not queued, two at most are not
// through.
double unseen_seconds(const Inputs& in, const Candidate& candidate, bool scraped, const Load& load, double each,
                      double token) {
  if (load.unseen == 0) return 0;  // an engine faster than the clock has answered all of them
  const double clock = unseen_backlog(candidate.endpoint->state->pace, in.now);
  if (!scraped) return clock;
  const double mean = each + load.unseen_tokens / load.unseen * token;
  const double share = load.unseen / std::max(load.requests, load.unseen);
  const double queued = std::min(candidate.endpoint->waiting_now() * share, load.unseen);
  return std::clamp(clock, queued * mean, (queued + 2) * mean);
}

// What a cost is made of, in seconds.
constexpr std::array<std::string_view, 6> names = {"backlog_s", "foreign_s", "prefill_s",
                                                   "stall_s",   "decode_s",  "room_s"};
struct Terms {
  double backlog = 0, foreign = 0, prefill = 0, stall = 0, decode = 0, room = 0;
  double sum() const { return backlog + foreign + prefill + stall + decode + room; }
};

// llm-d's token rule, in seconds of the assumed pace: fewest tokens, those in flight and this request's own to compute.
// But who holds most of the prompt is left for others only when he has more in flight than they by very many tokens.
Terms token_rule(const Inputs& in, const Candidate& candidate, const Pool& pool) {
  const Load load(candidate.endpoint->state->load);
  const double uncached = uncached_tokens(in, candidate);
  const double few = affinity_missing * in.features.prompt_tokens;
  const bool held_elsewhere = pool.least_uncached <= few && uncached > few;
  Terms terms;
  terms.backlog = prefill_seconds_prior * load.kv_tokens;
  terms.prefill = prefill_seconds_prior * (uncached + (held_elsewhere ? affinity_tokens : 0));
  terms.decode = request_seconds * load.requests;
  return terms;
}

bool by_token_rule(const Pool& pool, ColdStart start) {
  if (pool.learnt || start == ColdStart::assumed_pace) return false;
  return start == ColdStart::token_rule || !pool.scraped;
}

Terms terms_of(const Inputs& in, const Candidate& candidate, const Pool& pool, const ExpectedCostOptions& options) {
  if (by_token_rule(pool, options.cold_start)) return token_rule(in, candidate, pool);
  const endpoints::EndpointState& state = *candidate.endpoint->state;
  const EngineMetrics& metrics = candidate.endpoint->metrics;
  const Load load(state.load);
  const double factor = slowness(pool, state.pace);
  const double each = pool.each * factor, token = pool.prefill * factor;
  const double uncached = uncached_tokens(in, candidate);
  const double charged = charged_tokens(pool, uncached);
  const double mean = each + pool.mean_uncached * token;

  // Others' requests: what the scrape says beyond ours. An endpoint that was not scraped has its share of them.
  const bool scraped = known(in, candidate);
  const double foreign = scraped ? foreign_of(metrics) : pool.foreign;
  const double foreign_waiting = scraped ? std::min(foreign, metrics.waiting) : foreign / 2;
  const double unseen_wait = unseen_seconds(in, candidate, scraped, load, each, token);
  const double unseen_waiting = mean > 0 ? std::min(load.unseen, unseen_wait / mean) : 0;
  const double decoding = decoding_weight(load, pool) + load.unseen - unseen_waiting + foreign - foreign_waiting;

  Terms terms;
  terms.backlog = load.waiting_requests() * each + load.waiting_tokens * token + unseen_wait;
  terms.foreign = foreign_waiting * mean;
  terms.prefill = each + (1 + options.later_weight) * charged * token;
  terms.stall = pool.stall * charged * token * decoding;
  terms.decode = options.decode_weight * pool.output * pool.decode_slope * factor * load.kv_tokens +
                 request_seconds * load.requests;
  terms.room = room_price(metrics, scraped, load, pool, uncached, options.kv_reserve);
  return terms;
}

Pool pool_of(const Inputs& in, std::span<const Candidate> candidates, const ExpectedCostOptions& options) {
  Sums sums;
  for (const Candidate& candidate : candidates) sums.add(in, candidate);
  return describe(in, sums, options);
}

// Seconds between the request's output tokens: of the pool's line at what will be held there, times how much slower the
// endpoint was than the line says of its own answers. 0: not learnt.
double pace_of(const Inputs& in, const Candidate& candidate, const Pool& pool) {
  const endpoints::EndpointState& state = *candidate.endpoint->state;
  if (pool.decode_none_held <= 0 && pool.decode_slope <= 0) return 0;
  const double own = own_weight_answers * pool.decode;
  const double factor =
      std::clamp((state.pace.decode_y.load(relaxed) + own) / (expected_answers(pool, state.pace) + own),
                 1 / own_factor_max, own_factor_max);
  const double held = count(state.load.kv_tokens) + in.features.prompt_tokens + pool.output;
  return factor * (pool.decode_none_held + pool.decode_slope * held);
}

}  // namespace

void predict(const Inputs& in, std::span<Candidate> candidates) {
  const ExpectedCostOptions options;
  const Pool pool = pool_of(in, candidates, options);
  for (Candidate& candidate : candidates) {
    const Terms terms = terms_of(in, candidate, pool, options);
    const double factor = slowness(pool, candidate.endpoint->state->pace);
    const double own = factor * (pool.each + pool.prefill * uncached_tokens(in, candidate));
    Prediction& out = candidate.predicted;
    out.known = pool.learnt;
    out.first_token = terms.backlog + terms.foreign + own;
    out.per_token = pace_of(in, candidate, pool);
    out.whole = out.first_token + pool.output * (out.per_token > 0 ? out.per_token : pool.decode);
  }
}

bool ExpectedCostScorer::costs(const Inputs& in, std::span<const Candidate> candidates, std::span<double> out) const {
  const Pool pool = pool_of(in, candidates, options_);
  for (size_t i = 0; i < candidates.size(); ++i) out[i] = terms_of(in, candidates[i], pool, options_).sum();
  return pool.learnt;
}

void ExpectedCostScorer::score(const Inputs& in, std::span<const Candidate> candidates,
                               std::span<double> scores) const {
  costs(in, candidates, scores);
  fewest_first(scores);
}

std::span<const std::string_view> ExpectedCostScorer::term_names() const {
  return names;
}

void ExpectedCostScorer::terms(const Inputs& in, std::span<const Candidate> candidates,
                               std::span<double> values) const {
  const Pool pool = pool_of(in, candidates, options_);
  auto value = values.begin();
  for (const Candidate& candidate : candidates) {
    const Terms terms = terms_of(in, candidate, pool, options_);
    for (const double term : {terms.backlog, terms.foreign, terms.prefill, terms.stall, terms.decode, terms.room}) {
      *value++ = term;
    }
  }
}

}  // namespace penstock::routing
